"""The envelope: the unit of what leaves the closed box, as bytes and as a value.

Place in the flow: closed.egress makes envelopes ▶ one descriptor ▶ open.* reads them.
Both sides know this file alone of each other.

Rules of this file:
1. The layout is `docs/formats/envelope.md`, version 1; another version is refused.
2. `pack` is the only writer, `EnvelopeReader` the only reader. The reader believes a length only after the header's
   check fits.
3. An error names which rule was broken, and the number; never content.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from functools import cached_property

from bunker import limits
from bunker.errors import VerificationError

MAGIC = b"BNKE"
SEALED_MAGIC = b"BNKS"
"""Of a wrapping for a remote open box (`bunker.model.sealing`)."""
VERSION = 1
RUN_BYTES = 16
SIGNATURE_BYTES = 64
NO_PREVIOUS = bytes(32)

_HEAD = struct.Struct("<4sHBB16sQI32s")
_CHECK = struct.Struct("<I")
HEADER_BYTES = _HEAD.size + _CHECK.size
_RECORDS_HEAD = struct.Struct("<HHI")


class Kind(IntEnum):
    """What an envelope holds."""

    START = 1
    RECORDS = 2
    HEARTBEAT = 3
    DIAGNOSTICS = 4
    END = 5
    ABORT = 6

    @property
    def signed(self) -> bool:
        """Whether an envelope of this kind carries a signature."""
        return self not in (Kind.RECORDS, Kind.DIAGNOSTICS)

    @property
    def last(self) -> bool:
        """Whether nothing may follow."""
        return self in (Kind.END, Kind.ABORT)

    @property
    def most(self) -> int:
        """The longest body, bytes."""
        if self is Kind.RECORDS:
            return limits.ENVELOPE_RECORDS_BYTES.default
        return limits.ENVELOPE_STATEMENT_BYTES.default


class Refusal(StrEnum):
    """Why an envelope was refused; `bunker.open.verdict` sorts these under the words of a verdict."""

    MAGIC = "magic"
    SEALED = "sealed"
    VERSION = "version"
    HEADER_CHECK = "header_check"
    HEADER = "header"
    LENGTH = "length"
    CHECK = "check"
    RUN = "run"
    NUMBER_AGAIN = "number_again"
    NUMBER_SKIPPED = "number_skipped"
    CHAIN = "chain"
    NOT_START = "not_start"
    AFTER_LAST = "after_last"
    SIGNATURE = "signature"
    KEY = "key"
    BODY = "body"
    COUNTS = "counts"
    CONSTANTS = "constants"
    BACKWARDS = "backwards"
    BALANCE = "balance"


class EnvelopeRefused(VerificationError):  # noqa: N818 - named in the past tense, as events are
    """An envelope that does not continue the stream. `number` is the envelope's, or the one that was expected."""

    def __init__(self, kind: Refusal, *, number: int, detail: str = "") -> None:
        self.kind, self.number, self.detail = kind, number, detail
        super().__init__(f"envelope {number}: {kind.value}{f' ({detail})' if detail else ''}")


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """One whole envelope whose checks fit. Nothing is said about chain and signature.

    Invariants:
        raw is header, body, signature if the kind is signed, check.
    """

    kind: Kind
    run: bytes
    number: int
    previous: bytes
    raw: bytes = field(repr=False)

    @cached_property
    def hash(self) -> bytes:
        """SHA-256 of the whole envelope: the next one's `previous`."""
        return hashlib.sha256(self.raw).digest()

    @property
    def _body_end(self) -> int:
        return len(self.raw) - _CHECK.size - (SIGNATURE_BYTES if self.kind.signed else 0)

    @property
    def body(self) -> memoryview:
        """The body."""
        return memoryview(self.raw)[HEADER_BYTES : self._body_end]

    @property
    def signed_part(self) -> memoryview:
        """What a signature is made over: header and body."""
        return memoryview(self.raw)[: self._body_end]

    @property
    def signature(self) -> bytes:
        """The signature; empty for a kind that has none."""
        return self.raw[self._body_end : -_CHECK.size]


def pack(
    kind: Kind,
    body: tuple[bytes, ...],
    *,
    run: bytes,
    number: int,
    previous: bytes,
    sign: Callable[[bytes], bytes],
) -> bytes:
    """The bytes of an envelope.

    Args:
        body: The body in pieces, so that a batch is copied once.
        sign: Called with header and body for a signed kind; answers 64 bytes.
    Raises:
        EnvelopeRefused: the body is longer than its kind may be.
    """
    length = sum(len(piece) for piece in body)
    if length > kind.most:
        raise EnvelopeRefused(Refusal.LENGTH, number=number)
    head = _HEAD.pack(MAGIC, VERSION, kind, 0, run, number, length, previous)
    pieces = [head, _CHECK.pack(zlib.crc32(head)), *body]
    if kind.signed:
        pieces.append(sign(b"".join(pieces)))
    check = 0
    for piece in pieces:
        check = zlib.crc32(piece, check)
    pieces.append(_CHECK.pack(check))
    return b"".join(pieces)


def records_head(record: int, rows: int) -> bytes:
    """The first bytes of the body of an envelope of records."""
    return _RECORDS_HEAD.pack(record, 0, rows)


def records_parts(envelope: Envelope) -> tuple[int, int, memoryview]:
    """(record, rows, Arrow IPC stream) of an envelope of records.

    Raises:
        EnvelopeRefused: the body is too short or its reserved field is not zero.
    """
    body = envelope.body
    if len(body) < _RECORDS_HEAD.size:
        raise EnvelopeRefused(Refusal.BODY, number=envelope.number)
    record, reserved, rows = _RECORDS_HEAD.unpack_from(body)
    if reserved:
        raise EnvelopeRefused(Refusal.BODY, number=envelope.number)
    return record, rows, body[_RECORDS_HEAD.size :]


class EnvelopeReader:
    """Cuts a stream of bytes into envelopes.

    Invariants:
        Holds at most one envelope and what one `feed` brought.
        After a refusal it stays refused.
        Feeding the same bytes in other pieces gives the same envelopes.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._refused: EnvelopeRefused | None = None
        self._next = 0

    @property
    def waiting(self) -> int:
        """Bytes of an envelope that is not complete."""
        return len(self._held)

    def claimed(self) -> tuple[Kind, bytes] | None:
        """Kind and run of the envelope that is not complete, once its header is; to turn a stranger away early.

        Only after a `feed` has been iterated to its end.
        """
        if self._refused is not None or len(self._held) < HEADER_BYTES:
            return None
        _, _, kind, _, run, _, _, _ = _HEAD.unpack_from(self._held)
        return Kind(kind), run

    def feed(self, piece: bytes | memoryview) -> Iterator[Envelope]:
        """The envelopes that are complete now.

        Raises:
            EnvelopeRefused: MAGIC, SEALED, VERSION, HEADER_CHECK, HEADER, LENGTH, CHECK.
        """
        if self._refused is not None:
            raise self._refused
        self._held += piece
        start = 0
        try:
            while True:
                length = self._length(start)
                if length is None or len(self._held) - start < length:
                    return
                envelope = self._envelope(start, length)
                start += length
                self._next = envelope.number + 1
                yield envelope
        except EnvelopeRefused as refused:
            self._refused = refused
            raise
        finally:
            del self._held[:start]

    def _refuse(self, kind: Refusal) -> EnvelopeRefused:
        return EnvelopeRefused(kind, number=self._next)

    def _length(self, start: int) -> int | None:
        """Length of the envelope at `start`; None if its header is not complete."""
        had = len(self._held) - start
        if not MAGIC.startswith(self._held[start : start + 4]):
            sealed = self._held[start : start + 4] == SEALED_MAGIC
            raise self._refuse(Refusal.SEALED if sealed else Refusal.MAGIC)
        if had < HEADER_BYTES:
            return None
        (check,) = _CHECK.unpack_from(self._held, start + _HEAD.size)
        if check != zlib.crc32(memoryview(self._held)[start : start + _HEAD.size]):
            raise self._refuse(Refusal.HEADER_CHECK)
        _, version, kind, reserved, _, _, length, _ = _HEAD.unpack_from(self._held, start)
        if version != VERSION:
            raise self._refuse(Refusal.VERSION)
        if reserved or kind not in Kind.__members__.values():
            raise self._refuse(Refusal.HEADER)
        if length > Kind(kind).most:
            raise self._refuse(Refusal.LENGTH)
        return HEADER_BYTES + int(length) + (SIGNATURE_BYTES if Kind(kind).signed else 0) + _CHECK.size

    def _envelope(self, start: int, length: int) -> Envelope:
        raw = bytes(memoryview(self._held)[start : start + length])
        (check,) = _CHECK.unpack_from(raw, length - _CHECK.size)
        if check != zlib.crc32(memoryview(raw)[: -_CHECK.size]):
            raise self._refuse(Refusal.CHECK)
        _, _, kind, _, run, number, _, previous = _HEAD.unpack_from(raw)
        return Envelope(kind=Kind(kind), run=run, number=number, previous=previous, raw=raw)
