"""Reads what a run released, for people and for other programs.

Place in the flow: records/*.parquet, manifest.json ▶ here ▶ `bunker show`.

Rules of this file:
1. The parts are read in slices; a long table is never held whole.
2. A value is shown as what its field means: an address as an address, a time as a time, other bytes as hex.
"""

from __future__ import annotations

import csv
import difflib
import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from bunker.errors import BoxError, ConfigurationError
from bunker.model.heartbeat import OutputField, OutputSchema
from bunker.open import files
from bunker.open.arrow import arrow_schema
from bunker.open.manifest import Manifest

_ROWS = 8192
_MAPPED = bytes(10) + b"\xff\xff"

Cell = Any
Row = tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """One record's table."""

    schema: OutputSchema
    paths: tuple[Path, ...]

    @property
    def names(self) -> list[str]:
        """Its columns."""
        return [field.name for field in self.schema.fields]

    def rows(self, limit: int | None = None) -> Iterator[Row]:
        """Its rows, each value readable: text, numbers, booleans, None, lists of these.

        What a box releases may hold any character: a writer for terminals passes it through `verdict.harmless`.

        Raises:
            BoxError: a part cannot be read.
        """
        convert = [_converter(field) for field in self.schema.fields]
        left = limit
        for batch in self._batches():
            piece = batch if left is None else batch.slice(0, left)
            columns = [[call(cell) for cell in column] for call, column in zip(convert, _lists(piece), strict=True)]
            yield from zip(*columns, strict=True)
            if left is not None:
                left -= piece.num_rows
                if left <= 0:
                    return

    def _batches(self) -> Iterator[pa.RecordBatch]:
        expected = arrow_schema(self.schema)
        for path in self.paths:
            try:
                with pq.ParquetFile(path) as part:
                    if not part.schema_arrow.equals(expected):
                        raise ValueError
                    yield from part.iter_batches(batch_size=_ROWS)
            except (pa.ArrowException, OSError, ValueError):
                raise BoxError(f"part {path}", "is no Parquet of this record", "See what bunker verify says") from None


def released(directory: Path, manifest: Manifest, record: str) -> Released:
    """The table of a record.

    Raises:
        ConfigurationError: the run has no such record.
    """
    for schema in manifest.schemas:
        if schema.record == record:
            return Released(schema=schema, paths=tuple(files.parts(directory, record)))
    known = [schema.record for schema in manifest.schemas]
    near = difflib.get_close_matches(record, known, n=1)
    remedy = f"Did you mean {near[0]!r}?" if near else f"It has: {', '.join(known) or 'none'}"
    raise ConfigurationError(f"record {record!r}", "the run does not have it", remedy)


def _lists(batch: pa.RecordBatch) -> Iterator[list[Cell]]:
    """The columns as lists; times and durations as integers of nanoseconds."""
    for column in batch.columns:
        if pa.types.is_timestamp(column.type) or pa.types.is_duration(column.type):
            yield column.cast(pa.int64()).to_pylist()
        else:
            yield column.to_pylist()


def _converter(field: OutputField) -> Callable[[Cell], Cell]:
    one = _one(field)
    if field.arrow.startswith("List<"):
        return lambda cells: None if cells is None else [None if cell is None else one(cell) for cell in cells]
    return lambda cell: None if cell is None else one(cell)


def _one(field: OutputField) -> Callable[[Cell], Cell]:
    if field.type in ("Address", "AddressList") and "FixedSizeBinary(16)" in field.arrow:
        return address_text
    if field.type == "Mac" and field.arrow == "FixedSizeBinary(6)":
        return lambda cell: ":".join(f"{byte:02x}" for byte in cell)
    if field.arrow.startswith("Timestamp"):
        return time_text
    if field.arrow.startswith("Duration"):
        return lambda cell: cell / 1e9
    if "Binary" in field.arrow:
        return lambda cell: cell.hex()
    return lambda cell: cell


def address_text(packed: bytes) -> str:
    """Sixteen bytes as an address; IPv4 stands in them as ::ffff:a.b.c.d."""
    if packed.startswith(_MAPPED):
        return str(ipaddress.IPv4Address(packed[12:]))
    return str(ipaddress.IPv6Address(packed))


def time_text(time_ns: int) -> str:
    """Nanoseconds since the epoch as ISO 8601, UTC, all nine digits."""
    seconds, rest = divmod(time_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, tz=UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"


def write_json(table: Released, out: TextIO, limit: int | None) -> None:
    """JSON lines: one object a row, keys in the order of the columns, durations in seconds."""
    names = table.names
    encoder = msgspec.json.Encoder()
    for row in table.rows(limit):
        out.write(encoder.encode(dict(zip(names, row, strict=True))).decode() + "\n")


def write_csv(table: Released, out: TextIO, limit: int | None) -> None:
    """CSV with a head; an empty cell is an empty value, a list is joined by spaces."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.names)
    for row in table.rows(limit):
        writer.writerow([cell_text(cell, empty="") for cell in row])


def short_time(text: str) -> str:
    """A time without a fraction of zeros, for eyes."""
    return text.removesuffix(".000000000Z") + "Z" if text.endswith(".000000000Z") else text


def cell_text(cell: Cell, *, empty: str = "-") -> str:
    """A readable value as text."""
    if cell is None:
        return empty
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, list):
        return " ".join(cell_text(one) for one in cell)
    if isinstance(cell, float):
        return f"{cell:.6g}"
    return str(cell)
