"""The releaser: the only process with a way out, and it sees no packets.

Secrets: the clearing key, the signing key. Reads: the workers' pipes, all counter pages. Writes: the egress descriptor.
If it is taken over completely: can release what is in flight.

Rules of this file:
1. Whatever a worker writes is hostile until the gate has passed it; a worker whose pipe is refused is not read again.
2. What goes out is a cleared batch, a heartbeat or diagnostics; there is no fourth thing.
3. The egress is never waited for: when the queue is full the pipes are not read, so workers wait, the spool fills,
   and what no longer fits is a counted gap. Capture never notices.
4. The last word is said in every case that leaves this process alive: END when all workers ended and the supervisor
   says so, else ABORT.
"""

from __future__ import annotations

import os
import select
import struct
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from bunker import limits
from bunker.closed.clear.noise import provide_noise
from bunker.closed.clear.violation import OutputRatio
from bunker.closed.egress.birth import output_schemas
from bunker.closed.egress.envelopes import Birth, Envelopes, Pulse
from bunker.closed.egress.outlet import Outlet, OutletState
from bunker.closed.egress.seal import sealer_for
from bunker.closed.process import frames
from bunker.closed.process.settings import ReleaserSettings, settings_of
from bunker.errors import GateRefusal
from bunker.experiment.bundle import Bundle, open_bundle
from bunker.model import diagnostics
from bunker.model.attestation import Attestation
from bunker.model.counters import BALANCE_IN, BALANCE_OUT, Counter, CounterPage, combined
from bunker.model.diagnostics import Diagnostic, DiagnosticKind, Reason
from bunker.model.heartbeat import AbortReason, EndReason
from bunker.native.clear import ClearedBatch, Gate
from bunker.native.heap import keep_heap
from bunker.native.jail import lock_down
from bunker.policy.load import policy_of
from bunker.policy.needed import crossing

EXIT_UNDELIVERED = 4
"""The open box did not take everything."""
_PIECE = 1 << 20
_ABORTED_DRAIN_S = 30.0
"""After an abort somebody waits for the end."""
_HEADROOM = 4096  # header, record head and signature of an envelope, generously


class Verdict(Enum):
    """How the run ended, as the supervisor says it: one byte."""

    DONE = b"D"
    DURATION = b"U"
    INTERRUPTED = b"I"
    OPERATOR = b"O"
    CHILD_FAILED = b"C"
    ANALYSIS_FAILS = b"A"
    MAXIMUM_AGE = b"M"
    POLICY = b"P"


_ENDS = {
    Verdict.DONE: EndReason.DONE,
    Verdict.DURATION: EndReason.DURATION,
    Verdict.INTERRUPTED: EndReason.INTERRUPTED,
}
_ABORTS = {
    Verdict.OPERATOR: AbortReason.OPERATOR,
    Verdict.ANALYSIS_FAILS: AbortReason.ANALYSIS_FAILS,
    Verdict.MAXIMUM_AGE: AbortReason.MAXIMUM_AGE,
    Verdict.POLICY: AbortReason.POLICY,
}
WORKER_DEAD = b"R"
"""From the supervisor, followed by the lane's number: its worker is dead, what it did not commit never happened."""
ACK = struct.Struct("<B?Q")
"""To the supervisor: lane, whether its pipe can be used on, the last turn that was committed."""
VIOLATED = 255
"""In place of a lane's number: the policy was violated, and says that this destroys the run."""
# The gate's words (`crates/clear/src/gate.rs`); a broken frame has words of its own, which all count as one.
_REFUSAL_COUNTERS = {
    Reason.SCHEMA: Counter.GATE_REFUSED_SCHEMA,
    Reason.MALFORMED: Counter.GATE_REFUSED_SCHEMA,
    Reason.TRAILING_BYTES: Counter.GATE_REFUSED_SCHEMA,
    Reason.UNKNOWN_RECORD: Counter.GATE_REFUSED_SCHEMA,
    Reason.BAD_VALUE: Counter.GATE_REFUSED_VALUE,
    Reason.CELL_TOO_LONG: Counter.GATE_REFUSED_VALUE,
    Reason.TOO_MANY_ROWS: Counter.GATE_REFUSED_SIZE,
    Reason.TOO_LARGE: Counter.GATE_REFUSED_SIZE,
    Reason.SIZE: Counter.GATE_REFUSED_SIZE,
    Reason.OUTPUT_RATIO: Counter.GATE_REFUSED_SIZE,
}


@dataclass(slots=True)
class Lane:
    """One worker's pipe."""

    number: int
    fd: int
    reader: frames.FrameReader
    open: bool = True
    refused: bool = False
    held: list[frames.Frame] = field(default_factory=list)
    """Of the turn that is not committed."""
    held_bytes: int = 0
    ready: deque[frames.Frame] = field(default_factory=deque)
    """Committed, and not yet out because the egress queue was full."""
    turn: int = 0
    """The last that was committed."""


def refusal_counter(kind: str) -> Counter:
    """Which counter counts this refusal."""
    return _REFUSAL_COUNTERS.get(Reason.of(kind), Counter.GATE_REFUSED_FRAME)


def _cause(place: int) -> Reason:
    return Reason.of(frames.CAUSES[place] if place < len(frames.CAUSES) else "other")


def settled(counters: dict[Counter, int]) -> dict[Counter, int]:
    """Counters of a box whose capturer and workers were killed: with their memory the keys are gone, and what was
    not analysed is destroyed."""
    done = dict(counters)
    destroyed = done[BALANCE_IN] - sum(done[counter] for counter in BALANCE_OUT)
    done[Counter.PACKETS_DESTROYED] += max(0, destroyed)
    done[Counter.KEYS_DESTROYED] = done[Counter.KEYS_CREATED]
    for level in (
        Counter.LIVE_RAW_BYTES,
        Counter.OLDEST_RAW_AGE_NS,
        Counter.LAG_BYTES,
        Counter.LAG_NS,
        Counter.FLOWS_OPEN,
    ):
        done[level] = 0
    return done


class Releaser:
    """Records from the pipes, cleared, into the egress."""

    def __init__(self, settings: ReleaserSettings, bundle: Bundle) -> None:
        policy = policy_of(bundle.policy_text, bundle.schemas, bundle.lists, name=bundle.policy_name)
        self.settings = settings
        self.names = sorted(bundle.schemas)
        self.analyzers = [source.name for source in bundle.sources]
        self.gate = Gate(
            policy.compiled(),
            {name: schema.described() for name, schema in crossing(policy).items()},
            policy.packets(),
        )
        provide_noise(self.gate, policy)
        self.ratio = OutputRatio(most=policy.max_output_ratio)
        self._stops = policy.on_violation == "stop"
        self._violated = False
        self.counters = CounterPage.attach(settings.counters_fd, writable=True)
        self.pages = [CounterPage.attach(fd, writable=False) for fd in settings.all_counters_fds]
        self.lanes = [
            Lane(number=number, fd=fd, reader=self._frame_reader()) for number, fd in enumerate(settings.records_fds)
        ]
        # Nothing is said again from here: who connects anew outside of the box keeps what it sent itself.
        self.outlet = Outlet(settings.egress_fd, resend_bytes=0, sealer=sealer_for(bundle.experiment.seal_to))
        self.envelopes = Envelopes(
            Birth(
                run=settings.run,
                started_ns=settings.started_ns,
                tier=settings.tier,
                bundle=bundle.digest,
                image=settings.image,
                policy=policy.digest,
                schemas=output_schemas(policy, self.gate),
                enforcement=settings.enforcement,
                heartbeat_ns=bundle.experiment.heartbeat_ns,
            ),
            cleared=ClearedBatch,
            attest=None if settings.attest_fds is None else self._attestation,
        )
        self.heartbeat_s = bundle.experiment.heartbeat_ns / 1e9
        self.events: list[Diagnostic] = []
        self._verdict: Verdict | None = None

    def _attestation(self, nonce: bytes) -> Attestation:
        """What the machine's TPM signs together with this hash; process 1 answers, or the machine ends."""
        assert self.settings.attest_fds is not None
        ask, answer = self.settings.attest_fds
        os.write(ask, nonce)
        os.close(ask)
        content = b""
        while piece := os.read(answer, limits.ENVELOPE_STATEMENT_BYTES.default):
            content += piece
        os.close(answer)
        return msgspec.json.decode(content, type=Attestation)

    def run(self) -> bool:
        """Until the supervisor has said how the run ended and the last word is out. False: it is not out."""
        self.outlet.put(self.envelopes.start())
        self._beat()
        next_beat = time.monotonic() + self.heartbeat_s
        while self._verdict is None or not self._all_shut():
            ready = self._wait(max(0.0, next_beat - time.monotonic()))
            self._attend_egress(ready.get(self.outlet.fileno(), 0))
            for lane in self.lanes:
                self._release_ready(lane)
                if lane.open and lane.fd in ready:
                    self._hear(lane)
            if self.settings.verdict_fd in ready:
                self._hear_supervisor()
            if time.monotonic() >= next_beat:
                self._beat()
                next_beat = time.monotonic() + self.heartbeat_s
        return self._last_word(self._verdict)

    def _all_shut(self) -> bool:
        """No pipe has anything more to say; if the open box is gone, what is ready has nowhere to go."""
        gone = self.outlet.state is not OutletState.OPEN
        return all(not lane.open and (gone or not lane.ready) for lane in self.lanes)

    def _hear_supervisor(self) -> None:
        word = os.read(self.settings.verdict_fd, 1)
        if word == WORKER_DEAD:
            self._forget_turn(self.lanes[os.read(self.settings.verdict_fd, 1)[0]])
        else:
            self._verdict = Verdict(word) if word else Verdict.CHILD_FAILED

    def _forget_turn(self, lane: Lane) -> None:
        """The lane's worker is dead: read what it had written, drop what it had not committed, say how far it was."""
        poll = select.poll()
        if lane.open:
            poll.register(lane.fd, select.POLLIN)
        while lane.open and poll.poll(0):
            self._hear(lane)
        lane.held.clear()
        lane.held_bytes = 0
        lane.reader = self._frame_reader()
        os.write(self.settings.acks_fd, ACK.pack(lane.number, lane.open, lane.turn))

    def _frame_reader(self) -> frames.FrameReader:
        return frames.FrameReader(records=len(self.names), analyzers=len(self.analyzers))

    def _wait(self, seconds: float) -> dict[int, int]:
        """Descriptors that are ready: pipes while there is room, the supervisor's until its verdict, the egress."""
        poll = select.poll()
        # Room for the largest batch before anything is read: what has been read is never thrown away.
        if self.outlet.room(limits.RECORD_FRAME_BYTES.default, records=True):
            for lane in self.lanes:
                if lane.open and not lane.ready:
                    poll.register(lane.fd, select.POLLIN)
        if self._verdict is None:
            poll.register(self.settings.verdict_fd, select.POLLIN)
        if self.outlet.state is OutletState.OPEN:
            poll.register(self.outlet.fileno(), select.POLLOUT if self.outlet.waiting else 0)
        return dict(poll.poll(seconds * 1000))

    def _attend_egress(self, events: int) -> None:
        if events & select.POLLOUT:
            self._flush()
        if events & (select.POLLERR | select.POLLHUP) and self.outlet.state is OutletState.OPEN:
            self.outlet.peer_gone()
            self._note_lost()

    def _pulse(self, counters: dict[Counter, int]) -> Pulse:
        return Pulse(now_ns=time.time_ns(), monotonic_ns=time.monotonic_ns(), counters=counters)

    def _counted(self) -> dict[Counter, int]:
        self.counters.set(Counter.EGRESS_WAITING_BYTES, self.outlet.waiting)
        self.counters.set(Counter.RECORDS_SAMPLED_OUT, self.gate.sampled_out)
        self.counters.set(Counter.VALUES_UNNUMBERED, self.gate.unnumbered)
        return combined(page.snapshot() for page in self.pages)

    def _put(self, envelope: bytes) -> None:
        was = self.outlet.state
        self.outlet.put(envelope)
        if self.outlet.state is not was:
            self._note_lost()

    def _flush(self) -> None:
        was = self.outlet.state
        self.outlet.flush()
        if self.outlet.state is not was:
            self._note_lost()

    def _note_lost(self) -> None:
        self.counters.add(Counter.EGRESS_LOST, 1)
        self._event(DiagnosticKind.EGRESS_LOST, size=self.outlet.waiting)

    def _beat(self) -> None:
        if not self.outlet.room(2 * limits.ENVELOPE_STATEMENT_BYTES.default, records=False):
            self.counters.add(Counter.HEARTBEATS_OMITTED, 1)
            return
        self._tell_events()
        self._put(self.envelopes.heartbeat(self._pulse(self._counted())))

    def _tell_events(self) -> None:
        if self.events:
            events, self.events = self.events, []
            self._put(self.envelopes.diagnostics(events))

    def _event(
        self,
        kind: DiagnosticKind,
        *,
        lane: int | None = None,
        number: int | None = None,
        count: int | None = None,
        size: int | None = None,
        offset: int | None = None,
        duration_ns: int | None = None,
        analyzer: str | None = None,
        exception: str | None = None,
        line: int | None = None,
        reason: Reason | None = None,
    ) -> None:
        if len(self.events) >= limits.DIAGNOSTICS_EVENTS.default:
            self.counters.add(Counter.DIAGNOSTICS_OMITTED, 1)
            return
        self.events.append(
            diagnostics.event(
                kind,
                at_ns=time.time_ns(),
                lane=lane,
                number=number,
                count=count,
                size=size,
                offset=offset,
                duration_ns=duration_ns,
                analyzer=analyzer,
                exception=exception,
                line=line,
                reason=reason,
            )
        )

    def _hear(self, lane: Lane) -> None:
        try:
            piece = os.read(lane.fd, _PIECE)
        except BlockingIOError:
            return
        if not piece:
            self._shut(lane)
            return
        try:
            for frame in lane.reader.feed(piece):
                self._hold(lane, frame)
        except GateRefusal as refusal:
            self._refuse(lane, refusal, number=None)
            lane.refused = True
            self._shut(lane)

    def _hold(self, lane: Lane, frame: frames.Frame) -> None:
        """Keep a frame until its turn is committed.

        Raises:
            GateRefusal: "frame_length": more than a turn may hold.
        """
        lane.held.append(frame)
        if isinstance(frame, frames.Records):
            lane.held_bytes += len(frame.ipc)
            if lane.held_bytes > limits.TURN_RECORD_BYTES.default or len(lane.held) > limits.TURN_FRAMES.default:
                raise GateRefusal("frame_length")
        elif isinstance(frame, frames.Committed | frames.WorkerEnded):
            lane.ready += lane.held
            lane.held.clear()
            lane.held_bytes = 0
            if isinstance(frame, frames.Committed):
                lane.turn = frame.position[0]
            self._release_ready(lane)

    def _release_ready(self, lane: Lane) -> None:
        """Let out what is committed, as far as there is room: what was read is not thrown away for want of it."""
        while lane.ready:
            frame = lane.ready[0]
            if isinstance(frame, frames.Records) and not self.outlet.room(len(frame.ipc) + _HEADROOM, records=True):
                return
            self._take(lane, lane.ready.popleft())

    def _shut(self, lane: Lane) -> None:
        lane.open = False
        os.close(lane.fd)

    def _refuse(self, lane: Lane, refusal: GateRefusal, *, number: int | None) -> None:
        if self._stops and not self._violated:
            self._violated = True
            os.write(self.settings.acks_fd, ACK.pack(VIOLATED, False, 0))
        self.counters.add(refusal_counter(refusal.kind), 1)
        self._event(DiagnosticKind.GATE_REFUSED, lane=lane.number, number=number, reason=Reason.of(refusal.kind))

    def _take(self, lane: Lane, frame: frames.Frame) -> None:
        match frame:
            case frames.Records(record=number, ipc=ipc):
                self._release(lane, number, ipc)
            case frames.Committed():
                pass
            case frames.Fault(analyzer=analyzer, exception=exception, line=line):
                self._event(
                    DiagnosticKind.ANALYZER_FAILED,
                    lane=lane.number,
                    analyzer=self.analyzers[analyzer],
                    exception=frames.EXCEPTIONS[exception],
                    line=line,
                    count=1,
                )
            case frames.Event(kind=kind, numbers=numbers):
                self._lane_event(lane, kind, numbers)
            case frames.WorkerEnded():
                pass

    def _release(self, lane: Lane, number: int, ipc: bytes) -> None:
        if self._violated:
            return
        try:
            batches = self.gate.clear(self.names[number], ipc)
        except GateRefusal as refusal:
            self._refuse(lane, refusal, number=number)
            return
        for cleared in batches:
            self._send(lane, cleared)

    def _send(self, lane: Lane, cleared: ClearedBatch) -> None:
        """A cleared batch into the egress; a window that closes may have freed batches of other records as well."""
        number = self.names.index(cleared.record) if cleared.record in self.names else None
        if not self.outlet.room(len(cleared.ipc()) + _HEADROOM, records=True):
            self.counters.add(Counter.RECORDS_DESTROYED, cleared.num_rows)
            self._event(DiagnosticKind.RECORDS_DESTROYED, number=number, count=cleared.num_rows)
            return
        received = 0 if self.ratio.most is None else self._counted()[Counter.BYTES_RECEIVED]
        if not self.ratio.admits(len(cleared.ipc()), received):
            self.counters.add(Counter.RECORDS_REFUSED, cleared.num_rows)
            self._refuse(lane, GateRefusal(Reason.OUTPUT_RATIO.value), number=number)
            return
        try:
            envelope = self.envelopes.records(cleared)
        except GateRefusal as refusal:
            self._refuse(lane, refusal, number=number)
            return
        self.counters.add(Counter.RECORDS_RELEASED, cleared.num_rows)
        self._put(envelope)

    def _free_what_waits(self) -> None:
        """The run ends in order: the last window closes. After an abort what waits is forgotten."""
        deadline = time.monotonic() + limits.EGRESS_DRAIN_S.default
        for cleared in self.gate.finish():
            while not self.outlet.room(len(cleared.ipc()) + _HEADROOM, records=True):
                if self.outlet.state is not OutletState.OPEN or time.monotonic() >= deadline:
                    break
                with suppress(OSError):
                    select.select([], [self.outlet.fileno()], [], 1.0)
                self._flush()
            self._send(self.lanes[0], cleared)

    def _lane_event(self, lane: Lane, kind: frames.EventKind, numbers: tuple[int, int, int]) -> None:
        first, second, third = numbers
        match kind:
            case frames.EventKind.GAP:
                self._event(DiagnosticKind.GAP, lane=lane.number, count=first, size=second, duration_ns=third)
            case frames.EventKind.BLOCK_REFUSED:
                word = frames.REFUSALS[third] if third < len(frames.REFUSALS) else "other"
                reason = {"not_authentic": Reason.AUTHENTICATION, "erased": Reason.KEY_GONE}.get(word, Reason.of(word))
                self._event(DiagnosticKind.BLOCK_REFUSED, lane=lane.number, number=first, count=second, reason=reason)
            case frames.EventKind.WORKER_RESTARTED:
                reason = _cause(second)
                self._event(DiagnosticKind.WORKER_RESTARTED, lane=lane.number, count=first, reason=reason)
            case frames.EventKind.INTERFACE:
                self._event(DiagnosticKind.INTERFACE_UP if first else DiagnosticKind.INTERFACE_DOWN)
            case frames.EventKind.CLOCK_STEPPED:
                self._event(DiagnosticKind.CLOCK_STEPPED, duration_ns=-first if second else first)
            case frames.EventKind.FLOW_LEFT_OUT:
                self._event(DiagnosticKind.FLOW_LEFT_OUT, lane=lane.number, count=first, reason=_cause(second))
            case frames.EventKind.CAPTURE_FILE_DAMAGED:
                word = frames.DAMAGES[third] if third < len(frames.DAMAGES) else "other"
                self._event(DiagnosticKind.CAPTURE_FILE_DAMAGED, number=first, offset=second, reason=Reason.of(word))

    def _last_word(self, verdict: Verdict | None) -> bool:
        verdict = verdict or Verdict.CHILD_FAILED
        end = _ENDS.get(verdict)
        if end is not None and not all(lane.reader.ended and not lane.refused for lane in self.lanes):
            end = None
        if end is not None and not self._violated:
            self._free_what_waits()
        if self._violated:  # perhaps after the supervisor had said that all went well, or only now
            end, verdict = None, Verdict.POLICY
        self.counters.add(Counter.AGGREGATES_REFUSED, self.gate.aggregates_refused)
        if end is None and self.gate.waiting_rows:
            self.counters.add(Counter.RECORDS_DESTROYED, self.gate.waiting_rows)
            self._event(DiagnosticKind.RECORDS_DESTROYED, count=self.gate.waiting_rows)
        self.gate.forget()
        self._tell_events()
        counters = self._counted()
        if end is not None:
            self._put(self.envelopes.end(self._pulse(counters), reason=end))
        else:
            reason = _ABORTS.get(verdict, AbortReason.CHILD_FAILED)
            self._put(self.envelopes.abort(self._pulse(settled(counters)), reason=reason))
        deadline = time.monotonic() + (_ABORTED_DRAIN_S if end is None else limits.EGRESS_DRAIN_S.default)
        while not self.outlet.finish() and self.outlet.state is OutletState.OPEN and time.monotonic() < deadline:
            with suppress(OSError):
                select.select([], [self.outlet.fileno()], [], 1.0)
        return self.outlet.state is OutletState.CLOSED


def main() -> int:
    """Run as a jailed process."""
    keep_heap()
    settings = settings_of(ReleaserSettings)
    bundle = open_bundle(os.pread(settings.bundle_fd, os.fstat(settings.bundle_fd).st_size, 0))
    releaser = Releaser(settings, bundle)
    lock_down("releaser")
    return 0 if releaser.run() else EXIT_UNDELIVERED
