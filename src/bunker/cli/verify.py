"""`bunker verify DIR`: whether a recorded run is what a box wrote, all of it."""

from __future__ import annotations

from pathlib import Path

import click

from bunker.errors import ConfigurationError
from bunker.model.heartbeat import is_fingerprint, same_fingerprint
from bunker.open.verdict import told
from bunker.open.verify import runs_in
from bunker.open.verify import verify as verify_directory


def checked_keys(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Fingerprints as the operator wrote them down.

    Raises:
        ConfigurationError: one is none.
    """
    if not all(map(is_fingerprint, values)):
        raise ConfigurationError(
            "--key", "is no fingerprint", "Give the 64 hex digits that the run printed at its start"
        )
    return values


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="FINGERPRINT",
    callback=checked_keys,
    help="the key printed at the start of the run (several times for several runs)",
)
@click.pass_context
def verify(context: click.Context, directory: Path, keys: tuple[str, ...]) -> None:
    """Recompute everything in DIRECTORY from its raw envelopes (or check a file that a box wrote its stream into).

    Exit code 0 only if the whole chain holds: every envelope from the start to an end in order, every signature, the
    balance of packets, and every row of the Parquet files; of every run in DIRECTORY, and a run of every key given.
    Without --key, whoever made the stream chose its key.
    """
    code = 0
    runs = runs_in(directory)
    absent = list(keys)
    for number, run in enumerate(runs):
        if len(runs) > 1:
            click.echo(f"{'' if number == 0 else chr(10)}{run}")
        verdict = verify_directory(run, keys)
        for line in told(verdict):
            click.echo(line)
        code = max(code, verdict.exit_code)
        absent = [key for key in absent if not same_fingerprint(key, verdict.fingerprint or "")]
    for key in absent:
        click.echo(f"missing      no run here is signed by the key {key}")
        code = 1
    context.exit(code)
