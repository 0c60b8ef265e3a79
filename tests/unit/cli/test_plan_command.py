"""`bunker plan` and `bunker show --buffer` as commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bunker.cli.plan import parse_rate, plan_command
from bunker.cli.show import show
from bunker.errors import ConfigurationError

MONDAY_NS = 1_704_067_200_000_000_000  # 2024-01-01 00:00 UTC


def run(*words: str) -> Result:
    return CliRunner().invoke(plan_command, words)


def earlier(folder: Path, rate: int, analysis: int) -> Path:
    """Heartbeats of two hours: `rate` bytes a second arrive, `analysis` are analysed."""
    lines = []
    for second in range(0, 7201, 60):
        counters = {
            "bytes_received": rate * second,
            "bytes_analysed": min(rate, analysis) * second,
            "live_raw_bytes": max(rate - analysis, 0) * second,
            "spool_bytes": 10**9,
        }
        lines.append({"kind": "heartbeat", "statement": {"now_ns": MONDAY_NS + second * 10**9, "counters": counters}})
    folder.mkdir()
    (folder / "heartbeats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.mark.parametrize(
    ("text", "value"), [("8bit/s", 1.0), ("1.5MB/s", 1.5e6), ("100 Mbit/s", 12.5e6), ("2Gbit/s", 2.5e8), ("7B/s", 7.0)]
)
def test_rates_carry_their_unit(text: str, value: float) -> None:
    assert parse_rate(text, key="x") == value


@pytest.mark.parametrize("text", ["100", "100MB", "fast", "-1MB/s", "1 mbit/s"])
def test_rates_without_a_unit_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_rate(text, key="x")


def test_exit_code_says_whether_it_holds() -> None:
    good = run("--rate", "200Mbit/s", "--analysis-rate", "120Mbit/s", "--size", "2.6TB")
    assert good.exit_code == 0 and "continuous tracing HOLDS" in good.output
    small = run("--rate", "200Mbit/s", "--analysis-rate", "120Mbit/s", "--size", "100GB")
    assert small.exit_code == 1 and "condition 1  FAILS" in small.output and "condition 2  holds" in small.output
    slow = run("--rate", "200Mbit/s", "--analysis-rate", "80Mbit/s")
    assert slow.exit_code == 1 and "condition 2  FAILS" in slow.output and "remedy       2 lane(s)" in slow.output


def test_more_lanes_hold_what_one_does_not() -> None:
    words = ("--rate", "200Mbit/s", "--analysis-rate", "80Mbit/s", "--lanes")
    assert (run(*words, "1").exit_code, run(*words, "2").exit_code) == (1, 0)


def test_hours_json_and_picture(tmp_path: Path) -> None:
    words = ("--rate", "8Mbit/s", "--analysis-rate", "1MB/s")
    assert run(*words, "--hours").output.count("│ 1.08 GB │") == 60
    drawn = run(*words, "--json", "--picture", str(tmp_path / "week.svg"))
    found = json.loads(drawn.output)
    assert len(found["hours"]) == 168 and found["holds"] is True and found["size"] is None
    assert (tmp_path / "week.svg").read_text().count("spool") == 0


def test_a_profile_gives_every_hour(tmp_path: Path) -> None:
    file = tmp_path / "week.csv"
    file.write_text("# hour,rate\n" + "".join(f"{hour},{hour}kB/s\n" for hour in range(168)))
    found = json.loads(run("--profile", str(file), "--analysis-rate", "1MB/s", "--json").output)
    assert [hour[0] for hour in found["hours"]] == [hour * 3_600_000 for hour in range(168)]


@pytest.mark.parametrize("text", ["0,1kB/s\n", "1,1kB/s\n", "0,quick\n"])
def test_a_profile_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "week.csv"
    file.write_text(text)
    assert isinstance(run("--profile", str(file), "--analysis-rate", "1MB/s").exception, ConfigurationError)


def test_an_earlier_run_gives_both_rates(tmp_path: Path) -> None:
    found = json.loads(run("--from", str(earlier(tmp_path / "a", 3000, 2000)), "--json").output)
    assert found["lane_rate"] == pytest.approx(2000, rel=0.02)
    assert found["hours"][0][0] == pytest.approx(3000 * 3600, rel=0.01)
    assert found["holds"] is False


def test_an_earlier_run_that_kept_up_asks_for_the_rate(tmp_path: Path) -> None:
    folder = earlier(tmp_path / "a", 2000, 3000)
    assert "never busy" in str(run("--from", str(folder)).exception)
    assert run("--from", str(folder), "--analysis-rate", "3kB/s").exit_code == 0


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--rate", "1MB/s"),
        ("--rate", "1MB/s", "--from", "x", "--analysis-rate", "1MB/s"),
        ("--rate", "1MB/s", "--analysis-rate", "1MB/s", "--busy", "morning"),
    ],
)
def test_incomplete_questions_are_usage_errors(words: tuple[str, ...]) -> None:
    assert run(*words).exit_code == 2


def test_show_draws_the_measured_buffer(tmp_path: Path) -> None:
    folder = earlier(tmp_path / "a", 3000, 2000)
    shown = CliRunner().invoke(show, [str(folder), "--buffer", "--picture", str(tmp_path / "b.png")])
    assert shown.exit_code == 0, shown.output
    assert "highest      7.2 MB" in shown.output and "analysed     14.4 MB" in shown.output
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    assert CliRunner().invoke(show, [str(folder), "--picture", "x.png"]).exit_code == 2
    assert CliRunner().invoke(show, [str(folder), "flow", "--buffer"]).exit_code == 2
