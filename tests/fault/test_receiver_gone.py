"""The open box dies and comes back: the box does not notice, the relay finds it again, and nothing is missing or there
twice."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

import pytest
from boxed import kill, wait_for_beats
from boxes import BUNKER, balanced, bunker, counters
from faulty import faulty_study, make_trace, released

REQUESTS = 3_000


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_trace(tmp_path_factory.mktemp("gone") / "t.pcap", REQUESTS, "keepalive")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class OpenBox:
    """`bunker receive`, again and again in the same directory."""

    def __init__(self, address: str, out: Path) -> None:
        self.address, self.out = address, out
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [*BUNKER, "receive", "--listen", self.address, "-o", str(self.out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stderr is not None
        assert b"listening" in self.process.stderr.readline()

    def die(self) -> None:
        """kill -9, and its socket file stays behind."""
        assert self.process is not None
        assert kill(self.process.pid)
        self.process.communicate(timeout=30)
        Path(self.address.removeprefix("unix:")).unlink(missing_ok=True)

    def end(self) -> int:
        assert self.process is not None
        self.process.terminate()
        self.process.communicate(timeout=60)
        return self.process.returncode


def sending(folder: Path, seconds: float, address: str, trace: Path) -> subprocess.Popen[bytes]:
    """A run that takes so long for each request and sends to an open box elsewhere."""
    one = faulty_study(folder, "exit", set(), before=f"time.sleep({seconds})")
    return subprocess.Popen(
        [*BUNKER, "run", str(one.file), "--to", address, "--read", str(trace)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("way", ["tcp", "unix"])
def test_a_receiver_killed_twice_has_every_batch_once(way: str, trace: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "received"
    assert faulty_study(tmp_path / "w", "exit", set()).run(whole, "--read", str(trace)).returncode == 0
    address = f"127.0.0.1:{free_port()}" if way == "tcp" else f"unix:{tmp_path / 'open.sock'}"
    box = OpenBox(address, out)
    box.start()
    run = sending(tmp_path / "s", 0.0015, address, trace)
    wait_for_beats(out, 2)
    for away_s in (0.5, 1.5):
        box.die()
        time.sleep(away_s)
        box.start()
        seen = len((out / "heartbeats.jsonl").read_bytes().splitlines())
        if run.poll() is None:
            wait_for_beats(out, seen + 1)
    _, told = run.communicate(timeout=120)
    assert run.returncode == 0, told
    assert told.count(b"the open box is back") >= 2, told  # a dying one may take a connection once more
    assert box.end() == 0
    assert bunker("verify", str(out)).returncode == 0
    assert released(out, "seen") == released(whole, "seen")
    assert released(out, "ended") == released(whole, "ended")
    assert balanced(counters(out))
    assert counters(out)["egress_lost"] == 0, "inside the box nothing was lost"


def test_a_receiver_that_is_away_at_the_end_is_waited_for(trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "received"
    address = f"127.0.0.1:{free_port()}"
    box = OpenBox(address, out)
    box.start()
    run = sending(tmp_path / "s", 0.0005, address, trace)
    wait_for_beats(out, 2)
    box.die()
    time.sleep(8)
    assert run.poll() is None, "the box is over, its last word is not said"
    box.start()
    _, told = run.communicate(timeout=60)
    assert run.returncode == 0, told
    assert box.end() == 0
    assert bunker("verify", str(out)).returncode == 0
    assert len(released(out, "seen")) == REQUESTS
