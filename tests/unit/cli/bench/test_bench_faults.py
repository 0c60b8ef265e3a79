"""What the bench of faults counts, and that a short run of it shows no collateral."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bunker.cli.bench.faults import Bugs, Life, Rows, is_hit, measure_faults, restarted
from bunker.cli.bench.peers import Cost

COST = Cost(exit_code=0, cpu_s=1.0, wall_s=1.0, peak_bytes=1, output="")
LIVES = [Life(uid=1, begin_ns=0, end_ns=10), Life(uid=2, begin_ns=11, end_ns=19), Life(uid=3, begin_ns=5, end_ns=30)]


@pytest.mark.parametrize(
    ("at", "away", "lost"),
    [(10, 0, {1, 3}), (10, 1, {1, 2, 3}), (11, 0, {2, 3}), (20, 5, {3}), (31, 100, set()), (0, 0, {1}), (0, 4, {1})],
)
def test_a_restart_loses_what_lives_while_it_lasts(at: int, away: int, lost: set[int]) -> None:
    assert restarted(LIVES, Bugs(struck=((at, 1),)), away_ns=away) == lost


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), max_size=20),
    st.lists(st.integers(0, 80), max_size=6),
    st.integers(0, 10),
)
def test_it_agrees_with_the_plain_definition(spans: list[tuple[int, int]], at: list[int], away: int) -> None:
    lives = [Life(uid=number, begin_ns=begin, end_ns=begin + length) for number, (begin, length) in enumerate(spans)]
    plain = {life.uid for life in lives if any(begin <= life.end_ns and begin + away >= life.begin_ns for begin in at)}
    assert restarted(lives, Bugs(struck=tuple((ts, 0) for ts in at)), away_ns=away) == plain


def test_a_flow_is_lost_if_any_row_of_it_is_missing_or_another() -> None:
    whole = Rows(
        cost=COST, restarts=0, by_flow={1: frozenset({("a",), ("b",)}), 2: frozenset({("c",)}), 3: frozenset({("d",)})}
    )
    found = Rows(cost=COST, restarts=0, by_flow={1: frozenset({("a",)}), 2: frozenset({("c",)})})
    assert found.lost(whole) == {1, 3} and whole.lost(whole) == frozenset()


def test_about_one_packet_in_n_has_the_bug() -> None:
    hits = sum(is_hit(1_700_000_000 * 10**9 + 4000 * number, 100, 7) for number in range(100_000))
    assert 800 < hits < 1200


def test_a_short_run_shows_no_collateral(tmp_path: Path) -> None:
    words = ["--requests", "3000", "--one-in", "2000", "--rounds", "1", "--work", str(tmp_path / "w")]
    words += ["--kind", "exception", "--kind", "exit"]
    done = CliRunner().invoke(
        measure_faults, [*words, "--json", str(tmp_path / "t.json"), "--picture", str(tmp_path / "p.svg")]
    )
    assert done.exit_code == 0, done.output
    table = json.loads((tmp_path / "t.json").read_text())["tables"][0]
    *ours, whole, online = table["rows"]
    assert [row[0] for row in ours] == ["bunker, exception", "bunker, exit"]
    for row in ours:
        assert row[3] == 0 and row[5] == "whole" and row[1] == whole[1] == online[1] > 0
    assert any("exit: " in note and "restarts of the worker" in note for note in table["notes"])
    assert whole[3] >= online[3] > 100, "all that live at a time are lost with it"
    assert not any("as if they had not been" in note for note in table["notes"])
    assert "lost beside them" in (tmp_path / "p.svg").read_text()
