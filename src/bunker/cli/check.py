"""`bunker check`: what would leave, field by field, before anything is captured."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bunker.experiment.bundle import read_bundle
from bunker.policy.load import policy_of
from bunker.policy.report import Line, lines_of


@click.command()
@click.argument("experiment", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--bits", is_flag=True, help="Show the most bits that each field, record and row can carry.")
@click.option("--all", "everything", is_flag=True, help="List the fields that do not leave one by one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def check(experiment: Path, bits: bool, everything: bool, as_json: bool) -> None:
    """Print what EXPERIMENT would let out, field by field, and what could be learnt from it."""
    bundle = read_bundle(experiment)
    policy = policy_of(bundle.policy_text, bundle.schemas, bundle.lists, name=bundle.policy_name)
    lines = lines_of(policy)
    if as_json:
        for line in lines:
            click.echo(json.dumps(asdict(line)))
        return
    console = Console()
    console.print(f"[bold]{bundle.experiment.name}[/bold]: {bundle.experiment.purpose}", highlight=False)
    console.print(f"bundle {bundle.digest}", highlight=False)
    console.print(f"policy {policy.digest} ({policy.name}, keys: one run)", highlight=False)
    for record in sorted(policy.schemas):
        _print_record(
            console, record, [line for line in lines if line.record == record], bits=bits, everything=everything
        )
    console.print("Keys are drawn in the box and die with the run: two runs cannot be linked by tags or addresses.")


def _print_record(console: Console, record: str, lines: list[Line], *, bits: bool, everything: bool) -> None:
    leaving = [line for line in lines if line.bits is not None]
    dropped = [line for line in lines if line.bits is None]
    if not leaving:
        console.print(f"\n[bold]{record}[/bold]: nothing leaves ({len(dropped)} fields dropped)", highlight=False)
        return
    table = Table(title=f"record {record}", title_justify="left", show_lines=False)
    table.add_column("field", no_wrap=True)
    table.add_column("from", no_wrap=True)
    table.add_column("type", no_wrap=True)
    table.add_column("leaves as", no_wrap=True)
    if bits:
        table.add_column("bits", justify="right")
    table.add_column("who has the output learns", overflow="fold")
    for line in [*leaving, *(dropped if everything else [])]:
        row = [line.field, line.source, line.type, line.transform]
        if bits:
            row.append("" if line.bits is None else f"{line.bits:.1f}")
        table.add_row(*row, line.learns)
    console.print()
    console.print(table)
    if bits:
        console.print(f"  a row of {record} carries at most {sum(line.bits or 0.0 for line in leaving):.0f} bits")
    if dropped and not everything:
        console.print(f"  dropped: {', '.join(line.field for line in dropped)}", highlight=False)
