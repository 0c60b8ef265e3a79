"""`bunker verify DIR`: whether a recorded run is what a box wrote, all of it."""

from __future__ import annotations

from pathlib import Path

import click

from bunker.errors import ConfigurationError
from bunker.model.heartbeat import is_fingerprint
from bunker.open.verdict import told
from bunker.open.verify import verify as verify_directory


def checked_key(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """A fingerprint as the operator wrote it down.

    Raises:
        ConfigurationError: it is none.
    """
    if value is not None and not is_fingerprint(value):
        raise ConfigurationError(
            "--key", "is no fingerprint", "Give the 64 hex digits that the run printed at its start"
        )
    return value


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--key", metavar="FINGERPRINT", callback=checked_key, help="the key printed at the start of the run")
@click.pass_context
def verify(context: click.Context, directory: Path, key: str | None) -> None:
    """Recompute everything in DIRECTORY from its raw envelopes (or check a file that a box wrote its stream into).

    Exit code 0 only if the whole chain holds: every envelope from the start to an end in order, every signature, the
    balance of packets, and every row of the Parquet files. Without --key, whoever made the stream chose its key.
    """
    verdict = verify_directory(directory, key)
    for line in told(verdict):
        click.echo(line)
    context.exit(verdict.exit_code)
