"""What can be handed to a machine as its capture interface, and what is refused before it starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bunker.errors import ConfigurationError
from bunker.image.traffic import Macvtap, Netdev, Passthrough, Tap, cable_of, open_macvtap

ALIAS = "pci:v00008086d000010D3sv00008086sd0000A01Fbc02sc00i00"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host with a tap, a macvtap, an ordinary interface, and four cards."""
    net, cards = tmp_path / "sys/class/net", tmp_path / "sys/bus/pci/devices"
    for name in ("mirror0/tun_flags", "over0/macvtap/tap7", "some0/macvtap/tap8", "eth0/operstate"):
        (net / name).mkdir(parents=True)
    (net / "over0/flags").write_text("0x1203\n")
    (net / "some0/flags").write_text("0x1003\n")
    for number, driver in enumerate(("vfio-pci", "igb", None, "vfio-pci")):
        place = cards / f"0000:03:00.{number}"
        place.mkdir(parents=True)
        if driver is not None:
            (place / "driver").symlink_to(f"../drivers/{driver}")
        (place / "modalias").write_text(f"{ALIAS}\n")
        if number != 3:
            (place / "iommu_group").mkdir()
    (tmp_path / "dev").mkdir()
    return tmp_path


def test_a_tap_a_macvtap_and_a_card_can_be_handed_over(host: Path) -> None:
    assert cable_of("mirror0", root=host) == Tap(name="mirror0")
    assert cable_of("over0", root=host) == Macvtap(name="over0", node=host / "dev/tap7")
    assert cable_of("0000:03:00.0", root=host) == Passthrough(address="0000:03:00.0", alias=ALIAS)
    assert cable_of("03:00.0", root=host) == Passthrough(address="0000:03:00.0", alias=ALIAS)
    assert cable_of("dgram,local.type=unix", root=host) == Netdev(words="dgram,local.type=unix")


@pytest.mark.parametrize(
    ("interface", "cause"),
    [
        ("eth0", "cannot be handed to a machine as it is"),
        ("some0", "multicast.*allmulticast on"),
        ("eth1", "there is none of that name"),
        ("0000:03:00.1", "is not bound to vfio-pci"),
        ("0000:03:00.2", "is not bound to vfio-pci"),
        ("0000:03:00.3", "has no IOMMU before it"),
        ("0000:09:00.0", "there is none at that address"),
    ],
)
def test_what_cannot_be_handed_over_is_refused_with_the_cause(interface: str, cause: str, host: Path) -> None:
    with pytest.raises(ConfigurationError, match=cause):
        cable_of(interface, root=host)


def test_a_macvtap_is_opened_for_qemu_or_refused(host: Path) -> None:
    cable = cable_of("over0", root=host)
    assert isinstance(cable, Macvtap)
    with pytest.raises(ConfigurationError, match="Let this user open"):
        open_macvtap(cable)
    cable.node.write_bytes(b"")
    os.close(open_macvtap(cable))
