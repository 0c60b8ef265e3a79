"""`bunker show DIR [RECORD]`: what a run released, as tables, CSV or JSON lines."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bunker.model.counters import Counter
from bunker.open.manifest import Manifest, read_manifest
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


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.argument("record", required=False)
@click.option("--csv", "form", flag_value="csv", help="CSV with a head, all rows")
@click.option("--json", "form", flag_value="json", help="JSON lines, all rows")
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help=f"at most N rows (a table has {_TABLE_ROWS})")
def show(directory: Path, record: str | None, form: str | None, limit: int | None) -> None:
    """Show what the run in DIRECTORY released: an overview, or the table of one RECORD."""
    manifest = read_manifest(directory)
    console = Console()
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
