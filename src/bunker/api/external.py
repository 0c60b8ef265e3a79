"""`external`: a program in any other language as an analyzer.

    from bunker.api import Host, Record, Score, external

    class Scored(Record):
        site: Host
        score: Score

    score = external("perl score.pl", message="http", emits=Scored)

The program reads one JSON object a line from standard input, one for each message. It answers each, in order, with as
many lines as it has records, a JSON object each, and then an **empty line**, and flushes (`$| = 1` in Perl). At the end
of its input it may write further records, and ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bunker.errors import ConfigurationError
from bunker.model.analyzer import MESSAGE_KINDS, Analyzer, declare_external
from bunker.model.external import program_of
from bunker.model.record import Record

__all__ = ["external"]


def external(
    command: str | Sequence[str],
    *,
    message: str,
    emits: type[Record] | tuple[type[Record], ...],
    files: Sequence[str] = (),
    libraries: Sequence[str] | None = None,
    fields: Sequence[str] = (),
    needs: Iterable[str] = (),
    name: str | None = None,
) -> Analyzer:
    """Declare a program as an analyzer.

    Args:
        command: As typed in the experiment's folder. Words that name files there are sealed into the bundle.
        message: What it subscribes to: "http", "dns", "tls", "flow", "packet", "chunk", "datagram", "mail".
        emits: The record class, or several; then each line names its own in `"record"`.
        files: Further files of the experiment's folder that the program reads.
        libraries: Absolute paths of the machine that it needs beside /lib and /usr/lib. None: what is known of the
            interpreter.
        fields: Columns that it is sent; none: all. Fewer are faster.
        needs: As for `analyzer`.
        name: As it stands in diagnostics; the program's own file without its ending if None.
    Raises:
        ConfigurationError: the declaration cannot work; says why and what to write.
    Source: `docs/analyzers.md`, programs in other languages.
    """
    program = program_of(command, files=files, libraries=libraries, fields=fields)
    if message not in MESSAGE_KINDS:
        raise ConfigurationError(
            f"external {program.name}", f"{message!r} is no kind of message", f"Known: {', '.join(MESSAGE_KINDS)}"
        )
    return declare_external(program, name=name or program.name, message=message, emits=emits, needs=needs)
