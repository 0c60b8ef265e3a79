"""`bunker bench faults`: what a bug in the analysis costs, beside tracers that analyse as they capture (figure 9).

A bug is put into an analyzer that meets it in one packet of N. Three tracers:

* Bunker: really run, with and without the bug; what is lost is counted in its records.
* the same pipeline restarted whole: each time it loses the flows that are open, and all until it runs again.
* an idealized online tracer: as that, but it is back at once.

The last two are worked out from the same trace's flows, because no such tracer is at hand: they are charged nothing but
what a restart cannot avoid, and the time of the second is measured.

Rules of this file:
1. A flow that met a bug is *hit*; one that is lost or changed although it met none is *collateral*. All have hits.
2. Bunker's loss is what its records say, row for row, not what its counters say.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from bunker.cli.bench.analysis import bunker_argv
from bunker.cli.bench.link import check_work
from bunker.cli.bench.peers import Cost, run
from bunker.cli.bench.report import Table, show, write
from bunker.cli.bench.traffic import SHAPES, Trace, default_work, trace
from bunker.closed.analyze.dispatch import AnalyzerFailed, Dispatcher
from bunker.closed.capture.files import FileReader
from bunker.closed.process.hand import own_hand
from bunker.closed.process.setup import open_files
from bunker.closed.process.worker import PHASES
from bunker.errors import BoxError
from bunker.experiment.bundle import read_bundle
from bunker.model.analyzer import Analyzer
from bunker.model.counters import Counter
from bunker.model.fields import RecordSchema
from bunker.model.record import Record
from bunker.native.wire import Batch, Engine, Hand, RecordBuilder
from bunker.open.manifest import read_manifest
from bunker.open.picture import Bars, draw_bars

_EXPERIMENT = """
[experiment]
name = "bench"
purpose = "cost of faults"
[capture]
lanes = 1
[spool]
directory = "{spool}"
size = "{size}"
[analysis]
analyzers = ["./bug.py:requests", "./bug.py:lives", "./bug.py:bug"]
[policy]
file = "policy.toml"
"""

_POLICY = """
[policy]
format = 1
name = "bench"
purpose = "counts"
[out.request]
flow = "keep"
depth = "keep"
status = "keep"
size = "keep"
[out.life]
flow = "keep"
outcome = { do = "allow", values = ["completed", "timed_out", "ended", "evicted", "erroneous"], other = "other" }
there = "keep"
back = "keep"
[out.bug]
seen = "keep"
"""

_BUG = '''
"""Meets a bug in one packet of {each}; 0: never."""
from bunker.api import Bytes, Code, Count, Enum, Flag, Record, analyzer, flow, http, packet


class Request(Record):
    flow: Count
    depth: Count
    status: Code | None
    size: Bytes


class Life(Record):
    flow: Count
    outcome: Enum
    there: Count
    back: Count


@analyzer(emits=Request)
def requests(tx: http.Transaction, emit):
    emit(Request(flow=tx.uid, depth=tx.trans_depth, status=tx.status_code, size=tx.response_body_len))


@analyzer(emits=Life)
def lives(f: flow.Flow, emit):
    emit(Life(flow=f.uid, outcome=f.outcome, there=f.orig_pkts, back=f.resp_pkts))


class Bug(Record):
    seen: Flag


@analyzer(emits=Bug)
def bug(p: packet.Packet, emit):
    if {each} and (p.ts // 1000 % 2147483647 * 48271 + {seed}) ** 2 % 2147483647 % {each} == 0:
        {fault}
'''

KINDS = {
    "exception": "raise RuntimeError",
    "exit": "import os; os._exit(3)",
    "crash": "import ctypes; ctypes.string_at(8)",
}
"""How the bug shows; the last two end the worker, and another takes its place."""


def is_hit(ts_ns: int, each: int, seed: int) -> bool:
    """Whether the packet of this time has the bug; the same formula as in the analyzer."""
    return bool((ts_ns // 1000 % 2147483647 * 48271 + seed) ** 2 % 2147483647 % each == 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One flow of the trace, as a tracer without faults sees it."""

    uid: int
    begin_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bugs:
    """Where bugs strike: time of the packet and its flow, in order."""

    struck: tuple[tuple[int, int], ...]

    @property
    def hit(self) -> frozenset[int]:
        """The flows."""
        return frozenset(flow for _, flow in self.struck)


def restarted(lives: Iterable[Life], bugs: Bugs, *, away_ns: int) -> frozenset[int]:
    """What a tracer loses that ends at every bug and is back after `away_ns`: flows that live while it is away."""
    begins = sorted(ts for ts, _ in bugs.struck)
    lost = set()
    for life in lives:
        # The first restart that is not over before the flow begins.
        low, high = 0, len(begins)
        while low < high:
            middle = (low + high) // 2
            if begins[middle] + away_ns < life.begin_ns:
                low = middle + 1
            else:
                high = middle
        if low < len(begins) and begins[low] <= life.end_ns:
            lost.add(life.uid)
    return frozenset(lost)


def _engine(want: Sequence[str], hand: Hand | None = None) -> Engine:
    return Engine(lane=0, want=list(want), needs=[], seed=bytes(16), verify_checksums=True, hand=hand)


def _read(traced: Trace, engine: Engine, take: Callable[[], None]) -> None:
    reader = FileReader(
        open_files((traced.path,)), lanes=1, block_bytes=4 << 20, snaplen=262_144, filters=None, seed=bytes(16)
    )
    for number, block in enumerate(reader.blocks()):
        while not engine.feed(block.format, block.plaintext, number):
            take()
        take()
    engine.finish()
    take()


def lives_and_bugs(traced: Trace, each: int, seed: int) -> tuple[list[Life], Bugs]:
    """The flows of a trace, and where bugs strike in it."""
    engine = _engine(["flow", "packet"])
    lives: list[Life] = []
    struck: list[tuple[int, int]] = []

    def take() -> None:
        for kind, batch in engine.take():
            if kind == "packet":
                made = pa.record_batch(batch)
                times, flows = made["ts"].cast(pa.int64()).to_pylist(), made["uid"].to_pylist()
                struck.extend((ts, uid) for ts, uid in zip(times, flows, strict=True) if is_hit(ts, each, seed))
        while (flows_batch := engine.take_flows()) is not None:
            made = pa.record_batch(flows_batch)
            begins, lengths = made["ts"].cast(pa.int64()).to_pylist(), made["duration"].cast(pa.int64()).to_pylist()
            for uid, begin, length in zip(made["uid"].to_pylist(), begins, lengths, strict=True):
                lives.append(Life(uid=uid, begin_ns=begin, end_ns=begin + (length or 0)))

    _read(traced, engine, take)
    return lives, Bugs(struck=tuple(struck))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What a run released, by flow."""

    cost: Cost
    restarts: int
    by_flow: dict[int, frozenset[tuple[Any, ...]]]

    def lost(self, whole: Rows) -> frozenset[int]:
        """Flows of which not all came out as in `whole`."""
        return frozenset(uid for uid, rows in whole.by_flow.items() if self.by_flow.get(uid) != rows)


def _by_flow(out: Path) -> dict[int, frozenset[tuple[Any, ...]]]:
    found: dict[int, set[tuple[Any, ...]]] = {}
    for record in ("life", "request"):
        for part in sorted((out / "records" / record).glob("part-*.parquet")):
            table = pq.read_table(part)
            columns = [table[name].to_pylist() for name in table.column_names]
            place = table.column_names.index("flow")
            for row in zip(*columns, strict=True):
                found.setdefault(row[place], set()).add((record, *row))
    return {uid: frozenset(rows) for uid, rows in found.items()}


def spool_for(traced: Trace) -> str:
    """A spool that holds the trace: what a restart may need of it is there, however long flows live."""
    return f"{max(256, traced.path.stat().st_size * 3 // 2_000_000)}MB"


def run_with_bug(work: Path, traced: Trace, kind: str, *, each: int, seed: int, spool: str) -> Rows:
    """A run of Bunker whose analyzer has the bug in one packet of `each` (0: never)."""
    folder = work / "runs" / f"faults-{kind}-{each}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "policy.toml").write_text(_POLICY)
    (folder / "bug.py").write_text(_BUG.format(each=each, seed=seed, fault=KINDS[kind]))
    (folder / "experiment.toml").write_text(_EXPERIMENT.format(spool=folder / "spool", size=spool))
    argv = bunker_argv("run", folder / "experiment.toml", "--read", traced.path, "-o", folder / "out")
    cost = run(argv, cwd=folder, output=folder / "log")
    rows = _by_flow(folder / "out") if (folder / "out" / "records").is_dir() else {}
    made = (folder / "out" / "manifest.json").is_file()
    counters = read_manifest(folder / "out").counters if made else {}
    return Rows(cost=cost, by_flow=rows, restarts=counters.get(Counter.WORKER_RESTARTS.value, 0))


def start_seconds(work: Path, *, rounds: int) -> list[float]:
    """Wall seconds from the command to the end of a run over a trace of one request: a whole restart, and its end."""
    traced = trace(work, "close", 1)
    made = (run_with_bug(work, traced, "exception", each=0, seed=0, spool="256MB") for _ in range(rounds))
    return [one.cost.wall_s for one in made]


class _Nowhere:
    """Takes records and counts faults."""

    def __init__(self) -> None:
        self.rows = 0

    def records(self, _schema: RecordSchema, batch: Batch) -> None:
        """Count."""
        self.rows += batch.num_rows

    def fault(self, failed: AnalyzerFailed) -> None:
        """There must be none.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(f"analyzer {failed.analyzer} failed")


class _Bare:
    """The same calls and the same records, with nothing around them: what isolation is measured against."""

    def __init__(self, analyzers: Sequence[Analyzer]) -> None:
        self._analyzers = analyzers
        self._rows: dict[type, list[tuple[Any, ...]]] = {
            cls: [] for analyzer in analyzers for cls in analyzer.record_types
        }
        self._fields = {
            cls: schema.described()
            for analyzer in analyzers
            for cls, schema in zip(analyzer.record_types, analyzer.emits, strict=True)
        }

    def _emit(self, record: Record) -> None:
        self._rows[type(record)].append(msgspec.structs.astuple(record))

    def give(self, kind: str, batch: Batch) -> None:
        """Call every analyzer that subscribes to it."""
        emit = self._emit
        for analyzer in self._analyzers:
            if analyzer.message == kind:
                function = analyzer.function
                for row in batch.rows():
                    function(row, emit)

    def flush(self) -> None:
        """The records as batches."""
        for cls, rows in self._rows.items():
            if rows:
                builder = RecordBuilder(self._fields[cls])
                for row in rows:
                    builder.append(row)
                builder.finish()
                rows.clear()


def cpu_of(traced: Trace, analyzers: tuple[Analyzer, ...], *, isolated: bool) -> float:
    """CPU seconds of engine and analyzers over a trace, in this process, without box and spool."""
    hand = own_hand()
    engine = _engine(sorted({analyzer.message for analyzer in analyzers} | {"flow"}), hand if isolated else None)
    if isolated:
        dispatcher = Dispatcher(analyzers, _Nowhere(), hand=hand, phases=PHASES)

        def take() -> None:
            dispatcher.turn(engine)

    else:
        bare = _Bare(analyzers)

        def take() -> None:
            for kind, batch in engine.take():
                bare.give(kind, batch)
            while (flows := engine.take_flows()) is not None:
                bare.give("flow", flows)
            bare.flush()

    began = time.process_time()
    _read(traced, engine, take)
    return time.process_time() - began


def isolation_table(work: Path, traced: Trace, *, rounds: int) -> Table:
    """CPU with and without isolation, analyzers being called with every packet, transaction and flow."""
    folder = work / "runs" / "isolation"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "policy.toml").write_text(_POLICY)
    (folder / "bug.py").write_text(_BUG.format(each=0, seed=0, fault="pass"))
    (folder / "experiment.toml").write_text(_EXPERIMENT.format(spool=folder / "spool", size="256MB"))
    analyzers = read_bundle(folder / "experiment.toml").load_analyzers()
    with_it: list[float] = []
    without: list[float] = []
    for number in range(rounds):
        click.echo(f"isolation, round {number + 1} of {rounds}", err=True)
        with_it.append(cpu_of(traced, analyzers, isolated=True))
        without.append(cpu_of(traced, analyzers, isolated=False))
    bare, isolated = min(without), min(with_it)
    table = Table(title="cost of isolation when nothing fails", columns=("calls", "CPU s", "more than bare"))
    table.add("bare", bare, None)
    table.add("isolated", isolated, f"{100 * (isolated / bare - 1):+.1f} %")
    table.notes.append(
        f"{traced.truth.packets:,} packets, a call for each, records for requests and flows; "
        f"the least of {rounds} interleaved rounds; engine and analyzers in one process"
    )
    return table


def faults_table(
    traced: Trace,
    whole: Rows,
    faulty: dict[str, Rows],
    lives: list[Life],
    bugs: Bugs,
    *,
    away_s: float,
    rate: int,
    each: int,
) -> Table:
    """One row a tracer."""
    flows = len(lives)
    hit = bugs.hit
    table = Table(
        title=f"a bug in one packet of {each:,}: {traced.truth.packets:,} packets, {flows:,} flows",
        columns=("tracer", "flows hit", "hit %", "collateral", "collateral %", "run"),
    )

    def add(name: str, lost: frozenset[int], ended: str) -> None:
        collateral = len(lost - hit)
        table.add(name, len(hit), 100 * len(hit) / flows, collateral, 100 * collateral / flows, ended)

    for kind, rows in faulty.items():
        add(f"bunker, {kind}", rows.lost(whole), "whole" if rows.cost.exit_code == 0 else f"exit {rows.cost.exit_code}")
        if rows.restarts:
            wall, cpu = (rows.cost.wall_s - whole.cost.wall_s, rows.cost.cpu_s - whole.cost.cpu_s)
            table.notes.append(
                f"{kind}: {rows.restarts} restarts of the worker; each took {wall / rows.restarts:.2f} s, "
                f"{cpu / rows.restarts:.2f} CPU s (run with the bug less run without: reading again included)"
            )
        if rows.cost.exit_code == 0 and (escaped := hit - rows.lost(whole)):
            table.notes.append(f"{kind}: {len(escaped)} flows that were hit came out as if they had not been")
    length_ns = max(life.end_ns for life in lives) - min(life.begin_ns for life in lives)
    stretch = traced.truth.packets / rate * 1e9 / max(length_ns, 1)
    add("same pipeline, restarted whole", restarted(lives, bugs, away_ns=round(away_s * 1e9 / stretch)), "worked out")
    add("idealized online tracer", restarted(lives, bugs, away_ns=0), "worked out")
    table.notes += [
        f"{len(bugs.struck)} bugs; a restart of everything takes {away_s:.2f} s, at {rate:,} packets a second",
        "collateral: flows lost or changed that met no bug. The paper's online tracer: 0.08 % hit, 31.72 % collateral",
    ]
    return table


@click.command("faults")
@click.option("--requests", type=click.IntRange(100, 4_000_000), default=300_000, show_default=True)
@click.option("--shape", type=click.Choice(list(SHAPES)), default="crowd", show_default=True)
@click.option("--one-in", "each", type=click.IntRange(1), default=100_000, show_default=True, help="packets to a bug")
@click.option("--kind", "kinds", type=click.Choice(list(KINDS)), multiple=True, default=tuple(KINDS), show_default=True)
@click.option("--rate", type=click.IntRange(1), default=20_000, show_default=True, help="packets a second of the link")
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--spool", metavar="SIZE", help="Of Bunker's spool.  [default: one that holds the trace]")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--picture", type=click.Path(path_type=Path), metavar="FILE", help="Draw it, .svg or .png.")
@click.option(
    "--work", type=click.Path(path_type=Path), default=default_work, help="Traces and runs.  [default: user's cache]"
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write the tables as JSON.")
@click.option("--markdown", "markdown_path", type=click.Path(path_type=Path), help="Also write them as Markdown.")
def measure_faults(
    *,
    requests: int,
    shape: str,
    each: int,
    kinds: tuple[str, ...],
    rate: int,
    seed: int,
    spool: str | None,
    rounds: int,
    picture: Path | None,
    work: Path,
    json_path: Path | None,
    markdown_path: Path | None,
) -> None:
    """What a bug in the analysis costs: flows hit, flows lost beside them, isolation when nothing fails."""
    check_work(work, requests * 6000)
    traced = trace(work, shape, requests)
    click.echo("flows of the trace, and where the bug strikes", err=True)
    lives, bugs = lives_and_bugs(traced, each, seed)
    click.echo("bunker without the bug", err=True)
    size = spool or spool_for(traced)
    whole = run_with_bug(work, traced, "exception", each=0, seed=seed, spool=size)
    if whole.cost.exit_code != 0 or not whole.by_flow:
        raise BoxError("bench faults", "the run without the bug failed", "See its log below --work")
    faulty = {}
    for kind in kinds:
        click.echo(f"bunker with the bug: {kind}", err=True)
        faulty[kind] = run_with_bug(work, traced, kind, each=each, seed=seed, spool=size)
    away = min(start_seconds(work, rounds=rounds))
    table = faults_table(traced, whole, faulty, lives, bugs, away_s=away, rate=rate, each=each)
    table.notes.append(f"trace {traced.path.stat().st_size // 1_000_000:,} MB, spool {size}")
    tables = [table, isolation_table(work, traced, rounds=rounds)]
    if picture is not None:
        bars = [(str(row[0]), float(row[2] or 0), float(row[4] or 0)) for row in table.rows]
        draw_bars(
            Bars(title=table.title, axis="% of all flows", series=("hit by the bug", "lost beside them"), rows=bars),
            picture,
        )
    show(tables)
    write(tables, json_path=json_path, markdown_path=markdown_path)
    if any(row[3] or row[5] != "whole" for row in table.rows[: len(faulty)]):
        raise SystemExit(1)
