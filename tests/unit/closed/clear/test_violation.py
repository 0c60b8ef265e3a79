"""How much may leave of how much came in."""

from __future__ import annotations

from bunker import limits
from bunker.closed.clear.violation import OutputRatio

FREE = limits.OUTPUT_ALLOWANCE.default


def test_what_leaves_is_at_most_the_share_and_the_allowance() -> None:
    ratio = OutputRatio(most=0.5)
    assert not ratio.admits(FREE + 51, 100)
    assert ratio.admits(FREE + 50, 100)
    assert not ratio.admits(1, 100) and not ratio.admits(1, 101)
    assert ratio.admits(1, 102)


def test_what_was_not_admitted_is_not_counted() -> None:
    ratio = OutputRatio(most=0.5)
    assert not ratio.admits(2 * FREE, 0)
    assert ratio.admits(FREE, 0) and ratio.released == FREE


def test_without_a_ratio_everything_leaves() -> None:
    assert OutputRatio(most=None).admits(1 << 60, 0)
