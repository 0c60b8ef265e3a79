"""Verification of a stream, envelope by envelope, without I/O.

Place in the flow: EnvelopeReader ▶ here ▶ Store, `verify`.

Rules of this file:
1. The trusted state changes only by an envelope that holds in everything; a refused one leaves it as it was.
2. Records and diagnostics are accepted by the chain alone and stay unattested until a signed envelope follows.
3. The start brings the key. A pinned fingerprint decides whether that key is the one expected.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from bunker import limits
from bunker.errors import VerificationError
from bunker.model import diagnostics, heartbeat
from bunker.model.counters import Counter
from bunker.model.diagnostics import Diagnostic
from bunker.model.envelope import NO_PREVIOUS, Envelope, EnvelopeRefused, Kind, Refusal, records_parts
from bunker.model.heartbeat import Abort, End, Heartbeat, OutputSchema, Start
from bunker.open.verdict import REASONS, WORD_OF, Finding, Verdict, Word

_CLOCK_STEP_NS = 2 * 10**9
_WARNINGS = 100

T = TypeVar("T")
Statement = Start | Heartbeat | End | Abort


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What an envelope said. At most one of statement, events and record is set."""

    kind: Kind
    number: int
    statement: Statement | None = None
    events: tuple[Diagnostic, ...] = ()
    record: int | None = None
    rows: int = 0


class StreamVerifier:
    """Follows one run.

    Args:
        pinned: Fingerprints; the run's key must have one of them. None given: the key that comes first is trusted.
    Invariants:
        attested <= accepted; both count envelopes from number 0 without a hole.
    """

    def __init__(self, *, pinned: Sequence[str] = ()) -> None:
        self._pinned = tuple(pinned)
        self._public: Ed25519PublicKey | None = None
        self._previous = NO_PREVIOUS
        self._recent: deque[tuple[bytes, int]] = deque()
        self._recent_bytes = 0
        self._rows: list[int] = []
        self._made = {kind.name.lower(): 0 for kind in Kind}
        self._last: Heartbeat | None = None
        self._ended: End | Abort | None = None
        self._fingerprint: str | None = None
        self.start: Start | None = None
        self.accepted = 0
        self.attested = 0
        self.attested_rows: dict[str, int] = {}
        self.warnings: list[str] = []

    @property
    def ended(self) -> End | Abort | None:
        """The last statement, once it was there."""
        return self._ended

    @property
    def last(self) -> Heartbeat | None:
        """The latest heartbeat (or the one inside the last statement)."""
        return self._last

    @property
    def fingerprint(self) -> str | None:
        """Of the run's key."""
        return self._fingerprint

    def repeated(self, envelope: Envelope) -> bool:
        """Whether this very envelope was accepted before; within what a box repeats after a reconnect."""
        back = self.accepted - envelope.number
        return 0 < back <= len(self._recent) and self._recent[-back][0] == envelope.hash

    def feed(self, envelope: Envelope) -> Accepted:
        """Accept the next envelope.

        Raises:
            EnvelopeRefused: it does not continue the run; nothing has changed.
        """
        self._check_place(envelope)
        if envelope.kind is Kind.START:
            accepted = self._start(envelope)
        elif envelope.kind is Kind.RECORDS:
            accepted = self._records(envelope)
        elif envelope.kind is Kind.DIAGNOSTICS:
            events = tuple(_parsed(envelope, diagnostics.decode))
            accepted = Accepted(kind=envelope.kind, number=envelope.number, events=events)
        else:
            accepted = self._statement(envelope)
        self._advance(envelope)
        return accepted

    def verdict(self, *findings: Finding, unread: int = 0) -> Verdict:
        """What holds, if nothing more comes.

        Args:
            findings: What was found besides; the first one's word counts.
            unread: Envelopes known to be there that were not fed.
        """
        otherwise = Word.TRUNCATED
        if isinstance(self._ended, End):
            otherwise = Word.WHOLE
        elif self._ended is not None:
            otherwise = Word.ABORTED
        if otherwise is Word.TRUNCATED and not findings:
            text = "no end and no abort follows" if self.accepted else "not one whole envelope"
            findings = (Finding(word=Word.TRUNCATED, text=text, first=max(self.accepted - 1, 0)),)
        notes = list(self.warnings)
        if self._fingerprint is not None and not self._pinned:
            notes.append("no key was pinned: whoever made this stream chose its key; compare the fingerprint")
        since = self._last.now_ns if self._last is not None else self.start.started_ns if self.start else None
        return Verdict(
            word=findings[0].word if findings else otherwise,
            findings=findings,
            start=self.start,
            fingerprint=self._fingerprint,
            pinned=bool(self._pinned) and self._fingerprint is not None,
            attested=self.attested,
            unattested=self.accepted - self.attested + unread,
            since_ns=since,
            reason=None if self._ended is None else self._ended.reason.value,
            rows=dict(self.attested_rows),
            counters={} if self._last is None else dict(self._last.counters),
            warnings=tuple(notes),
        )

    def schema(self, record: int) -> OutputSchema:
        """The declared schema of a record that was accepted."""
        assert self.start is not None
        return self.start.schemas[record]

    def _check_place(self, envelope: Envelope) -> None:
        number = envelope.number
        if self.start is not None and envelope.run.hex() != self.start.run:
            raise EnvelopeRefused(Refusal.RUN, number=number)
        if number != self.accepted:
            raise EnvelopeRefused(
                Refusal.NUMBER_AGAIN if number < self.accepted else Refusal.NUMBER_SKIPPED, number=number
            )
        if envelope.previous != self._previous:
            raise EnvelopeRefused(Refusal.CHAIN, number=number)
        if self._ended is not None:
            raise EnvelopeRefused(Refusal.AFTER_LAST, number=number)
        if (number == 0) is not (envelope.kind is Kind.START):
            raise EnvelopeRefused(Refusal.NOT_START, number=number)

    def _advance(self, envelope: Envelope) -> None:
        self._previous = envelope.hash
        self._recent.append((envelope.hash, len(envelope.raw)))
        self._recent_bytes += len(envelope.raw)
        # Twice what a box repeats: the envelope at its boundary comes whole.
        while self._recent_bytes - self._recent[0][1] > 2 * limits.EGRESS_RESEND_BYTES.default:
            self._recent_bytes -= self._recent.popleft()[1]
        self._made[envelope.kind.name.lower()] += 1
        self.accepted += 1
        if envelope.kind.signed:
            self.attested = self.accepted
            self.attested_rows = self._rows_by_name()

    def _rows_by_name(self) -> dict[str, int]:
        assert self.start is not None
        return {schema.record: rows for schema, rows in zip(self.start.schemas, self._rows, strict=True)}

    def _start(self, envelope: Envelope) -> Accepted:
        start = _parsed(envelope, lambda body: heartbeat.parse(body, Start))
        public = bytes.fromhex(start.public_key)
        key = Ed25519PublicKey.from_public_bytes(public)
        _check_signature(envelope, key)
        if start.run != envelope.run.hex():
            raise EnvelopeRefused(Refusal.BODY, number=0)
        fingerprint = heartbeat.fingerprint(public)
        if self._pinned and not any(heartbeat.same_fingerprint(pin, fingerprint) for pin in self._pinned):
            raise EnvelopeRefused(Refusal.KEY, number=0)
        self.start, self._public, self._fingerprint = start, key, fingerprint
        self._rows = [0] * len(start.schemas)
        return Accepted(kind=envelope.kind, number=0, statement=start)

    def _records(self, envelope: Envelope) -> Accepted:
        record, rows, _ = records_parts(envelope)
        if record >= len(self._rows) or rows > limits.RECORD_ROWS.default:
            raise EnvelopeRefused(Refusal.BODY, number=envelope.number)
        self._rows[record] += rows
        return Accepted(kind=envelope.kind, number=envelope.number, record=record, rows=rows)

    def _statement(self, envelope: Envelope) -> Accepted:
        assert self._public is not None
        _check_signature(envelope, self._public)
        statement: Heartbeat | End | Abort
        if envelope.kind is Kind.HEARTBEAT:
            statement = beat = _parsed(envelope, lambda body: heartbeat.parse(body, Heartbeat))
        elif envelope.kind is Kind.END:
            statement = _parsed(envelope, lambda body: heartbeat.parse(body, End))
            beat = statement.last
        else:
            statement = _parsed(envelope, lambda body: heartbeat.parse(body, Abort))
            beat = statement.last
        self._check_beat(envelope.number, beat)
        if isinstance(statement, End):
            _check_end(envelope.number, beat)
        self._warn(envelope.number, beat)
        self._last = beat
        if not isinstance(statement, Heartbeat):
            self._ended = statement
        return Accepted(kind=envelope.kind, number=envelope.number, statement=statement)

    def _check_beat(self, number: int, beat: Heartbeat) -> None:
        start = self.start
        assert start is not None
        constants = (beat.started_ns, beat.bundle, beat.image, beat.tier, beat.enforcement)
        expected = (
            start.started_ns,
            start.bundle,
            start.image,
            start.tier,
            heartbeat.enforcement_digest(start.enforcement),
        )
        if constants != expected or beat.chain != self._previous.hex():
            raise EnvelopeRefused(Refusal.CONSTANTS, number=number)
        if beat.rows != self._rows_by_name() or beat.envelopes != self._made:
            raise EnvelopeRefused(Refusal.COUNTS, number=number)
        last = self._last
        if last is not None and (
            beat.monotonic_ns < last.monotonic_ns
            or beat.keys_created < last.keys_created
            or beat.keys_destroyed < last.keys_destroyed
        ):
            raise EnvelopeRefused(Refusal.BACKWARDS, number=number)

    def _warn(self, number: int, beat: Heartbeat) -> None:
        last = self._last
        if last is None or self.start is None or len(self.warnings) >= _WARNINGS:
            return
        silence = beat.monotonic_ns - last.monotonic_ns
        step = beat.now_ns - last.now_ns - silence
        if abs(step) > _CLOCK_STEP_NS:
            self.warnings.append(f"envelope {number}: the box's clock stepped by {step / 1e9:+.1f} s")
        if silence > 3 * self.start.heartbeat_ns + _CLOCK_STEP_NS:
            self.warnings.append(f"envelope {number}: the first sign of life after {silence / 1e9:.0f} s")
        back = sorted(
            name
            for name, value in beat.counters.items()
            if value < last.counters.get(name, 0)
            and (counter := Counter.maybe(name)) is not None
            and counter.meaning.grows
        )
        if back:
            self.warnings.append(f"envelope {number}: counters went back: {', '.join(back)}")


def finding_of(refused: EnvelopeRefused) -> Finding:
    """A refusal as a finding."""
    return Finding(word=WORD_OF[refused.kind], text=REASONS[refused.kind], first=refused.number)


def _check_signature(envelope: Envelope, key: Ed25519PublicKey) -> None:
    try:
        key.verify(envelope.signature, bytes(envelope.signed_part))
    except InvalidSignature:
        raise EnvelopeRefused(Refusal.SIGNATURE, number=envelope.number) from None


def _check_end(number: int, beat: Heartbeat) -> None:
    if heartbeat.imbalance(beat.counters) or beat.live_raw_bytes or beat.keys_created != beat.keys_destroyed:
        raise EnvelopeRefused(Refusal.BALANCE, number=number)


def _parsed(envelope: Envelope, parse: Callable[[memoryview], T]) -> T:
    try:
        return parse(envelope.body)
    except VerificationError:
        raise EnvelopeRefused(Refusal.BODY, number=envelope.number) from None
