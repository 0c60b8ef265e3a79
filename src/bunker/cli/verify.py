"""`bunker verify DIR`: whether a recorded run is what a box wrote, all of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from bunker.errors import ConfigurationError
from bunker.image.kernel import Kind
from bunker.image.manifest import read as read_manifest
from bunker.model.attestation import key_fingerprint
from bunker.model.heartbeat import Start, is_fingerprint, same_fingerprint
from bunker.open.attestation import Expected, faults
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


def checked_registers(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[int, str]:
    """Registers as the operator wrote them down.

    Raises:
        ConfigurationError: one is none.
    """
    found = [re.fullmatch(r"([0-7])=([0-9A-Fa-f]{64})", value) for value in values]
    if not all(found):
        raise ConfigurationError(
            "--register", "is no register", "Give its number and value as bunker verify prints them: 0=HEX"
        )
    return {int(match[1]): match[2].lower() for match in found if match is not None}


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
@click.option(
    "--tpm-key",
    "tpm_keys",
    multiple=True,
    metavar="FINGERPRINT",
    callback=checked_keys,
    help="the runs must be attested by this TPM's key",
)
@click.option(
    "--register",
    "registers",
    multiple=True,
    metavar="N=HEX",
    callback=checked_registers,
    help="the TPM's register N must have this value",
)
@click.pass_context
def verify(  # noqa: PLR0917 - click passes options by name
    context: click.Context,
    directory: Path,
    keys: tuple[str, ...],
    manifest: Path | None,
    tpm_keys: tuple[str, ...],
    registers: dict[int, str],
) -> None:
    """Recompute everything in DIRECTORY from its raw envelopes (or check a file that a box wrote its stream into).

    Exit code 0 only if the whole chain holds: every envelope from the start to an end in order, every signature, the
    balance of packets, and every row of the Parquet files; of every run in DIRECTORY, and a run of every key given.
    Without --key, whoever made the stream chose its key. With --image, the start statement must name the digest of that
    manifest, whose kind must be sealed; if a TPM signed what was started, it must have been that image's kernel, and
    nothing before it that the manifest does not name. With --tpm-key or --register, a TPM must have signed.
    """
    attested = bool(tpm_keys or registers)
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
        if verdict.start is not None and (attested or verdict.start.attestation is not None):
            wrong_ones = _attestation_faults(verdict.start, manifest, tpm_keys, registers)
            for line in _attestation_told(verdict.start, wrong_ones):
                click.echo(line)
            code = 1 if wrong_ones else code
        absent = [key for key in absent if not same_fingerprint(key, verdict.fingerprint or "")]
    for key in absent:
        click.echo(f"missing      no run here is signed by the key {key}")
        code = 1
    context.exit(code)


def _attestation_faults(
    start: Start, manifest: Path | None, keys: tuple[str, ...], registers: dict[int, str]
) -> list[str]:
    image = None if manifest is None else read_manifest(manifest)
    return faults(
        start,
        Expected(
            kernels=None if image is None else image.kernels,
            loaders=() if image is None else image.loaders,
            keys=keys,
            registers=registers,
        ),
    )


def _attestation_told(start: Start, wrong: list[str]) -> Iterator[str]:
    if start.attestation is not None:
        yield f"tpm          {key_fingerprint(start.attestation.key)}"
    yield from (f"tpm          refused: {text}" for text in wrong)
    if start.attestation is not None and not wrong:
        for number, value in sorted(start.attestation.registers.items()):
            yield f"register {number}   {value}"


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
