"""A fault costs its flow and nothing else: what comes out is what comes out without it, minus that flow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from boxes import Study, balanced, bunker, counters, events
from faulty import BATCH_TAIL, HASTY, KINDS, PATIENT, Pair, faulty_study, make_trace, released

REQUESTS = 400
KILLING = {"exit", "segfault", "abort", "loop_that_catches", "native_deadlock"}


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
    one = faulty_study(tmp_path / "s", kind, guilty, analysis=HASTY if KINDS[kind][1] == "time" else PATIENT)
    done = one.run(tmp_path / "out", "--read", str(trace))
    assert done.returncode == 0, done.stderr
    check(whole, tmp_path / "out", guilty, KINDS[kind][1])
    restarts = counters(tmp_path / "out")["worker_restarts"]
    assert restarts >= 2 if kind in KILLING else True
    told = [event for event in events(tmp_path / "out") if event["kind"] == "worker_restarted"]
    assert len(told) <= restarts


@pytest.mark.parametrize("kind", ["exception", "segfault"])
def test_a_batch_loses_its_guilty_flows_alone(kind: str, trace: Path, whole: Path, tmp_path: Path) -> None:
    flows = flows_of(whole)
    guilty = {flows[40], flows[41], flows[300]} if kind == "exception" else {flows[40]}
    analyzers = ("./mine.py:ended", "./mine.py:in_batch")
    one = faulty_study(tmp_path / "s", kind, guilty, tail=BATCH_TAIL, analyzers=analyzers)
    done = one.run(tmp_path / "out", "--read", str(trace))
    assert done.returncode == 0, done.stderr
    check(whole, tmp_path / "out", guilty, KINDS[kind][1])


def test_open_flows_are_opened_again_over_many_blocks(tmp_path: Path) -> None:
    """64 connections of 100 requests, interleaved, over several blocks, two lanes: a restart finds flows open that
    began blocks before."""
    trace = make_trace(tmp_path / "t.pcap", 12_800, "keepalive")
    whole = tmp_path / "whole"
    assert faulty_study(tmp_path / "w", "exit", set(), lanes=2).run(whole, "--read", str(trace)).returncode == 0
    assert counters(whole)["blocks_analysed"] > 4
    flows = flows_of(whole)
    guilty = {flows[5], flows[70], flows[-1]}
    source = "if tx.trans_depth == 57 and (number(tx), tx.orig_p) in GUILTY"
    one = faulty_study(tmp_path / "s", "exit", guilty, lanes=2)
    mine = one.folder / "mine.py"
    mine.write_text(mine.read_text().replace("if (number(tx), tx.orig_p) in GUILTY", source))
    out = tmp_path / "out"
    done = one.run(out, "--read", str(trace))
    assert done.returncode == 0, done.stderr
    assert counters(out)["worker_restarts"] == 3
    seen, expected = released(out, "seen"), released(whole, "seen")
    assert [row for row in seen if (row[0], row[1]) not in guilty] == [
        row for row in expected if (row[0], row[1]) not in guilty
    ], "no record twice and none less"
    of_guilty = [row for row in seen if (row[0], row[1]) in guilty]
    assert len(set(of_guilty)) == len(of_guilty), "what was out before the fault stays out, once"
    assert all(row[2] < 57 for row in of_guilty)
    ended, expected = released(out, "ended"), released(whole, "ended")
    assert [row for row in ended if (row[0], row[1]) not in guilty] == [
        row for row in expected if (row[0], row[1]) not in guilty
    ]
    assert {(row[0], row[1]) for row in ended if row[-1] == "erroneous"} == guilty
    assert balanced(counters(out))
    left = {name: value for name, value in counters(out).items() if name.startswith(("packets_", "flows_opened"))}
    assert left == {name: value for name, value in counters(whole).items() if name in left}


def test_a_fault_in_every_flow_ends_the_run_with_a_clear_word(trace: Path, tmp_path: Path) -> None:
    one = faulty_study(tmp_path / "s", "exit", set())
    mine = one.folder / "mine.py"
    mine.write_text(mine.read_text().replace("    if (number(tx), tx.orig_p) in GUILTY:", "    if True:"))
    out = tmp_path / "out"
    done = one.run(out, "--read", str(trace))
    assert done.returncode == 1
    last = json.loads((out / "heartbeats.jsonl").read_bytes().splitlines()[-1])
    assert (last["kind"], last["statement"]["reason"]) == ("abort", "analysis_fails")
    assert balanced(counters(out))
    assert counters(out)["keys_destroyed"] == counters(out)["keys_created"] > 0


def test_flows_whose_blocks_are_gone_end_erroneous_with_a_record(tmp_path: Path) -> None:
    """A small spool does not keep all blocks that open flows began in: what cannot be read again from its start goes on
    under its number and ends erroneous; nothing else changes, not even the numbers of later flows."""
    trace = make_trace(tmp_path / "t.pcap", 8_000)
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert numbered(tmp_path / "w", set()).run(whole, "--read", str(trace)).returncode == 0
    # One in the middle of the trace, one at its end: by then most blocks are gone.
    flows = sorted(flows_of(whole), key=lambda flow: (flow[1], flow[0]))
    guilty = {flows[len(flows) // 2], flows[-1]}
    done = numbered(tmp_path / "s", guilty).run(out, "--read", str(trace))
    assert done.returncode == 0, done.stderr
    told = [event for event in events(out) if event["kind"] == "flow_left_out"]
    gone = sum(event["count"] for event in told if event["reason"] == "key_gone")
    assert gone > 0
    found = counters(out)
    assert found["flows_erroneous"] == gone + 2
    assert found["flows_opened"] == counters(whole)["flows_opened"]
    assert found["flows_opened"] == sum(
        found[f"flows_{outcome}"] for outcome in ("completed", "timed_out", "ended", "evicted", "erroneous")
    )
    assert balanced(found)
    ended, expected = released(out, "ended"), released(whole, "ended")
    assert len(ended) == len(expected), "each flow has a record"
    lost = {row[:2] for row in ended if row[-2:] == ("killed", "erroneous")}
    assert len(lost) == gone
    spared = lost | guilty
    assert [row for row in ended if row[:2] not in spared] == [row for row in expected if row[:2] not in spared]
    seen = released(out, "seen")
    assert set(seen) <= set(released(whole, "seen"))
    assert len(set(seen)) == len(seen), "no record twice"
    assert bunker("verify", str(out)).returncode == 0


def numbered(folder: Path, guilty: set[Pair]) -> Study:
    """A study with little spool whose flow records tell the flow's number instead of its packets and bytes."""
    one = faulty_study(folder, "exit", guilty, spool="6MB")
    mine = one.folder / "mine.py"
    text = mine.read_text()
    told = "packets=one.orig_pkts + one.resp_pkts, size=one.resp_bytes,"
    assert told in text
    mine.write_text(text.replace(told, "packets=one.uid, size=0,"))
    return one
