"""The programs Bunker is measured beside: which are here, how to get the others, what one run costs.

Rules of this file:
1. CPU time is that of the whole process tree, as the kernel counts it when the tree is reaped (`wait4`).
2. Peak memory is sampled (20 times a second) as the sum of the resident sets of the tree's processes: shared pages
   count once a process, which is against us (four processes) and for the peers (one).
3. CPU time by process is sampled just so, by the process's name: what a process uses after its last sample is missing
   in it (a twentieth of a second at most) and stands in the whole tree's.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from bunker.cli.bench.report import Table, show

_SAMPLE_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A program we compare with. `version_argv` prints its version; exit code and stream do not matter."""

    name: str
    does: str
    version_argv: tuple[str, ...]
    install: str

    def maybe_version(self) -> str | None:
        """The version that is installed here, or None."""
        if shutil.which(self.version_argv[0]) is None:
            return None
        try:
            result = subprocess.run(self.version_argv, capture_output=True, text=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        match = re.search(r"\d+\.\d+(\.\d+)*", result.stdout + result.stderr)
        return match[0] if match and "No module named" not in result.stderr else None


PEERS = (
    Peer(name="tcpdump", does="capture", version_argv=("tcpdump", "--version"), install="apt-get install tcpdump"),
    Peer(
        name="dumpcap",
        does="capture",
        version_argv=("dumpcap", "--version"),
        install="apt-get install wireshark-common",
    ),
    Peer(
        name="netsniff-ng",
        does="capture",
        version_argv=("netsniff-ng", "--version"),
        install="apt-get install netsniff-ng",
    ),
    Peer(name="tshark", does="HTTP records", version_argv=("tshark", "--version"), install="apt-get install tshark"),
    Peer(name="tcpflow", does="streams", version_argv=("tcpflow", "--version"), install="apt-get install tcpflow"),
    Peer(name="suricata", does="HTTP records", version_argv=("suricata", "-V"), install="apt-get install suricata"),
    Peer(
        name="tcprewrite",
        does="header traces",
        version_argv=("tcprewrite", "--version"),
        install="apt-get install tcpreplay",
    ),
    Peer(
        name="traceanon",
        does="header traces",
        version_argv=("traceanon", "-H"),
        install="apt-get install libtrace-tools",
    ),
    Peer(
        name="pktanon",
        does="header traces",
        version_argv=("dpkg-query", "-W", "-f", "${Version}", "pktanon"),
        install="apt-get install pktanon",
    ),
    Peer(
        name="nfstream",
        does="flows, in Python",
        version_argv=(sys.executable, "-c", "import nfstream; print(nfstream.__version__)"),
        install="pip install nfstream",
    ),
)


def peer(name: str) -> Peer:
    """The peer of this name."""
    return next(peer for peer in PEERS if peer.name == name)


def missing_note(name: str) -> str:
    """What to print instead of a row."""
    return f"{name} is not installed here: {peer(name).install}"


def present(names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """The versions of those that are installed, by name, and a note for each other. Each is asked once."""
    versions = {name: peer(name).maybe_version() for name in names}
    here = {name: version for name, version in versions.items() if version is not None}
    return here, [missing_note(name) for name in versions if name not in here]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a process tree used until it ended."""

    exit_code: int
    wall_s: float
    cpu_s: float
    peak_bytes: int
    output: str
    cpu_by_name: dict[str, float] = field(default_factory=dict)
    """CPU seconds of the tree's processes by their names, as far as they were sampled; processes of one name add up."""


def tree(root: int) -> set[int]:
    """`root` and its living descendants."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
    found, grown = {root}, True
    while grown:
        more = {child for child, parent in parents.items() if parent in found} - found
        grown = bool(more)
        found |= more
    return found


def resident_bytes(pids: set[int]) -> int:
    """Sum of their resident sets."""
    pages = 0
    for pid in pids:
        try:
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, ValueError, IndexError):
            continue
    return pages * os.sysconf("SC_PAGE_SIZE")


def cpu_ns(pids: set[int]) -> int:
    """CPU time of all their living threads, nanoseconds, by the scheduler's own account."""
    total = 0
    for pid in pids:
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            continue
    return total


def process_name(pid: int) -> str | None:
    """What the kernel calls this process; None if it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return None


class _Sampler(threading.Thread):
    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self._root, self._over = root, threading.Event()
        self.peak = 0
        self._spent: dict[int, tuple[str, int]] = {}

    def run(self) -> None:
        while not self._over.wait(_SAMPLE_S):
            pids = tree(self._root)
            self.peak = max(self.peak, resident_bytes(pids))
            for pid in pids:
                spent, name = cpu_ns({pid}), process_name(pid)
                if name is not None and spent:
                    # Named last: a process takes its name some time after it began.
                    self._spent[pid] = (name, spent)

    def end(self) -> int:
        """Stop; the largest sum that was seen."""
        self._over.set()
        self.join()
        return self.peak

    def cpu_by_name(self) -> dict[str, float]:
        """CPU seconds of all processes that were seen, by name."""
        spent: dict[str, float] = {}
        for name, amount in self._spent.values():
            spent[name] = spent.get(name, 0.0) + amount / 1e9
        return spent


def run(argv: Sequence[str | Path], *, cwd: Path | None = None, output: Path) -> Cost:
    """Run a program to its end.

    Args:
        output: File for its standard output and error; its content is returned too, cut at 1 MB.
    """
    started = time.monotonic()
    with output.open("wb") as file:
        process = subprocess.Popen(
            [str(word) for word in argv], cwd=cwd, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        )
        sampler = _Sampler(process.pid)
        sampler.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        finally:
            peak = sampler.end()
    process.returncode = os.waitstatus_to_exitcode(status)
    with output.open("rb") as file:
        printed = file.read(1_000_000).decode(errors="replace")
    return Cost(
        exit_code=process.returncode,
        wall_s=time.monotonic() - started,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_bytes=peak,
        output=printed,
        cpu_by_name=sampler.cpu_by_name(),
    )


@click.command("peers")
def list_peers() -> None:
    """List the programs that the bench compares with, and how to install the missing ones."""
    table = Table(title="Peers", columns=("program", "does", "version", "install"))
    for one in PEERS:
        version = one.maybe_version()
        table.add(one.name, one.does, version or "missing", None if version else one.install)
    show([table])
