"""A fault costs its flow and nothing else: what comes out is what comes out without it, minus that flow."""

from __future__ import annotations

from pathlib import Path

import pytest
from boxes import balanced, bunker, counters, events
from faulty import KINDS, Pair, faulty_study, make_trace, released

REQUESTS = 400
KILLING = {"exit", "segfault", "abort", "killed", "loop_that_catches", "native_deadlock"}


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_trace(tmp_path_factory.mktemp("trace") / "t.pcap", REQUESTS)


@pytest.fixture(scope="module")
def whole(trace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run without a fault."""
    folder = tmp_path_factory.mktemp("whole")
    done = faulty_study(folder / "s", "exception", set()).run(folder / "out", "--read", str(trace))
    assert done.returncode == 0, done.stderr
    return folder / "out"


def flows_of(whole: Path) -> list[Pair]:
    """Client and port of each flow."""
    return sorted({(row[0], row[1]) for row in released(whole, "seen")})


def check(whole: Path, out: Path, guilty: set[Pair], word: str) -> None:
    """`out` is `whole` minus the guilty flows, which say so."""
    assert bunker("verify", str(out)).returncode == 0
    expected = [row for row in released(whole, "seen") if (row[0], row[1]) not in guilty]
    assert released(out, "seen") == expected
    ended = released(out, "ended")
    assert {(row[0], row[1]): row[-2:] for row in ended if row[-1] == "erroneous"} == dict.fromkeys(
        guilty, (word, "erroneous")
    )
    assert [row for row in ended if (row[0], row[1]) not in guilty] == [
        row for row in released(whole, "ended") if (row[0], row[1]) not in guilty
    ]
    found = counters(out)
    assert balanced(found)
    assert found["packets_analysed"] == counters(whole)["packets_analysed"]
    assert found["flows_erroneous"] == len(guilty)
    assert found["live_raw_bytes"] == 0
    assert found["keys_destroyed"] == found["keys_created"] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_costs_its_flows_alone(kind: str, trace: Path, whole: Path, tmp_path: Path) -> None:
    flows = flows_of(whole)
    guilty = {flows[17], flows[len(flows) // 2]}
    done = faulty_study(tmp_path / "s", kind, guilty).run(tmp_path / "out", "--read", str(trace))
    assert done.returncode == 0, done.stderr
    check(whole, tmp_path / "out", guilty, KINDS[kind][1])
    restarts = counters(tmp_path / "out")["worker_restarts"]
    assert restarts >= 2 if kind in KILLING else True
    told = [event for event in events(tmp_path / "out") if event["kind"] == "worker_restarted"]
    assert len(told) <= restarts
