"""What a worker writes into its one pipe, and how the releaser cuts it up again.

Rules of this file:
1. A frame is: kind (1 byte), record number (u16, little endian), length (u32), body. Lengths are checked before
   anything is kept.
2. Kinds: RECORDS (body: one Arrow IPC stream of the record's schema), FAULT and EVENT (fixed numbers only), COMMIT
   (how far the lane is: what stands before it counts, what is not followed by one never happened), ENDED (empty body,
   last).
3. The reader trusts nothing: a frame that breaks a rule poisons the pipe, and the releaser reads no more of it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from bunker import limits
from bunker.closed.analyze.dispatch import AnalyzerFailed
from bunker.errors import GateRefusal

_HEAD = struct.Struct("<BHI")
_FAULT = struct.Struct("<HHIB")
_EVENT = struct.Struct("<BQQQ")
_COMMIT = struct.Struct("<QQQQ")


class FrameKind(IntEnum):
    """What a frame holds."""

    RECORDS = 1
    FAULT = 2
    ENDED = 3
    EVENT = 4
    COMMIT = 5


class EventKind(IntEnum):
    """What happened on the lane; the three numbers of an event mean what stands here."""

    GAP = 1
    """Packets lost, their bytes (0 if the kernel dropped them), duration in ns."""
    BLOCK_REFUSED = 2
    """Number of the block, its packets, place in REFUSALS."""
    WORKER_RESTARTED = 4
    """Restarts of this lane so far, place in CAUSES, 0."""
    INTERFACE = 6
    """1: packets come again, 0: it is down; 0; 0."""
    CLOCK_STEPPED = 7
    """By how many ns the wall clock was set, 1 if backwards, 0."""
    FLOW_LEFT_OUT = 5
    """Flows, place in CAUSES, 0."""
    CAPTURE_FILE_DAMAGED = 3
    """Number of the file, offset in bytes, place in DAMAGES."""


_FIXED = {
    FrameKind.FAULT: _FAULT.size,
    FrameKind.EVENT: _EVENT.size,
    FrameKind.COMMIT: _COMMIT.size,
    FrameKind.ENDED: 0,
}


# Why a block was refused (`SpoolReader.unseal`) and why a capture file ended early (the core's words): sent as numbers.
REFUSALS = ("other", "wrong_lane", "replayed", "no_such_place", "erased", "truncated", "unreadable", "not_authentic")
DAMAGES = (
    "other",
    "truncated",
    "bad_length",
    "bad_interface",
    "bad_version",
    "bad_compression",
    "not_a_capture",
    "unreadable",
)


# Why a worker died or a flow was left out (words of `diagnostics.Reason`).
CAUSES = ("other", "memory", "time", "exited", "killed", "crashed", "key_gone", "size")


# Exceptions that a fault may name. A worker sends the number, so that no text can pass; anything else is "Exception".
EXCEPTIONS = (
    "Exception",
    "CallTimedOut",
    "ArithmeticError",
    "AssertionError",
    "AttributeError",
    "BlockingIOError",
    "BrokenPipeError",
    "EOFError",
    "FileNotFoundError",
    "FloatingPointError",
    "ImportError",
    "IndexError",
    "KeyError",
    "LookupError",
    "MemoryError",
    "ModuleNotFoundError",
    "NameError",
    "NotImplementedError",
    "OSError",
    "OverflowError",
    "PermissionError",
    "RecursionError",
    "ReferenceError",
    "RuntimeError",
    "StopIteration",
    "SyntaxError",
    "SystemError",
    "TimeoutError",
    "TypeError",
    "UnboundLocalError",
    "UnicodeDecodeError",
    "UnicodeEncodeError",
    "UnicodeError",
    "ValueError",
    "ZeroDivisionError",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """A batch of record number `record`, not yet checked."""

    record: int
    ipc: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An analyzer failed: its number in the bundle, which exception of EXCEPTIONS, line, and whether it cost a flow."""

    analyzer: int
    exception: int
    line: int
    cost_flow: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEnded:
    """The worker has written everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that concerns the lane, in numbers."""

    kind: EventKind
    numbers: tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """A turn is complete. The numbers are the worker's own (turn, pass, message, packets of the next block): the
    releaser hands the last ones to the worker's successor."""

    position: tuple[int, int, int, int]


Frame = Records | Fault | WorkerEnded | Event | Committed


def records_frame(record: int, ipc: bytes) -> tuple[bytes, bytes]:
    """Head and body of a RECORDS frame (two pieces, so that the body is not copied)."""
    return _HEAD.pack(FrameKind.RECORDS, record, len(ipc)), ipc


def fault_frame(failed: AnalyzerFailed, analyzer: int) -> bytes:
    """A FAULT frame."""
    exception = EXCEPTIONS.index(failed.exception) if failed.exception in EXCEPTIONS else 0
    body = _FAULT.pack(analyzer, exception, min(failed.line, 0xFFFF_FFFF), failed.flow is not None)
    return _HEAD.pack(FrameKind.FAULT, 0, len(body)) + body


def event_frame(event: Event) -> bytes:
    """An EVENT frame."""
    body = _EVENT.pack(event.kind, *event.numbers)
    return _HEAD.pack(FrameKind.EVENT, 0, len(body)) + body


def commit_frame(position: tuple[int, int, int, int]) -> bytes:
    """A COMMIT frame."""
    return _HEAD.pack(FrameKind.COMMIT, 0, _COMMIT.size) + _COMMIT.pack(*position)


def ended_frame() -> bytes:
    """An ENDED frame."""
    return _HEAD.pack(FrameKind.ENDED, 0, 0)


class FrameReader:
    """Cuts bytes of one worker's pipe into frames.

    Invariants:
        Holds at most one frame of RECORD_FRAME_BYTES and what one `feed` brought.
        After a refusal it stays refused.
    """

    def __init__(self, *, records: int, analyzers: int) -> None:
        self._records = records
        self._analyzers = analyzers
        self._held = bytearray()
        self._refused: str | None = None
        self._ended = False

    @property
    def ended(self) -> bool:
        """The worker said that it has written everything."""
        return self._ended

    def feed(self, piece: bytes) -> Iterator[Frame]:
        """Frames that are complete now.

        Raises:
            GateRefusal: "frame_kind", "frame_record", "frame_length", "frame_after_end", "frame_fault".
        """
        if self._refused is not None:
            raise GateRefusal(self._refused)
        self._held += piece
        start = 0
        try:
            while len(self._held) - start >= _HEAD.size:
                kind, record, length = _HEAD.unpack_from(self._held, start)
                self._check(kind, record, length)
                end = start + _HEAD.size + length
                if len(self._held) < end:
                    break
                yield self._frame(kind, record, bytes(memoryview(self._held)[start + _HEAD.size : end]))
                start = end
        finally:
            del self._held[:start]

    def _refuse(self, kind: str) -> GateRefusal:
        self._refused = kind
        return GateRefusal(kind)

    def _check(self, kind: int, record: int, length: int) -> None:
        if self._ended:
            raise self._refuse("frame_after_end")
        if kind == FrameKind.RECORDS:
            if record >= self._records:
                raise self._refuse("frame_record")
            if not 0 < length <= limits.RECORD_FRAME_BYTES.default:
                raise self._refuse("frame_length")
        elif kind in _FIXED:
            if length != _FIXED[FrameKind(kind)] or record:
                raise self._refuse("frame_length")
        else:
            raise self._refuse("frame_kind")

    def _frame(self, kind: int, record: int, body: bytes) -> Frame:
        if kind == FrameKind.RECORDS:
            return Records(record=record, ipc=body)
        if kind == FrameKind.ENDED:
            self._ended = True
            return WorkerEnded()
        if kind == FrameKind.COMMIT:
            return Committed(position=_COMMIT.unpack(body))
        if kind == FrameKind.EVENT:
            event, *numbers = _EVENT.unpack(body)
            if event not in iter(EventKind) or max(numbers) >= 1 << 63:
                raise self._refuse("frame_fault")
            return Event(kind=EventKind(event), numbers=(numbers[0], numbers[1], numbers[2]))
        analyzer, exception, line, cost_flow = _FAULT.unpack(body)
        if analyzer >= self._analyzers or exception >= len(EXCEPTIONS) or cost_flow > 1:
            raise self._refuse("frame_fault")
        return Fault(analyzer=analyzer, exception=exception, line=line, cost_flow=bool(cost_flow))
