"""`bunker bench analysis`: `bunker run` on generated traces, its records counted against the truth, beside others.

Rules of this file:
1. What is timed is the whole command, from its start to its exit: bundle, box, spool, analysis, policy, stored output.
2. A row whose records do not add up to the truth says so in the last column; a rate without the truth is no result.
3. Slow peers get a shorter trace of the same shape, and the row says how many requests it held.
4. A second table splits the same runs by process: the worker is the analysis lane (unsealing, decoding, flows, streams,
   parsers, analyzers, records into the pipe), and its row is what a rate "of the lane" means.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bunker.cli.bench.link import check_work
from bunker.cli.bench.peers import Cost, present, run
from bunker.cli.bench.report import Table, median, show, write
from bunker.cli.bench.traffic import SHAPES, Trace, default_work, trace

_EXPERIMENT = """
[experiment]
name = "bench"
purpose = "rate of the analysis"
[capture]
lanes = {lanes}
[spool]
directory = "{spool}"
size = "{spool_mb}MB"
[analysis]
analyzers = ["{analyzer}"]
[policy]
file = "policy.toml"
"""

_POLICY = """
[policy]
format = 1
name = "bench"
purpose = "counts"
[out.{record}]
"""

_BATCH_FIELDS = """
ts = {{ do = "shift+grain", grain = "1s" }}
client = {{ do = "tag", from = "orig_h" }}
orig_h = "pfx"
host = "tag"
method = {{ do = "allow", values = ["GET", "HEAD", "POST"], other = "other" }}
status_code = {{ do = "keep", because = "a number of a public registry" }}
response_body_len = {{ do = "bucket", edges = "log2" }}
"""

_TALLY = '''
"""Called with each transaction: counts them by status, says the counts at the end."""
from collections import Counter

from bunker.api import Code, Count, Record, analyzer, http


class StatusTally(Record):
    status: Code
    count: Count


@analyzer(emits=StatusTally)
class tally:
    def __init__(self):
        self.seen = Counter()

    def __call__(self, tx: http.Transaction, emit):
        self.seen[tx.status_code or 0] += 1

    def finish(self, emit):
        for status, count in self.seen.items():
            emit(StatusTally(status=status, count=count))
'''

_TALLY_FIELDS = """
status = {{ do = "keep", because = "a number of a public registry" }}
count = {{ do = "keep", because = "an aggregate" }}
"""

_EMITTING = '''
"""Called with each transaction: emits a record for each, the dearest way."""
from bunker.api import Bytes, Code, Host, Record, analyzer, http


class Visit(Record):
    site: Host | None
    status: Code | None
    size: Bytes


@analyzer(emits=Visit)
def visits(tx: http.Transaction, emit):
    emit(Visit(site=tx.host, status=tx.status_code, size=tx.response_body_len))
'''

_EMITTING_FIELDS = """
site = "tag"
status = {{ do = "keep", because = "a number of a public registry" }}
size = {{ do = "bucket", edges = "log2" }}
"""


def _rows(folder: Path) -> int:
    return sum(pq.read_metadata(part).num_rows for part in folder.glob("part-*.parquet"))


def _summed(folder: Path) -> int:
    return sum(
        pc.sum(pq.read_table(part, columns=["count"])["count"]).as_py() or 0 for part in folder.glob("part-*.parquet")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to analyse: an analyzer, the policy of its record, how its records tell the number of transactions."""

    name: str
    analyzer: str
    record: str
    fields: str
    source: str | None
    count: Callable[[Path], int]


VARIANTS = (
    Variant(
        name="bunker, http in batches", analyzer="http", record="http", fields=_BATCH_FIELDS, source=None, count=_rows
    ),
    Variant(
        name="bunker, Python function per transaction",
        analyzer="./own.py:tally",
        record="status_tally",
        fields=_TALLY_FIELDS,
        source=_TALLY,
        count=_summed,
    ),
    Variant(
        name="bunker, Python function emitting per transaction",
        analyzer="./own.py:visits",
        record="visit",
        fields=_EMITTING_FIELDS,
        source=_EMITTING,
        count=_rows,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One measured run: its cost, and what it found; `found` is None if it failed."""

    cost: Cost
    found: int | None


def write_experiment(folder: Path, variant: Variant, *, lanes: int, spool_mb: int) -> Path:
    """The experiment of a variant; returns its file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policy.toml").write_text(_POLICY.format(record=variant.record) + variant.fields.format())
    if variant.source is not None:
        (folder / "own.py").write_text(variant.source)
    file = folder / "experiment.toml"
    file.write_text(
        _EXPERIMENT.format(lanes=lanes, spool=folder / "spool", spool_mb=spool_mb, analyzer=variant.analyzer)
    )
    return file


def bunker_argv(*words: str | Path) -> list[str | Path]:
    """The command line of this installation."""
    return [sys.executable, "-c", "from bunker.cli.main import main; main()", *words]


def run_bunker(work: Path, variant: Variant, traced: Trace, *, lanes: int, box: str) -> Run:
    """One run, its records counted."""
    folder = work / "runs" / variant.analyzer.rpartition(":")[2]
    shutil.rmtree(folder, ignore_errors=True)
    file = write_experiment(folder, variant, lanes=lanes, spool_mb=256)
    out = folder / "out"
    argv = bunker_argv("run", file, "--read", traced.path, "--closed-box", box, "-o", out)
    cost = run(argv, cwd=folder, output=folder / "log")
    found = variant.count(out / "records" / variant.record) if cost.exit_code == 0 else None
    shutil.rmtree(folder / "spool", ignore_errors=True)
    return Run(cost=cost, found=found)


_NFSTREAM = "import sys, nfstream; print(sum(1 for _ in nfstream.NFStreamer(source=sys.argv[1], n_dissections=20)))"


def _lines(output: Path) -> int:
    with output.open("rb") as file:
        return sum(1 for line in file if line.strip())


def run_peer(work: Path, name: str, traced: Trace) -> Run:
    """One run of a peer. `found` is the number of requests it reports; None where it reports flows or streams."""
    folder = work / "runs" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    output = folder / "output"
    fields = ("frame.time_epoch", "ip.src", "ip.dst", "http.request.method", "http.host", "http.request.uri")
    columns = [word for field in fields for word in ("-e", field)]
    commands: dict[str, list[str | Path]] = {
        "tshark": ["tshark", "-n", "-r", traced.path, "-Y", "http.request", "-T", "fields", *columns],
        "tcpflow": ["tcpflow", "-q", "-r", traced.path, "-o", folder / "streams"],
        "suricata": ["suricata", "-r", traced.path, "-l", folder, "--runmode", "single", "-S", "/dev/null"],
        "nfstream": [sys.executable, "-c", _NFSTREAM, traced.path],
    }
    cost = run(commands[name], cwd=folder, output=output)
    found = None
    if cost.exit_code == 0 and name == "tshark":
        # "Running as user root" is the one line that is no record.
        found = _lines(output) - cost.output.count("Running as user")
    shutil.rmtree(folder / "streams", ignore_errors=True)
    return Run(cost=cost, found=found)


def _row(
    name: str, traced: Trace, runs: Sequence[Run], *, counts_requests: bool
) -> tuple[str | int | float | None, ...]:
    truth = traced.truth
    good = [one for one in runs if one.cost.exit_code == 0]
    cpu, wall = median([one.cost.cpu_s for one in good]), median([one.cost.wall_s for one in good])
    peak = median([one.cost.peak_bytes for one in good])
    if not good:
        verdict = "failed"
    elif not counts_requests:
        verdict = "no HTTP records"
    else:
        wrong = [one.found for one in good if one.found != truth.requests]
        verdict = f"{wrong[0]:,} of {truth.requests:,}" if wrong else "all"
    return (
        name,
        truth.requests,
        cpu,
        wall,
        truth.requests / cpu if cpu else None,
        truth.requests / wall if wall else None,
        truth.packets / cpu if cpu else None,
        peak / (1 << 20) if peak else None,
        verdict,
    )


COLUMNS = (
    "program",
    "requests",
    "CPU s",
    "wall s",
    "requests/CPU s",
    "requests/s",
    "packets/CPU s",
    "peak MiB",
    "found",
)


STAGES = (
    ("bunker-capturer", "capturer: read, seal, spool"),
    ("bunker-worker", "worker: the analysis lane"),
    ("bunker-releaser", "releaser: check, clear, sign"),
    ("bunker-super", "supervisor"),
    ("", "command line: set up, receive, verify, store"),
)
STAGE_COLUMNS = ("program", "process", "CPU s", "share", "requests/CPU s", "packets/CPU s")


def stage_rows(name: str, traced: Trace, runs: Sequence[Run]) -> list[tuple[str | int | float | None, ...]]:
    """The runs' CPU time by process, medians; what no process of the box used is the command line's."""
    good = [one.cost for one in runs if one.cost.exit_code == 0]
    rows: list[tuple[str | int | float | None, ...]] = []
    named = {process for process, _ in STAGES if process}
    for process, says in STAGES:
        spent = median(
            [
                cost.cpu_by_name.get(process, 0.0)
                if process
                else cost.cpu_s - sum(cost.cpu_by_name.get(one, 0.0) for one in named)
                for cost in good
            ]
        )
        whole = median([cost.cpu_s for cost in good])
        rates = (traced.truth.requests / spent, traced.truth.packets / spent) if spent else (None, None)
        rows.append((name, says, spent, f"{spent / whole:.0%}" if spent and whole else None, *rates))
    return rows


def measure(
    work: Path,
    shape: str,
    *,
    requests: int,
    peer_requests: int,
    rounds: int,
    lanes: int,
    box: str,
    variants: Sequence[Variant],
) -> tuple[Table, Table]:
    """Two tables: all variants and peers on one shape, rounds interleaved; and our own runs by process."""
    whole, part = trace(work, shape, requests), trace(work, shape, min(peer_requests, requests))
    names, missing = present(("tshark", "tcpflow", "suricata", "nfstream"))
    ours: dict[str, list[Run]] = {variant.name: [] for variant in variants}
    quarter = trace(work, shape, max(1, requests // 4))
    short: list[Run] = []
    theirs: dict[str, list[Run]] = {name: [] for name in names}
    for number in range(rounds):
        for variant in variants:
            click.echo(f"{shape}, round {number + 1} of {rounds}: {variant.name}", err=True)
            ours[variant.name].append(run_bunker(work, variant, whole, lanes=lanes, box=box))
        short.append(run_bunker(work, variants[0], quarter, lanes=lanes, box=box))
        for name in names:
            click.echo(f"{shape}, round {number + 1} of {rounds}: {name}", err=True)
            theirs[name].append(run_peer(work, name, part))
    truth = whole.truth
    title = (
        f"analysis, {shape}: {truth.requests:,} requests, {truth.packets:,} packets, {truth.connections:,} connections"
    )
    table = Table(title=title, columns=COLUMNS)
    for variant in variants:
        table.add(*_row(variant.name, whole, ours[variant.name], counts_requests=True))
    table.add(*_row(f"{variants[0].name}, a quarter of the trace", quarter, short, counts_requests=True))
    for name, version in names.items():
        table.add(*_row(f"{name} {version}", part, theirs[name], counts_requests=name == "tshark"))
    for label, failed in (*ours.items(), *theirs.items()):
        table.notes += [f"{label}: exit {one.cost.exit_code}" for one in failed if one.cost.exit_code]
    table.notes.append(
        f"median of {rounds} interleaved rounds; {lanes} lane(s), box {box}; page cache warm; whole command timed"
    )
    if part.truth.requests < truth.requests:
        table.notes.append(
            f"peers read a trace of the same shape with {part.truth.requests:,} requests: they are slower"
        )
    table.notes += missing
    stages = Table(title=f"{title}: by process", columns=STAGE_COLUMNS)
    for variant in variants:
        for row in stage_rows(variant.name, whole, ours[variant.name]):
            stages.add(*row)
    stages.notes.append("of the same runs; sampled 20 times a second, starting each process included")
    return table, stages


@click.command("analysis")
@click.option("--requests", type=click.IntRange(100, 16_000_000), default=1_000_000, show_default=True)
@click.option(
    "--peer-requests", type=click.IntRange(100), default=50_000, show_default=True, help="Length for slow peers."
)
@click.option(
    "--shape",
    "shapes",
    type=click.Choice(list(SHAPES)),
    multiple=True,
    default=("keepalive", "close"),
    show_default=True,
)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--lanes", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option("--closed-box", "box", default="process", show_default=True, help="The box to measure in.")
@click.option(
    "--work", type=click.Path(path_type=Path), default=default_work, help="Traces and runs.  [default: user's cache]"
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write the tables as JSON.")
@click.option("--markdown", "markdown_path", type=click.Path(path_type=Path), help="Also write them as Markdown.")
def measure_analysis(
    *,
    requests: int,
    peer_requests: int,
    shapes: tuple[str, ...],
    rounds: int,
    lanes: int,
    box: str,
    work: Path,
    json_path: Path | None,
    markdown_path: Path | None,
) -> None:
    """HTTP requests and packets a second offline, CPU and memory, beside tshark and others on the same trace."""
    check_work(work, requests * 2500 * len(shapes))
    pairs = [
        measure(
            work,
            shape,
            requests=requests,
            peer_requests=peer_requests,
            rounds=rounds,
            lanes=lanes,
            box=box,
            variants=VARIANTS,
        )
        for shape in shapes
    ]
    tables = [table for pair in pairs for table in pair]
    show(tables)
    write(tables, json_path=json_path, markdown_path=markdown_path)
    wrong = [row for table, _ in pairs for row in table.rows if str(row[0]).startswith("bunker") and row[-1] != "all"]
    if wrong:
        raise SystemExit(1)
