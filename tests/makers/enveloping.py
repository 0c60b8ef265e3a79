"""Real streams for tests: a policy, its gate, batches as a worker writes them, cleared and put into envelopes.

Everything here goes through the program's own objects; streams that break a rule on purpose are `forging.py`.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from bunker.closed.egress.birth import output_schemas
from bunker.closed.egress.envelopes import Birth, Envelopes, Pulse
from bunker.closed.egress.outlet import Outlet, OutletState
from bunker.model import diagnostics
from bunker.model.counters import Counter
from bunker.model.diagnostics import Diagnostic, DiagnosticKind, Reason
from bunker.model.envelope import Envelope, EnvelopeReader
from bunker.model.fields import Field, FieldType, RecordSchema
from bunker.model.heartbeat import AbortReason, EndReason, OutputSchema, Tier
from bunker.native.clear import ClearedBatch, Gate
from bunker.native.wire import RecordBuilder
from bunker.policy.load import policy_of

SECOND_NS = 10**9
STARTED_NS = 1_700_000_000 * SECOND_NS
CANARY = "canary-7f3a.example"

VISIT = RecordSchema(
    name="visit",
    fields=(
        Field(name="ts", type=FieldType.TIME),
        Field(name="client", type=FieldType.ADDRESS),
        Field(name="site", type=FieldType.HOST, nullable=True),
        Field(name="took", type=FieldType.DURATION, nullable=True),
        Field(name="size", type=FieldType.BYTES),
        Field(name="score", type=FieldType.SCORE, nullable=True),
        Field(name="secure", type=FieldType.FLAG),
        Field(name="answers", type=FieldType.ADDRESS_LIST, nullable=True),
    ),
)
SIGHTING = RecordSchema(name="sighting", fields=(Field(name="number", type=FieldType.COUNT),))
SCHEMAS = {"visit": VISIT, "sighting": SIGHTING}
POLICY = """
[policy]
format = 1
name = "streams"
purpose = "tests of the egress"
accept = ["exact-times", "pfx-with-exact-sizes"]

[out.visit]
ts = { do = "keep", because = "test" }
client = "pfx"
site = "tag"
took = { do = "bucket", edges = "log2" }
size = { do = "keep", because = "test" }
score = { do = "bucket", edges = [-5, 0, 5] }
secure = { do = "keep", because = "test" }
answers = "pfx"

[out.sighting]
number = { do = "keep", because = "test" }
"""

Row = tuple[object, ...]


def visits(count: int, *, first: int = 0) -> list[Row]:
    """Rows of a visit; every third has empty cells."""
    return [
        (
            STARTED_NS + number * SECOND_NS,
            f"192.0.2.{number % 250 + 1}" if number % 2 else f"2001:db8::{number % 9999 + 1}",
            None if number % 3 == 2 else f"site{number % 7}.{CANARY}",
            None if number % 3 == 2 else number * 1000 + 1,
            number,
            None if number % 3 == 2 else number - 3.5,
            number % 2 == 0,
            None if number % 3 == 2 else ["198.51.100.7", "198.51.100.9"][: number % 3],
        )
        for number in range(first, first + count)
    ]


def sightings(count: int, *, first: int = 0) -> list[Row]:
    """Rows of a sighting."""
    return [(number,) for number in range(first, first + count)]


def worker_batch(record: str, rows: Iterable[Row]) -> bytes:
    """What a worker writes into its pipe."""
    builder = RecordBuilder(SCHEMAS[record].described())
    for row in rows:
        builder.append(row)
    return builder.finish().ipc()


class Clearing:
    """A gate with keys of its own, as a releaser has one."""

    def __init__(self) -> None:
        self.policy = policy_of(POLICY, SCHEMAS, {}, name="streams.toml")
        self.gate = Gate(self.policy.compiled(), {name: schema.described() for name, schema in SCHEMAS.items()})

    def schemas(self) -> tuple[OutputSchema, ...]:
        """For the start statement."""
        return output_schemas(self.policy, self.gate)

    def clear(self, record: str, rows: Iterable[Row]) -> ClearedBatch:
        """A cleared batch."""
        (cleared,) = self.gate.clear(record, worker_batch(record, rows))
        return cleared


def birth_of(clearing: Clearing, *, run: bytes | None = None, heartbeat_ns: int = 10 * SECOND_NS) -> Birth:
    """The facts of a run."""
    return Birth(
        run=run or os.urandom(16),
        started_ns=STARTED_NS,
        tier=Tier.PROCESS,
        bundle="ab" * 32,
        image=None,
        policy=clearing.policy.digest,
        schemas=clearing.schemas(),
        enforcement={"seccomp": "enforced", "landlock_files": "missing: capturer"},
        heartbeat_ns=heartbeat_ns,
    )


def pulse_at(second: int, **counters: int) -> Pulse:
    """A pulse so many seconds after the start; counters by name."""
    known = {Counter(name): value for name, value in counters.items()}
    return Pulse(now_ns=STARTED_NS + second * SECOND_NS, monotonic_ns=(100 + second) * SECOND_NS, counters=known)


BALANCED = {
    "packets_received": 100,
    "packets_analysed": 70,
    "packets_dropped_kernel": 5,
    "packets_dropped_spool": 15,
    "packets_destroyed": 10,
    "keys_created": 4,
    "keys_destroyed": 4,
}


def some_events() -> list[Diagnostic]:
    """Events of two kinds."""
    return [
        diagnostics.event(
            DiagnosticKind.ANALYZER_FAILED,
            at_ns=STARTED_NS,
            lane=0,
            analyzer="forms",
            exception="KeyError",
            line=7,
            count=1,
        ),
        diagnostics.event(DiagnosticKind.GAP, at_ns=STARTED_NS, lane=1, count=15, size=1500, duration_ns=SECOND_NS),
        diagnostics.event(DiagnosticKind.GATE_REFUSED, at_ns=STARTED_NS, lane=0, number=0, reason=Reason.SCHEMA),
    ]


@dataclass(frozen=True)
class Stream:
    """A recorded stream, envelope by envelope, and its key's fingerprint."""

    envelopes: tuple[bytes, ...] = field(repr=False)
    fingerprint: str

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        """Hypothesis shows this class by its length: a failure must be readable."""
        printer.text(f"Stream({len(self)} envelopes)")

    @property
    def whole(self) -> bytes:
        """Back to back."""
        return b"".join(self.envelopes)

    def __len__(self) -> int:
        return len(self.envelopes)


def story(maker: Envelopes, clearing: Clearing, *, abort: bool = False, ended: bool = True) -> Iterator[bytes]:
    """A run of two intervals with records, diagnostics, a silent interval, and its end."""
    yield maker.start()
    yield maker.heartbeat(pulse_at(0))
    yield maker.records(clearing.clear("visit", visits(5)))
    yield maker.records(clearing.clear("sighting", sightings(3)))
    yield maker.heartbeat(pulse_at(10, packets_received=40, packets_analysed=20, live_raw_bytes=999, keys_created=2))
    yield maker.diagnostics(some_events())
    yield maker.heartbeat(pulse_at(20, packets_received=90, packets_analysed=60, keys_created=4, keys_destroyed=2))
    yield maker.records(clearing.clear("visit", visits(4, first=5)))
    if abort:
        yield maker.abort(
            pulse_at(30, packets_received=90, keys_created=4, keys_destroyed=4), reason=AbortReason.OPERATOR
        )
    elif ended:
        yield maker.end(pulse_at(30, **BALANCED), reason=EndReason.DONE)


def through_outlet(envelopes: Iterable[bytes]) -> bytes:
    """Bytes that come out of an outlet whose other end is read now and then."""
    reading, writing = os.pipe()
    outlet = Outlet(writing)
    out = bytearray()
    os.set_blocking(reading, False)
    for envelope in envelopes:
        outlet.put(envelope)
        out += read_available(reading)
    while not outlet.finish():
        out += read_available(reading)
    out += read_available(reading)
    os.close(reading)
    assert outlet.state is OutletState.CLOSED
    return bytes(out)


def read_available(fd: int) -> bytes:
    """What can be read without waiting."""
    out = bytearray()
    while select.select([fd], [], [], 0)[0]:
        try:
            piece = os.read(fd, 1 << 16)
        except (BlockingIOError, ConnectionResetError):
            break
        if not piece:
            break
        out += piece
    return bytes(out)


def cut(stream: bytes) -> list[Envelope]:
    """The envelopes of a stream."""
    return list(EnvelopeReader().feed(stream))


def record(*, abort: bool = False, ended: bool = True, run: bytes | None = None) -> Stream:
    """A new stream, made by Envelopes out of cleared batches and carried by an Outlet."""
    clearing = Clearing()
    maker = Envelopes(birth_of(clearing, run=run), cleared=ClearedBatch)
    out = through_outlet(story(maker, clearing, abort=abort, ended=ended))
    return Stream(envelopes=tuple(one.raw for one in cut(out)), fingerprint=maker.fingerprint)


def record_shortest() -> Stream:
    """A start and an end."""
    clearing = Clearing()
    maker = Envelopes(birth_of(clearing), cleared=ClearedBatch)
    made = (maker.start(), maker.end(pulse_at(1), reason=EndReason.INTERRUPTED))
    return Stream(envelopes=made, fingerprint=maker.fingerprint)


@cache
def usual() -> Stream:
    """A whole run."""
    return record()


@cache
def other() -> Stream:
    """Another whole run."""
    return record()


@cache
def aborted() -> Stream:
    """A run that was destroyed."""
    return record(abort=True)


@cache
def shortest() -> Stream:
    """The shortest run."""
    return record_shortest()


def without_end(stream: Stream) -> Stream:
    """The same without its last statement."""
    return replace(stream, envelopes=stream.envelopes[:-1])


def stored_as(path: Path, envelopes: Iterable[bytes]) -> Path:
    """A file as a box with a file target leaves it."""
    path.write_bytes(b"".join(envelopes))
    return path


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends with small buffers."""
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in (one, two):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    return one, two
