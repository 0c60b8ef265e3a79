"""QEMU's command line, as text: nothing that was not asked for, and the confidential ones in full."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bunker.errors import ConfigurationError
from bunker.image.launch import refuse_without_hardware
from bunker.image.qemu import Acceleration, Confidential, Line
from bunker.image.traffic import Cable, Macvtap, Netdev, Passthrough, Tap

LINE = Line(
    kernel=Path("/i/vmlinuz"),
    initramfs=None,
    command_line=None,
    root=Path("/i/root.img"),
    run_disk=Path("/w/run.disk"),
    spool=Path("/w/spool.disk"),
    egress="127.0.0.1:4000",
)


def test_a_sealed_machine_has_no_way_in() -> None:
    words = LINE.words()
    assert {"-nodefaults", "-no-user-config", "-nographic", "-no-reboot"} <= set(words)
    assert words[words.index("-monitor") + 1] == "none"
    assert words[words.index("-serial") + 1] == "none"
    text = " ".join(words)
    for way in ("-qmp", "-append", "-initrd", "-vnc", "-device usb", "-gdb", "-virtfs", "balloon", "pcie-root-port"):
        assert way not in text
    assert text.count("-device ") == 5


def test_only_the_spool_can_be_written() -> None:
    drives = [word for word in replace(LINE, captures=(Path("/t/a.pcap"),)).words() if word.startswith("if=none")]
    writable = [drive for drive in drives if "readonly=off" in drive]
    assert len(drives) == 4
    assert [drive.split(",")[1] for drive in writable] == ["id=bunker-spool"]


def test_the_machine_reaches_one_address() -> None:
    netdev = next(word for word in LINE.words() if word.startswith("user,"))
    assert netdev == "user,id=link,restrict=on,ipv6=off,guestfwd=tcp:10.0.2.100:9000-tcp:127.0.0.1:4000"


@pytest.mark.parametrize(
    ("capture", "expected"),
    [
        (Tap(name="mirror0"), "tap,id=capture,ifname=mirror0,script=no,downscript=no"),
        (Macvtap(name="over0", node=Path("/dev/tap7")), "tap,id=capture,fd=5"),
        (Passthrough(address="0000:03:00.0", alias="pci:"), "vfio-pci,host=0000:03:00.0,rombar=0"),
        (Netdev(words="dgram,local.type=unix"), "dgram,local.type=unix,id=capture"),
    ],
)
def test_capture_comes_from_a_tap_a_card_or_a_cable(capture: Cable, expected: str) -> None:
    assert expected in replace(LINE, capture=capture, capture_fd=5).words()


def test_a_machine_that_only_tries_to_start_has_its_root_and_reaches_nobody() -> None:
    words = replace(LINE, run_disk=None, spool=None, egress=None).words()
    drives = [word for word in words if word.startswith("if=none")]
    assert [drive.split(",")[1] for drive in drives] == ["id=bunker-root"]
    assert next(word for word in words if word.startswith("user,")) == "user,id=link,restrict=on,ipv6=off"


def test_a_comma_in_a_path_ends_no_option() -> None:
    words = replace(LINE, spool=Path("/w/a,readonly=on")).words()
    assert any("file=/w/a,,readonly=on,readonly=off" in word for word in words)


@pytest.mark.parametrize(
    ("kind", "object_"),
    [(Confidential.SEV_SNP, "sev-snp-guest,id=guard"), (Confidential.TDX, "tdx-guest,id=guard")],
)
def test_a_confidential_machine_is_asked_for_in_full(kind: Confidential, object_: str) -> None:
    line = replace(LINE, confidential=kind, firmware=Path("/f/OVMF.fd"), acceleration=Acceleration.KVM)
    text = " ".join(line.words())
    assert f"-object {object_}" in text
    assert "confidential-guest-support=guard" in text
    assert "-bios /f/OVMF.fd" in text
    assert "accel=kvm" in text
    with pytest.raises(ConfigurationError, match="firmware"):
        replace(line, firmware=None).words()


def test_without_the_hardware_it_is_refused() -> None:
    for kind in Confidential:
        with pytest.raises(ConfigurationError, match="cannot do that"):
            refuse_without_hardware(kind)
