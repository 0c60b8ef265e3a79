"""What a policy says of violations happens: the run goes on without what violated it, or everything is destroyed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from boxes import POLICY, balanced, counters, rows, study
from canary import Canaries, make_canaries, search_tree
from canary_capture import write_canary_capture
from test_hostile_pipe import HOSTILE, SAID_OUT, batch, extra_column

CANARIES = make_canaries("violation")
PLACE = "P" * len(CANARIES.text("host") + ".example")
MANY = 100_000
"""Rows whose tags have more bytes than OUTPUT_ALLOWANCE."""


def violated(folder: Path, gate: str, piece: bytes, canaries: Canaries = CANARIES) -> tuple[int, Path]:
    """Exit code and output of a run whose worker writes `piece`."""
    write_canary_capture(folder / "c.pcap", canaries, copies=5)
    text = HOSTILE.format(pieces=[piece], place=PLACE.encode())
    policy = f"{POLICY}[gate]\n{gate}\n{SAID_OUT}"
    one = study(folder / "s", analyzers=("./mine.py:hostile",), policy=policy, source=text, lanes=1)
    out = folder / "out"
    return one.run(out, "--read", str(folder / "c.pcap")).returncode, out


def last(out: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((out / "heartbeats.jsonl").read_bytes().splitlines()[-1])
    return said


def test_a_refused_batch_destroys_the_run_if_the_policy_says_stop(tmp_path: Path) -> None:
    code, out = violated(tmp_path, 'on_violation = "stop"', extra_column(PLACE))
    said = last(out)
    assert (code, said["kind"], said["statement"]["reason"]) == (1, "abort", "policy")
    found = counters(out)
    assert found["gate_refused_schema"] == 1
    assert found["live_raw_bytes"] == 0 and found["keys_created"] == found["keys_destroyed"]
    assert search_tree(out, CANARIES, shortest=6) == []


def test_a_run_without_violation_ends_whole_though_the_policy_says_stop(tmp_path: Path) -> None:
    code, out = violated(tmp_path, 'on_violation = "stop"', batch(PLACE))
    assert (code, last(out)["kind"]) == (0, "end")


@pytest.mark.parametrize(("ratio", "leaves"), [(0.001, False), (100.0, True)])
def test_more_than_the_share_of_what_came_in_does_not_leave(ratio: float, leaves: bool, tmp_path: Path) -> None:
    many = batch(PLACE, columns=[pa.array([str(number) for number in range(MANY)])])
    code, out = violated(tmp_path, f"max_output_ratio = {ratio}", many)
    found = counters(out)
    assert code == 0 and balanced(found)
    assert len(rows(out, "said")) == 5 + MANY * leaves
    assert found["records_refused"] == MANY * (not leaves)
    assert found["gate_refused_size"] == (not leaves)


LOUD = f"""
import pyarrow as pa
from bunker.api import Emit, Host, Record, analyzer, http

class Said(Record):
    site: Host

DONE = []

@analyzer(emits=Said, batch=True)
def loud(batch: http.Transaction, emit: Emit) -> None:
    if not DONE:
        DONE.append(True)
        emit(pa.table({{"site": [f"{{number}}.example" for number in range({MANY})]}}))
"""


@pytest.mark.parametrize("box", ["process", "none"])
@pytest.mark.parametrize(("words", "kind"), [("", "end"), ('\non_violation = "stop"', "abort")])
def test_the_share_holds_in_every_box(box: str, words: str, kind: str, tmp_path: Path) -> None:
    write_canary_capture(tmp_path / "c.pcap", CANARIES, copies=1)
    policy = f"{POLICY}[gate]\nmax_output_ratio = 0.001{words}\n{SAID_OUT}"
    one = study(tmp_path / "s", analyzers=("./mine.py:loud",), policy=policy, source=LOUD, lanes=1)
    out = tmp_path / "out"
    done = one.run(out, "--read", str(tmp_path / "c.pcap"), "--closed-box", box)
    assert (done.returncode, last(out)["kind"]) == (1 if words else 0, kind), done.stderr
    found = counters(out)
    assert found["records_refused"] == MANY and found["gate_refused_size"] == 1
    assert not (out / "records" / "said").exists() or rows(out, "said") == []
