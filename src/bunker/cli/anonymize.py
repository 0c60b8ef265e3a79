"""`bunker anonymize`: a header trace of capture files, cleared by a policy, without a box.

No box means: this process sees the packets and holds the key, in ordinary memory of an ordinary process, until it
ends. For traffic that nobody may hold in the first place there is `bunker run` with the analyzer `packets`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click

from bunker.errors import BoxError, ConfigurationError
from bunker.native.trace import HeaderTrace
from bunker.policy.trace import TraceRules
from bunker.policy.trace_file import read_trace

_PIECE = 1 << 18
"""Bytes read at once: what one of the processor's own caches holds, for the decoder reads them right after."""
_MERGED = 10
"""Counts below this are told as one sum (tcpmkpub's metadata, with the reference's threshold)."""


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The header trace; must not exist."
)
@click.option(
    "--policy",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A policy with a table [out.pcap].",
)
@click.option("--quiet", is_flag=True, help="Do not print what became of the packets.")
@click.pass_context
def anonymize(context: click.Context, files: tuple[Path, ...], output: Path, policy: Path, quiet: bool) -> None:
    """Clear the packets of FILES by the policy's rules and write them as a new capture file.

    The key is drawn for this trace and forgotten with it: nobody can map addresses back, or the same way again. Exit
    code 1: a file is damaged (what stands before the damage is in the trace).
    """
    try:
        text = policy.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(str(policy), f"cannot be read ({type(error).__name__})", "Check the path") from None
    rules = read_trace(text, name=policy.name)
    damaged, counts = make_trace(files, output, rules)
    if not quiet:
        for line in told(counts):
            click.echo(line, err=True)
        for risk in rules.risks:
            click.echo(f"accepted risk {risk.name}: {risk.sentence}", err=True)
    for name, offset, kind in damaged:
        click.echo(
            f"bunker: {name}: damaged at byte {offset} ({kind}); the packets before it are in the trace", err=True
        )
    context.exit(1 if damaged else 0)


def make_trace(
    files: tuple[Path, ...], output: Path, rules: TraceRules
) -> tuple[list[tuple[str, int, str]], dict[str, int]]:
    """Write the header trace of `files` to `output`.

    Returns:
        (name, offset, kind) of each damaged file; packets by what became of them.
    Raises:
        ConfigurationError: the output exists, or a file cannot be read.
        BoxError: the disk does not take it.
    """
    if output.exists():
        raise ConfigurationError(str(output), "is there already", "Give another name with -o")
    trace = HeaderTrace(rules.words, rules.format)
    damaged: list[tuple[str, int, str]] = []
    if trace.needs_survey:
        for path in files:
            for piece in _pieces(path):
                trace.survey(piece)
            trace.end_file()
    temporary = output.with_name(f".{output.name}.tmp")
    try:
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(trace.head())
            for path in files:
                for piece in _pieces(path):
                    out.write(trace.feed(piece))
                rest, fault = trace.end_file()
                out.write(rest)
                if fault is not None:
                    damaged.append((path.name, *fault))
        temporary.replace(output)
    except OSError as error:
        raise BoxError(str(output), f"cannot be written ({error.strerror})", "Make room, or give another -o") from None
    finally:
        trace.forget()
        temporary.unlink(missing_ok=True)
    return damaged, trace.counts()


def _pieces(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece
    except OSError as error:
        raise ConfigurationError(str(path), f"cannot be read ({error.strerror})", "Check the path") from None


def told(counts: dict[str, int]) -> list[str]:
    """Counts for people; those below the threshold as one sum, since a single odd packet may point at somebody."""
    lines = [f"{name}: {count}" for name, count in sorted(counts.items()) if count >= _MERGED]
    few = sum(count for count in counts.values() if count < _MERGED)
    if few:
        lines.append(f"others, fewer than {_MERGED} each: {few if few >= _MERGED else f'fewer than {_MERGED}'}")
    return lines
