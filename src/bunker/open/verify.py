"""Offline verification of what a receiver stored, from the raw envelopes alone.

Place in the flow: an output directory (or a file of envelopes) ▶ here ▶ a verdict.

Rules of this file:
1. Two passes. The first checks chain and signatures and parses no Arrow; the second makes everything that is derived
   again, as far as signatures reach, and compares. The manifest is believed in nothing.
2. What a refused stream suffered is said by `diagnosis`.
3. Derived files that hold more than a broken stream still attests do not change its word: they were made from what is
   gone. They are noted, as a trace of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bunker.errors import ConfigurationError
from bunker.model import sealing
from bunker.model.envelope import Envelope, EnvelopeReader, EnvelopeRefused, Kind, records_parts
from bunker.model.heartbeat import OutputSchema, Start
from bunker.open import files
from bunker.open.arrow import arrow_schema, batches_of
from bunker.open.diagnosis import diagnose
from bunker.open.manifest import Manifest, read_manifest
from bunker.open.store import diagnostics_lines, heartbeat_line
from bunker.open.trace import TRACE, blocks, head, trace_of
from bunker.open.verdict import Finding, Verdict, Word, gravest, harmless
from bunker.open.verifier import StreamVerifier, finding_of

_ROWS = 65_536


def runs_in(directory: Path) -> list[Path]:
    """The runs that a receiver stored: the directory itself, then the folders in it; the path itself if it is a file.

    A directory that holds no run is answered too: `verify` says what is wrong with it.
    """
    if not directory.is_dir():
        return [directory]
    inner = [child for child in sorted(directory.iterdir()) if (child / files.ENVELOPES).is_dir()]
    own = [directory] if (directory / files.ENVELOPES).is_dir() or not inner else []
    return own + [child for child in inner if not child.name.startswith(".")]


def verify(directory: Path, keys: Sequence[str] = ()) -> Verdict:
    """Verify an output directory, or a file that a box wrote its stream into.

    Args:
        keys: Fingerprints that the operator wrote down at the start of runs; the run's key must have one of them.
    Raises:
        ConfigurationError: there are no envelopes at all.
    """
    stored = _Stored(directory)
    verifier = StreamVerifier(pinned=keys)
    reader = EnvelopeReader()
    try:
        for piece in stored.pieces():
            for envelope in reader.feed(piece):
                verifier.feed(envelope)
    except EnvelopeRefused as refused:
        diagnosis = diagnose(stored.pieces(), refused)
        unread = max(diagnosis.envelopes - verifier.accepted, 0)
        verdict = verifier.verdict(*diagnosis.findings, unread=unread)
    else:
        verdict = verifier.verdict(*_tail(verifier, reader.waiting))
    findings = list(verdict.findings)
    warnings = list(verdict.warnings)
    if directory.is_dir() and verifier.start is not None:
        ended = verifier.ended is not None
        derived = _Derived(directory, verifier.start, ended=ended, broken=bool(findings))
        derived.check(stored, verdict)
        findings += derived.findings
        warnings += derived.warnings
    word = gravest(findings, verdict.word)
    return replace(verdict, word=word, findings=tuple(findings), warnings=tuple(warnings))


def _tail(verifier: StreamVerifier, waiting: int) -> tuple[Finding, ...]:
    """What the bytes behind the last whole envelope mean."""
    if not waiting:
        return ()
    if verifier.ended is not None:
        return (Finding(word=Word.FORGED, text="bytes follow the last statement", first=verifier.accepted),)
    text = f"cut within it, {waiting} bytes are there"
    return (Finding(word=Word.TRUNCATED, text=text, first=verifier.accepted),)


class _Stored:
    """The raw stream of a directory or a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if path.is_dir():
            if not (path / files.ENVELOPES).is_dir():
                raise ConfigurationError(str(path), "has no envelopes/", "Give the -o directory of a run")
        elif not path.is_file():
            raise ConfigurationError(str(path), "is not there", "Give the -o directory of a run")
        elif _first(path) == sealing.MAGIC:
            raise ConfigurationError(
                str(path), "is sealed", "Open it first: bunker receive --from FILE --private-key KEY"
            )

    def pieces(self) -> Iterator[bytes]:
        """The stream from its beginning."""
        if self._path.is_dir():
            yield from files.pieces(self._path)
            return
        with self._path.open("rb") as file:
            while piece := file.read(files.READ_BYTES):
                yield piece

    def envelopes(self, count: int) -> Iterator[Envelope]:
        """The first so many, known to be good."""
        reader = EnvelopeReader()
        for piece in self.pieces():
            for envelope in reader.feed(piece):
                if count == 0:
                    return
                count -= 1
                yield envelope


def _first(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(sealing.MAGIC))


class _PartsReader:
    """The rows of one record's parts, in order, in slices of any length."""

    def __init__(self, directory: Path, schema: OutputSchema) -> None:
        self._schema = arrow_schema(schema)
        self._paths = files.parts(directory, schema.record)
        self._batches = self._read()
        self._held: pa.RecordBatch | None = None

    def take(self, rows: int) -> pa.Table:
        """The next rows, fewer at the end.

        Raises:
            _Unreadable: a part is no Parquet of this record.
        """
        pieces: list[pa.RecordBatch] = []
        while rows:
            if self._held is None or not self._held.num_rows:
                self._held = next(self._batches, None)
                if self._held is None:
                    break
                continue
            piece = self._held.slice(0, rows)
            self._held = self._held.slice(piece.num_rows)
            rows -= piece.num_rows
            pieces.append(piece)
        return pa.Table.from_batches(pieces, self._schema)

    def _read(self) -> Iterator[pa.RecordBatch]:
        for path in self._paths:
            try:
                with pq.ParquetFile(path) as part:
                    if not part.schema_arrow.equals(self._schema):
                        raise _UnreadableError(path)
                    for batch in part.iter_batches(batch_size=_ROWS):
                        yield pa.RecordBatch.from_arrays(batch.columns, schema=self._schema)
            except (pa.ArrowException, OSError, ValueError):
                raise _UnreadableError(path) from None


class _UnreadableError(Exception):
    """A part that is no Parquet of its record."""


class _Lines:
    """What a file of lines must begin with, as length and hash."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self.length = 0

    def update(self, lines: bytes) -> None:
        self._digest.update(lines)
        self.length += len(lines)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def begin(self, path: Path) -> bool:
        """Whether the file begins with these lines."""
        digest = hashlib.sha256()
        left = self.length
        with path.open("rb") as file:
            while left and (piece := file.read(min(left, files.READ_BYTES))):
                digest.update(piece)
                left -= len(piece)
        return not left and digest.digest() == self._digest.digest()


class _Derived:
    """Makes what is derived again, and compares."""

    def __init__(self, directory: Path, start: Start, *, ended: bool, broken: bool) -> None:
        self._directory, self._start, self._broken = directory, start, broken
        self._parts = {schema.record: _PartsReader(directory, schema) for schema in start.schemas}
        self._wrong: set[str] = set()
        self._heartbeats, self._diagnostics = _Lines(), _Lines()
        self._trace_record = trace_of(start.schemas)
        self._trace = _Lines()
        self._trace.update(head())
        self._manifest: Manifest | None = None
        self.findings: list[Finding] = []
        self.warnings: list[str] = []
        try:
            self._manifest = read_manifest(directory)
        except ConfigurationError as error:
            self._differs(files.MANIFEST, error.cause)
        state = None if self._manifest is None else self._manifest.state
        self._receiving = state == "receiving" and not ended

    def check(self, stored: _Stored, verdict: Verdict) -> None:
        """Compare everything up to the last attested envelope."""
        verifier = StreamVerifier()
        try:
            for envelope in stored.envelopes(verdict.attested):
                accepted = verifier.feed(envelope)
                if accepted.kind is Kind.RECORDS:
                    self._rows(envelope)
                elif accepted.kind is Kind.DIAGNOSTICS:
                    self._diagnostics.update(diagnostics_lines(accepted))
                else:
                    self._heartbeats.update(heartbeat_line(accepted))
        except EnvelopeRefused as refused:
            self.findings.append(finding_of(refused))
            return
        if self._receiving:
            self.warnings.append("the receiver has not finished: parts may lag behind the envelopes")
        else:
            self._rest()
            self._lines(files.HEARTBEATS, self._heartbeats)
            self._lines(files.DIAGNOSTICS, self._diagnostics)
            if self._trace_record is not None:
                self._lines(TRACE, self._trace)
        self._strangers()
        if self._manifest is not None:
            self._compare(self._manifest, verdict)

    def _differs(self, thing: str, text: str) -> None:
        if thing not in self._wrong:
            self._wrong.add(thing)
            self.findings.append(Finding(word=Word.ALTERED, text=f"{thing}: {text}"))

    def _rows(self, envelope: Envelope) -> None:
        record, rows, body = records_parts(envelope)
        schema = self._start.schemas[record]
        thing = f"{files.RECORDS}/{schema.record}"
        batches = batches_of(body, schema, rows=rows, number=envelope.number)
        if schema == self._trace_record:
            for batch in batches:
                self._trace.update(blocks(batch))
        if thing in self._wrong:
            return
        try:
            stored = self._parts[schema.record].take(rows)
        except _UnreadableError as error:
            path = Path(str(error.args[0])).relative_to(self._directory)
            self._differs(thing, f"{path.name} is no Parquet of this record")
            return
        if self._receiving and stored.num_rows < rows:
            self._wrong.add(thing)  # the rest is not written yet: said once, as a note
            batches = []
        elif stored.num_rows < rows:
            self._differs(thing, f"rows of envelope {envelope.number} are missing")
        elif not stored.equals(pa.Table.from_batches(batches, stored.schema)):
            self._differs(thing, f"other rows than envelope {envelope.number} has")

    def _rest(self) -> None:
        for schema in self._start.schemas:
            thing = f"{files.RECORDS}/{schema.record}"
            if thing in self._wrong:
                continue
            try:
                more = self._parts[schema.record].take(1).num_rows
            except _UnreadableError:
                more = 1
            if more:
                self._surplus(thing, "more rows than the envelopes have")

    def _surplus(self, thing: str, text: str) -> None:
        if self._broken:
            self.warnings.append(f"{thing}: {text}")
        else:
            self._differs(thing, text)

    def _lines(self, name: str, expected: _Lines) -> None:
        path = self._directory / name
        if not path.is_file():
            self._differs(name, "is not there")
        elif not expected.begin(path):
            self._differs(name, "says something else than the envelopes")
        elif path.stat().st_size > expected.length:
            self._surplus(name, "more lines than the envelopes give")

    def _strangers(self) -> None:
        """Files under records/ that nothing accounts for."""
        known = {schema.record for schema in self._start.schemas}
        for path in sorted((self._directory / files.RECORDS).glob("**/*")):
            where = path.relative_to(self._directory / files.RECORDS)
            if path.is_dir() and len(where.parts) == 1 and where.name in known:
                continue
            hidden = path.name.startswith(".part-") and path.suffix == ".tmp"
            is_part = len(where.parts) == 2 and path in files.parts(self._directory, where.parts[0])
            if where.parts[0] not in known or not (hidden or is_part):
                self._differs(f"{files.RECORDS}/{where}", "no envelope accounts for it")

    def _compare(self, manifest: Manifest, verdict: Verdict) -> None:
        start = self._start
        said = (manifest.run, manifest.fingerprint, manifest.bundle, manifest.policy, manifest.image)
        said_more = (manifest.tier, manifest.started_ns, manifest.schemas)
        if said != (start.run, verdict.fingerprint, start.bundle, start.policy, start.image) or said_more != (
            start.tier.value,
            start.started_ns,
            start.schemas,
        ):
            self._differs(files.MANIFEST, "describes another run than the start statement")
        if self._receiving:
            return
        total = verdict.attested + verdict.unattested
        if self._broken and (manifest.attested > verdict.attested or manifest.envelopes > total):
            self._surplus(files.MANIFEST, f"the receiver had {manifest.envelopes} envelopes")
            return
        ends = (Word.WHOLE.value, Word.ABORTED.value)
        told = {manifest.verdict, verdict.word.value}
        # The receiver may not have seen what a broken stream suffered; only of an end it cannot have dreamt.
        comparable = not self._broken or verdict.word is Word.TRUNCATED
        if (comparable and len(told) > 1 and not told.isdisjoint(ends)) or manifest.state != "finished":
            self._differs(files.MANIFEST, "tells another end than the envelopes")
        counted = (manifest.rows, manifest.counters, manifest.attested)
        more = manifest.envelopes != total and not self._broken
        if counted != (verdict.rows, verdict.counters, verdict.attested) or more:
            self._differs(files.MANIFEST, "counts other rows, packets or envelopes than the statements")
        hashes = (manifest.heartbeats_sha256, manifest.diagnostics_sha256)
        if hashes != (self._heartbeats.sha256, self._diagnostics.sha256):
            self._differs(files.MANIFEST, "has other hashes of the lines than the envelopes give")
        self._compare_parts(manifest)
        self.warnings += [f"the receiver found: {harmless(finding)}" for finding in manifest.findings]

    def _compare_parts(self, manifest: Manifest) -> None:
        there = {
            str(path.relative_to(self._directory))
            for schema in self._start.schemas
            for path in files.parts(self._directory, schema.record)
        }
        if {part.file for part in manifest.parts} != there or len(manifest.parts) != len(there):
            self._differs(files.MANIFEST, "lists other parts than there are")
            return
        for part in manifest.parts:
            path = self._directory / part.file
            with suppress(pa.ArrowException, OSError):
                if files.file_digest(path) == part.sha256 and pq.read_metadata(path).num_rows == part.rows:
                    continue
            self._differs(files.MANIFEST, "lists a part that is not there as it was written")
