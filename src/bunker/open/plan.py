"""Does continuous tracing hold: the buffer of a run over a week, from what arrives and what the analysis takes.

Place in the flow: rates of the operator, or the counters of an earlier run (`buffer.py`) ▶ here ▶ tables and pictures.

Rules of this file:
1. Pure arithmetic over hours: rates are bytes a second, constant within an hour; hour 0 is Monday 00:00.
2. The conditions are the paper's. With p the peak of the buffer during a weekday that began with nothing in it and Δ
   what that day leaves: the spool must be larger than 4·Δ + p (on Friday four days' leftovers lie in it), and over
   the weekend the analysis must catch up by at least 5·Δ. Where weekdays differ, the worst counts for all five.
   A day is 24 hours from any hour on, the same for all: the hour is chosen with which they ask for least, since a day
   cut in the evening would call left over what the night takes anyway.
   That 5·Δ are caught up is tried, not summed up: the weekend begins with 5·Δ and must end with an empty buffer. Then
   the conditions are sufficient whatever the hours look like: the buffer never stands above 4·Δ + p (or, of a weekend
   that itself begins with a peak, that peak).
3. Beside the conditions stands the buffer itself, hour by hour.
Source: the paper's section on continuous tracing; DESIGN.md, section 4.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from bunker import limits
from bunker.errors import ConfigurationError

HOUR_S = 3600
DAY_HOURS = 24
WEEK_HOURS = 168
WEEKDAYS = 5
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_WEEKS = 3
"""Weeks that are simulated: what the first one leaves begins the second; from the second on only growth can change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Week:
    """What arrives: bytes a second for each hour of a week.

    Args:
        rates: WEEK_HOURS values, Monday 00:00 first.
        source: Where they come from, a sentence for people.
    Invariants:
        No rate is negative.
    """

    rates: tuple[float, ...]
    source: str

    def __post_init__(self) -> None:
        if len(self.rates) != WEEK_HOURS or any(not 0 <= rate < float("inf") for rate in self.rates):
            raise ConfigurationError(
                "rates of a week", f"{len(self.rates)} values", f"Give {WEEK_HOURS} numbers, none of them negative"
            )

    def day(self, number: int) -> tuple[float, ...]:
        """The hours of a day, 0 is Monday."""
        return self.rates[number * DAY_HOURS : (number + 1) * DAY_HOURS]


def week_of(*, busy: float, quiet: float, weekend: float, begin: int, end: int) -> Week:
    """A week of two levels.

    Args:
        busy: Bytes a second on weekdays from hour `begin` to hour `end`.
        quiet: Bytes a second in a weekday's other hours.
        weekend: What Saturday and Sunday have of a weekday's rates, 0 to 1 (or more).
        begin, end: Hours of the day, 0 <= begin < end <= 24.
    Raises:
        ConfigurationError: hours or shares that make no week.
    """
    if not 0 <= begin < end <= DAY_HOURS:
        raise ConfigurationError("busy hours", f"{begin}-{end} are no hours of a day", 'Write them as "8-20"')
    day = tuple(busy if begin <= hour < end else quiet for hour in range(DAY_HOURS))
    rates = day * WEEKDAYS + tuple(rate * weekend for rate in day) * 2
    return Week(
        rates=rates, source=f"as given: busy from {begin} to {end} h on weekdays, weekends {weekend:.0%} of that"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """The buffer at the end of an hour, and what the spool had no room for in it; bytes."""

    hour: int
    arrived: float
    analysed: float
    buffered: float
    dropped: float


def levels(rates: Sequence[float], analysis: float, *, size: float | None = None, start: float = 0.0) -> list[Level]:
    """The buffer, hour by hour.

    Within an hour the buffer rises or falls steadily, so its highest point in an hour is at one of the ends.

    Args:
        rates: Bytes a second that arrive, for each hour.
        analysis: Bytes a second that the analysis takes while there is something to take.
        size: Bytes of the spool; None: there is always room.
        start: Bytes in the buffer before the first hour.
    """
    found: list[Level] = []
    buffered = start
    for hour, rate in enumerate(rates):
        before, arrived = buffered, rate * HOUR_S
        buffered = max(0.0, before + arrived - analysis * HOUR_S)
        dropped = 0.0 if size is None else max(0.0, buffered - size)
        buffered -= dropped
        analysed = before + arrived - dropped - buffered
        found.append(Level(hour=hour, arrived=arrived, analysed=analysed, buffered=buffered, dropped=dropped))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The paper's two conditions, with their numbers; bytes.

    Args:
        delta: Δ, what the worst weekday leaves.
        peak: p, the highest point of the buffer on a weekday that began empty.
        weekend: What the analysis can do over the weekend beyond what arrives then.
        left: What a weekend that begins with 5·Δ in the buffer ends with.
        weekend_peak: Its highest point.
        begins: Hour of the day at which a day was taken to begin.
    """

    delta: float
    peak: float
    weekend: float
    left: float
    weekend_peak: float
    begins: int

    @property
    def size_needed(self) -> float:
        """The spool must be larger than this: 4·Δ + p, and what the weekend asks for."""
        return max((WEEKDAYS - 1) * self.delta + self.peak, self.weekend_peak)

    @property
    def catches_up(self) -> bool:
        """Over the weekend at least 5·Δ is caught up."""
        return self.left <= 0

    def hold(self, size: float | None) -> bool:
        """Both conditions, for a spool of this size (None: one that is large enough)."""
        return self.catches_up and (size is None or size > self.size_needed)


def conditions(week: Week, analysis: float) -> Conditions:
    """What the two conditions say of a week and an analysis of this many bytes a second."""
    cuts = [_conditions(week, analysis, begins) for begins in range(DAY_HOURS)]
    good = [cut for cut in cuts if cut.catches_up]
    if good:
        return min(good, key=lambda cut: cut.size_needed)
    return min(cuts, key=lambda cut: (round(cut.delta), -cut.peak))


def _conditions(week: Week, analysis: float, begins: int) -> Conditions:
    """With days that begin at this hour: five from Monday's on, and the rest of the week."""
    turned = week.rates[begins:] + week.rates[:begins]
    days = [_peak_and_end(turned[day * DAY_HOURS : (day + 1) * DAY_HOURS], analysis, 0.0) for day in range(WEEKDAYS)]
    delta = max(end for _, end in days)
    weekend = turned[WEEKDAYS * DAY_HOURS :]
    weekend_peak, left = _peak_and_end(weekend, analysis, WEEKDAYS * delta)
    return Conditions(
        delta=delta,
        peak=max(peak for peak, _ in days),
        weekend=sum(analysis - rate for rate in weekend) * HOUR_S,
        left=left,
        weekend_peak=weekend_peak,
        begins=begins,
    )


def _peak_and_end(rates: Sequence[float], analysis: float, start: float) -> tuple[float, float]:
    """As `levels` without a size: the highest point, and the last."""
    peak = end = start
    for rate in rates:
        end = max(0.0, end + (rate - analysis) * HOUR_S)
        peak = max(peak, end)
    return peak, end


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The answer: conditions, the buffer over a week that follows others, and what would be needed.

    Args:
        lanes: How many lanes the analysis has, each of `lane_rate` bytes a second.
        size: Bytes of the spool that was asked about, None if none was.
        hours: The buffer of the last of several weeks in a row, with a spool of `size`.
        growth: Bytes by which the buffer grows from week to week without a limit of its size; 0: it does not.
        lanes_needed: The fewest lanes with which both conditions hold; None: not even the most that Bunker takes.
    """

    week: Week
    lane_rate: float
    lanes: int
    size: float | None
    conditions: Conditions
    hours: tuple[Level, ...]
    growth: float
    lanes_needed: int | None

    @property
    def holds(self) -> bool:
        """Continuous tracing holds."""
        return self.conditions.hold(self.size)

    @property
    def peak(self) -> float:
        """The highest point of the week."""
        return max(level.buffered for level in self.hours)

    @property
    def dropped(self) -> float:
        """What a week loses."""
        return sum(level.dropped for level in self.hours)


def plan(week: Week, *, lane_rate: float, lanes: int = 1, size: float | None = None) -> Plan:
    """Work a week out.

    Args:
        lane_rate: Bytes a second that one lane analyses.
        lanes: Lanes.
        size: Bytes of the spool; None: ask for it.
    Raises:
        ConfigurationError: a rate, size or number of lanes that is none.
    """
    if not lane_rate > 0 or lanes < 1 or (size is not None and not size > 0):
        raise ConfigurationError("plan", "a rate, a size or the lanes are not above 0", "Give positive numbers")
    analysis = lane_rate * lanes
    run = levels(week.rates * _WEEKS, analysis, size=size)
    free = run if size is None else levels(week.rates * _WEEKS, analysis)
    ends = [free[(number + 1) * WEEK_HOURS - 1].buffered for number in range(_WEEKS)]
    possible = range(1, limits.LANES.default + 1)  # what holds with some lanes holds with more
    needed = bisect_left(possible, True, key=lambda number: conditions(week, lane_rate * number).hold(size))
    return Plan(
        week=week,
        lane_rate=lane_rate,
        lanes=lanes,
        size=size,
        conditions=conditions(week, analysis),
        hours=tuple(run[-WEEK_HOURS:]),
        growth=max(0.0, ends[-1] - ends[-2]),
        lanes_needed=possible[needed] if needed < len(possible) else None,
    )
