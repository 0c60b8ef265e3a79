"""Network cards that an image's kernel has a driver for: read from what was compiled, asked before one is handed over.

    objects of the built tree ▶ their tables of PCI ids ▶ `cards` in the image ▶ a card of this host: yes or no

Rules of this file:
1. The list is of the kernel that was built, not of one like it: a table that cannot be found stops the build.
2. A card is matched as the kernel matches it, by its modalias (Documentation/ABI/testing/sysfs-bus-pci).
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from bunker.errors import BoxError
from bunker.image.programs import run

NAME: Final = "cards"
_ETHERNET: Final = "drivers/net/ethernet"
DRIVERS: Final[dict[str, tuple[str, str]]] = {
    "CONFIG_E1000E": ("intel/e1000e/netdev.o", "e1000_pci_tbl"),
    "CONFIG_IGB": ("intel/igb/igb_main.o", "igb_pci_tbl"),
    "CONFIG_IGC": ("intel/igc/igc_main.o", "igc_pci_tbl"),
    "CONFIG_IXGBE": ("intel/ixgbe/ixgbe_main.o", "ixgbe_pci_tbl"),
    "CONFIG_I40E": ("intel/i40e/i40e_main.o", "i40e_pci_tbl"),
    "CONFIG_MLX5_CORE": ("mellanox/mlx5/core/main.o", "mlx5_core_pci_table"),
    "CONFIG_TIGON3": ("broadcom/tg3.o", "tg3_pci_tbl"),
    "CONFIG_BNXT": ("broadcom/bnxt/bnxt.o", "bnxt_pci_tbl"),
}
"""Object and table of each driver. Not the driver `ice`: without firmware it hears only what is for the card itself."""
_ENTRY: Final = struct.Struct("<6IQI4x")
"""struct pci_device_id (include/linux/mod_devicetable.h): vendor, device, subvendor, subdevice, class, its mask, …"""
_ANY: Final = 0xFFFFFFFF


def driven(tree: Path, config: Mapping[str, str]) -> tuple[str, ...]:
    """Patterns of the modaliases that the drivers of a built kernel take, sorted.

    Args:
        tree: Where the kernel was compiled.
        config: Its options.
    Raises:
        BoxError: a driver that was compiled has no table of that name.
    """
    found: set[str] = set()
    for option, (place, table) in DRIVERS.items():
        if config.get(option) == "y":
            found.update(patterns(_content(tree / _ETHERNET / place, table)))
    return tuple(sorted(found))


def patterns(table: bytes) -> list[str]:
    """A table's entries up to the empty one, as modalias patterns; those that go by class are not about one card.

    Raises:
        BoxError: it is no such table.
    """
    if len(table) % _ENTRY.size or not table or table[-_ENTRY.size :].strip(b"\0"):
        raise BoxError("cards", "a driver's table has another form than expected", "Correct bunker/image/cards.py")
    return [
        f"pci:v{_part(vendor, 8)}d{_part(device, 8)}sv{_part(subvendor, 8)}sd{_part(subdevice, 8)}bc*sc*i*"
        for vendor, device, subvendor, subdevice, _, mask, _, _ in _ENTRY.iter_unpack(table)
        if vendor and not mask
    ]


def is_driven(modalias: str, known: tuple[str, ...]) -> bool:
    """Whether one of these patterns is for that card."""
    return any(fnmatchcase(modalias, pattern) for pattern in known)


def read(image: Path) -> tuple[str, ...]:
    """The patterns of an image; none if it has no list: a quick image, or one for no cards."""
    place = image / NAME
    return tuple(place.read_text().split()) if place.is_file() else ()


def _part(value: int, digits: int) -> str:
    return "*" if value == _ANY else f"{value:0{digits}X}"


def _content(file: Path, name: str) -> bytes:
    """A symbol's bytes in an object file."""
    for line in run(["objdump", "-t", file], step="cards").decode().splitlines():
        fields = line.split()
        if len(fields) > 4 and fields[-1] == name:
            at, section, size = int(fields[0], 16), fields[-3], int(fields[-2], 16)
            break
    else:
        raise BoxError("cards", f"{file.name} has no {name}", "Correct bunker/image/cards.py")
    with tempfile.TemporaryDirectory(prefix="bunker-cards-") as work:
        copy = Path(work) / "section"
        run(["objcopy", "-O", "binary", f"--only-section={section}", file, copy], step="cards")
        return copy.read_bytes()[at : at + size]
