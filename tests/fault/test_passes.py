"""Deferred tracing: capture first, then as many passes as an analyzer asks for; raw data dies after the last."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from boxes import POLICY, TRAFFIC, balanced, bunker, counters, study
from faulty import released

SOURCE = """
import os
from bunker.api import Count, Emit, Record, analyzer, flow, http

class Share(Record):
    number: Count
    of_site: Count
    of_all: Count

class Plain(Record):
    depth: Count

@analyzer(emits=Share, passes=2)
class Shares:
    def __init__(self):
        self.number = 0
        self.seen = []
        self.sites = {}

    def begin_pass(self, number):
        self.number = number
        self.seen.append(number)

    def __call__(self, tx: http.Transaction, emit: Emit) -> None:
        if self.number == 1:
            self.sites[tx.host] = self.sites.get(tx.host, 0) + 1
        else:
            FAULT
            emit(Share(number=len(self.seen), of_site=self.sites[tx.host], of_all=sum(self.sites.values())))

@analyzer(emits=Plain)
def plain(tx: http.Transaction, emit: Emit) -> None:
    emit(Plain(depth=tx.trans_depth))
"""
OUT = """
[out.share]
number = { do = "keep", because = "a count" }
of_site = { do = "keep", because = "a count" }
of_all = { do = "keep", because = "a count" }
[out.plain]
depth = { do = "keep", because = "a count" }
"""
TRANSACTIONS = 464


@pytest.mark.parametrize("analysis", ["", "during_capture = true"])
def test_the_second_pass_knows_what_the_first_has_seen(analysis: str, tmp_path: Path) -> None:
    one = study(
        tmp_path / "s",
        analyzers=("./mine.py:Shares", "./mine.py:plain"),
        policy=POLICY + OUT,
        source=SOURCE.replace("FAULT", "pass"),
        mode="deferred",
        lanes=1,
        analysis=analysis,
    )
    out = tmp_path / "out"
    done = one.run(out, "--read", str(TRAFFIC))
    assert done.returncode == 0, done.stderr
    assert bunker("verify", str(out)).returncode == 0
    shares = released(out, "share")
    assert len(shares) == TRANSACTIONS
    assert {(row[0], row[2]) for row in shares} == {(2, TRANSACTIONS)}
    assert len(released(out, "plain")) == TRANSACTIONS, "whoever asks for one pass is called in one"
    found = counters(out)
    assert balanced(found)
    assert found["live_raw_bytes"] == 0
    assert found["keys_destroyed"] == found["keys_created"] > 0


def test_after_a_death_in_the_second_pass_the_first_is_read_again(tmp_path: Path) -> None:
    fault = "if tx.trans_depth == 15: os._exit(5)"
    whole, out = tmp_path / "whole", tmp_path / "out"
    for folder, body in ((whole, "pass"), (out, fault)):
        one = study(
            tmp_path / f"{folder.name}-s",
            analyzers=("./mine.py:Shares", "./mine.py:plain"),
            policy=POLICY + OUT,
            source=SOURCE.replace("FAULT", body),
            mode="deferred",
            lanes=1,
        )
        done = one.run(folder, "--read", str(TRAFFIC))
        assert done.returncode == 0, done.stderr
    assert counters(out)["worker_restarts"] == 3, "three flows have as many transactions"
    assert released(out, "plain") == released(whole, "plain"), "of the first pass everything was out"
    shares = released(out, "share")
    # Three flows of 18 each are left out, in the first pass that is read again as in the second.
    assert len(shares) == TRANSACTIONS - 3 * 18
    assert {row[0] for row in shares} == {2}
    assert {row[2] for row in shares} == {TRANSACTIONS - 3 * 18}
    assert balanced(counters(out))


def test_more_passes_than_one_are_refused_where_nothing_is_kept(tmp_path: Path) -> None:
    source = SOURCE.replace("FAULT", "pass")
    one = study(tmp_path / "s", analyzers=("./mine.py:Shares",), policy=POLICY + OUT, source=source)
    done = one.run(tmp_path / "out", "--read", str(TRAFFIC))
    assert done.returncode == 2
    assert b"reads the trace 2 times" in done.stderr
    assert b"deferred" in done.stderr


def test_a_run_past_its_age_is_destroyed(tmp_path: Path) -> None:
    slow = "import time\n" + SOURCE.replace("FAULT", "pass").replace("emit(Plain(", "time.sleep(0.05); emit(Plain(")
    one = study(
        tmp_path / "s",
        analyzers=("./mine.py:plain",),
        policy=POLICY + OUT[OUT.index("[out.plain]") :],
        source=slow,
        lanes=1,
    )
    text = one.file.read_text()
    one.file.write_text(text.replace("[experiment]", '[experiment]\nmax_age = "3s"'))
    out = tmp_path / "out"
    assert one.run(out, "--read", str(TRAFFIC)).returncode == 1
    last = json.loads((out / "heartbeats.jsonl").read_bytes().splitlines()[-1])
    assert (last["kind"], last["statement"]["reason"]) == ("abort", "maximum_age")
    assert balanced(counters(out))
    assert counters(out)["packets_destroyed"] > 0
