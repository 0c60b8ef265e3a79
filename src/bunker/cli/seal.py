"""`bunker seal`: the immutable bundle of an experiment, and its digest."""

from __future__ import annotations

from pathlib import Path

import click

from bunker.experiment import bundle as bundles
from bunker.policy.load import policy_of


@click.command()
@click.argument("experiment", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The bundle to write.")
def seal(experiment: Path, output: Path) -> None:
    """Pack EXPERIMENT, its policy, analyzers and lists into one file; its digest names the run everywhere."""
    bundle = bundles.seal(experiment)
    policy_of(bundle.policy_text, bundle.schemas, bundle.lists, name=bundle.policy_name)
    partial = output.with_name(output.name + ".partial")
    partial.write_bytes(bundle.content)
    partial.rename(output)
    click.echo(f"{bundle.digest}  {output}")
