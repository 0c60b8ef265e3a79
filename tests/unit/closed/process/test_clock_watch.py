"""A wall clock that is set is noticed once and by how much; one that is slewed, or a machine that slept, is not."""

from __future__ import annotations

import pytest

from bunker import limits
from bunker.closed.capture.clock import ClockWatch
from bunker.closed.process.link import Stepped, decode, encode
from bunker.errors import BoxError

SECOND = 10**9
WALL, BOOT = 1_700_000_000 * SECOND, 5_000 * SECOND
LEAST = limits.CLOCK_STEP_MS.default * 10**6


@pytest.mark.parametrize("by_ns", [LEAST, -LEAST, 3600 * SECOND, -3600 * SECOND, 86_400 * 365 * SECOND])
def test_a_step_is_told_once(by_ns: int) -> None:
    watch = ClockWatch(WALL, BOOT)
    assert watch.step(WALL + SECOND, BOOT + SECOND) is None
    assert watch.step(WALL + 2 * SECOND + by_ns, BOOT + 2 * SECOND) == by_ns
    assert watch.step(WALL + 3 * SECOND + by_ns, BOOT + 3 * SECOND) is None


@pytest.mark.parametrize("by_ns", [0, LEAST - 1, 1 - LEAST])
def test_what_is_smaller_is_not(by_ns: int) -> None:
    assert ClockWatch(WALL, BOOT).step(WALL + SECOND + by_ns, BOOT + SECOND) is None


def test_small_steps_add_up() -> None:
    watch = ClockWatch(WALL, BOOT)
    half = LEAST // 2
    assert watch.step(WALL + half, BOOT) is None
    assert watch.step(WALL + 2 * half, BOOT) == 2 * half


def test_there_and_back_is_told_twice() -> None:
    watch = ClockWatch(WALL, BOOT)
    assert [watch.step(WALL + by, BOOT) for by in (60 * SECOND, 60 * SECOND, 0, 0)] == [
        60 * SECOND,
        None,
        -60 * SECOND,
        None,
    ]


@pytest.mark.parametrize("by_ns", [1, -1, (1 << 63) - 1, -(1 << 63)])
def test_the_word_for_it_reads_back(by_ns: int) -> None:
    assert decode(encode(Stepped(by_ns=by_ns))) == Stepped(by_ns=by_ns)
    with pytest.raises(BoxError):
        decode(encode(Stepped(by_ns=by_ns))[:-1])
