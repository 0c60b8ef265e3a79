"""A disk of our own for a rehearsal's spool: an image file with a file system, whose every byte is searched afterwards.

Spool files have no names, so a search of directories would see nothing of them, whatever they held.

Rules of this file:
1. The image is made by us in a folder of ours; nothing of an existing disk is touched.
2. It needs root, a loop device and mkfs.ext4; without them the rehearsal goes on, and its report says what was not
   searched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_MKFS = "mkfs.ext4"
_ROOM = 256 << 20
"""For the file system's own tables, beside a tenth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A mounted file system in an image, and how much of the image was written when there was nothing in it."""

    image: Path
    mount: Path
    empty_bytes: int

    def written_bytes(self) -> int:
        """Bytes that were written to it since; once it is unmounted."""
        return _written(self.image) - self.empty_bytes


@contextmanager
def spool_disk(folder: Path, size: int) -> Iterator[Disk | str]:
    """A mounted file system with room for a spool of `size` bytes.

    Args:
        folder: New files are made here; the image stays after the file system is unmounted.
    Yields:
        The disk, or why there is none.
    """
    image, mount = folder / "spool.image", folder / "spool-disk"
    problem = _made(image, mount, size)
    if problem:
        image.unlink(missing_ok=True)
        yield problem
        return
    try:
        yield Disk(image=image, mount=mount, empty_bytes=_written(image))
    finally:
        subprocess.run(["umount", mount], check=False, capture_output=True)
        mount.rmdir()


def _made(image: Path, mount: Path, size: int) -> str:
    if os.geteuid() != 0:
        return "a disk of our own needs root"
    mkfs = shutil.which(_MKFS, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if mkfs is None:
        return f"{_MKFS} is not installed"
    with image.open("xb") as file:
        file.truncate(size + size // 10 + _ROOM)
    mount.mkdir()
    commands = ([mkfs, "-q", "-F", "-m", "0", str(image)], ["mount", "-o", "loop,nodiscard", str(image), str(mount)])
    for command in commands:
        done = subprocess.run(command, check=False, capture_output=True)
        if done.returncode != 0:
            mount.rmdir()
            return f"{Path(command[0]).name} failed with {done.returncode}"
    return ""


def _written(image: Path) -> int:
    """Bytes of the image that are no hole."""
    return image.stat().st_blocks * 512
