"""`bunker show DIR [RECORD]`: what a run released, as tables, CSV or JSON lines."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bunker.cli.terminal import wide_console
from bunker.model.counters import Counter
from bunker.open.buffer import Sample, samples
from bunker.open.manifest import Manifest, read_manifest
from bunker.open.picture import Line, Picture, amount, draw, in_characters
from bunker.open.tables import Released, cell_text, released, short_time, write_csv, write_json
from bunker.open.verdict import at, harmless

_TABLE_ROWS = 50


def _overview(directory: Path, manifest: Manifest, console: Console) -> None:
    so_far = " (still receiving)" if manifest.state == "receiving" else ""
    told = [
        ("run", manifest.run),
        ("box", manifest.tier),
        ("started", at(manifest.started_ns)),
        ("last word", at(manifest.last_ns)),
        ("receiver", f"{manifest.verdict.upper()}{so_far}; bunker verify {directory} checks it anew"),
        ("key", f"{manifest.fingerprint} ({'pinned' if manifest.pinned else 'not pinned'})"),
        ("bundle", manifest.bundle),
        *(("found", finding) for finding in manifest.findings),
    ]
    for name, text in told:
        console.print(f"{name:<12} {escape(harmless(text))}", highlight=False, soft_wrap=True)
    records = Table("record", "rows", "columns", title="released", title_justify="left")
    for schema in manifest.schemas:
        columns = ", ".join(field.name for field in schema.fields)
        records.add_row(schema.record, f"{manifest.rows.get(schema.record, 0):,}", columns)
    console.print(records, highlight=False)
    counters = Table("counter", "value", "meaning", title="counters", title_justify="left")
    for counter in Counter:
        value = manifest.counters.get(counter.value, 0)
        if value:
            counters.add_row(counter.value, f"{value:,}", f"{counter.meaning.unit}: {counter.meaning.text}")
    console.print(counters, highlight=False)


def _table(table: Released, console: Console, limit: int) -> None:
    shown = Table(*table.names, title=table.schema.record, title_justify="left")
    for count, row in enumerate(table.rows(limit + 1)):
        if count == limit:
            console.print(shown, highlight=False)
            console.print(f"the first {limit} rows; --limit N for more, --csv or --json for all", highlight=False)
            return
        shown.add_row(*(escape(harmless(short_time(cell_text(cell)))) for cell in row))
    console.print(shown, highlight=False)


def buffer_picture(directory: Path, spool: int, found: list[Sample]) -> Picture:
    """The buffer of a run over its time, in the unit that fits it."""
    start = found[0].now_ns
    length_s = (found[-1].now_ns - start) / 1e9
    unit, seconds = (
        ("hours", 3600.0) if length_s > 2 * 3600 else ("minutes", 60.0) if length_s > 120 else ("seconds", 1.0)
    )
    return Picture(
        title=f"buffer of {directory.name}",
        axis=f"{unit} since the start",
        at=tuple((sample.now_ns - start) / 1e9 / seconds for sample in found),
        lines=[Line(name="raw traffic that exists, sealed", values=tuple(float(x.buffered) for x in found))],
        level=("spool", float(spool)) if spool else None,
    )


def _buffer(directory: Path, console: Console, picture: Path | None) -> None:
    found = samples(directory)
    spool = max(sample.spool for sample in found)
    drawn = buffer_picture(directory, spool, found)
    if picture is not None:
        draw(drawn, picture)
    for line in in_characters(drawn):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    highest = max(found, key=lambda sample: sample.buffered)
    last = found[-1]
    told = [
        ("highest", f"{amount(highest.buffered)} at {at(highest.now_ns)}"),
        ("spool", amount(spool)),
        ("arrived", amount(last.received)),
        ("analysed", amount(last.analysed)),
        ("dropped", f"{amount(last.dropped)} because the spool was full"),
    ]
    for name, words in told:
        console.print(f"{name:<12} {words}", highlight=False, markup=False, soft_wrap=True)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.argument("record", required=False)
@click.option("--buffer", "as_buffer", is_flag=True, help="the buffer over the run's time, as its heartbeats tell it")
@click.option("--picture", type=click.Path(path_type=Path), metavar="FILE", help="draw it, .svg or .png")
@click.option("--csv", "form", flag_value="csv", help="CSV with a head, all rows")
@click.option("--json", "form", flag_value="json", help="JSON lines, all rows")
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help=f"at most N rows (a table has {_TABLE_ROWS})")
def show(  # noqa: PLR0917 - click passes options by name
    directory: Path,
    record: str | None,
    as_buffer: bool,
    picture: Path | None,
    form: str | None,
    limit: int | None,
) -> None:
    """Show what the run in DIRECTORY released: an overview, or the table of one RECORD."""
    if picture is not None and not as_buffer:
        raise click.UsageError("--picture draws the --buffer")
    if as_buffer:
        if record is not None or form is not None:
            raise click.UsageError("--buffer takes no RECORD, --csv or --json")
        _buffer(directory, wide_console(), picture)
        return
    manifest = read_manifest(directory)
    console = wide_console()
    if record is None:
        if form is not None:
            raise click.UsageError("--csv and --json need a RECORD")
        _overview(directory, manifest, console)
        return
    table = released(directory, manifest, record)
    if form == "json":
        write_json(table, sys.stdout, limit)
    elif form == "csv":
        write_csv(table, sys.stdout, limit)
    else:
        _table(table, console, _TABLE_ROWS if limit is None else limit)
