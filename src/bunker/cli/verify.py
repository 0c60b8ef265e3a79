"""`bunker verify DIR`: whether a recorded run is what a box wrote, all of it."""

from __future__ import annotations

from pathlib import Path

import click

from bunker.errors import ConfigurationError
from bunker.image.kernel import Kind
from bunker.image.manifest import read as read_manifest
from bunker.model.heartbeat import Start, is_fingerprint, same_fingerprint
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
@click.option(
    "--image",
    "manifest",
    type=click.Path(path_type=Path),
    metavar="MANIFEST",
    help="the runs must come from this sealed image",
)
@click.pass_context
def verify(context: click.Context, directory: Path, keys: tuple[str, ...], manifest: Path | None) -> None:
    """Recompute everything in DIRECTORY from its raw envelopes (or check a file that a box wrote its stream into).

    Exit code 0 only if the whole chain holds: every envelope from the start to an end in order, every signature, the
    balance of packets, and every row of the Parquet files; of every run in DIRECTORY, and a run of every key given.
    Without --key, whoever made the stream chose its key. With --image, the start statement must name the digest of that
    manifest, whose kind must be sealed.
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
        if manifest is not None:
            wrong = _image_fault(verdict.start, manifest)
            click.echo(f"image        {'as the manifest says' if wrong is None else f'refused: {wrong}'}")
            code = code if wrong is None else 1
        absent = [key for key in absent if not same_fingerprint(key, verdict.fingerprint or "")]
    for key in absent:
        click.echo(f"missing      no run here is signed by the key {key}")
        code = 1
    context.exit(code)


def _image_fault(start: Start | None, path: Path) -> str | None:
    """Why the run is not one of this image; None if it says that it is."""
    manifest = read_manifest(path)
    if manifest.identity.kind is not Kind.SEALED:
        return f"the manifest is of a {manifest.identity.kind.value} image"
    if start is None or start.image is None:
        return "the run did not come from an image"
    if start.image != manifest.digest:
        return "the run came from another image"
    return None
