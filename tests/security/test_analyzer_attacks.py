"""Attacks from a hijacked analyzer in real runs: what it tries is refused; what nobody tries by accident kills it."""

from __future__ import annotations

import json
from pathlib import Path

import attacks
import pytest
from boxes import POLICY, TRAFFIC, balanced, counters, events, rows, study
from canary import make_canaries, search_tree
from canary_capture import write_canary_capture

SOURCE = Path(attacks.__file__).read_text()
TRIES = """
from bunker.api import Code, Emit, Enum, Record, analyzer, http

class Tried(Record):
    name: Enum
    answer: Code

DONE = []

@analyzer(emits=Tried)
def tries(tx: http.Transaction, emit: Emit) -> None:
    if not DONE:
        DONE.append(True)
        for name, attempt in ATTEMPTS.items():
            try:
                answer = attempt.act()
            except Exception:
                answer = 999
            emit(Tried(name=name, answer=answer))
"""
HOSTILE = """
@analyzer(emits=Tried)
def hostile(tx: http.Transaction, emit: Emit) -> None:
    call("{name}", *HOSTILE["{name}"])
    emit(Tried(name="{name}", answer=0))
"""
TRIED_OUT = f"""
[out.tried]
name = {{ do = "allow", values = {json.dumps(sorted(attacks.ATTEMPTS))} }}
answer = {{ do = "keep", because = "error numbers" }}
"""
MAIN = 'if __name__ == "__main__":'


def source(analyzer: str) -> str:
    """The attempts and an analyzer that makes them, as a user's file."""
    return SOURCE.partition(MAIN)[0] + analyzer


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """What each attempt was answered, inside the box."""
    folder = tmp_path_factory.mktemp("attacks")
    one = study(folder / "s", analyzers=("./mine.py:tries",), policy=POLICY + TRIED_OUT, source=source(TRIES), lanes=1)
    done = one.run(folder / "out", "--read", str(TRAFFIC))
    assert done.returncode == 0, done.stderr
    assert not events(folder / "out")
    return {row["name"]: row["answer"] for row in rows(folder / "out", "tried")}


def test_every_attempt_was_made(answers: dict[str, int]) -> None:
    assert set(answers) == set(attacks.ATTEMPTS)
    assert len(answers) > 100


@pytest.mark.parametrize("name", sorted(attacks.ATTEMPTS))
def test_an_attempt_is_refused(name: str, answers: dict[str, int]) -> None:
    assert answers[name] in attacks.ATTEMPTS[name].inside


@pytest.mark.parametrize(
    "name",
    [
        "ptrace",
        "process_vm_readv",
        "process_vm_writev",
        "pidfd_getfd",
        "io_uring_setup",
        "bpf",
        "userfaultfd",
        "perf_event_open",
        "keyctl",
        "mount",
        "setns",
        "open_by_handle_at",
    ],
)
def test_a_hostile_call_kills_the_worker_costs_its_flow_and_the_run_says_so(name: str, tmp_path: Path) -> None:
    canaries = make_canaries(f"hostile {name}")
    capture = tmp_path / "c.pcap"
    write_canary_capture(capture, canaries, copies=1)
    text = source(TRIES + HOSTILE.format(name=name))
    one = study(tmp_path / "s", analyzers=("./mine.py:hostile",), policy=POLICY + TRIED_OUT, source=text, lanes=1)
    out = tmp_path / "out"
    done = one.run(out, "--read", str(capture))
    assert done.returncode == 0, done.stderr
    found = counters(out)
    assert balanced(found)
    assert found["live_raw_bytes"] == 0
    # Every flow with a transaction made the call: each cost one worker, and that flow.
    assert found["flows_erroneous"] == found["worker_restarts"] == 4
    assert {event["reason"] for event in events(out) if event["kind"] == "worker_restarted"} == {"crashed"}
    assert not rows(out, "tried"), "it did not live to tell"
    assert search_tree(out, canaries, shortest=6) == []
    assert search_tree(one.folder, canaries, shortest=6) == []
