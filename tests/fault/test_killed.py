"""kill -9 of any process of a box at any moment: the run goes on, or it ends and its keys are gone."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest
from boxed import box_of, kill, start, wait_for_beats
from boxes import balanced, bunker, counters
from faulty import faulty_study, make_trace, released

pytestmark = pytest.mark.root
ROLES = ("worker", "capturer", "releaser", "supervisor")
MOMENTS = int(os.environ.get("BUNKER_KILLS", "2"))
"""Kills of each role: `make test-kills` asks for more."""


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_trace(tmp_path_factory.mktemp("kills") / "t.pcap", 3_000, "keepalive")


@pytest.fixture(scope="module")
def whole(trace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert faulty_study(folder / "s", "exit", set()).run(folder / "out", "--read", str(trace)).returncode == 0
    return folder / "out"


@pytest.mark.parametrize("moment", range(MOMENTS))
@pytest.mark.parametrize("role", ROLES)
def test_a_kill_at_a_random_moment(role: str, moment: int, trace: Path, whole: Path, tmp_path: Path) -> None:
    seed = f"{role} {moment}"
    rng = random.Random(seed)
    one = faulty_study(tmp_path / "s", "exit", set(), before="time.sleep(0.001)")
    out = tmp_path / "out"
    process = start(one, out, "--read", str(trace))
    wait_for_beats(out, 2)
    time.sleep(rng.uniform(0, 2.0))
    victims = box_of(process)[role]
    killed = bool(victims) and kill(rng.choice(victims))
    _, told = process.communicate(timeout=120)
    last = json.loads((out / "heartbeats.jsonl").read_bytes().splitlines()[-1])
    if role == "worker" or not killed:
        assert process.returncode == 0, (seed, told)
        assert released(out, "seen") == released(whole, "seen"), seed
        assert released(out, "ended") == released(whole, "ended"), seed
        assert balanced(counters(out))
        assert counters(out)["packets_destroyed"] == 0
        assert bunker("verify", str(out)).returncode == 0
    elif role == "capturer":
        assert process.returncode == 1
        assert (last["kind"], last["statement"]["reason"]) == ("abort", "child_failed"), seed
        assert balanced(counters(out))
        assert counters(out)["keys_destroyed"] == counters(out)["keys_created"]
    else:
        # Nobody is left to speak: the stream is truncated, and says so to whoever verifies it.
        assert process.returncode == 1
        assert bunker("verify", str(out)).returncode == 1
        assert last["kind"] == "heartbeat", seed
    left = [pid for pids in box_of(process).values() for pid in pids]
    assert not left, "no process of the box is left"
