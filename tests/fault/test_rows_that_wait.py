"""Rows that wait for a threshold or an aggregate when a run is aborted: counted, and nothing of them comes out."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from boxed import box_of, start, wait_for_beats
from boxes import POLICY, bunker, counters, study
from faulty import make_trace

SLOW = """
import time
from bunker.api import Address, Emit, Record, analyzer, http

class Visit(Record):
    orig_h: Address
    site: Address

class Seen(Record):
    orig_h: Address

@analyzer(emits=(Visit, Seen))
def slow(tx: http.Transaction, emit: Emit) -> None:
    emit(Visit(orig_h=tx.orig_h, site=tx.resp_h))
    emit(Seen(orig_h=tx.orig_h))
    time.sleep(0.002)
"""
WAITING = (
    POLICY
    + """
[gate]
min_k = 2
rows = { visit = { by = ["site"] } }
[out.visit]
site = "tag"
[privacy]
epsilon = 10.0
rows_per_unit = 10
[aggregate.visits]
of = "seen"
do = "count"
epsilon = 1.0
"""
)


def emitted(out: Path) -> int:
    last = json.loads((out / "heartbeats.jsonl").read_bytes().splitlines()[-1])
    return int(last["statement"].get("counters", {}).get("records_emitted", 0))


@pytest.mark.root
def test_rows_that_wait_at_an_abort_are_counted_as_destroyed(tmp_path: Path) -> None:
    one = study(tmp_path / "s", analyzers=("./mine.py:slow",), policy=WAITING, source=SLOW, lanes=1)
    out = tmp_path / "out"
    trace = make_trace(tmp_path / "t.pcap", 6_000, "keepalive")
    process = start(one, out, "--read", str(trace))
    wait_for_beats(out, 2)
    until = time.monotonic() + 60
    while emitted(out) < 2:
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.05)
    os.kill(box_of(process)["supervisor"][0], signal.SIGQUIT)
    process.communicate(timeout=60)
    last = json.loads((out / "heartbeats.jsonl").read_bytes().splitlines()[-1])
    assert (last["kind"], last["statement"]["reason"]) == ("abort", "operator")
    found = counters(out)
    assert found["records_released"] == 0
    assert 0 < found["records_destroyed"] <= found["records_emitted"]
    assert list((out / "records").glob("*/*.parquet")) == []
    told = bunker("verify", str(out))
    assert told.returncode == 1
    assert f"withheld     {found['records_destroyed']} rows destroyed before they left" in told.stdout.decode()


def test_rows_that_wait_at_the_end_leave_and_none_is_called_destroyed(tmp_path: Path) -> None:
    one = study(
        tmp_path / "s", analyzers=("./mine.py:slow",), policy=WAITING, source=SLOW.replace("0.002", "0"), lanes=1
    )
    out = tmp_path / "out"
    done = one.run(out, "--read", str(make_trace(tmp_path / "t.pcap", 200, "keepalive")))
    assert done.returncode == 0, done.stderr
    found = counters(out)
    assert found["records_released"] > 0 == found["records_destroyed"]
    assert b"withheld" not in bunker("verify", str(out)).stdout
