"""Sealing: nothing waits, nothing is overwritten, a key dies with the last block it is needed for."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from spooling import FILES, Lane, plain, spool, take

from bunker import limits
from bunker.closed.spool.block import SealedBlock
from bunker.closed.spool.writer import Full
from bunker.errors import BoxError


@pytest.fixture
def lane(tmp_path: Path) -> Iterator[Lane]:
    with spool(tmp_path) as lanes:
        yield lanes[0]


def fill(lane: Lane) -> list[SealedBlock]:
    return [lane.seal(bytes([number]) * 100, packet_count=10) for number in range(lane.slots)]


def live_keys(lane: Lane) -> list[int]:
    return [number for number in range(FILES) if not lane.keys.is_erased(number)]


@pytest.mark.parametrize("short", [0, 1, 15, 16, 17, 4095, 4096, 4097])
def test_block_of_each_length_comes_back(lane: Lane, short: int) -> None:
    data = os.urandom(lane.longest - short)
    assert take(lane.reader(), lane.seal(data)) == data
    tiny = os.urandom(short)
    assert take(lane.reader(), lane.seal(tiny)) == tiny


def test_block_that_does_not_fit_is_refused_and_costs_nothing(lane: Lane) -> None:
    with pytest.raises(BoxError):
        lane.writer.try_seal(plain(bytes(lane.longest + 1)))
    assert lane.writer.next_number == lane.writer.live_bytes == 0
    for _ in range(lane.slots):
        lane.seal(bytes(lane.longest))


def test_source_is_free_again_when_sealing_returns(lane: Lane) -> None:
    data = bytearray(b"first" * 100)
    sealed = lane.writer.try_seal(plain(data))
    assert isinstance(sealed, SealedBlock)
    data[:] = b"other" * 100
    lane.drain()
    assert take(lane.reader(), sealed) == b"first" * 100


def test_numbers_grow_by_one_over_files_and_laps(lane: Lane) -> None:
    for number in range(3 * lane.slots):
        block = lane.seal(b"x")
        assert (block.number, block.lap) == (number, 1 + number // lane.slots)
        assert (block.file, block.slot) == divmod(number % lane.slots, lane.files.slots_per_file)
        lane.writer.release(number - 1)


def test_full_spool_refuses_and_overwrites_nothing(lane: Lane) -> None:
    blocks = fill(lane)
    before = lane.all_bytes()
    created = lane.keys.created
    for _ in range(3):
        assert isinstance(lane.writer.try_seal(plain(b"late")), Full)
    assert lane.all_bytes() == before and lane.keys.created == created
    assert (lane.writer.next_number, lane.writer.captured) == (lane.slots, 10 * lane.slots)
    assert lane.writer.free_bytes == 0 and lane.writer.outstanding == 0
    reader = lane.reader()
    assert [take(reader, block) for block in blocks] == [bytes([n]) * 100 for n in range(lane.slots)]


def test_gap_stands_in_the_next_block_under_its_tag(lane: Lane) -> None:
    fill(lane)
    assert isinstance(lane.writer.try_seal(plain(b"late")), Full)
    lane.writer.dropped += 3
    lane.writer.release(lane.files.slots_per_file - 1)
    block = lane.seal(b"after the gap", packet_count=2)
    assert (block.dropped, block.captured, block.number) == (3, 10 * lane.slots, lane.slots)
    assert lane.writer.captured == 10 * lane.slots + 2


def test_only_released_files_are_used_again(lane: Lane) -> None:
    blocks = fill(lane)
    lane.writer.release(lane.files.slots_per_file - 2)  # the file's last block is still needed
    assert isinstance(lane.writer.try_seal(plain(b"late")), Full)
    lane.writer.release(lane.files.slots_per_file - 1)
    again = lane.seal(b"in the first file")
    assert (again.file, again.slot, again.lap) == (0, 0, 2)
    reader = lane.reader()
    assert [take(reader, block)[:1] for block in blocks[lane.files.slots_per_file :]] == [
        bytes([n]) for n in range(lane.files.slots_per_file, lane.slots)
    ]


def test_key_dies_with_the_last_block_that_needs_it(lane: Lane) -> None:
    fill(lane)
    assert live_keys(lane) == [0, 1, 2, 3]
    for number in range(lane.slots):
        lane.writer.release(number)
        gone = (number + 1) // lane.files.slots_per_file
        assert live_keys(lane) == list(range(gone, FILES))
    assert lane.keys.created == lane.keys.destroyed == FILES
    assert lane.writer.live_bytes == 0 and lane.writer.free_bytes == lane.writer.total_bytes


def test_file_in_use_loses_its_key_as_soon_as_all_in_it_is_released(lane: Lane) -> None:
    block = lane.seal(b"one")
    lane.writer.release(block.number)
    assert live_keys(lane) == []
    after = lane.seal(b"two")
    assert after.file == 1 and take(lane.reader(), after) == b"two"


def test_release_of_what_was_released_changes_nothing(lane: Lane) -> None:
    blocks = [lane.seal(b"x" * 10) for _ in range(3)]
    for _ in range(2):
        lane.writer.release(blocks[1].number)
        assert live_keys(lane) == [1] and lane.writer.live_bytes == 10
    lane.writer.release(blocks[0].number)
    assert live_keys(lane) == [1] and lane.writer.live_bytes == 10


def test_age_is_that_of_the_oldest_block_not_released(lane: Lane) -> None:
    assert lane.writer.oldest_age_ns(time.monotonic_ns()) == 0
    before = time.monotonic_ns()
    first = lane.seal(b"x")
    between = time.monotonic_ns()
    lane.seal(b"y")
    later = time.monotonic_ns() + 10**9
    assert later - between <= lane.writer.oldest_age_ns(later) <= later - before
    lane.writer.release(first.number)
    assert 10**9 <= lane.writer.oldest_age_ns(later) < later - between
    lane.writer.release(first.number + 1)
    assert lane.writer.oldest_age_ns(later) == 0


def test_disk_that_stalls_makes_full_and_not_a_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes, go = os.pwrite, threading.Event()

    def stalled(fd: int, data: memoryview, offset: int) -> int:
        go.wait(30)
        return writes(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", stalled)
    with spool(tmp_path, slots=limits.STAGING_BUFFERS.default) as lanes:
        lane = lanes[0]
        results = [lane.writer.try_seal(plain(bytes([n]))) for n in range(limits.STAGING_BUFFERS.default + 3)]
        assert [isinstance(result, Full) for result in results] == [False] * limits.STAGING_BUFFERS.default + [True] * 3
        assert lane.writer.written() == [] and lane.writer.free_bytes > 0
        go.set()
        written = lane.drain()
        assert written == results[:-3]
        reader = lane.reader()
        assert [take(reader, block) for block in written] == [bytes([n]) for n in range(len(written))]
        assert take(reader, lane.seal(b"goes on")) == b"goes on"


def test_writes_that_are_cut_short_are_continued(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: writes(fd, data[:4096], offset))
    data = os.urandom(lane.longest)
    assert take(lane.reader(), lane.seal(data)) == data


def test_write_that_fails_ends_the_lane(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", failing)
    assert isinstance(lane.writer.try_seal(plain(b"x")), SealedBlock)
    with pytest.raises(BoxError, match="No space left"):
        lane.drain()
    with pytest.raises(BoxError, match="No space left"):
        lane.writer.try_seal(plain(b"y"))
    lane.writer.close()
    assert live_keys(lane) == []


def test_end_of_a_lane_destroys_every_key_and_nothing_is_sealed_after_it(lane: Lane) -> None:
    fill(lane)
    lane.writer.release(2)
    lane.writer.close()
    assert live_keys(lane) == [] and lane.keys.created == lane.keys.destroyed == FILES
    assert lane.writer.live_bytes == 0
    with pytest.raises(BoxError, match="ended"):
        lane.writer.try_seal(plain(b"x"))
    assert lane.keys.created == lane.keys.destroyed
    lane.writer.close()
    assert lane.keys.created == lane.keys.destroyed


def test_end_waits_for_what_is_sealed(tmp_path: Path) -> None:
    with spool(tmp_path) as lanes:
        blocks = [lanes[0].writer.try_seal(plain(b"x" * 5000)) for _ in range(4)]
        lanes[0].writer.close()
        assert [block.number for block in lanes[0].writer.written()] == [0, 1, 2, 3]
        for block in blocks:
            assert isinstance(block, SealedBlock)
            assert any(lanes[0].on_disk(block)[5000 - 16 :])
