"""Looking at a running box from outside, as root may: which processes it has, and how to hit one of them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from boxes import BUNKER, Study


def start(one: Study, out: Path, *words: str) -> subprocess.Popen[bytes]:
    """`bunker run`, without waiting for its end."""
    return subprocess.Popen(
        [*BUNKER, "run", str(one.file), "-o", str(out), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def beats(out: Path) -> int:
    """Heartbeats that have come out."""
    path = out / "heartbeats.jsonl"
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def wait_for_beats(out: Path, count: int, *, seconds: float = 60) -> None:
    """Until that many have come out."""
    until = time.monotonic() + seconds
    while beats(out) < count:
        if time.monotonic() > until:
            raise AssertionError("the run did not start")
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    """Processes below this one, all generations, oldest first."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for word in (task / "children").read_text().split():
                found += [int(word), *children(int(word))]
    return sorted(set(found))


def mapped(pid: int, name: str) -> bool:
    """Whether a mapping of this process has this in its name."""
    with suppress(OSError):
        return name in Path(f"/proc/{pid}/maps").read_text()
    return False


def box_of(process: subprocess.Popen[bytes]) -> dict[str, list[int]]:
    """Processes of its box by role: the supervisor is the parent of the others; each role maps other things."""
    below = children(process.pid)
    roles: dict[str, list[int]] = {"supervisor": [], "worker": [], "capturer": [], "releaser": []}
    for pid in below:
        own = children(pid)
        if own:
            roles["supervisor"].append(pid)
        elif mapped(pid, "bunker-ledger"):
            roles["worker"].append(pid)
        elif mapped(pid, "secretmem") or mapped(pid, "memfd:keys"):
            roles["capturer"].append(pid)
        elif mapped(pid, "bunker-counters"):
            roles["releaser"].append(pid)
    return roles


def kill(pid: int) -> bool:
    """SIGKILL from outside; whether it was there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
