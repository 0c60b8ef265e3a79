"""Unsealing: authentication first; what was changed, moved, replayed or cut is refused by kind, its neighbours not."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from spooling import RUN, Lane, spool, take

from bunker.closed.spool.block import SealedBlock
from bunker.closed.spool.reader import SpoolReader
from bunker.errors import TrafficError

SECRET = b"plaintext that nobody may see" * 200
FILLER = b"\xaa"


@pytest.fixture
def lanes(tmp_path: Path) -> Iterator[list[Lane]]:
    with spool(tmp_path, lanes=2, slots=3) as made:
        yield made


@pytest.fixture
def lane(lanes: list[Lane]) -> Lane:
    return lanes[0]


def refusal(reader: SpoolReader, block: SealedBlock, *, room: int = 8192) -> TrafficError:
    into = bytearray(FILLER * room)
    with pytest.raises(TrafficError) as refused:
        reader.unseal(block, into)
    assert not into.strip(FILLER + b"\0"), "bytes of a refused block were handed out"
    assert refused.value.layer == "spool"
    return refused.value


def kind(reader: SpoolReader, block: SealedBlock, *, room: int = 8192) -> str:
    return refusal(reader, block, room=room).kind


def test_block_that_is_as_it_was_is_taken(lane: Lane) -> None:
    into = bytearray(FILLER * 8192)
    assert lane.reader().unseal(lane.seal(SECRET), into) == len(SECRET)
    assert into == SECRET + FILLER * (8192 - len(SECRET))


def test_block_on_disk_holds_no_plaintext_and_ends_with_noise(lane: Lane) -> None:
    one, other = lane.seal(bytes(100)), lane.seal(bytes(100))
    assert lane.on_disk(one) != lane.on_disk(other)
    paddings = {lane.on_disk(block, padded=True)[116:] for block in (one, other)}
    assert len(paddings) == 2 and all(len(set(padding)) > 200 for padding in paddings)


@pytest.mark.parametrize("position", [0, 1, 2047, len(SECRET) - 1, len(SECRET), len(SECRET) + 15])
def test_changed_byte_is_refused_and_the_next_block_is_taken(lane: Lane, position: int) -> None:
    block, after = lane.seal(SECRET), lane.seal(SECRET[::-1])
    lane.put(block, bytes([lane.on_disk(block)[position] ^ 1]), at=position)
    reader = lane.reader()
    assert kind(reader, block) == "not_authentic"
    assert take(reader, after) == SECRET[::-1]


def test_refusal_says_where_and_nothing_of_what(lane: Lane) -> None:
    lane.seal(SECRET)
    block = lane.seal(SECRET)
    lane.put(block, b"\0" * 8)
    error = refusal(lane.reader(), block)
    assert str(error) == f"spool: not_authentic at byte {lane.files.slot_bytes}"


def test_padding_is_not_part_of_the_block(lane: Lane) -> None:
    block = lane.seal(SECRET)
    lane.put(block, bytes(8192 - len(SECRET) - 16), at=len(SECRET) + 16)
    assert take(lane.reader(), block) == SECRET


FIELDS = {
    "number": "not_authentic",
    "lane": "wrong_lane",
    "format": "not_authentic",
    "file": "erased",
    "lap": "not_authentic",
    "slot": "not_authentic",
    "length": "not_authentic",
    "packet_count": "not_authentic",
    "status": "not_authentic",
    "first_ts_ns": "not_authentic",
    "last_ts_ns": "not_authentic",
    "dropped": "not_authentic",
    "captured": "not_authentic",
}


def test_each_field_is_tried() -> None:
    assert set(FIELDS) == {field.name for field in dataclasses.fields(SealedBlock)}


@pytest.mark.parametrize("name", FIELDS)
def test_descriptor_that_was_changed_is_refused(lane: Lane, name: str) -> None:
    block = lane.seal(SECRET)
    changed = dataclasses.replace(block, **{name: getattr(block, name) + 1})
    reader = lane.reader()
    assert kind(reader, changed) == FIELDS[name]
    assert take(reader, block) == SECRET, "a lie about a block does not spoil the block"


def test_block_of_another_run_is_refused(lane: Lane) -> None:
    assert kind(lane.reader(run=RUN[::-1]), lane.seal(SECRET)) == "not_authentic"


def test_block_that_comes_again_is_refused(lane: Lane) -> None:
    blocks = [lane.seal(SECRET), lane.seal(SECRET)]
    reader = lane.reader()
    for block in blocks:
        take(reader, block)
    assert [kind(reader, block) for block in blocks] == ["replayed", "replayed"]
    assert take(reader, lane.seal(b"next")) == b"next"


def test_earlier_block_in_a_later_ones_place_is_refused(lane: Lane) -> None:
    blocks = [lane.seal(SECRET), lane.seal(SECRET)]
    lane.put(blocks[1], lane.on_disk(blocks[0]))
    reader = lane.reader()
    take(reader, blocks[0])
    assert kind(reader, blocks[1]) == "not_authentic"
    assert kind(lane.reader(), dataclasses.replace(blocks[0], slot=1)) == "not_authentic"


def test_block_in_another_file_of_its_lane_is_refused(lane: Lane) -> None:
    blocks = [lane.seal(SECRET) for _ in range(4)]
    assert (blocks[3].file, blocks[3].slot) == (1, 0)
    lane.put(blocks[3], lane.on_disk(blocks[0]))
    assert kind(lane.reader(), blocks[3]) == "not_authentic"
    assert kind(lane.reader(), dataclasses.replace(blocks[0], file=1)) == "not_authentic"


def test_block_in_another_lane_is_refused(lanes: list[Lane]) -> None:
    here, there = lanes[0].seal(SECRET), lanes[1].seal(SECRET)
    assert kind(lanes[1].reader(), here) == "wrong_lane"
    lanes[1].put(there, lanes[0].on_disk(here))
    assert kind(lanes[1].reader(), there) == "not_authentic"
    assert kind(lanes[1].reader(), dataclasses.replace(here, lane=1)) == "not_authentic"


def test_block_under_another_lanes_files_and_keys_is_refused(lanes: list[Lane]) -> None:
    here = lanes[0].seal(SECRET)
    lanes[1].seal(SECRET)
    mixed = SpoolReader(
        run=RUN,
        lane=1,
        fds=lanes[0].files.read_fds,
        file_bytes=lanes[0].files.file_bytes,
        slot_bytes=lanes[0].files.slot_bytes,
        keys=lanes[0].keys,
    )
    assert kind(mixed, dataclasses.replace(here, lane=1)) == "not_authentic"


def test_cut_block_is_refused(lane: Lane) -> None:
    block = lane.seal(SECRET)
    for length in (0, 1, len(SECRET) - 1):
        assert kind(lane.reader(), dataclasses.replace(block, length=length)) == "not_authentic"
    lane.put(block, bytes(16), at=len(SECRET))
    assert kind(lane.reader(), block) == "not_authentic"


def test_cut_file_is_refused(lane: Lane) -> None:
    blocks = [lane.seal(SECRET), lane.seal(SECRET)]
    os.ftruncate(lane.doors[0], lane.files.slot_bytes + 4096)
    reader = lane.reader()
    assert take(reader, blocks[0]) == SECRET
    error = refusal(reader, blocks[1])
    assert (error.kind, error.offset, error.needed, error.had) == ("truncated", lane.files.slot_bytes, 8192, 4096)


def test_file_that_cannot_be_read_is_refused(lane: Lane) -> None:
    block = lane.seal(SECRET)
    deaf = os.open(f"/proc/self/fd/{lane.files.fds[0]}", os.O_WRONLY)
    assert kind(lane.reader(fds=[deaf, *lane.files.read_fds[1:]]), block) == "unreadable"
    os.close(deaf)


def test_place_outside_the_spool_is_refused(lane: Lane) -> None:
    block = lane.seal(SECRET)
    outside = [
        {"file": 4},
        {"file": 2**32 - 1},
        {"slot": 3},
        {"slot": 2**32 - 1},
        {"length": lane.longest + 1},
        {"length": 2**32 - 1},
    ]
    for change in outside:
        assert kind(lane.reader(), dataclasses.replace(block, **change), room=16384) == "no_such_place"


def test_buffer_that_is_too_small_is_refused(lane: Lane) -> None:
    block = lane.seal(SECRET)
    assert kind(lane.reader(), block, room=len(SECRET) - 1) == "no_such_place"
    into = bytearray(len(SECRET))
    assert lane.reader().unseal(block, into) == len(SECRET) and into == SECRET


def test_erased_key_makes_noise_of_what_it_sealed(lane: Lane) -> None:
    """Whoever kept the file's bytes and the descriptor has nothing, at once and after the file's next use."""
    block = lane.seal(SECRET)
    kept = lane.on_disk(block, padded=True)
    warm = lane.reader()
    take(warm, block)
    lane.writer.release(block.number)
    assert kind(lane.reader(), block) == "erased"
    assert kind(warm, dataclasses.replace(block, number=block.number + 1)) == "erased"
    for _ in range(lane.slots):
        again = lane.seal(b"later")
    assert (again.file, again.lap) == (0, 2)
    lane.put(block, kept)
    assert kind(lane.reader(), block) == "not_authentic"
    assert kind(lane.reader(), dataclasses.replace(block, lap=2)) == "not_authentic"


def test_block_of_a_file_that_was_used_again_is_refused(lane: Lane) -> None:
    old = lane.seal(SECRET)
    lane.writer.release(old.number)
    blocks = [lane.seal(b"x") for _ in range(lane.slots)]
    new = next(block for block in blocks if (block.file, block.slot) == (old.file, old.slot))
    assert new.lap == old.lap + 1
    assert kind(lane.reader(), old) == "not_authentic"
    assert take(lane.reader(), new) == b"x"


def test_false_lap_does_not_spoil_the_next_lap(lane: Lane) -> None:
    """A key looked up for a descriptor that lied is not kept for those that will tell the truth."""
    first = lane.seal(SECRET)
    reader = lane.reader()
    assert kind(reader, dataclasses.replace(first, lap=2)) == "not_authentic"
    lane.writer.release(first.number)
    blocks = [lane.seal(b"second lap") for _ in range(lane.slots)]
    new = next(block for block in blocks if block.file == first.file)
    assert new.lap == 2 and take(reader, new) == b"second lap"


def test_reader_that_forgot_its_key_looks_it_up_again(lane: Lane) -> None:
    reader = lane.reader()
    take(reader, lane.seal(b"one"))
    reader.forget()
    assert take(reader, lane.seal(b"two")) == b"two"


def test_reader_that_sees_a_file_again_only_in_its_next_lap_takes_the_new_key(lane: Lane) -> None:
    reader = lane.reader()
    first = lane.seal(SECRET)
    take(reader, first)
    lane.writer.release(first.number)
    blocks = [lane.seal(b"second lap") for _ in range(lane.slots)]
    assert blocks[-1].file == first.file and take(reader, blocks[-1]) == b"second lap"
