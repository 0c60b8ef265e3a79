"""The store: keeps what was accepted, and turns what is attested into Parquet and JSON lines.

Place in the flow: StreamVerifier ▶ here ▶ an output directory.

Rules of this file:
1. Every accepted envelope is kept raw at once. Rows, heartbeats and events are written only when a signature covers
   them, read back from the raw envelopes: an unattested row never becomes a row.
2. The directory must be new or empty; nothing of an earlier run is mixed in or overwritten.
3. `verify` derives the same files again: `heartbeat_line`, `diagnostics_lines` and `batches_of` say what is in them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from bunker import limits
from bunker.errors import BoxError, ConfigurationError
from bunker.model.envelope import Envelope, EnvelopeReader, Kind, records_parts
from bunker.model.heartbeat import Heartbeat, OutputSchema, Start, canonical
from bunker.open import files
from bunker.open.arrow import arrow_schema, batches_of
from bunker.open.files import Part, Parts, Place, Segments
from bunker.open.manifest import FORMAT, Manifest, listed, write_manifest
from bunker.open.trace import TRACE, blocks, head, trace_of
from bunker.open.verdict import Verdict
from bunker.open.verifier import Accepted


def heartbeat_line(accepted: Accepted) -> bytes:
    """The line of heartbeats.jsonl for a start, a heartbeat or a last statement."""
    named = {"number": accepted.number, "kind": accepted.kind.name.lower(), "statement": accepted.statement}
    return canonical(named) + b"\n"


def diagnostics_lines(accepted: Accepted) -> bytes:
    """The lines of diagnostics.jsonl for an envelope of events."""
    return b"".join(msgspec.json.encode(event, order="sorted") + b"\n" for event in accepted.events)


class _Lines:
    """A file of lines, and the hash of what is in it."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("xb")
        self._digest = hashlib.sha256()

    def write(self, lines: bytes) -> None:
        self._file.write(lines)
        self._file.flush()
        self._digest.update(lines)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def close(self) -> None:
        self._file.close()


@contextmanager
def _on_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        cause = f"cannot be written ({error.strerror or type(error).__name__})"
        raise BoxError("output directory", cause, "Make room on the disk") from None


class Store:
    """One run's output directory, being written.

    Args:
        fresh: The directory must be new or empty; False for a run that is built up again among other runs.
    Raises:
        ConfigurationError: the directory has something in it, or cannot be made.
        BoxError: the disk is full or fails.
    """

    def __init__(self, directory: Path, start: Start, *, fresh: bool = True) -> None:
        if fresh:
            prepare(directory)
        self.directory = directory
        self._start = start
        with _on_disk():
            self._segments = Segments(directory)
            self._heartbeats = _Lines(directory / files.HEARTBEATS)
            self._diagnostics = _Lines(directory / files.DIAGNOSTICS)
            self._writers: dict[str, Parts] = {
                schema.record: Parts(directory, schema.record, arrow_schema(schema)) for schema in start.schemas
            }
            self._trace_record = trace_of(start.schemas)
            self._trace = _Lines(directory / TRACE) if self._trace_record is not None else None
            if self._trace is not None:
                self._trace.write(head())
        self._parts: list[Part] = []
        self._pending: list[tuple[Accepted, Place]] = []
        self._part_since_ns = 0
        self.refused = 0

    def keep(self, envelope: Envelope, accepted: Accepted) -> None:
        """Keep an accepted envelope; a signed one attests all before it.

        Raises:
            EnvelopeRefused: BODY: attested records are no Arrow of the declared schema.
            BoxError: the disk is full or fails.
        """
        with _on_disk():
            place = self._segments.append(envelope.raw)
            if envelope.kind.signed:
                self._attest()
                self._heartbeats.write(heartbeat_line(accepted))
                if isinstance(accepted.statement, Heartbeat):
                    self._roll(accepted.statement.monotonic_ns)
            else:
                self._pending.append((accepted, place))

    def describe(self, verdict: Verdict, *, finished: bool) -> None:
        """Write the manifest. With `finished` the parts are completed first, and nothing may follow.

        Raises:
            BoxError: the disk is full or fails.
        """
        with _on_disk():
            if finished:
                self._close_parts()
                self._segments.close()
                self._heartbeats.close()
                self._diagnostics.close()
                if self._trace is not None:
                    self._trace.close()
            write_manifest(self.directory, self._manifest(verdict, finished=finished))

    def _manifest(self, verdict: Verdict, *, finished: bool) -> Manifest:
        start = self._start
        return Manifest(
            bunker_output=FORMAT,
            state="finished" if finished else "receiving",
            verdict=verdict.word.value,
            findings=[str(finding) for finding in verdict.findings],
            run=start.run,
            fingerprint=verdict.fingerprint or "",
            pinned=verdict.pinned,
            started_ns=start.started_ns,
            last_ns=verdict.since_ns or start.started_ns,
            tier=start.tier.value,
            bundle=start.bundle,
            image=start.image,
            policy=start.policy,
            schemas=start.schemas,
            envelopes=verdict.attested + verdict.unattested,
            attested=verdict.attested,
            rows=verdict.rows,
            counters=verdict.counters,
            parts=[listed(part) for part in self._parts],
            heartbeats_sha256=self._heartbeats.sha256,
            diagnostics_sha256=self._diagnostics.sha256,
            refused=self.refused,
        )

    def _attest(self) -> None:
        pending, self._pending = self._pending, []
        for accepted, place in pending:
            if accepted.kind is Kind.DIAGNOSTICS:
                self._diagnostics.write(diagnostics_lines(accepted))
                continue
            assert accepted.record is not None
            schema: OutputSchema = self._start.schemas[accepted.record]
            (envelope,) = EnvelopeReader().feed(self._segments.read(place))
            _, rows, body = records_parts(envelope)
            for batch in batches_of(body, schema, rows=rows, number=accepted.number):
                if self._trace is not None and schema == self._trace_record:
                    self._trace.write(blocks(batch))
                part = self._writers[schema.record].append(batch)
                if part is not None:
                    self._parts.append(part)

    def _roll(self, monotonic_ns: int) -> None:
        if not self._part_since_ns:
            self._part_since_ns = monotonic_ns
        if monotonic_ns - self._part_since_ns >= limits.PART_AGE_S.default * 10**9:
            self._close_parts()
            self._part_since_ns = monotonic_ns

    def _close_parts(self) -> None:
        for writer in self._writers.values():
            part = writer.close()
            if part is not None:
                self._parts.append(part)


def prepare(directory: Path) -> None:
    """Make an output directory.

    Raises:
        ConfigurationError: it has something in it, or cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        taken = any(directory.iterdir())
    except OSError as error:
        raise ConfigurationError(
            f"output directory {directory}", f"cannot be made ({error.strerror})", "Give another with -o"
        ) from None
    if taken:
        raise ConfigurationError(f"output directory {directory}", "is not empty", "Give a new one with -o")
