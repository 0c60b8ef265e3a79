"""`bunker rehearse`: the whole run on synthetic traffic full of canaries, then the search for them everywhere.

Rules of this file:
1. What is rehearsed is the command that will be run, as a process of its own, in the same kind of box.
2. The capture with the canaries, and whatever else holds them on purpose, stands outside of what is searched, and is
   removed at the end.
3. A rehearsal that could not have found anything is a failed one.

Exit code 0 if nothing was found and the control found what it had to, 1 if not, 2 for configuration.
"""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter as Tally
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from bunker.errors import ConfigurationError
from bunker.experiment.bundle import Bundle, read_bundle
from bunker.model.counters import Counter
from bunker.open.manifest import Manifest, read_manifest
from bunker.open.rehearsal.canaries import Canaries, Hit, Search, make_canaries, may_be_chance
from bunker.open.rehearsal.capture import write_canary_capture
from bunker.open.rehearsal.disk import Disk, spool_disk
from bunker.open.rehearsal.report import Report, Searched, page
from bunker.open.tables import cell_text, released
from bunker.open.verdict import at
from bunker.policy.load import Policy, policy_of
from bunker.policy.report import lines_of

COPIES = 40
"""How often all flows of the synthetic traffic are repeated."""
SHORTEST = 6
_SAMPLE_ROWS = 5
_CONTROL = """
[experiment]
name = "control"
purpose = "a rehearsal's search must find what a policy lets out"
[analysis]
analyzers = ["http"]
[policy]
file = "policy.toml"
[spool]
size = "64MB"
"""
_CONTROL_POLICY = """
[policy]
format = 1
name = "control"
purpose = "lets a planted name out"
[out.http]
host = {{ do = "allow", values = ["{host}.example"] }}
"""
CONTROL_CANARY = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One run and its search."""

    status: int
    manifest: Manifest | None
    hits: tuple[Hit, ...]
    searched: tuple[Searched, ...]
    capture_found: frozenset[str]
    note: str
    spool_written: int | None


def _size(root: Path) -> int:
    if root.is_file():
        return root.stat().st_size
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink())


def _run(bundle: Path, capture: Path, out: Path, *, box: str, around: Path) -> int:
    """The command itself; whatever it might write outside of `out` goes below `around`."""
    places = {name: around / name.lower() for name in ("TMPDIR", "HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR")}
    for place in (around / "cwd", *places.values()):
        place.mkdir(parents=True)
    environment = os.environ | {name: str(place) for name, place in places.items()}
    command = [sys.executable, "-c", "from bunker.cli.main import main; main()"]
    with (around / "stdout").open("xb") as told, (around / "stderr").open("xb") as complained:
        done = subprocess.run(
            [*command, "run", bundle, "--read", capture, "--closed-box", box, "-o", out],
            check=False,
            cwd=around / "cwd",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=complained,
        )
    return done.returncode


def rehearse_once(bundle: Bundle, canaries: Canaries, out: Path, *, box: str, work: Path) -> Outcome:
    """Run a bundle on the canaries' capture and search.

    Args:
        out: The run's output directory; new.
        work: An empty folder of ours; the caller removes it.
    """
    elsewhere, around = work / "elsewhere", work / "around"
    elsewhere.mkdir()
    around.mkdir()
    capture = elsewhere / "canaries.pcap"
    write_canary_capture(capture, canaries, copies=COPIES)
    experiment = bundle.experiment
    outside = Path(experiment.spool_directory).is_absolute()
    size = 0 if outside else experiment.spool_bytes
    with spool_disk(work, size) if size else _no_disk() as disk:
        folder = work / "folder" if isinstance(disk, str) else disk.mount
        folder.mkdir(exist_ok=True)
        sealed = folder / "rehearsed.bundle"
        sealed.write_bytes(bundle.content)
        status = _run(sealed, capture, out, box=box, around=around)
        beside = [Path(experiment.spool_directory)] if outside else [folder] if isinstance(disk, str) else []
    search = Search(canaries, shortest=SHORTEST)
    places = [("what came out", out), ("what the command said and left in temporary folders", around)]
    places += [("the spool's folder, by names", place) for place in beside]
    if isinstance(disk, Disk):
        places.append(("the spool's disk, every byte that was written", disk.image))
    hits: list[Hit] = []
    searched: list[Searched] = []
    for name, place in places:
        if place.exists():
            hits += [
                Hit(canary=h.canary, form=h.form, where=f"{name}: {h.where}", offset=h.offset)
                for h in search.in_tree(place)
            ]
            size = disk.written_bytes() if isinstance(disk, Disk) and place == disk.image else _size(place)
            searched.append(Searched(place=name, size=size))
    manifest = out / "manifest.json"
    return Outcome(
        status=status,
        manifest=read_manifest(out) if manifest.is_file() else None,
        hits=tuple(hits),
        searched=tuple(searched),
        capture_found=frozenset(hit.canary for hit in search.in_tree(capture)),
        note=f"The bytes of the spool's disk were not searched: {disk}." if isinstance(disk, str) else "",
        spool_written=disk.written_bytes() if isinstance(disk, Disk) else None,
    )


@contextmanager
def _no_disk() -> Iterator[Disk | str]:
    yield "the experiment names an absolute path for its spool"


def _control(box: str, canaries: Canaries, work: Path) -> tuple[tuple[str, bool], ...]:
    """A run whose policy lets a planted name out: the same search must find it in what came out."""
    folder = work / "control"
    folder.mkdir()
    (folder / "experiment.toml").write_text(_CONTROL)
    (folder / "policy.toml").write_text(_CONTROL_POLICY.format(host=canaries.text(CONTROL_CANARY)))
    bundle = read_bundle(folder / "experiment.toml")
    inner = folder / "work"
    inner.mkdir()
    found = rehearse_once(bundle, canaries, folder / "out", box=box, work=inner)
    leaked = {hit.canary for hit in found.hits}
    return (
        ("every planted value, in the capture itself", found.capture_found == {one.name for one in canaries.all}),
        ("the planted host name, in the output of a run whose policy keeps it", CONTROL_CANARY in leaked),
    )


def _failures(outcome: Outcome) -> list[str]:
    if outcome.status != 0 or outcome.manifest is None:
        return [f"The run ended with exit code {outcome.status}: see its verdict."]
    counters = outcome.manifest.counters
    if not counters.get(Counter.PACKETS_ANALYSED.value):
        return [
            "No synthetic packet passed the capture filter: nothing was rehearsed. Rehearse a copy without the filter."
        ]
    failures = []
    if outcome.spool_written is not None and outcome.spool_written < counters.get(Counter.BYTES_RECEIVED.value, 0):
        failures.append(
            "Less was written to the spool's disk than was captured: what was searched is not what was used."
        )
    return failures


def _notes(outcome: Outcome) -> list[str]:
    notes = [outcome.note] if outcome.note else []
    if outcome.manifest is not None:
        counters = outcome.manifest.counters
        empty = [name for name, rows in outcome.manifest.rows.items() if not rows]
        if empty:
            notes.append(f"These records had no rows, so nothing was shown about them: {', '.join(sorted(empty))}.")
        if counters.get(Counter.ANALYZER_FAULTS.value):
            notes.append(f"Analyzers failed {counters[Counter.ANALYZER_FAULTS.value]} times on synthetic traffic.")
    return notes


def _samples(out: Path, manifest: Manifest) -> list[tuple[str, list[str], list[list[str]]]]:
    found = []
    for schema in manifest.schemas:
        table = released(out, manifest, schema.record)
        rows = [[cell_text(cell) for cell in row] for row in itertools.islice(table.rows(_SAMPLE_ROWS), _SAMPLE_ROWS)]
        found.append((schema.record, list(table.names), rows))
    return found


def _facts(bundle: Bundle, policy: Policy, outcome: Outcome, box: str) -> list[tuple[str, str]]:
    facts = [
        ("experiment", bundle.experiment.name),
        ("purpose", bundle.experiment.purpose),
        ("bundle", bundle.digest),
        ("policy", policy.digest),
        ("box", box),
    ]
    if outcome.manifest is not None:
        manifest = outcome.manifest
        counters = manifest.counters
        facts += [
            ("run", manifest.run),
            ("started", at(manifest.started_ns)),
            ("verdict", manifest.verdict),
            ("packets analysed", f"{counters.get(Counter.PACKETS_ANALYSED.value, 0):,}"),
            ("rows released", f"{counters.get(Counter.RECORDS_RELEASED.value, 0):,}"),
        ]
    return facts


@click.command()
@click.argument("experiment", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="EXPERIMENT|BUNDLE")
@click.option(
    "-o", "directory", type=click.Path(path_type=Path), required=True, metavar="DIR", help="report and output"
)
@click.option("--closed-box", "box", type=click.Choice(["process", "none"]), default="process", show_default=True)
@click.option("--seed", metavar="TEXT", help="of the planted values; drawn if not given")
@click.pass_context
def rehearse(context: click.Context, experiment: Path, directory: Path, box: str, seed: str | None) -> None:
    """Run EXPERIMENT on synthetic traffic, then search all that came out or stayed on disk for what was planted."""
    bundle = read_bundle(experiment)
    policy = policy_of(bundle.policy_text, bundle.schemas, bundle.lists, name=bundle.policy_name)
    if directory.exists() and any(directory.iterdir()):
        raise ConfigurationError(f"-o {directory}", "is not empty", "Name a new directory")
    directory.mkdir(parents=True, exist_ok=True)
    before = signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))  # so that a disk is unmounted
    work = Path(tempfile.mkdtemp(prefix="bunker-rehearsal-"))
    try:
        report = _rehearsed(bundle, policy, directory, box=box, seed=seed or secrets.token_hex(8), work=work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        signal.signal(signal.SIGTERM, before)
    (directory / "report.html").write_text(page(report))
    context.exit(_told(report, directory))


def _rehearsed(bundle: Bundle, policy: Policy, directory: Path, *, box: str, seed: str, work: Path) -> Report:
    canaries = make_canaries(seed)
    (work / "1").mkdir()
    click.echo("bunker: rehearsing", err=True)
    outcome = rehearse_once(bundle, canaries, directory / "run", box=box, work=work / "1")
    hits = list(outcome.hits)
    doubtful = {hit for hit in hits if may_be_chance(hit, canaries)}
    if doubtful:
        click.echo("bunker: short numbers were found; rehearsing once more with others", err=True)
        (work / "2").mkdir()
        again = rehearse_once(bundle, make_canaries(seed + "/again"), work / "again", box=box, work=work / "2")
        repeated = {hit.canary for hit in again.hits}
        hits = [hit for hit in hits if hit not in doubtful or hit.canary in repeated]
    click.echo("bunker: the control", err=True)
    control = _control(box, canaries, work)
    leaving = [line for line in lines_of(policy) if line.bits is not None]
    spellings = Tally(name for name, _ in Search(canaries, shortest=SHORTEST).spellings())
    return Report(
        facts=_facts(bundle, policy, outcome, box),
        leaving=[(line.record, line.field, line.source, line.transform, line.learns) for line in leaving],
        samples=[] if outcome.manifest is None else _samples(directory / "run", outcome.manifest),
        planted=[(canary.name, spellings[canary.name]) for canary in canaries.all],
        searched=outcome.searched,
        hits=hits,
        control=control,
        failures=_failures(outcome),
        notes=_notes(outcome),
    )


def _told(report: Report, directory: Path) -> int:
    for canary, where in sorted({(hit.canary, hit.where.split("!")[0]) for hit in report.hits}):
        click.echo(f"FOUND        {canary} in {where}")
    for what, found in report.control:
        click.echo(f"control      {'found' if found else 'NOT FOUND'}: {what}")
    for one in report.searched:
        click.echo(f"searched     {one.size:,} bytes: {one.place}")
    for word in (*report.failures, *report.notes):
        click.echo(f"note         {word}")
    click.echo(f"report       {directory / 'report.html'}")
    click.echo("rehearsal    " + ("GOOD: nothing that was planted came out or stayed behind" if report.good else "BAD"))
    return 0 if report.good else 1
