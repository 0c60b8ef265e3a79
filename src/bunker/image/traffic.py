"""Where a machine's live traffic comes from: what the operator names, checked on this host, as QEMU is told it.

Rules of this file:
1. What cannot be handed to a machine is refused before the machine is started, with what would make it fit.
2. Only a macvtap's device node is opened here, for QEMU, and never read.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bunker.errors import ConfigurationError

_PCI: Final = re.compile(r"(?:[0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_NAME: Final = re.compile(r"[^,/:\s]{1,15}")
_DRIVER: Final = "vfio-pci"
_PROMISCUOUS, _ALL_MULTICAST = 0x100, 0x200


@dataclass(frozen=True, slots=True, kw_only=True)
class Tap:
    """A tap device of the host."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Macvtap:
    """A macvtap over a card of the host, in mode passthru: everything that the card hears."""

    name: str
    node: Path
    """Its device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passthrough:
    """A card that is the machine's alone."""

    address: str
    """On the PCI bus."""
    alias: str
    """Its modalias: maker, model and class, as a kernel looks for its driver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Netdev:
    """QEMU's own words for a netdev (`dgram,…`): what the tests and other switches in software use."""

    words: str


Cable = Tap | Macvtap | Passthrough | Netdev


def cable_of(interface: str, *, root: Path = Path("/")) -> Cable:
    """What `bunker run -i` names.

    Args:
        root: Where `sys` and `dev` are.
    Raises:
        ConfigurationError: there is no such interface or card, or it cannot be handed to a machine as it is.
    """
    if _PCI.fullmatch(interface):
        return _card(interface, root)
    if not _NAME.fullmatch(interface):
        return Netdev(words=interface)
    place = root / "sys/class/net" / interface
    if (place / "tun_flags").exists():
        return Tap(name=interface)
    nodes = sorted((place / "macvtap").glob("tap*"))
    if nodes:
        if not int((place / "flags").read_text(), 16) & (_ALL_MULTICAST | _PROMISCUOUS):
            raise ConfigurationError(
                f"interface {interface}",
                "leaves out what is sent to many (multicast)",
                f"ip link set dev {interface} allmulticast on",
            )
        return Macvtap(name=interface, node=root / "dev" / nodes[0].name)
    if place.exists():
        raise ConfigurationError(
            f"interface {interface}",
            "cannot be handed to a machine as it is",
            "Bind its card to vfio-pci and give the PCI address, put a macvtap in mode passthru over it, or mirror it "
            "onto a tap (docs/image.md)",
        )
    raise ConfigurationError(f"interface {interface}", "there is none of that name", "ip link shows which there are")


def _card(address: str, root: Path) -> Passthrough:
    full = address if address.count(":") == 2 else f"0000:{address}"
    place = root / "sys/bus/pci/devices" / full
    if not place.exists():
        raise ConfigurationError(f"card {address}", "there is none at that address", "lspci shows which there are")
    driver = place / "driver"
    if not driver.is_symlink() or driver.readlink().name != _DRIVER:
        raise ConfigurationError(f"card {address}", f"is not bound to {_DRIVER}", "Bind it (docs/image.md)")
    if not (place / "iommu_group").exists():
        raise ConfigurationError(
            f"card {address}", "has no IOMMU before it: it could read all of this host", "Switch the IOMMU on"
        )
    return Passthrough(address=full, alias=(place / "modalias").read_text().strip())


def open_macvtap(cable: Macvtap) -> int:
    """A descriptor for QEMU, which closes with it.

    Raises:
        ConfigurationError: it cannot be opened.
    """
    try:
        return os.open(cable.node, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(
            f"interface {cable.name}", f"cannot be opened ({error.strerror})", f"Let this user open {cable.node}"
        ) from None
