"""A worker's pipe: records, faults and commits as frames.

Rules of this file:
1. What is written counts only once the turn's commit follows; nothing is written twice within a turn.
2. A turn's records are bounded: what goes beyond is destroyed and counted.

Limits: RECORD_FRAME_BYTES, RECORD_ROWS, TURN_RECORD_BYTES.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from bunker import limits
from bunker.closed.analyze.dispatch import AnalyzerFailed
from bunker.closed.process import frames
from bunker.closed.process.hand import Phase, Word
from bunker.model.counters import Counter, CounterPage
from bunker.model.fields import RecordSchema
from bunker.native.wire import Batch, Hand

_TOP = (1 << 63) - 1


@dataclass(slots=True)
class Counts:
    """A worker's counters before they are published: a turn that never happened must not have been counted.

    Invariants:
        What is published only grows where its counter does, over all workers of the lane.
    """

    values: dict[Counter, int] = field(default_factory=lambda: dict.fromkeys(Counter, 0))

    def add(self, counter: Counter, amount: int) -> None:
        """Count `amount` more."""
        self.values[counter] = min(self.values[counter] + amount, _TOP)

    def packed(self) -> bytes:
        """For the ledger."""
        return b"".join(value.to_bytes(8, "little") for value in self.values.values())

    def unpack(self, packed: bytes) -> None:
        """As `packed` has them."""
        words = memoryview(packed).cast("Q")
        self.values = dict(zip(Counter, words, strict=True))

    def publish(self, page: CounterPage) -> None:
        """Make them the page's."""
        for counter, value in self.values.items():
            page.set(counter, value)


@dataclass(slots=True)
class PipeOutput:
    """Records and faults of the dispatcher, as frames into the worker's pipe."""

    fd: int
    records_by_name: dict[str, int]
    analyzers_by_name: dict[str, int]
    counts: Counts
    hand: Hand
    crossing: Mapping[str, RecordSchema]
    """The records as the gate takes them: what it does not read stays here."""
    turn_bytes: int = 0
    _faults: bytearray = field(default_factory=bytearray)

    def records(self, schema: RecordSchema, batch: Batch) -> None:
        """Write the columns of a batch that cross, cut where a frame would be longer than the releaser takes."""
        self._records(schema.name, batch.select([field.name for field in self.crossing[schema.name].fields]))

    def _records(self, record: str, batch: Batch) -> None:
        ipc = batch.ipc() if batch.num_rows <= limits.RECORD_ROWS.default else b""
        if batch.num_rows > 1 and (not ipc or len(ipc) > limits.RECORD_FRAME_BYTES.default):
            half = batch.num_rows // 2
            self._records(record, batch.slice(0, half))
            self._records(record, batch.slice(half, batch.num_rows - half))
            return
        self.counts.add(Counter.RECORDS_EMITTED, batch.num_rows)
        if self.turn_bytes + len(ipc) > limits.TURN_RECORD_BYTES.default:
            self.counts.add(Counter.RECORDS_DESTROYED, batch.num_rows)
            return
        self.turn_bytes += len(ipc)
        for piece in frames.records_frame(self.records_by_name[record], ipc):
            self._write(piece)

    def event(self, kind: frames.EventKind, *numbers: int) -> None:
        """Report what concerns the lane."""
        first, second, third = numbers
        self._write(frames.event_frame(frames.Event(kind=kind, numbers=(first, second, third))))

    def fault(self, failed: AnalyzerFailed) -> None:
        """Count and report a fault: written with the turn, since an analyzer has the word now."""
        self.counts.add(Counter.ANALYZER_FAULTS, 1)
        self._faults += frames.fault_frame(failed, self.analyzers_by_name[failed.analyzer])

    def commit(self, position: tuple[int, int, int, int]) -> None:
        """The turn is complete."""
        if self._faults:
            self._write(bytes(self._faults))
            self._faults.clear()
        self._write(frames.commit_frame(position))
        self.turn_bytes = 0

    def ended(self) -> None:
        """Say that there is nothing more."""
        self._write(frames.ended_frame())

    def _write(self, piece: bytes) -> None:
        self.hand.set(Word.PHASE, Phase.WRITING)
        view = memoryview(piece)
        while view:
            view = view[os.write(self.fd, view) :]
