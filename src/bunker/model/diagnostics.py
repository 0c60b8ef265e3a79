"""Diagnostics: what a box may say about its troubles, a closed vocabulary of events with a small typed payload.

Place in the flow: stages and processes count and report ▶ the releaser lists ▶ envelopes of diagnostics.

Rules of this file:
1. An event is a kind, a time, and fields that its kind allows (`SHAPES`): bounded integers, words of `Reason`, the name
   of an analyzer that the bundle declares, the class of an exception that Python itself defines. No field takes text.
2. The maker refuses what the shape does not allow; the reader of the open box applies the same function, so a broken
   box is found.
"""

from __future__ import annotations

import builtins
import re
from enum import StrEnum
from typing import Final

import msgspec

from bunker import limits
from bunker.errors import VerificationError

_ANALYZER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_TOP: Final = (1 << 63) - 1

EXCEPTIONS: Final[frozenset[str]] = frozenset(
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
) | {"CallTimedOut"}
"""Classes that an event may name; any other is named "Exception", because a class's name could carry traffic."""


class DiagnosticKind(StrEnum):
    """What happened."""

    ANALYZER_FAILED = "analyzer_failed"
    WORKER_RESTARTED = "worker_restarted"
    FLOW_LEFT_OUT = "flow_left_out"
    SPOOL_FULL = "spool_full"
    GAP = "gap"
    BLOCK_REFUSED = "block_refused"
    GATE_REFUSED = "gate_refused"
    CAPTURE_FILE_DAMAGED = "capture_file_damaged"
    INTERFACE_DOWN = "interface_down"
    INTERFACE_UP = "interface_up"
    LIMIT_REACHED = "limit_reached"
    EGRESS_LOST = "egress_lost"
    EGRESS_BACK = "egress_back"
    RECORDS_DESTROYED = "records_destroyed"
    CLOCK_STEPPED = "clock_stepped"
    CHILD_ENDED = "child_ended"
    EVENTS_OMITTED = "events_omitted"


class Reason(StrEnum):
    """Why, where a kind has more than one cause."""

    FRAME_KIND = "frame_kind"
    FRAME_RECORD = "frame_record"
    FRAME_LENGTH = "frame_length"
    FRAME_AFTER_END = "frame_after_end"
    FRAME_FAULT = "frame_fault"
    SCHEMA = "schema"
    MALFORMED = "malformed"
    TRAILING_BYTES = "trailing_bytes"
    UNKNOWN_RECORD = "unknown_record"
    BAD_VALUE = "bad_value"
    CELL_TOO_LONG = "cell_too_long"
    TOO_MANY_ROWS = "too_many_rows"
    TOO_LARGE = "too_large"
    FORGOTTEN = "forgotten"
    SIZE = "size"
    OUTPUT_RATIO = "output_ratio"
    AUTHENTICATION = "authentication"
    KEY_GONE = "key_gone"
    TRUNCATED = "truncated"
    BAD_LENGTH = "bad_length"
    BAD_INTERFACE = "bad_interface"
    BAD_VERSION = "bad_version"
    BAD_COMPRESSION = "bad_compression"
    NOT_A_CAPTURE = "not_a_capture"
    UNREADABLE = "unreadable"
    REPLAYED = "replayed"
    WRONG_LANE = "wrong_lane"
    NO_SUCH_PLACE = "no_such_place"
    MEMORY = "memory"
    TIME = "time"
    EXITED = "exited"
    KILLED = "killed"
    CRASHED = "crashed"
    PIPE_CLOSED = "pipe_closed"
    OTHER = "other"

    @classmethod
    def of(cls, word: str) -> Reason:
        """The reason with this word, OTHER if there is none."""
        return _REASONS.get(word, cls.OTHER)


_REASONS: dict[str, Reason] = {str(reason.value): reason for reason in Reason}


class Diagnostic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One event. Make it with `event`; fields that its kind does not have are absent."""

    kind: DiagnosticKind
    at_ns: int
    """Box time, nanoseconds since the epoch, UTC, as claimed."""
    lane: int | None = None
    count: int | None = None
    size: int | None = None
    """Bytes."""
    offset: int | None = None
    """Bytes from the start of a capture file; the file by `number`."""
    number: int | None = None
    """Of a file, a block, a flow, a limit, a record kind: what `SHAPES` says."""
    duration_ns: int | None = None
    analyzer: str | None = None
    exception: str | None = None
    line: int | None = None
    reason: Reason | None = None


_K = DiagnosticKind
SHAPES: Final[dict[DiagnosticKind, frozenset[str]]] = {
    _K.ANALYZER_FAILED: frozenset({"lane", "analyzer", "exception", "line", "count"}),
    _K.WORKER_RESTARTED: frozenset({"lane", "count", "reason"}),
    _K.FLOW_LEFT_OUT: frozenset({"lane", "count", "reason"}),
    _K.SPOOL_FULL: frozenset({"lane"}),
    _K.GAP: frozenset({"lane", "count", "size", "duration_ns"}),
    _K.BLOCK_REFUSED: frozenset({"lane", "number", "count", "reason"}),
    _K.GATE_REFUSED: frozenset({"lane", "number", "count", "reason"}),
    _K.CAPTURE_FILE_DAMAGED: frozenset({"number", "offset", "reason"}),
    _K.INTERFACE_DOWN: frozenset(),
    _K.INTERFACE_UP: frozenset(),
    _K.LIMIT_REACHED: frozenset({"lane", "number", "count"}),
    _K.EGRESS_LOST: frozenset({"size"}),
    _K.EGRESS_BACK: frozenset({"duration_ns"}),
    _K.RECORDS_DESTROYED: frozenset({"number", "count"}),
    _K.CLOCK_STEPPED: frozenset({"duration_ns"}),
    _K.CHILD_ENDED: frozenset({"lane", "reason"}),
    _K.EVENTS_OMITTED: frozenset({"count"}),
}
_NUMBERS = ("lane", "count", "size", "offset", "number", "duration_ns", "line")
_PAYLOAD = (*_NUMBERS, "analyzer", "exception", "reason")


def _shaped(event: Diagnostic) -> bool:
    allowed = SHAPES[event.kind]
    if any(getattr(event, name) is not None and name not in allowed for name in _PAYLOAD):
        return False
    low = -_TOP if event.kind is DiagnosticKind.CLOCK_STEPPED else 0
    numbers = [getattr(event, name) for name in _NUMBERS]
    if not all(value is None or low <= value <= _TOP for value in numbers) or not 0 <= event.at_ns <= _TOP:
        return False
    if event.analyzer is not None and not _ANALYZER.fullmatch(event.analyzer):
        return False
    # The reader may run another Python: it knows the shape of a class's name, the maker below knows the names.
    return event.exception is None or _ANALYZER.fullmatch(event.exception) is not None


def event(
    kind: DiagnosticKind,
    *,
    at_ns: int,
    lane: int | None = None,
    count: int | None = None,
    size: int | None = None,
    offset: int | None = None,
    number: int | None = None,
    duration_ns: int | None = None,
    analyzer: str | None = None,
    exception: str | None = None,
    line: int | None = None,
    reason: Reason | None = None,
) -> Diagnostic:
    """One event, checked against its kind's shape.

    An exception that Python does not define becomes "Exception".

    Raises:
        ValueError: a field that this kind does not have, or a value out of its bounds (a bug of the caller).
    """
    if exception is not None and exception not in EXCEPTIONS:
        exception = "Exception"
    made = Diagnostic(
        kind=kind,
        at_ns=at_ns,
        lane=lane,
        count=count,
        size=size,
        offset=offset,
        number=number,
        duration_ns=duration_ns,
        analyzer=analyzer,
        exception=exception,
        line=line,
        reason=reason,
    )
    if not _shaped(made):
        raise ValueError(f"diagnostic {kind.value}: a field that this kind does not have, or out of bounds")
    return made


def encode(events: list[Diagnostic]) -> bytes:
    """Canonical JSON of a list of events: the body of an envelope of diagnostics.

    Raises:
        ValueError: more than DIAGNOSTICS_EVENTS, or none.
    """
    if not 0 < len(events) <= limits.DIAGNOSTICS_EVENTS.default:
        raise ValueError("diagnostics: an envelope holds 1 to DIAGNOSTICS_EVENTS events")
    return msgspec.json.encode(events, order="sorted")


def decode(body: bytes | memoryview) -> list[Diagnostic]:
    """The events of a body.

    Raises:
        VerificationError: not canonical, not of a known shape, or too many.
    """
    try:
        events = msgspec.json.decode(body, type=list[Diagnostic])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise VerificationError("diagnostics: not readable") from None
    if not 0 < len(events) <= limits.DIAGNOSTICS_EVENTS.default or not all(map(_shaped, events)):
        raise VerificationError("diagnostics: a rule is broken")
    if encode(events) != bytes(body):
        raise VerificationError("diagnostics: not canonical")
    return events
