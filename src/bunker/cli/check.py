"""`bunker check`: what would leave, field by field, before anything is captured."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bunker.cli.terminal import wide_console
from bunker.experiment.bundle import read_bundle
from bunker.policy.attacker import attacker_lines
from bunker.policy.load import Policy, policy_of
from bunker.policy.report import Line, lines_of, row_bits
from bunker.policy.risks import findings

_DAY_S = 86_400
_EPOCHS = {"run": "one run", "day": "a day", "hour": "an hour"}


@click.command()
@click.argument("experiment", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--bits", is_flag=True, help="Show the most bits that each field, row and day can carry.")
@click.option(
    "--rate", type=click.FloatRange(min=0), default=1000.0, show_default=True, help="Rows a second, for --bits."
)
@click.option("--injected", type=click.IntRange(min=0), default=100, show_default=True, help="Flows an attacker sends.")
@click.option("--known", type=click.IntRange(min=0), default=10, show_default=True, help="Addresses an attacker knows.")
@click.option("--all", "everything", is_flag=True, help="List the fields that do not leave one by one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def check(
    *, experiment: Path, bits: bool, rate: float, injected: int, known: int, everything: bool, as_json: bool
) -> None:
    """Print what EXPERIMENT would let out, field by field, and what could be learnt from it."""
    bundle = read_bundle(experiment)
    policy = policy_of(bundle.policy_text, bundle.schemas, bundle.lists, name=bundle.policy_name)
    lines = lines_of(policy)
    if as_json:
        for line in lines:
            click.echo(json.dumps(asdict(line)))
        return
    console = wide_console()
    console.print(f"[bold]{bundle.experiment.name}[/bold]: {bundle.experiment.purpose}", highlight=False)
    console.print(f"bundle {bundle.digest}", highlight=False)
    console.print(
        f"policy {policy.digest} ({policy.name}, profile {policy.profile}, keys: {_EPOCHS[policy.epoch]})",
        highlight=False,
    )
    for record in dict.fromkeys(line.record for line in lines):
        of_record = [line for line in lines if line.record == record]
        _print_record(console, record, of_record, bits=bits, everything=everything)
        if record in policy.rules:
            _print_waiting(console, policy, record)
            if bits:
                _print_bits(console, record, row_bits(policy, record), rate)
    _print_attacks(console, policy, injected=injected, known=known)
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
    table.add_column("leaves as", overflow="fold", min_width=12)
    if bits:
        table.add_column("bits", justify="right")
    table.add_column("who has the output learns", overflow="fold", min_width=24)
    for line in [*leaving, *(dropped if everything else [])]:
        row = [line.field, line.source, line.type, line.transform]
        if bits:
            row.append("" if line.bits is None else f"{line.bits:.1f}")
        table.add_row(*row, line.learns)
    console.print()
    console.print(table)
    if dropped and not everything:
        console.print(f"  dropped: {', '.join(line.field for line in dropped)}", highlight=False)


def _print_waiting(console: Console, policy: Policy, record: str) -> None:
    if policy.waits(record):
        until = "the run ends" if policy.window == "run" else f"the {policy.window} is over"
        console.print(f"  rows wait, sealed, until {until}", highlight=False)
    share = policy.sample.get(record)
    if share is not None:
        console.print(
            f"  rows of a share of {share.share:g} of all {share.by} leave; the key decides whose", highlight=False
        )
    company = policy.company.get(record)
    if company is not None:
        console.print(
            f"  a row leaves only if {company.k} different {policy.units[record]} have the same "
            f"{', '.join(company.by)} in the window",
            highlight=False,
        )


def _print_bits(console: Console, record: str, row: float, rate: float) -> None:
    a_day = row * rate * _DAY_S / 8
    console.print(
        f"  a row of {record} carries at most {row:.0f} bits; {rate:g} rows/s: at most {a_day / 1e6:,.0f} MB a day",
        highlight=False,
    )


def _print_attacks(console: Console, policy: Policy, *, injected: int, known: int) -> None:
    console.print("\n[bold]What an attacker learns[/bold]")
    for line in attacker_lines(policy, injected=injected, known=known):
        console.print(f"  * {line}", highlight=False)
    for traced in () if policy.trace is None else policy.trace.risks:
        console.print(f"  * {traced.name}, accepted: {traced.sentence}", highlight=False, markup=False)
    found = findings(policy)
    if not found:
        return
    console.print("\n[bold]Risks[/bold] (profile public refuses all of them)")
    for name in dict.fromkeys(finding.risk.name for finding in found):
        places = [finding for finding in found if finding.risk.name == name]
        risk = places[0].risk
        accepted = ", accepted" if name in policy.accept else ""
        where = ", ".join(finding.place for finding in places)
        console.print(
            f"  {name}{accepted} ({where}): {risk.attack}. Instead: {risk.remedy}", highlight=False, markup=False
        )
