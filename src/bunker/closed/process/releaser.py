"""The releaser: the only process with a way out, and it sees no packets.

Secrets: the clearing key, the signing key. Reads: the workers' pipes, all counter pages. Writes: the egress descriptor.
If it is taken over completely: can release what is in flight.

Rules of this file:
1. Whatever a worker writes is hostile until the gate has passed it; a worker whose pipe is refused is not read again.
2. What goes out is a cleared batch, a heartbeat or diagnostics; there is no fourth thing.
3. The egress is never waited for: when the queue is full the pipes are not read, so workers wait, the spool fills, and what no longer
   fits is a counted gap. Capture never notices.
4. The last word is said in every case that leaves this process alive: END when all workers ended and the supervisor says so, else ABORTED.
"""

from __future__ import annotations

import os
import select
import time
from dataclasses import dataclass

from bunker.closed.egress.envelopes import Envelopes
from bunker.closed.egress.outlet import Outlet
from bunker.closed.process import frames
from bunker.closed.process.settings import ReleaserSettings, settings_of
from bunker.errors import GateRefusal
from bunker.experiment.bundle import Bundle, open_bundle
from bunker.model.counters import Counter, CounterPage, total
from bunker.model.diagnostics import Diagnostic, DiagnosticKind
from bunker.native.clear import Gate
from bunker.native.jail import lock_down
from bunker.policy.load import policy_of

_PIECE = 1 << 20
_DRAIN_S = 30.0


@dataclass(slots=True)
class Lane:
    """One worker's pipe."""

    fd: int
    reader: frames.FrameReader
    open: bool = True
    refused: bool = False


class Releaser:
    """Records from the pipes, cleared, into the egress."""

    def __init__(self, settings: ReleaserSettings, bundle: Bundle) -> None:
        policy = policy_of(bundle.policy_text, bundle.schemas, bundle.lists, name=bundle.policy_name)
        self.settings = settings
        self.names = sorted(bundle.schemas)
        self.gate = Gate(policy.compiled(), {name: schema.described() for name, schema in bundle.schemas.items()})
        self.counters = CounterPage.attach(settings.counters_fd, writable=True)
        self.pages = [CounterPage.attach(fd, writable=False) for fd in settings.all_counters_fds]
        self.lanes = [
            Lane(fd=fd, reader=frames.FrameReader(records=len(self.names), analyzers=len(bundle.sources)))
            for fd in settings.records_fds
        ]
        self.outlet = Outlet(settings.egress_fd)
        self.envelopes = Envelopes(
            run=settings.run,
            bundle_digest=bundle.digest,
            policy_digest=policy.digest,
            tier=settings.tier,
            enforcement=settings.enforcement,
            schemas={name: self.gate.output_schema(name) for name in self.names if policy.releases(name)},
            heartbeat_ns=bundle.experiment.heartbeat_ns,
            started_ns=time.time_ns(),
        )
        self.heartbeat_s = bundle.experiment.heartbeat_ns / 1e9

    def run(self) -> None:
        """Until the supervisor has said how the run ended and the last word is out."""
        self.outlet.push(self.envelopes.start())
        self.outlet.push(self.envelopes.heartbeat(total(self.pages), now_ns=time.time_ns()))
        next_beat = time.monotonic() + self.heartbeat_s
        verdict = b""
        while not verdict:
            reading = [lane.fd for lane in self.lanes if lane.open and not self.outlet.full]
            wanted = [*reading, self.settings.verdict_fd]
            writing = [self.outlet.fileno()] if self.outlet.waiting and not self.outlet.lost else []
            timeout = max(0.0, next_beat - time.monotonic())
            readable, writable, _ = select.select(wanted, writing, [], timeout)
            for lane in self.lanes:
                if lane.fd in readable:
                    self._hear(lane)
            if writable:
                self.outlet.flush()
            if self.settings.verdict_fd in readable and not any(lane.open for lane in self.lanes):
                verdict = os.read(self.settings.verdict_fd, 1) or b"A"
            if time.monotonic() >= next_beat:
                self._beat()
                next_beat = time.monotonic() + self.heartbeat_s
        self._last_word(verdict)

    def _beat(self) -> None:
        if self.outlet.full:
            self.counters.add(Counter.HEARTBEATS_SKIPPED, 1)
            return
        self.outlet.push(self.envelopes.heartbeat(total(self.pages), now_ns=time.time_ns()))

    def _hear(self, lane: Lane) -> None:
        try:
            piece = os.read(lane.fd, _PIECE)
        except BlockingIOError:
            return
        if not piece:
            lane.open = False
            os.close(lane.fd)
            return
        try:
            for frame in lane.reader.feed(piece):
                self._take(frame)
        except GateRefusal as refusal:
            self._refuse(refusal)
            lane.refused = True
            lane.open = False
            os.close(lane.fd)

    def _refuse(self, refusal: GateRefusal) -> None:
        self.counters.add(Counter.GATE_REFUSALS, 1)
        self.outlet.push(self.envelopes.diagnostic(Diagnostic(kind=DiagnosticKind.GATE_REFUSED, word=refusal.kind)))

    def _take(self, frame: frames.Frame) -> None:
        match frame:
            case frames.Records(record=number, ipc=ipc):
                name = self.names[number]
                try:
                    cleared = self.gate.clear(name, ipc)
                except GateRefusal as refusal:
                    self._refuse(refusal)
                    return
                if cleared is None:
                    return
                self.counters.add(Counter.RECORDS_RELEASED, cleared.num_rows)
                self.outlet.push(self.envelopes.records(cleared))
            case frames.Fault(analyzer=analyzer, exception=exception, line=line):
                self.outlet.push(
                    self.envelopes.diagnostic(
                        Diagnostic(
                            kind=DiagnosticKind.ANALYZER_FAILED,
                            number=analyzer,
                            word=frames.EXCEPTIONS[exception],
                            line=line,
                        )
                    )
                )
            case frames.WorkerEnded():
                pass

    def _last_word(self, verdict: bytes) -> None:
        complete = all(lane.reader.ended and not lane.refused for lane in self.lanes)
        counters = total(self.pages)
        self.gate.forget()
        if complete and verdict in (b"D", b"I"):
            reason = "done" if verdict == b"D" else "interrupted"
            self.outlet.push(self.envelopes.end(counters, reason=reason, now_ns=time.time_ns()))
        else:
            self.outlet.push(self.envelopes.abort(counters, now_ns=time.time_ns()))
        deadline = time.monotonic() + _DRAIN_S
        while self.outlet.waiting and not self.outlet.lost and time.monotonic() < deadline:
            if select.select([], [self.outlet.fileno()], [], 1.0)[1]:
                self.outlet.flush()


def main() -> int:
    """Run as a jailed process."""
    settings = settings_of(ReleaserSettings)
    bundle = open_bundle(os.pread(settings.bundle_fd, os.fstat(settings.bundle_fd).st_size, 0))
    releaser = Releaser(settings, bundle)
    lock_down("releaser")
    releaser.run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
