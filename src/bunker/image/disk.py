"""The appliance: an image as a disk that a machine starts from, with the paper's two configurations in its boot menu.

    ESP: systemd-boot, two kernels ┊ bunker-root ┊ bunker-diagnostic ┊ bunker-run ┊ bunker-spool

Rules of this file:
1. A kernel with its command line built in and no initramfs is one PE file that UEFI starts, measures and, signed,
   checks: there is nothing to unify.
2. The menu offers the two entries and no editor; what it could hand over, a kernel with a command line of its own
   ignores.
3. The same inputs make the same bytes, but for the run partition, which is the experiment's.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bunker.errors import ConfigurationError
from bunker.image import build, manifest
from bunker.image.kernel import Kind
from bunker.image.manifest import Manifest
from bunker.image.programs import run

SECTOR: Final = 512
_MIB: Final = 1 << 20
_DISK_ID = "62756E6B-6572-4000-8000-000000000000"
_LINUX_DATA, _ESP = "8300", "EF00"
_ESP_BYTES = 64 * _MIB
RUN_BYTES: Final = 72 * _MIB
"""Room for the longest run disk (RUN_DISK_BUNDLE_BYTES and its head)."""

LOADER = """timeout {seconds}
default restricted.conf
editor no
console-mode keep
"""
ENTRY = "title {title}\nefi /EFI/bunker/{name}.efi\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One partition: its label, its type, its size, and the file it begins with."""

    label: str
    kind: str
    size: int
    content: Path | None = None


def layout(
    esp: Path, image: Path, diagnostic: Path | None, run_disk: Path, *, spool_bytes: int
) -> tuple[Partition, ...]:
    """The partitions, in order."""
    parts = [
        Partition(label="bunker-esp", kind=_ESP, size=_ESP_BYTES, content=esp),
        _root("bunker-root", image),
    ]
    if diagnostic is not None:
        parts.append(_root("bunker-diagnostic", diagnostic))
    parts.append(Partition(label="bunker-run", kind=_LINUX_DATA, size=RUN_BYTES, content=run_disk))
    parts.append(Partition(label="bunker-spool", kind=_LINUX_DATA, size=_whole(spool_bytes)))
    return tuple(parts)


def _root(label: str, image: Path) -> Partition:
    file = image / build.ROOT
    return Partition(label=label, kind=_LINUX_DATA, size=_whole(file.stat().st_size), content=file)


def _whole(size: int) -> int:
    return -(-size // _MIB) * _MIB


def make_esp(target: Path, restricted: Path, diagnostic: Path | None) -> None:
    """The ESP's file system: boot manager, its menu, the kernels, all from the directories of the two images.

    The menu stays for ten seconds if there is a choice, and not at all otherwise.
    """
    with tempfile.TemporaryDirectory(prefix="bunker-esp-") as name:
        tree = Path(name)
        files = {"EFI/BOOT/BOOTX64.EFI": (restricted / manifest.LOADER).read_bytes()}
        files["loader/loader.conf"] = LOADER.format(seconds=0 if diagnostic is None else 10).encode()
        kernels = {"restricted": restricted} | ({} if diagnostic is None else {"diagnostic": diagnostic})
        titles = {"restricted": "Bunker: sealed box", "diagnostic": "Bunker: diagnostic, no capture"}
        for kind, kernel in kernels.items():
            files[f"EFI/bunker/{kind}.efi"] = (kernel / build.DISK_KERNEL).read_bytes()
            files[f"loader/entries/{kind}.conf"] = ENTRY.format(title=titles[kind], name=kind).encode()
        for path, content in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(content)
        for place in tree.rglob("*"):
            os.utime(place, (build.EPOCH, build.EPOCH))
        with target.open("wb") as file:
            file.truncate(_ESP_BYTES)
        more = {"SOURCE_DATE_EPOCH": str(build.EPOCH), "MTOOLS_SKIP_CHECK": "1"}
        run(["mkfs.vfat", "--invariant", "-F", "32", "-i", "62756E6B", target], step="ESP", more=more)
        for folder in ("EFI", "EFI/BOOT", "EFI/bunker", "loader", "loader/entries"):
            run(["mmd", "-i", target, f"::{folder}"], step="ESP", more=more)
        for path in sorted(files):
            run(["mcopy", "-m", "-i", target, tree / path, f"::{path}"], step="ESP", more=more)


def write_disk(target: Path, parts: tuple[Partition, ...]) -> None:
    """Partition `target` (a new file, or a block device whose content is given up) and fill it.

    Raises:
        ConfigurationError: the device is too small, or mounted.
    """
    needed = sum(part.size for part in parts) + 2 * _MIB
    if target.is_block_device():
        _check_device(target, needed)
    else:
        with target.open("wb") as file:
            file.truncate(needed)
    words: list[str | Path] = ["sgdisk", "-Z", target]
    run(words, step="partitions")
    words = ["sgdisk", "-o", "-U", _DISK_ID]
    start = _MIB
    places: list[int] = []
    for number, part in enumerate(parts, 1):
        first, last = start // SECTOR, (start + part.size) // SECTOR - 1
        words += ["-n", f"{number}:{first}:{last}", "-t", f"{number}:{part.kind}", "-c", f"{number}:{part.label}"]
        words += ["-u", f"{number}:{_DISK_ID[:-2]}{number:02X}"]
        places.append(start)
        start += part.size
    run([*words, target], step="partitions")
    with target.open("r+b") as disk:
        for part, place in zip(parts, places, strict=True):
            if part.content is not None:
                disk.seek(place)
                with part.content.open("rb") as source:
                    shutil.copyfileobj(source, disk, 1 << 20)
        disk.flush()
        os.fsync(disk.fileno())


def _check_device(device: Path, needed: int) -> None:
    real = os.path.realpath(device)
    with Path("/proc/mounts").open() as mounts:
        if any(line.split()[0].startswith(real) for line in mounts):
            raise ConfigurationError(f"{device}", "is mounted, in whole or in part", "Unmount it first")
    size = int((Path("/sys/class/block") / Path(real).name / "size").read_text()) * SECTOR
    if size < needed:
        raise ConfigurationError(f"{device}", f"has {size} bytes, {needed} are needed", "Lower spool.size")


def check_kinds(restricted: Manifest, diagnostic: Manifest | None) -> None:
    """Raises ConfigurationError if an image is not what its place in the menu says."""
    if restricted.identity.kind is not Kind.SEALED:
        raise ConfigurationError("the image", f"is {restricted.identity.kind.value}", "Build a sealed one")
    if diagnostic is not None and diagnostic.identity.kind is not Kind.DIAGNOSTIC:
        raise ConfigurationError("--diagnostic", f"is {diagnostic.identity.kind.value}", "Build it with --diagnostic")
