"""Which disk is which: by the serial number (a virtual machine's) or the partition label (an appliance's) it has.

Rules of this file:
1. A name decides nothing about trust: the root is checked by its hash tree, the run disk by its digest, the spool is
   written under a key of this start, capture files are traffic.
2. A disk of another name is left alone; one that is needed and missing stops the start.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bunker.errors import BoxError

_BLOCK = Path("/sys/class/block")
ROOT, RUN, SPOOL, CAPTURE = "bunker-root", "bunker-run", "bunker-spool", "bunker-read-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disks:
    """Device nodes."""

    run: Path
    spool: Path
    captures: tuple[Path, ...]


def by_name(block: Path = _BLOCK) -> dict[str, Path]:
    """Device node of each disk that has a serial number, and of each partition that has a label."""
    found: dict[str, Path] = {}
    for path in sorted(block.iterdir()):
        if (path / "serial").exists():
            found[(path / "serial").read_text().strip()] = Path("/dev") / path.name
        for line in (path / "uevent").read_text().splitlines():
            key, _, label = line.partition("=")
            if key == "PARTNAME":
                found[label] = Path("/dev") / path.name
    return found


def find_disks(block: Path = _BLOCK) -> Disks:
    """The machine's disks.

    Raises:
        BoxError: the run disk or the spool is missing.
    """
    found = by_name(block)
    for name in (RUN, SPOOL):
        if name not in found:
            raise BoxError(f"disk {name}", "it is not there", "Start the machine by bunker run")
    captures = [found[f"{CAPTURE}{number}"] for number in range(len(found)) if f"{CAPTURE}{number}" in found]
    return Disks(run=found[RUN], spool=found[SPOOL], captures=tuple(captures))


def device_bytes(device: Path, block: Path = _BLOCK) -> int:
    """Size of a block device."""
    return int((block / device.name / "size").read_text()) * 512
