"""The layout of an output directory, and its two kinds of large files: segments of envelopes, parts of Parquet.

    envelopes/000000.env …          the raw envelopes, back to back, cut between envelopes at SEGMENT_BYTES
    records/<record>/part-000000.parquet …   attested rows, in the order of the stream
    heartbeats.jsonl  diagnostics.jsonl      attested statements and events
    manifest.json                            what the rest is, hashes, verdict

Rules of this file:
1. A part appears under its name only when it is complete; until then it is `.part-….tmp`.
2. Names of records come from a parsed start statement, whose grammar has neither dots nor slashes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bunker import limits

ENVELOPES = "envelopes"
RECORDS = "records"
HEARTBEATS = "heartbeats.jsonl"
DIAGNOSTICS = "diagnostics.jsonl"
MANIFEST = "manifest.json"
READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an envelope stands."""

    segment: int
    offset: int
    length: int


def segments(directory: Path) -> list[Path]:
    """The segments of a directory, in order."""
    return sorted((directory / ENVELOPES).glob("[0-9]*.env"))


def pieces(directory: Path) -> Iterator[bytes]:
    """The stored stream, in pieces."""
    for path in segments(directory):
        with path.open("rb") as file:
            while piece := file.read(READ_BYTES):
                yield piece


def parts(directory: Path, record: str) -> list[Path]:
    """The complete parts of a record, in order."""
    return sorted((directory / RECORDS / record).glob("part-[0-9]*.parquet"))


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace_file(path: Path, content: bytes) -> None:
    """Write a small file so that it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


class Segments:
    """Appends envelopes to segment files, and reads them back by place."""

    def __init__(self, directory: Path) -> None:
        self._folder = directory / ENVELOPES
        self._folder.mkdir()
        self._number = -1
        self._written = 0
        self._fd = -1
        self._next()

    def append(self, raw: bytes) -> Place:
        """Write an envelope.

        Raises:
            OSError: the disk does not take it.
        """
        if self._written and self._written + len(raw) > limits.SEGMENT_BYTES.default:
            self._next()
        place = Place(segment=self._number, offset=self._written, length=len(raw))
        view = memoryview(raw)
        while view:
            view = view[os.write(self._fd, view) :]
        self._written += len(raw)
        return place

    def read(self, place: Place) -> bytes:
        """An envelope that was appended."""
        if place.segment == self._number:
            return os.pread(self._fd, place.length, place.offset)
        with self._path(place.segment).open("rb") as file:
            file.seek(place.offset)
            return file.read(place.length)

    def close(self) -> None:
        """Nothing more will be appended; what was is on the disk."""
        if self._fd >= 0:
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06}.env"

    def _next(self) -> None:
        self.close()
        self._number += 1
        self._written = 0
        self._fd = os.open(self._path(self._number), os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o644)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A complete part."""

    record: str
    file: str
    rows: int
    sha256: str


class Parts:
    """Writes one record's rows into parts.

    Invariants:
        Holds at most ROW_GROUP_ROWS and about ROW_GROUP_BYTES, plus one batch.
    """

    def __init__(self, directory: Path, record: str, schema: pa.Schema) -> None:
        self._root = directory
        self._folder = directory / RECORDS / record
        self._folder.mkdir(parents=True)
        self._record, self._schema = record, schema
        self._number = 0
        self._held: list[pa.RecordBatch] = []
        self._held_rows = self._held_bytes = 0
        self._writer: pq.ParquetWriter | None = None
        self._part_rows = 0

    def append(self, batch: pa.RecordBatch) -> Part | None:
        """Take rows; answers the part that became complete, if one did."""
        self._held.append(batch)
        self._held_rows += batch.num_rows
        self._held_bytes += batch.nbytes
        full = self._held_rows >= limits.ROW_GROUP_ROWS.default or self._held_bytes >= limits.ROW_GROUP_BYTES.default
        if full:
            self._write_group()
        return self.close() if self._part_rows >= limits.PART_ROWS.default else None

    def close(self) -> Part | None:
        """Complete the part that is being written; None if there is nothing in it."""
        self._write_group()
        if self._writer is None:
            return None
        self._writer.close()
        self._writer = None
        path = self._folder / f"part-{self._number:06}.parquet"
        self._temporary().replace(path)
        part = Part(
            record=self._record,
            file=str(path.relative_to(self._root)),
            rows=self._part_rows,
            sha256=file_digest(path),
        )
        self._number += 1
        self._part_rows = 0
        return part

    def _temporary(self) -> Path:
        return self._folder / f".part-{self._number:06}.tmp"

    def _write_group(self) -> None:
        if not self._held_rows:
            self._held.clear()
            return
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._temporary(), self._schema, compression="zstd")
        self._writer.write_table(pa.Table.from_batches(self._held, self._schema), row_group_size=self._held_rows)
        self._part_rows += self._held_rows
        self._held.clear()
        self._held_rows = self._held_bytes = 0
