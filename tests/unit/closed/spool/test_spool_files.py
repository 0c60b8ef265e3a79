"""The spool's files: whole, nameless, private; or nothing is kept and the operator is told."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
from pathlib import Path

import pytest

from bunker.closed.spool.block import PAGE, TAG_BYTES
from bunker.closed.spool.files import LaneFiles, claim
from bunker.errors import ConfigurationError

BLOCK = 2 * PAGE - TAG_BYTES
SLOT = 2 * PAGE


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def close(lanes: list[LaneFiles]) -> None:
    for lane in lanes:
        for fd in (*lane.fds, *lane.read_fds):
            os.close(fd)


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("size", [4 * SLOT, 4 * SLOT + SLOT - 1, 5 * SLOT, 8 * SLOT, 23 * SLOT])
def test_files_have_their_size_at_once_and_no_more_than_was_asked(tmp_path: Path, lanes: int, size: int) -> None:
    claimed = claim(tmp_path, lanes=lanes, size=lanes * size, block_bytes=BLOCK)
    total = 0
    for lane in claimed:
        assert len(lane.fds) >= 4 and lane.slot_bytes == SLOT and lane.file_bytes % SLOT == 0
        for fd in lane.fds:
            found = os.fstat(fd)
            assert found.st_size == lane.file_bytes <= found.st_blocks * 512
            total += found.st_size
    assert len(claimed) == lanes and lanes * size - total < lanes * (size // 4 + SLOT) and total <= lanes * size
    close(claimed)


def test_files_have_no_name_and_are_private(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "spool"
    claimed = claim(directory, lanes=2, size=8 * SLOT, block_bytes=BLOCK)
    assert list(directory.iterdir()) == []
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for fd in claimed[0].fds:
        assert os.fstat(fd).st_nlink == 0 and stat.S_IMODE(os.fstat(fd).st_mode) == 0o600
        assert not os.get_inheritable(fd)
    close(claimed)


def test_twins_for_reading_are_the_same_files_and_cannot_be_written(tmp_path: Path) -> None:
    claimed = claim(tmp_path, lanes=2, size=8 * SLOT, block_bytes=BLOCK)
    for lane in claimed:
        assert len(lane.fds) == len(lane.read_fds)
        for fd, twin in zip(lane.fds, lane.read_fds, strict=True):
            assert os.fstat(fd).st_ino == os.fstat(twin).st_ino
            assert fcntl.fcntl(twin, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
            with pytest.raises(PermissionError):
                mmap.mmap(twin, mmap.PAGESIZE, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    close(claimed)


@pytest.mark.parametrize("short", [1, SLOT])
def test_too_small_a_spool_is_refused_with_the_size_that_suffices(tmp_path: Path, short: int) -> None:
    with pytest.raises(ConfigurationError) as refused:
        claim(tmp_path, lanes=2, size=8 * SLOT - short, block_bytes=BLOCK)
    assert str(8 * SLOT) in refused.value.remedy
    close(claim(tmp_path, lanes=2, size=8 * SLOT, block_bytes=BLOCK))


def test_disk_that_is_full_is_met_before_the_start_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allocate = os.posix_fallocate
    calls = []

    def full(fd: int, offset: int, length: int) -> None:
        calls.append(fd)
        if len(calls) == 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        allocate(fd, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", full)
    before = descriptors()
    with pytest.raises(ConfigurationError, match="No space left"):
        claim(tmp_path, lanes=2, size=8 * SLOT, block_bytes=BLOCK)
    assert len(calls) == 6
    assert descriptors() == before
    assert list(tmp_path.iterdir()) == []


def test_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("")
    with pytest.raises(ConfigurationError, match=r"spool\.directory"):
        claim(tmp_path / "spool", lanes=1, size=4 * SLOT, block_bytes=BLOCK)


def test_files_of_others_stay_as_they_are(tmp_path: Path) -> None:
    """Left behind by a run that was killed between two steps, in a container where all runs have one process id."""
    left = [tmp_path / f"lane-0-{number}.{os.getpid()}.spool" for number in range(4)]
    for path in left:
        path.write_text("of another")
    claimed = claim(tmp_path, lanes=1, size=4 * SLOT, block_bytes=BLOCK)
    assert [path.read_text() for path in left] == ["of another"] * 4
    close(claimed)


def test_file_system_without_direct_writes_is_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = os.open

    def no_direct(path: str, flags: int, mode: int = 0o777) -> int:
        fd = really(path, flags & ~os.O_DIRECT, mode)
        if flags & os.O_DIRECT:  # as tmpfs had it until Linux 6.6: the file is made, then the open is refused
            os.close(fd)
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return fd

    monkeypatch.setattr(os, "open", no_direct)
    claimed = claim(tmp_path, lanes=1, size=4 * SLOT, block_bytes=BLOCK)
    assert not claimed[0].direct and list(tmp_path.iterdir()) == []
    close(claimed)
