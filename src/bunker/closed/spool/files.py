"""The spool's files: claimed whole before the start, so that a full disk is met then and not in the middle of a run.

Rules of this file:
1. The directory is private (0700); files are new, have their full size at once, and lose their names before the
   first byte: when the last process that has them is gone, so are they.
2. O_DIRECT where the file system has it: nothing of a block passes through the page cache.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bunker.closed.spool.block import slot_bytes_of
from bunker.errors import ConfigurationError

_FILE_BYTES = 256 << 20
_FILES_MIN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneFiles:
    """A lane's part of the spool.

    Invariants:
        len(fds) >= 4; every file has file_bytes, a multiple of slot_bytes.
    """

    fds: list[int]
    file_bytes: int
    slot_bytes: int
    direct: bool

    @property
    def slots_per_file(self) -> int:
        """Blocks that fit into a file."""
        return self.file_bytes // self.slot_bytes


def claim(directory: Path, *, lanes: int, size: int, block_bytes: int) -> list[LaneFiles]:
    """Create and allocate the files of all lanes.

    Raises:
        ConfigurationError: the directory or the space is not to be had.
    """
    slot = slot_bytes_of(block_bytes)
    lane_bytes = size // lanes
    file_bytes = max(slot, min(_FILE_BYTES, lane_bytes // _FILES_MIN) // slot * slot)
    files = lane_bytes // file_bytes
    if files < _FILES_MIN:
        raise ConfigurationError(
            "spool.size",
            f"{size} bytes hold fewer than {_FILES_MIN} blocks a lane",
            f"Use at least {_FILES_MIN * lanes * slot} bytes",
        )
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return [_lane(directory, lane, files=files, file_bytes=file_bytes, slot=slot) for lane in range(lanes)]
    except OSError as error:
        raise ConfigurationError(
            f"spool.directory {directory}",
            f"{size} bytes cannot be claimed ({error.strerror})",
            "Free space, or lower spool.size",
        ) from None


def _lane(directory: Path, lane: int, *, files: int, file_bytes: int, slot: int) -> LaneFiles:
    fds: list[int] = []
    direct = True
    for number in range(files):
        path = directory / f"lane-{lane}-{number}.{os.getpid()}.spool"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            fd = os.open(path, flags | os.O_DIRECT, 0o600)
        except OSError:
            path.unlink(missing_ok=True)
            fd = os.open(path, flags, 0o600)
            direct = False
        path.unlink()
        os.posix_fallocate(fd, 0, file_bytes)
        fds.append(fd)
    return LaneFiles(fds=fds, file_bytes=file_bytes, slot_bytes=slot, direct=direct)
