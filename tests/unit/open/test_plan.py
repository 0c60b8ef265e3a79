"""The conditions for continuous tracing against the buffer itself."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bunker import limits
from bunker.errors import ConfigurationError
from bunker.open.plan import HOUR_S, WEEK_HOURS, Week, conditions, levels, plan, week_of

MB = 1e6


def flat(rate: float) -> Week:
    return Week(rates=(rate,) * WEEK_HOURS, source="flat")


def test_buffer_rises_and_falls_by_the_difference_of_the_rates() -> None:
    found = levels([3.0, 3.0, 0.0, 0.0, 0.0], 2.0)
    assert [level.buffered for level in found] == [HOUR_S, 2 * HOUR_S, 0, 0, 0]
    assert sum(level.analysed for level in found) == sum(level.arrived for level in found)


def test_full_spool_drops_what_has_no_room() -> None:
    found = levels([3.0, 3.0], 1.0, size=3 * HOUR_S)
    assert [level.buffered for level in found] == [2 * HOUR_S, 3 * HOUR_S]
    assert [level.dropped for level in found] == [0, HOUR_S]


def test_the_conditions_by_hand() -> None:
    """Twelve busy hours at 3, else 1; weekends 0; the analysis takes 1.5: each day leaves 12 * 1.5 - 12 * 0.5 = 12."""
    week = week_of(busy=3.0, quiet=1.0, weekend=0.0, begin=8, end=20)
    found = conditions(week, 1.5)
    assert found.begins == 8
    assert found.delta == 12 * HOUR_S
    assert found.peak == 18 * HOUR_S
    assert found.size_needed == (48 + 18) * HOUR_S
    assert found.weekend == (48 * 1.5 - 8 * 1.0 + 8 * 0.0) * HOUR_S  # Saturday 8:00 to Monday 8:00
    assert found.catches_up
    assert found.hold(66.01 * HOUR_S) and not found.hold(66 * HOUR_S)


def test_a_weekend_that_catches_up_too_little_fails_whatever_the_spool() -> None:
    week = week_of(busy=3.0, quiet=1.0, weekend=0.9, begin=8, end=20)
    found = plan(week, lane_rate=1.5)
    assert not found.conditions.catches_up and not found.holds
    assert found.growth > 0
    assert found.lanes_needed == 2


def test_an_analysis_that_keeps_up_needs_no_spool() -> None:
    found = plan(flat(10 * MB), lane_rate=10 * MB, size=1)
    assert found.holds and found.peak == 0 and found.growth == 0 and found.lanes_needed == 1


def test_traffic_beyond_all_lanes_has_no_remedy() -> None:
    most = limits.LANES.default
    assert plan(flat(most + 1.0), lane_rate=1.0).lanes_needed is None
    assert plan(flat(float(most)), lane_rate=1.0).lanes_needed == most


@pytest.mark.parametrize("bad", [{"lane_rate": 0.0}, {"lane_rate": 1.0, "lanes": 0}, {"lane_rate": 1.0, "size": 0.0}])
def test_rates_and_sizes_of_nothing_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        plan(flat(1.0), **bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("rates", [(1.0,) * 167, (1.0,) * 167 + (-1.0,), (1.0,) * 167 + (float("nan"),)])
def test_a_week_is_168_rates(rates: tuple[float, ...]) -> None:
    with pytest.raises(ConfigurationError):
        Week(rates=rates, source="")


def test_a_weekend_with_a_peak_of_its_own_needs_the_spool_for_it() -> None:
    rates = [0.0] * WEEK_HOURS
    rates[6 * 24 + 22] = 5.0
    found = plan(Week(rates=tuple(rates), source=""), lane_rate=1.0)
    assert found.conditions.size_needed == 4 * HOUR_S and found.conditions.delta == 0


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.integers(0, 40), min_size=WEEK_HOURS, max_size=WEEK_HOURS),
    st.integers(1, 60),
    st.integers(1, 4_000),
)
def test_where_the_conditions_hold_nothing_is_dropped_and_nothing_grows(
    rates: list[int], analysis: int, size_hours: int
) -> None:
    """The conditions are sufficient, for any week and not only for alike days."""
    found = plan(Week(rates=tuple(map(float, rates)), source=""), lane_rate=float(analysis), size=size_hours * HOUR_S)
    if found.conditions.catches_up:
        assert found.growth == 0
        if found.holds:
            assert found.dropped == 0 and found.peak <= found.conditions.size_needed
    if found.growth:
        assert not found.holds
