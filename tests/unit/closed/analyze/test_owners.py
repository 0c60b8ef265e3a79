"""The builder of records knows whose each is: a condemned flow's are left out, and no flow makes too many."""

from __future__ import annotations

import pyarrow as pa
import pytest

from bunker.closed.process.hand import Word, own_hand
from bunker.native.wire import Batch, RecordBuilder

FIELDS = [("size", "Count", False)]
MOST = 3


class TooMany(Exception):  # noqa: N818 - named for what there was
    pass


def sizes(batch: Batch) -> list[int]:
    return list(pa.record_batch(batch)["size"].to_pylist())


def filled(*flows: int) -> RecordBuilder:
    """One record for each of these flows; its size is its place."""
    hand = own_hand()
    made = RecordBuilder(FIELDS, (hand, MOST, TooMany))
    for place, flow in enumerate(flows):
        hand.set(Word.UID, flow)
        made.append((place,))
    return made


def test_records_of_condemned_flows_are_left_out() -> None:
    assert sizes(filled(7, 8, 7, 9).finish_without({7})) == [1, 3]
    assert sizes(filled(7, 8, 7, 9).finish_without({7, 8, 9})) == []
    assert sizes(filled(7, 8, 7, 9).finish_without({1})) == [0, 1, 2, 3]
    assert sizes(filled(7, 8).finish_without(set())) == [0, 1]


def test_a_record_that_does_not_fit_belongs_to_nobody() -> None:
    made = filled(7)
    with pytest.raises(TypeError):
        made.append(("text",))
    assert sizes(made.finish_without({8})) == [0]


def test_after_the_end_of_a_turn_it_starts_over() -> None:
    made = filled(7, 7, 7)
    made.finish_without({7})
    made.append((5,))
    assert sizes(made.finish_without(set())) == [5]


def test_a_flow_that_makes_too_many_is_told_so_and_its_neighbours_are_not() -> None:
    hand = own_hand()
    made = RecordBuilder(FIELDS, (hand, MOST, TooMany))
    for flow in range(1, 30):
        hand.set(Word.UID, flow)
        made.append((flow,))
    hand.set(Word.UID, 1)
    with pytest.raises(TooMany):
        for _ in range(100):
            made.append((0,))
    hand.set(Word.UID, 2)
    made.append((2,))
    assert 2 in sizes(made.finish_without({1}))


def test_without_owners_nobody_is_asked() -> None:
    made = RecordBuilder(FIELDS)
    for _ in range(2 * MOST):
        made.append((1,))
    assert sizes(made.finish()) == [1] * 2 * MOST
