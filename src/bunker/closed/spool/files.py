"""The spool's files: claimed whole before the start, so that a full disk is met then and not in the middle of a run.

Rules of this file:
1. A directory made here is private (0700); files are new and private (0600), have their full size at once, and lose
   their names before the first byte: when the last process that has them is gone, so are they.
2. O_DIRECT where the file system has it: nothing of a block passes through the page cache.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, replace
from pathlib import Path

from bunker.closed.spool.block import slot_bytes_of
from bunker.errors import ConfigurationError

_FILE_BYTES = 256 << 20
_FILES_MIN = 4
FILES_WANTED = 16
"""A file is free again as a whole, and two are left out of what a restart may need: many small ones waste less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneFiles:
    """A lane's part of the spool.

    Invariants:
        len(fds) >= 4; every file has file_bytes, a multiple of slot_bytes.
        read_fds are the same files in the same order, opened for reading alone: a worker gets these.
    """

    fds: list[int]
    read_fds: list[int]
    file_bytes: int
    slot_bytes: int
    direct: bool

    @property
    def slots_per_file(self) -> int:
        """Blocks that fit into a file."""
        return self.file_bytes // self.slot_bytes


def claim(directory: Path, *, lanes: int, size: int, block_bytes: int, wanted: int = FILES_WANTED) -> list[LaneFiles]:
    """Create and allocate the files of all lanes.

    Args:
        wanted: Files of a lane at least, if so many blocks fit.
    Raises:
        ConfigurationError: the directory or the space is not to be had.
    """
    slot = slot_bytes_of(block_bytes)
    lane_bytes = size // lanes
    file_bytes = max(slot, min(_FILE_BYTES, lane_bytes // wanted) // slot * slot)
    files = lane_bytes // file_bytes
    if files < _FILES_MIN:
        raise ConfigurationError(
            "spool.size",
            f"{size} bytes hold fewer than {_FILES_MIN} blocks a lane",
            f"Use at least {_FILES_MIN * lanes * slot} bytes",
        )
    claimed = [
        LaneFiles(fds=[], read_fds=[], file_bytes=file_bytes, slot_bytes=slot, direct=True) for _ in range(lanes)
    ]
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return [_lane(directory, files, lane) for lane in claimed]
    except OSError as error:
        for fd in (fd for lane in claimed for fd in (*lane.fds, *lane.read_fds)):
            os.close(fd)  # gives the space back
        raise ConfigurationError(
            f"spool.directory {directory}",
            f"{size} bytes cannot be claimed ({error.strerror})",
            "Free space, or lower spool.size",
        ) from None


def _lane(directory: Path, files: int, lane: LaneFiles) -> LaneFiles:
    """Put `files` files into `lane`; those that were made before a failure are in it, too."""
    direct = True
    for _ in range(files):
        fd, this_direct = _nameless(directory, lane)
        os.posix_fallocate(fd, 0, lane.file_bytes)
        direct = direct and this_direct
    return replace(lane, direct=direct)


def _nameless(directory: Path, lane: LaneFiles) -> tuple[int, bool]:
    """A new file without a name, put into `lane`: its descriptor, and whether it is O_DIRECT.

    Its name, for the moment it has one, is random: a name that somebody could foresee could already be there.
    """
    path = directory / f"{os.urandom(16).hex()}.spool"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    direct = os.O_DIRECT
    try:
        try:
            fd = os.open(path, flags | direct, 0o600)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            path.unlink(missing_ok=True)  # made before the flag was refused
            direct = 0
            fd = os.open(path, flags, 0o600)
        lane.fds.append(fd)
        lane.read_fds.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC | direct))
        return fd, bool(direct)
    finally:
        path.unlink(missing_ok=True)
