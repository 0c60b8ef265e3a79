"""Descriptors: their fixed form, what their tag covers, their nonce."""

from __future__ import annotations

import dataclasses

import pytest

from bunker.closed.spool.block import PAGE, TAG_BYTES, SealedBlock, slot_bytes_of
from bunker.errors import BoxError

BLOCK = SealedBlock(
    number=0x0102030405060708,
    lane=9,
    format=2,
    file=10,
    lap=11,
    slot=12,
    length=13,
    packet_count=14,
    status=15,
    first_ts_ns=16,
    last_ts_ns=17,
    dropped=18,
    captured=19,
)
FIELDS = [field.name for field in dataclasses.fields(SealedBlock)]


def test_descriptor_comes_back_from_its_fixed_form() -> None:
    assert SealedBlock.unpack(BLOCK.pack()) == BLOCK


@pytest.mark.parametrize("change", [-1, 1])
def test_descriptor_of_another_size_is_refused(change: int) -> None:
    data = (BLOCK.pack() + b"\0")[: len(BLOCK.pack()) + change]
    with pytest.raises(BoxError):
        SealedBlock.unpack(data)


@pytest.mark.parametrize("name", FIELDS)
def test_each_field_is_under_the_tag(name: str) -> None:
    other = dataclasses.replace(BLOCK, **{name: getattr(BLOCK, name) + 1})
    assert other.associated_data(bytes(16)) != BLOCK.associated_data(bytes(16))


def test_the_run_is_under_the_tag() -> None:
    assert BLOCK.associated_data(bytes(16)) != BLOCK.associated_data(b"\1" + bytes(15))


def test_nonce_is_lane_and_number() -> None:
    assert BLOCK.nonce() == b"\0\0\0\x09" + bytes([1, 2, 3, 4, 5, 6, 7, 8])


@pytest.mark.parametrize(
    ("block", "slot"),
    [(0, PAGE), (1, PAGE), (PAGE - TAG_BYTES, PAGE), (PAGE - TAG_BYTES + 1, 2 * PAGE), (PAGE, 2 * PAGE)],
)
def test_slot_is_the_least_whole_pages_for_block_and_tag(block: int, slot: int) -> None:
    assert slot_bytes_of(block) == slot
