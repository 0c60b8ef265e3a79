"""Envelopes: makes the run's one stream out of cleared batches, heartbeats and diagnostics, and out of nothing else.

Place in the flow: clear ▶ here ▶ Outlet.

Rules of this file:
1. Records enter as a value of exactly the class that the core's `clear` returns. That class has no constructor in
   Python, so what is in an envelope of records has been cleared in this process.
2. The signing key is made here, dies here, and signs statements of this run alone. It lives in the crypto library's
   memory: not locked by us, but in a process that is not dumpable (`docs/processes.md`).
3. The first envelope is the start, the last the end or the abort; every number in between is used once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bunker.errors import BoxError, GateRefusal
from bunker.model import diagnostics, heartbeat
from bunker.model.attestation import Attestation
from bunker.model.counters import Counter
from bunker.model.envelope import NO_PREVIOUS, RUN_BYTES, EnvelopeRefused, Kind, pack, records_head
from bunker.model.heartbeat import Abort, AbortReason, End, EndReason, Heartbeat, OutputSchema, Start, Tier


class Cleared(Protocol):
    """What egress uses of a `ClearedBatch`."""

    @property
    def record(self) -> str:
        """Name of the record."""

    @property
    def num_rows(self) -> int:
        """Rows."""

    def ipc(self) -> bytes:
        """The batch as an Arrow IPC stream, without metadata and compression."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """What is fixed at the start of a run and stands in its start statement.

    `schemas` are those of the records as they leave, not as analyzers emit them.
    """

    run: bytes
    started_ns: int
    tier: Tier
    bundle: str
    image: str | None
    policy: str
    schemas: tuple[OutputSchema, ...]
    enforcement: dict[str, str]
    heartbeat_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """What a heartbeat says that changes: both clocks, and the counters of all processes."""

    now_ns: int
    monotonic_ns: int
    counters: dict[Counter, int]


class Envelopes:
    """The maker of the stream.

    Args:
        birth: Facts of the run.
        cleared: The class of cleared batches (`bunker._core.ClearedBatch`); no other, and no subclass, passes.
        attest: Asks the machine's TPM to sign what was started together with this hash; None: there is none.
    Raises:
        VerificationError: the facts break a rule of the format (a bug, or an Arrow type that records cannot have).
    Invariants:
        Numbers count up by one; `previous` of each is the hash of the one before.
    """

    def __init__(
        self, birth: Birth, *, cleared: type[Cleared], attest: Callable[[bytes], Attestation] | None = None
    ) -> None:
        assert len(birth.run) == RUN_BYTES
        self._key: Ed25519PrivateKey | None = Ed25519PrivateKey.generate()
        self._public = self._key.public_key().public_bytes_raw()
        self._birth = birth
        self._cleared = cleared
        self._start = Start(
            formats=heartbeat.FORMATS,
            run=birth.run.hex(),
            public_key=self._public.hex(),
            started_ns=birth.started_ns,
            tier=birth.tier,
            bundle=birth.bundle,
            image=birth.image,
            policy=birth.policy,
            schemas=list(birth.schemas),
            enforcement=birth.enforcement,
            heartbeat_ns=birth.heartbeat_ns,
        )
        if attest is not None:
            attestation = attest(heartbeat.attested_hash(self._start))
            self._start = msgspec.structs.replace(self._start, attestation=attestation)
        heartbeat.parse(heartbeat.canonical(self._start), Start)
        self._enforcement = heartbeat.enforcement_digest(birth.enforcement)
        self._records = {schema.record: number for number, schema in enumerate(birth.schemas)}
        self._rows = dict.fromkeys(self._records, 0)
        self._made = {kind.name.lower(): 0 for kind in Kind}
        self._number = 0
        self._previous = NO_PREVIOUS

    @property
    def fingerprint(self) -> str:
        """The public key's fingerprint, for the operator to write down."""
        return heartbeat.fingerprint(self._public)

    @property
    def ended(self) -> bool:
        """The last envelope has been made."""
        return self._key is None

    def start(self) -> bytes:
        """The first envelope."""
        if self._number:
            raise BoxError("egress", "a second start", "This is a bug")
        return self._pack(Kind.START, heartbeat.canonical(self._start))

    def records(self, batch: Cleared) -> bytes:
        """An envelope of one cleared batch.

        Raises:
            GateRefusal: "not_cleared" for what `clear` has not made, "schema" for an undeclared record, "size".
        """
        if type(batch) is not self._cleared:
            raise GateRefusal("not_cleared")
        number = self._records.get(batch.record)
        if number is None:
            raise GateRefusal("schema")
        rows = batch.num_rows
        try:
            envelope = self._pack(Kind.RECORDS, records_head(number, rows), batch.ipc())
        except EnvelopeRefused:
            raise GateRefusal("size") from None
        self._rows[batch.record] += rows
        return envelope

    def heartbeat(self, pulse: Pulse) -> bytes:
        """A signed sign of life over everything before it."""
        return self._pack(Kind.HEARTBEAT, heartbeat.canonical(self._heartbeat(pulse)))

    def diagnostics(self, events: Sequence[diagnostics.Diagnostic]) -> bytes:
        """An envelope of 1 to DIAGNOSTICS_EVENTS events."""
        return self._pack(Kind.DIAGNOSTICS, diagnostics.encode(list(events)))

    def end(self, pulse: Pulse, *, reason: EndReason) -> bytes:
        """The last envelope of a run that ended in order. The key is gone after it."""
        return self._last(Kind.END, heartbeat.canonical(End(reason=reason, last=self._heartbeat(pulse))))

    def abort(self, pulse: Pulse, *, reason: AbortReason) -> bytes:
        """The last envelope of a run that was destroyed. The key is gone after it."""
        return self._last(Kind.ABORT, heartbeat.canonical(Abort(reason=reason, last=self._heartbeat(pulse))))

    def _last(self, kind: Kind, body: bytes) -> bytes:
        envelope = self._pack(kind, body)
        self._key = None
        return envelope

    def _heartbeat(self, pulse: Pulse) -> Heartbeat:
        counters = pulse.counters
        return Heartbeat(
            started_ns=self._birth.started_ns,
            now_ns=pulse.now_ns,
            monotonic_ns=pulse.monotonic_ns,
            bundle=self._birth.bundle,
            image=self._birth.image,
            tier=self._birth.tier,
            enforcement=self._enforcement,
            counters={counter.value: counters.get(counter, 0) for counter in Counter},
            live_raw_bytes=counters.get(Counter.LIVE_RAW_BYTES, 0),
            oldest_raw_age_ns=counters.get(Counter.OLDEST_RAW_AGE_NS, 0),
            keys_created=counters.get(Counter.KEYS_CREATED, 0),
            keys_destroyed=counters.get(Counter.KEYS_DESTROYED, 0),
            chain=self._previous.hex(),
            rows=dict(self._rows),
            envelopes=dict(self._made),
        )

    def _pack(self, kind: Kind, *body: bytes) -> bytes:
        key = self._key
        if key is None or (self._number == 0) is not (kind is Kind.START):
            raise BoxError("egress", "an envelope before the start or after the end", "This is a bug")
        envelope = pack(kind, body, run=self._birth.run, number=self._number, previous=self._previous, sign=key.sign)
        self._previous = hashlib.sha256(envelope).digest()
        self._number += 1
        self._made[kind.name.lower()] += 1
        return envelope
