"""unseal(seal(x)) = x; whatever is changed, on disk or in a descriptor, is refused; the writer does as its model."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from spooling import FILES, Lane, plain, spool, take

from bunker.closed.spool.block import TAG_BYTES, SealedBlock
from bunker.closed.spool.writer import Full
from bunker.errors import TrafficError

LENGTH = 5000
DATA = bytes(range(250)) * 20
ZERO = SealedBlock(**dict.fromkeys(SealedBlock.__slots__, 0))


@pytest.fixture(scope="module")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    with spool(tmp_path_factory.mktemp("spool"), slots=3) as lanes:
        yield lanes[0]


@pytest.fixture(scope="module")
def sealed(lane: Lane) -> SealedBlock:
    lane.seal(b"before")
    return lane.seal(DATA)


def refused(lane: Lane, block: SealedBlock) -> str:
    """The kind of the refusal; nothing of the block may have been handed out."""
    into = bytearray(8192)
    with pytest.raises(TrafficError) as error:
        lane.reader().unseal(block, into)
    assert not any(into)
    return error.value.kind


@settings(deadline=None)
@given(position=st.integers(0, (LENGTH + TAG_BYTES) * 8 - 1))
def test_bit_flipped_anywhere_on_disk_is_refused(lane: Lane, sealed: SealedBlock, position: int) -> None:
    whole = lane.on_disk(sealed)
    byte, bit = divmod(position, 8)
    lane.put(sealed, bytes([whole[byte] ^ 1 << bit]), at=byte)
    try:
        assert refused(lane, sealed) == "not_authentic"
    finally:
        lane.put(sealed, whole)
    assert take(lane.reader(), sealed) == DATA


@settings(deadline=None)
@given(position=st.integers(0, len(ZERO.pack()) * 8 - 1))
def test_bit_flipped_anywhere_in_a_descriptor_is_refused(lane: Lane, sealed: SealedBlock, position: int) -> None:
    packed = bytearray(sealed.pack())
    packed[position // 8] ^= 1 << position % 8
    assert refused(lane, SealedBlock.unpack(bytes(packed))) in {
        "wrong_lane",
        "no_such_place",
        "erased",
        "not_authentic",
    }
    assert take(lane.reader(), sealed) == DATA


@settings(deadline=None)
@given(first=st.integers(0, LENGTH), span=st.integers(1, 4096), seed=st.binary(min_size=8, max_size=8))
def test_run_of_bytes_replaced_on_disk_is_refused(
    lane: Lane, sealed: SealedBlock, first: int, span: int, seed: bytes
) -> None:
    whole = lane.on_disk(sealed)
    other = hashlib.shake_256(seed).digest(min(span, len(whole) - first))
    lane.put(sealed, other, at=first)
    try:
        if other == whole[first : first + len(other)]:
            assert take(lane.reader(), sealed) == DATA
        else:
            assert refused(lane, sealed) == "not_authentic"
    finally:
        lane.put(sealed, whole)


class SpoolMachine(RuleBasedStateMachine):
    """A lane against a model: a list of the blocks that are not released."""

    directory: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self._context = spool(self.directory, slots=2)
        self.lane = self._context.__enter__()[0]
        self.reader = self.lane.reader()
        self.live: deque[tuple[SealedBlock, bytes]] = deque()
        self.unread: deque[tuple[SealedBlock, bytes]] = deque()
        self.captured = 0

    @rule(length=st.sampled_from([0, 1, 4080, 4081, 8175, 8176]), packets=st.integers(0, 5))
    def seal(self, length: int, packets: int) -> None:
        data = os.urandom(length)
        number = self.lane.writer.next_number
        sealed = self.lane.writer.try_seal(plain(data, packet_count=packets))
        self.lane.drain()
        if isinstance(sealed, Full):
            used = {block.file for block, _ in self.live}
            assert len(used) == FILES and self.lane.writer.next_number == number
            return
        assert sealed.number == number and sealed.captured == self.captured
        assert (sealed.file, sealed.slot) not in {(block.file, block.slot) for block, _ in self.live}
        self.captured += packets
        self.live.append((sealed, data))
        self.unread.append((sealed, data))

    @precondition(lambda self: self.unread)
    @rule()
    def read(self) -> None:
        block, data = self.unread.popleft()
        assert take(self.reader, block) == data

    @precondition(lambda self: len(self.live) > len(self.unread))
    @rule(share=st.floats(0, 1))
    def release(self, share: float) -> None:
        """What was read, up to some block."""
        done = len(self.live) - len(self.unread)
        count = 1 + int(share * (done - 1))
        for _ in range(count):
            last, _ = self.live.popleft()
        self.lane.writer.release(last.number)
        assert self.reader_refuses(last) == "replayed"

    def reader_refuses(self, block: SealedBlock) -> str:
        with pytest.raises(TrafficError) as error:
            self.reader.unseal(block, bytearray(8192))
        return error.value.kind

    @invariant()
    def keys_live_exactly_where_blocks_do(self) -> None:
        live = {number for number in range(FILES) if not self.lane.keys.is_erased(number)}
        assert live == {block.file for block, _ in self.live}
        assert self.lane.keys.created - self.lane.keys.destroyed == len(live)
        assert self.lane.writer.live_bytes == sum(len(data) for _, data in self.live)

    def teardown(self) -> None:
        fresh = self.lane.reader()
        for block, data in self.live:
            assert take(fresh, block) == data
        self._context.__exit__(None, None, None)
        assert self.lane.keys.created == self.lane.keys.destroyed


def test_lane_does_as_its_model(tmp_path: Path) -> None:
    SpoolMachine.directory = tmp_path
    run_state_machine_as_test(SpoolMachine, settings=settings(max_examples=40, stateful_step_count=40, deadline=None))
