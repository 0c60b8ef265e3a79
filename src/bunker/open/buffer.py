"""The buffer of a run as its heartbeats tell it: what arrived, what was analysed, what lay in the spool.

Place in the flow: heartbeats.jsonl ▶ here ▶ `bunker show --buffer`, `bunker plan --from`.

Rules of this file:
1. It reads counters alone; all bytes are those of blocks (packets with their headers), which is what the spool holds.
2. What a run cannot tell is said: hours it did not see are filled from those it saw, an analysis that was never busy
   has no rate but only a lower bound.
Limits: MEASURED_HEARTBEATS samples are kept; of a longer run every second, fourth, … heartbeat, the peak among them.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bunker import limits
from bunker.errors import ConfigurationError
from bunker.model.counters import Counter
from bunker.open.files import HEARTBEATS
from bunker.open.plan import DAY_HOURS, HOUR_S, WEEK_HOURS, WEEKDAYS, Week

_LEAST_S = 1.0
"""An hour that was seen for less than this tells no rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One heartbeat's word about the buffer; bytes, nanoseconds since the epoch."""

    now_ns: int
    received: int
    analysed: int
    dropped: int
    buffered: int
    spool: int


def _statements(path: Path) -> Iterator[dict[str, object]]:
    try:
        with path.open("rb") as lines:
            for line in lines:
                found = msgspec.json.decode(line, type=dict[str, object])
                statement = found.get("statement")
                if isinstance(statement, dict):
                    last = statement.get("last", statement)
                    if isinstance(last, dict) and "counters" in last:
                        yield last
    except OSError as error:
        raise ConfigurationError(
            str(path), f"cannot be read ({error.strerror})", "Give the -o directory of a run"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ConfigurationError(str(path), "is damaged", "Make it again from envelopes/: bunker receive") from None


def _sample(statement: dict[str, object]) -> Sample:
    counters = statement.get("counters")
    now = statement.get("now_ns")
    if not isinstance(counters, dict) or not isinstance(now, int):
        raise ConfigurationError(HEARTBEATS, "has a heartbeat without counters", "bunker verify says what is wrong")

    def value(counter: Counter) -> int:
        found = counters.get(counter.value, 0)
        return found if isinstance(found, int) else 0

    return Sample(
        now_ns=now,
        received=value(Counter.BYTES_RECEIVED),
        analysed=value(Counter.BYTES_ANALYSED),
        dropped=value(Counter.BYTES_DROPPED_SPOOL),
        buffered=value(Counter.LIVE_RAW_BYTES),
        spool=value(Counter.SPOOL_BYTES),
    )


def samples(directory: Path) -> list[Sample]:
    """The heartbeats of a run, in order.

    Of more than MEASURED_HEARTBEATS every second is dropped again and again; of two neighbours the one with more in the
    buffer stays.

    Raises:
        ConfigurationError: there is no file of heartbeats, or nothing in it.
    """
    most, found = limits.MEASURED_HEARTBEATS.default, list[Sample]()
    waiting: list[Sample] = []
    each = 1
    for statement in _statements(directory / HEARTBEATS):
        waiting.append(_sample(statement))
        if len(waiting) == each:
            found.append(max(waiting, key=lambda sample: sample.buffered))
            waiting.clear()
        if len(found) > most:
            pairs = zip(found[::2], found[1::2], strict=False)
            found = [max(pair, key=lambda sample: sample.buffered) for pair in pairs]
            each *= 2
    found += waiting[-1:]
    if not found:
        raise ConfigurationError(str(directory / HEARTBEATS), "holds no heartbeat", "The run ended before the first")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a run says about a week like it.

    Args:
        week: Its rates, with the hours it did not see filled.
        lane_rate: Bytes a second of one lane's analysis; None if the analysis was never busy.
        at_least: Bytes a second that the analysis is known to have taken, all lanes together.
        lanes: Lanes of that run.
        hours_seen: Hours of the week that it saw.
    """

    week: Week
    lane_rate: float | None
    at_least: float
    lanes: int
    hours_seen: int


def measured(found: Sequence[Sample], *, lanes: int = 1, utc_offset_h: int = 0) -> Measured:
    """Rates out of the samples of a run.

    Args:
        lanes: How many lanes it had.
        utc_offset_h: Hours to add to UTC for the hours of the week.
    Raises:
        ConfigurationError: less than two heartbeats, or none that saw traffic.
    """
    seconds, arrived = [0.0] * WEEK_HOURS, [0.0] * WEEK_HOURS
    busy: list[tuple[float, float]] = []
    most = 0.0
    for before, after in itertools.pairwise(found):
        duration = (after.now_ns - before.now_ns) / 1e9
        if duration <= 0:
            continue
        for hour, part in _hours(before.now_ns, after.now_ns, utc_offset_h):
            seconds[hour] += duration * part
            arrived[hour] += max(0, after.received - before.received) * part
        taken = max(0, after.analysed - before.analysed)
        most = max(most, taken / duration)
        if before.buffered and after.buffered:
            busy.append((taken, duration))
    seen = [hour for hour in range(WEEK_HOURS) if seconds[hour] >= _LEAST_S]
    if not seen or not any(arrived):
        raise ConfigurationError("the earlier run", "its heartbeats tell no rate", "Use a run of more than a second")
    rates = {hour: arrived[hour] / seconds[hour] for hour in seen}
    rate = sum(taken for taken, _ in busy) / sum(duration for _, duration in busy) if busy else 0.0
    filled = WEEK_HOURS - len(seen)
    source = f"measured in {len(seen)} hours of the week"
    return Measured(
        week=Week(
            rates=tuple(_filled(hour, rates) for hour in range(WEEK_HOURS)),
            source=source + (f"; the other {filled} are as the nearest of those" if filled else ""),
        ),
        lane_rate=rate / lanes if rate else None,
        at_least=most,
        lanes=lanes,
        hours_seen=len(seen),
    )


def _hours(start_ns: int, end_ns: int, utc_offset_h: int) -> Iterator[tuple[int, float]]:
    """(hour of the week, share of the time) of an interval."""
    hour_ns = HOUR_S * 10**9
    at = start_ns
    while at < end_ns:
        stop = min(end_ns, (at // hour_ns + 1) * hour_ns)
        moment = datetime.fromtimestamp(at // 10**9 + utc_offset_h * HOUR_S, UTC)
        yield moment.weekday() * DAY_HOURS + moment.hour, (stop - at) / (end_ns - start_ns)
        at = stop


def _filled(hour: int, rates: dict[int, float]) -> float:
    """The rate of an hour: its own, else that of the same hour on days of its kind, else of days of its kind, else of
    all."""
    if hour in rates:
        return rates[hour]
    working = hour // DAY_HOURS < WEEKDAYS
    alike = [other for other in rates if (other // DAY_HOURS < WEEKDAYS) is working]
    same = [other for other in alike if other % DAY_HOURS == hour % DAY_HOURS]
    return statistics.fmean(rates[other] for other in (same or alike or rates))
