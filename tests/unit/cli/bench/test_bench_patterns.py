"""The load of `bunker bench patterns`, and that its engines agree on it."""

from __future__ import annotations

import pytest

from bunker.cli.bench import patterns


def test_pages_are_the_same_for_a_seed_and_of_the_size_that_was_asked_for() -> None:
    made = patterns.pages(200_000, 7)
    assert made == patterns.pages(200_000, 7) != patterns.pages(200_000, 8)
    assert 200_000 <= sum(map(len, made)) < 220_000


def test_rules_are_all_different_and_bounded_in_number() -> None:
    assert len(set(patterns.expressions(300))) == 300
    with pytest.raises(ValueError, match="there are 300"):
        patterns.expressions(301)


def test_every_engine_has_a_row_for_each_count_and_finds_the_signs() -> None:
    table = patterns.measure(patterns.pages(1_000_000, 7), (1, 240), rounds=1, slow_s=0.2)
    assert [row[0] for row in table.rows[:3]] == ["vectorscan", "re2", "re"]
    assert [row[1] for row in table.rows] == [1] * (len(table.rows) // 2) + [240] * (len(table.rows) // 2)
    signs, _, read = str(table.rows[len(table.rows) // 2][5]).partition(" of ")
    assert 0 < int(signs) < int(read) / 20, "template four stands in one page of a hundred"
