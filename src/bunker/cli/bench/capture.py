"""`bunker bench capture`: sealed capture beside tcpdump, dumpcap and netsniff-ng on the same veth load.

Method (reference: our own `docs/benchmarks.md`):
1. *Drain*: the tool is stopped (SIGSTOP), a burst fills 70 % of its ring, it goes on (SIGCONT); CPU until it is quiet.
   The third burst counts. What the kernel does for the packets is the sender's CPU, so the figure is the tool's own.
2. *Top*: a burst at full speed while the tool runs; what is missing afterwards was lost.
3. *Paced*: bursts at given rates; the highest one without loss is the row's lossless rate.
4. Tools take turns in each round, in another order each time; figures are medians, ratios medians of the rounds'.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click

from bunker.cli.bench.link import RECEIVING, Pair, check_work, pair
from bunker.cli.bench.peers import cpu_ns, present, tree
from bunker.cli.bench.report import Table, median, show, spread, write
from bunker.cli.bench.traffic import default_work
from bunker.errors import BoxError

_RING_PACKET_OVERHEAD = 96  # tpacket3_hdr, sockaddr_ll and padding in the kernel's ring
_QUIET_S = 1.3  # tcpdump takes a block that is not full after one second
_WAIT_S = 60.0
_WARM_UPS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A program that captures to disk.

    `argv(folder, ring_bytes)` is its command; `captured(folder, size, printed)` the packets it has stored by its end.
    """

    name: str
    argv: Callable[[Path, int], list[str]]
    captured: Callable[[Path, int, str], int]


def _stored_in_pcap(folder: Path, size: int, _printed: str) -> int:
    """All packets of a run are `size` bytes long, so the file's size tells their number."""
    return ((folder / "capture.pcap").stat().st_size - 24) // (16 + size)


def _told_by_us(_folder: Path, _size: int, printed: str) -> int:
    last = next(line for line in reversed(printed.splitlines()) if line.startswith("{"))
    return int(json.loads(last)["packets"])


def ours(block_bytes: int) -> Tool:
    """Our capturer: ring, seal, spool."""

    def argv(folder: Path, ring_bytes: int) -> list[str]:
        command = [sys.executable, "-m", "bunker.closed.process.capture_bench", "--interface", RECEIVING]
        command += ["--block-bytes", str(block_bytes), "--ring-bytes", str(ring_bytes)]
        return [*command, "--spool", str(folder / "spool"), "--seconds", "3600"]

    return Tool(name="bunker, sealed", argv=argv, captured=_told_by_us)


def peers() -> tuple[Tool, ...]:
    """The others, all with the ring's size that we have and whole packets."""
    pcap = "capture.pcap"
    return (
        Tool(
            name="tcpdump",
            argv=lambda folder, ring: [
                "tcpdump", "-i", RECEIVING, "-n", "-s0", "-B", str(ring >> 10), "-Z", "root", "-w", f"{folder}/{pcap}"
            ],
            captured=_stored_in_pcap,
        ),
        Tool(
            name="dumpcap",
            argv=lambda folder, ring: [
                "dumpcap", "-q", "-P", "-i", RECEIVING, "-s", "0", "-B", str(ring >> 20), "-w", f"{folder}/{pcap}"
            ],
            captured=_stored_in_pcap,
        ),
        Tool(
            name="netsniff-ng",
            argv=lambda folder, ring: [
                "netsniff-ng", "-i", RECEIVING, "-o", f"{folder}/{pcap}", "--silent", "--ring-size", f"{ring >> 20}MiB"
            ],
            captured=_stored_in_pcap,
        ),
    )  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Sample:
    """One tool, one size, one round."""

    drain_ns_per_packet: float
    top_offered: float
    top_lost: float
    paced: dict[int, float] = field(default_factory=dict)


def _steady_cpu(pid: int, *, deadline_s: float = _WAIT_S) -> int:
    """Wait until the tree uses (almost) no CPU any more; its CPU until then, ns."""
    started = quiet_since = time.monotonic()
    last = cpu_ns(tree(pid))
    while time.monotonic() - quiet_since < _QUIET_S:
        if time.monotonic() - started > deadline_s:
            raise BoxError(
                "capture bench", "a tool does not come to rest", "Lower --ring or use a faster disk for --work"
            )
        time.sleep(0.05)
        now = cpu_ns(tree(pid))
        if now - last > 500_000:  # more than 1 % of a core
            quiet_since = time.monotonic()
        last = now
    return last


@contextmanager
def _running(tool: Tool, link: Pair, folder: Path, ring: int) -> Iterator[subprocess.Popen[bytes]]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with (folder / "printed").open("wb") as printed:
        process = subprocess.Popen(
            link.receiving(tool.argv(folder, ring)), stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT
        )
        try:
            deadline = time.monotonic() + _WAIT_S
            while link.listeners(process.pid) < 1:
                if process.poll() is not None or time.monotonic() > deadline:
                    said = (folder / "printed").read_text(errors="replace").strip().splitlines()
                    raise BoxError(tool.name, "did not start to capture", said[-1] if said else "It printed nothing")
                time.sleep(0.05)
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(timeout=_WAIT_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _captured(tool: Tool, folder: Path, size: int) -> int:
    try:
        return tool.captured(folder, size, (folder / "printed").read_text(errors="replace"))
    except (OSError, StopIteration, ValueError, KeyError):
        raise BoxError(
            tool.name, "did not say how many packets it has stored", "See its output in the work folder"
        ) from None


def sample(tool: Tool, link: Pair, folder: Path, *, size: int, ring: int, packets: int, rates: Sequence[int]) -> Sample:
    """Drain, top and paced bursts of one tool."""
    burst = int(ring * 0.7) // (size + _RING_PACKET_OVERHEAD)
    with _running(tool, link, folder, ring) as process:
        for _ in range(1 + _WARM_UPS):  # the first bursts touch ring and buffers for the first time
            before = _steady_cpu(process.pid)
            os.kill(process.pid, signal.SIGSTOP)
            link.send(size=size, packets=burst)
            os.kill(process.pid, signal.SIGCONT)
            drained = _steady_cpu(process.pid) - before
    expected = burst * (1 + _WARM_UPS)
    held = _captured(tool, folder, size)
    if held < 0.98 * expected:
        raise BoxError(tool.name, f"lost {expected - held} packets of bursts that fit its ring", "Raise --ring")
    lost: dict[int, float] = {}
    offered = 0.0
    for rate in (0, *rates):
        count = packets if rate == 0 else min(packets, rate * 3)
        with _running(tool, link, folder, ring) as process:
            sent = link.send(size=size, packets=count, rate=rate)
            _steady_cpu(process.pid)
        lost[rate] = max(0.0, 1 - _captured(tool, folder, size) / count)
        offered = sent.rate if rate == 0 else offered
    shutil.rmtree(folder, ignore_errors=True)
    return Sample(drain_ns_per_packet=drained / burst, top_offered=offered, top_lost=lost.pop(0), paced=lost)


COLUMNS = (
    "tool",
    "CPU s/M packets",
    "range",
    "CPU s/GB",
    "x tcpdump",
    "offered/s",
    "lost at top",
    "lossless up to/s",
)


def table_of(size: int, samples: dict[str, list[Sample]], *, base: str = "tcpdump") -> Table:
    """The table of one packet size. `x tcpdump`: its CPU by the tool's, median of the rounds."""
    table = Table(title=f"capture to disk, packets of {size} bytes", columns=COLUMNS)
    for name, found in samples.items():
        costs = [one.drain_ns_per_packet for one in found]
        cost = median(costs)
        pairs = zip(samples.get(base, []), found, strict=False)
        ratios = [
            theirs.drain_ns_per_packet / one.drain_ns_per_packet for theirs, one in pairs if one.drain_ns_per_packet
        ]
        lossless = [rate for rate in found[0].paced if all(one.paced[rate] == 0 for one in found)] if found else []
        lost = median([one.top_lost for one in found])
        table.add(
            name,
            None if cost is None else cost / 1e3,
            spread([one / 1e3 for one in costs]),
            None if cost is None else cost / size,
            median(ratios),
            median([one.top_offered for one in found]),
            None if lost is None else f"{lost:.2%}",
            max(lossless, default=None),
        )
    return table


def measure(
    tools: Sequence[Tool],
    *,
    work: Path,
    sizes: Sequence[int],
    ring: int,
    packets: int,
    rates: Sequence[int],
    rounds: int,
) -> list[Table]:
    """All sizes, rounds interleaved; a table for each size."""
    tables = []
    for size in sizes:
        samples: dict[str, list[Sample]] = {tool.name: [] for tool in tools}
        for number in range(rounds):
            turn = number % len(tools)
            for tool in (*tools[turn:], *tools[:turn]):
                click.echo(f"{size} bytes, round {number + 1} of {rounds}: {tool.name}", err=True)
                with pair() as link:
                    folder = work / "capture"
                    samples[tool.name].append(
                        sample(tool, link, folder, size=size, ring=ring, packets=packets, rates=rates)
                    )
        tables.append(table_of(size, samples))
    notes = [
        f"ring {ring >> 20} MiB for all; drain: the tool's CPU, all threads, for a burst in its ring; {rounds} rounds",
        f"top: {packets:,} packets at full speed; lossless: highest paced rate with no packet lost in any round",
        "not charged to the peers: the kernel's writing back of their page cache; our O_DIRECT writes are charged",
    ]
    for table in tables:
        table.notes += notes
    return tables


def installed(tools: Sequence[Tool]) -> tuple[list[Tool], list[str]]:
    """Those that are installed, and a note for each other."""
    here, missing = present(tool.name for tool in tools)
    return [tool for tool in tools if tool.name in here], missing


@click.command("capture")
@click.option(
    "--size", "sizes", type=click.IntRange(60, 1514), multiple=True, default=(64, 300, 1500), show_default=True
)
@click.option("--ring", type=click.IntRange(8, 2048), default=64, show_default=True, help="Ring of every tool, MiB.")
@click.option("--block", type=click.IntRange(1, 8), default=4, show_default=True, help="Our block, MiB.")
@click.option("--packets", type=click.IntRange(1000, 50_000_000), default=1_000_000, show_default=True)
@click.option(
    "--rate", "rates", type=click.IntRange(1), multiple=True, default=(100_000, 200_000, 400_000), show_default=True
)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option(
    "--work", type=click.Path(path_type=Path), default=default_work, help="Spool and captures.  [default: user's cache]"
)
@click.option("--boxes", is_flag=True, help="Instead: what the machine and the encryption cost (four bars).")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write the tables as JSON.")
@click.option("--markdown", "markdown_path", type=click.Path(path_type=Path), help="Also write them as Markdown.")
def measure_capture(
    *,
    sizes: tuple[int, ...],
    ring: int,
    block: int,
    packets: int,
    rates: tuple[int, ...],
    rounds: int,
    work: Path,
    boxes: bool,
    json_path: Path | None,
    markdown_path: Path | None,
) -> None:
    """Packets a second without loss and CPU a packet: sealed capture beside plain capture by others. Needs root."""
    check_work(work, packets * (max(sizes) + 100) * 2 + (ring << 22))
    if boxes:
        from bunker.cli.bench.boxes import Load, measure_boxes  # noqa: PLC0415 - nothing else here needs QEMU

        found = []
        for size in sizes:
            load = Load(size=size, rates=rates, seconds=3.0, ring_bytes=ring << 20, block_bytes=block << 20)
            found.append(measure_boxes(load, work=work, rounds=rounds))
        show(found)
        write(found, json_path=json_path, markdown_path=markdown_path)
        return
    here, missing = installed(peers())
    tables = measure(
        (ours(block << 20), *here),
        work=work,
        sizes=sizes,
        ring=ring << 20,
        packets=packets,
        rates=rates,
        rounds=rounds,
    )
    tables[-1].notes += missing
    show(tables)
    write(tables, json_path=json_path, markdown_path=markdown_path)
