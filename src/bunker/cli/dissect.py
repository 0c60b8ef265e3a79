"""`bunker dissect`: the raw messages of capture files as JSON lines, for comparing and debugging. Lab traffic only.

Rules of this file:
1. Names are Zeek's where Zeek has the field (`id.orig_h`), times are seconds as in Zeek's JSON logs, addresses as text.
2. It has no box and says so; it reads files and refuses interfaces.
"""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import click
import msgspec

from bunker import limits
from bunker.closed.capture.files import FileReader
from bunker.closed.capture.filter import filters_for_files
from bunker.closed.process.setup import open_files
from bunker.errors import ConfigurationError
from bunker.experiment.file import OVERLAP_POLICIES
from bunker.model.fields import FieldType
from bunker.native.wire import Batch, Engine, message_kinds, message_schema

_ZEEK = {"orig_h": "id.orig_h", "orig_p": "id.orig_p", "resp_h": "id.resp_h", "resp_p": "id.resp_p", "from_": "from"}
_NANOSECONDS = frozenset({FieldType.TIME, FieldType.DURATION})
_BLOCK_BYTES = limits.BLOCK_BYTES_MIN.default


def _writer_of(kind: FieldType) -> Callable[[Any], Any]:
    if kind in _NANOSECONDS:
        return lambda value: value / 1e9
    if kind is FieldType.ADDRESS:
        return str
    if kind is FieldType.ADDRESS_LIST:
        return lambda value: [str(item) for item in value]
    if kind is FieldType.FLOW_ID:
        return lambda value: f"B{value:x}"
    if kind in (FieldType.CONTENT, FieldType.MAC):
        return lambda value: base64.b64encode(value).decode()
    return lambda value: value


def _lines(kind: str, batch: Batch) -> Iterator[bytes]:
    columns = [
        (name, _ZEEK.get(name, name), _writer_of(FieldType(word)))
        for name, word, _ in message_schema(kind)
        if name in batch.column_names
    ]
    for row in batch.rows():
        found: dict[str, Any] = {"message": kind}
        for name, shown, write in columns:
            value = getattr(row, name)
            if value is not None:
                found[shown] = write(value)
        yield msgspec.json.encode(found)


def _kinds(text: str) -> list[str]:
    known = message_kinds()
    kinds = [kind.strip() for kind in text.split(",") if kind.strip()]
    for kind in kinds:
        if kind not in known:
            raise ConfigurationError(f"--messages {kind}", "is no kind of message", f"Known: {', '.join(known)}")
    return kinds


class _Dissection:
    """Files in, lines out."""

    def __init__(
        self, kinds: list[str], *, needs: list[str], checksums: str, overlap: str, out: TextIO, table: bool
    ) -> None:
        self.engine = Engine(
            lane=0,
            want=kinds,
            needs=needs,
            seed=os.urandom(16),
            verify_checksums=checksums != "ignore",
            auto_checksums=checksums == "auto",
            overlap=[(bytes(16), 0, overlap)],
        )
        self.kinds, self.out, self.table = kinds, out, table

    def write(self) -> None:
        """Write what the engine has."""
        for kind, batch in self.engine.take():
            self._batch(kind, batch)
        while (flows := self.engine.take_flows()) is not None:
            if "flow" in self.kinds:
                self._batch("flow", flows)

    def _batch(self, kind: str, batch: Batch) -> None:
        for line in _lines(kind, batch):
            if self.table:
                values = msgspec.json.decode(line)
                del values["message"]
                text = "  ".join(f"{name}={value}" for name, value in values.items() if value not in ("", 0, False))
                self.out.write(f"{kind:5} {text}\n")
            else:
                self.out.write(line.decode() + "\n")


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE…")
@click.option(
    "--messages", default="flow,http,dns,tls,mail,ssh,ntp,dhcp", show_default=True, help="kinds, separated by commas"
)
@click.option("--json", "as_json", is_flag=True, help="JSON lines")
@click.option("--filter", "expression", default="", help="a libpcap filter expression")
@click.option("--hashes", is_flag=True, help="MD5, SHA-1 and SHA-256 of bodies")
@click.option("--bodies", is_flag=True, help="heads and decoded bodies too, base64")
@click.option("--checksums", type=click.Choice(["verify", "auto", "ignore"]), default="verify", show_default=True)
@click.option("--overlap", type=click.Choice(OVERLAP_POLICIES), default="first", show_default=True)
@click.option("--counters", is_flag=True, help="a last line with what was counted")
@click.pass_context
def dissect(  # noqa: PLR0917 - click passes options by name
    context: click.Context,
    files: tuple[Path, ...],
    messages: str,
    as_json: bool,
    expression: str,
    hashes: bool,
    bodies: bool,
    checksums: str,
    overlap: str,
    counters: bool,
) -> None:
    """Print the messages in capture files, without box and policy: for lab traffic."""
    kinds = _kinds(messages)
    needs = ["statistics"] + ["hashes"] * hashes + ["heads", "bodies"] * bodies
    reader = FileReader(
        open_files(files),
        lanes=1,
        block_bytes=_BLOCK_BYTES,
        snaplen=limits.SNAPLEN.default,
        filters=filters_for_files(expression, snaplen=limits.SNAPLEN.default),
        seed=os.urandom(16),
    )
    work = _Dissection(kinds, needs=needs, checksums=checksums, overlap=overlap, out=sys.stdout, table=not as_json)
    try:
        for number, block in enumerate(reader.blocks()):
            while not work.engine.feed(block.format, block.plaintext, number):
                work.write()
            work.write()
        work.engine.finish()
        work.write()
        if counters:
            found = {"message": "counters"} | work.engine.counters() | reader.counters()
            sys.stdout.write(msgspec.json.encode(found, order="sorted").decode() + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        context.exit(0)
    for number, offset, reason in reader.damages:
        click.echo(
            f"bunker: capture file {files[number]}: {reason.replace('_', ' ')} at byte {offset}; "
            "what stands before it was processed",
            err=True,
        )
    context.exit(1 if reader.damages else 0)
