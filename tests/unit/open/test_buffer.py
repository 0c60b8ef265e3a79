"""Rates out of heartbeats, and the measured buffer."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from bunker import limits
from bunker.errors import ConfigurationError
from bunker.open.buffer import Sample, measured, samples
from bunker.open.plan import DAY_HOURS, HOUR_S

MONDAY = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp()) * 10**9  # a Monday, 00:00


def sample(hours: float, received: float, analysed: float, buffered: float) -> Sample:
    return Sample(
        now_ns=MONDAY + round(hours * HOUR_S * 10**9),
        received=round(received),
        analysed=round(analysed),
        dropped=0,
        buffered=round(buffered),
        spool=1 << 30,
    )


def write(directory: Path, lines: list[dict[str, object]]) -> Path:
    (directory / "heartbeats.jsonl").write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return directory


def line(second: int, kind: str = "heartbeat", **counters: int) -> dict[str, object]:
    statement: dict[str, object] = {"now_ns": MONDAY + second * 10**9, "counters": counters}
    return {"kind": kind, "number": second, "statement": {"last": statement} if kind == "end" else statement}


def test_heartbeats_and_the_last_word_become_samples(tmp_path: Path) -> None:
    start: dict[str, object] = {"kind": "start", "number": 0, "statement": {"started_ns": MONDAY}}
    lines = [start, line(1, bytes_received=10, live_raw_bytes=5), line(2, kind="end", bytes_received=20)]
    assert [(one.received, one.buffered) for one in samples(write(tmp_path, lines))] == [(10, 5), (20, 0)]


def test_a_long_run_is_thinned_and_keeps_its_peak(tmp_path: Path) -> None:
    count = limits.MEASURED_HEARTBEATS.default + 10
    lines = [line(second, live_raw_bytes=9 if second == 777 else 1) for second in range(count)]
    found = samples(write(tmp_path, lines))
    assert len(found) <= limits.MEASURED_HEARTBEATS.default
    assert max(one.buffered for one in found) == 9
    assert found[-1].now_ns == MONDAY + (count - 1) * 10**9


@pytest.mark.parametrize("content", [b"", b'{"kind": "start", "statement": {}}\n'])
def test_a_run_without_heartbeats_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "heartbeats.jsonl").write_bytes(content)
    with pytest.raises(ConfigurationError, match="no heartbeat"):
        samples(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"\xff\n", b"7\n"])
def test_damaged_lines_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "heartbeats.jsonl").write_bytes(content)
    with pytest.raises(ConfigurationError, match="damaged"):
        samples(tmp_path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        samples(tmp_path)


def test_rates_fall_into_the_hours_they_were_seen_in() -> None:
    found = measured([sample(0, 0, 0, 0), sample(1.5, 5400, 5400, 0), sample(2, 5400 + 3600, 9000, 0)])
    assert found.week.rates[0] == pytest.approx(1.0)
    assert found.week.rates[1] == pytest.approx((1800 + 3600) / HOUR_S)
    assert found.hours_seen == 2


def test_hours_not_seen_are_as_the_nearest_kind() -> None:
    found = measured([sample(8, 0, 0, 0), sample(9, 3600, 0, 0), sample(10, 3 * 3600, 0, 0)])
    rates = found.week.rates
    assert rates[DAY_HOURS + 8] == pytest.approx(1) and rates[DAY_HOURS + 9] == pytest.approx(2)
    assert rates[3] == pytest.approx(1.5)
    assert rates[6 * DAY_HOURS + 9] == pytest.approx(1.5), "no weekend was seen"
    assert "166" in found.week.source


def test_rate_of_the_analysis_counts_only_while_it_was_busy() -> None:
    found = measured(
        [sample(0, 0, 0, 10), sample(1, 9000, 3600, 10), sample(2, 9000, 3600, 0), sample(3, 9999, 3600, 0)], lanes=2
    )
    assert found.lane_rate == pytest.approx(0.5)


def test_an_analysis_that_was_never_busy_has_a_lower_bound_only() -> None:
    found = measured([sample(0, 0, 0, 0), sample(1, 7200, 7200, 0)])
    assert found.lane_rate is None and found.at_least == pytest.approx(2)


def test_hours_are_those_of_the_place() -> None:
    assert measured([sample(0, 0, 0, 0), sample(1, 3600, 0, 0)], utc_offset_h=-1).week.rates[167] == pytest.approx(1)


def test_a_run_that_saw_nothing_tells_no_rate() -> None:
    with pytest.raises(ConfigurationError, match="no rate"):
        measured([sample(0, 0, 0, 0), sample(1, 0, 0, 0)])
