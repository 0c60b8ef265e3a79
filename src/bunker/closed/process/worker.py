"""The worker of one lane: unseals blocks, lets the core and the analyzers read them, writes records into one pipe.

Secrets: the lane's block keys. Reads: its lane of the spool, the bundle. Writes: one pipe, its counter page, one link.
If it is taken over completely: sees what the lane's spool holds; has no network, no files, no other process; what it
writes is typed and goes through the policy.

Rules of this file:
1. The bundle's analyzers are loaded inside the jail; from the first block on the strict system-call list holds as well.
2. A block's plaintext lives in one buffer that the next block overwrites and the end wipes.
3. A block is given back as soon as it has been analysed and its records are in the pipe.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import time
from dataclasses import dataclass
from types import FrameType

from bunker import limits
from bunker.closed.analyze.dispatch import AnalyzerFailed, CallTimedOut, Dispatcher
from bunker.closed.analyze.external import ExternalRunner
from bunker.closed.process import frames
from bunker.closed.process.link import Damaged, Ended, Link, Lost, Released, Sealed
from bunker.closed.process.settings import WorkerSettings, settings_of
from bunker.closed.spool.block import SealedBlock
from bunker.closed.spool.keys import KeyStore
from bunker.closed.spool.reader import SpoolReader
from bunker.errors import BoxError, TrafficError
from bunker.experiment.bundle import Bundle, open_bundle
from bunker.model.counters import Counter, CounterPage
from bunker.model.fields import RecordSchema
from bunker.native.jail import lock_down
from bunker.native.wire import Batch, Engine

_IDLE_S = 0.5


@dataclass(slots=True)
class PipeOutput:
    """Records and faults of the dispatcher, as frames into the worker's pipe."""

    fd: int
    records_by_name: dict[str, int]
    analyzers_by_name: dict[str, int]
    counters: CounterPage

    def records(self, schema: RecordSchema, batch: Batch) -> None:
        """Write a batch, cut where a frame would be longer than the releaser takes."""
        ipc = batch.ipc()
        if len(ipc) > limits.RECORD_FRAME_BYTES.default and batch.num_rows > 1:
            half = batch.num_rows // 2
            self.records(schema, batch.slice(0, half))
            self.records(schema, batch.slice(half, batch.num_rows - half))
            return
        self.counters.add(Counter.RECORDS_EMITTED, batch.num_rows)
        for piece in frames.records_frame(self.records_by_name[schema.name], ipc):
            self._write(piece)

    def event(self, kind: frames.EventKind, *numbers: int) -> None:
        """Report what concerns the lane."""
        first, second, third = numbers
        self._write(frames.event_frame(frames.Event(kind=kind, numbers=(first, second, third))))

    def fault(self, failed: AnalyzerFailed) -> None:
        """Count and report a fault."""
        self.counters.add(Counter.ANALYZER_FAULTS, 1)
        self._write(frames.fault_frame(failed, self.analyzers_by_name[failed.analyzer]))

    def ended(self) -> None:
        """Say that there is nothing more."""
        self._write(frames.ended_frame())

    def _write(self, piece: bytes) -> None:
        view = memoryview(piece)
        while view:
            view = view[os.write(self.fd, view) :]


class Watchdog:
    """Interrupts an analyzer's call that takes longer than allowed.

    A timer ticks four times within the limit; a call that the tick sees five times in a row is interrupted by
    `CallTimedOut`, raised in
    the analyzer. Costs nothing per call. A call that never returns to the interpreter is not reached this way: that
    worker is the supervisor's to kill.
    """

    def __init__(self, dispatcher: Dispatcher, limit_ns: int) -> None:
        self._dispatcher = dispatcher
        self._tick_s = max(limit_ns / 4e9, 0.01)
        self._position, self._seen = -1, 0
        self.inside = False

    def start(self) -> None:
        """Arm the timer."""
        signal.signal(signal.SIGALRM, self._tick)
        signal.setitimer(signal.ITIMER_REAL, self._tick_s, self._tick_s)

    def stop(self) -> None:
        """Disarm it."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _tick(self, _signal: int, _frame: FrameType | None) -> None:
        position = self._dispatcher.position()
        if not self._dispatcher.calling or position != self._position:
            self._position, self._seen = position, 0
            return
        self._seen += 1
        if self._seen >= 4:
            self._seen = 0
            raise CallTimedOut


class Worker:
    """The lane's loop."""

    def __init__(self, settings: WorkerSettings, bundle: Bundle) -> None:
        self.settings = settings
        experiment = bundle.experiment
        analyzers = bundle.load_analyzers()
        self.counters = CounterPage.attach(settings.counters_fd, writable=True)
        self.output = PipeOutput(
            fd=settings.records_fd,
            records_by_name={name: number for number, name in enumerate(sorted(bundle.schemas))},
            analyzers_by_name={analyzer.name: number for number, analyzer in enumerate(analyzers)},
            counters=self.counters,
        )
        externals = dict(zip(bundle.programs, settings.external_fds, strict=True))
        self.dispatcher = Dispatcher(
            analyzers, self.output, external=lambda analyzer: ExternalRunner(analyzer, externals[analyzer.name])
        )
        self.engine = Engine(
            lane=settings.spool.lane,
            want=sorted(self.dispatcher.kinds | {"flow"}),
            needs=sorted(self.dispatcher.needs),
            seed=settings.seed,
            verify_checksums=experiment.verify_checksums,
            auto_checksums=experiment.auto_checksums,
            overlap=experiment.overlap,
        )
        spool = settings.spool
        keys = KeyStore.attach(spool.keys_fd, writable=False)
        os.close(spool.keys_fd)  # whoever takes over this process has no second mapping to ask for
        self.reader = SpoolReader(
            run=spool.run,
            lane=spool.lane,
            fds=spool.file_fds,
            file_bytes=spool.file_bytes,
            slot_bytes=spool.slot_bytes,
            keys=keys,
        )
        self.link = Link(settings.link_fd)
        self.buffer = bytearray(spool.slot_bytes)
        self.watchdog = Watchdog(self.dispatcher, experiment.time_per_call_ns)

    def run(self) -> None:
        """Until the lane has ended and everything is written."""
        poll = select.poll()
        poll.register(self.link.fileno(), select.POLLIN)
        self.watchdog.start()
        while True:
            message = self.link.receive()
            match message:
                case None:
                    self.link.flush()
                    if not poll.poll(_IDLE_S * 1000):
                        self._idle()
                case Sealed(descriptor=descriptor):
                    self._analyse(SealedBlock.unpack(descriptor))
                case Damaged(file=file, offset=offset, reason=reason):
                    self.output.event(frames.EventKind.CAPTURE_FILE_DAMAGED, file, offset, reason)
                case Lost(packets=packets, size=size, duration_ns=duration_ns):
                    self.output.event(frames.EventKind.GAP, packets, size, duration_ns)
                case Ended():
                    break
                case Released():
                    raise BoxError("link between capturer and worker", "a message of the wrong side", "This is a bug")
        self.engine.finish()
        self.dispatcher.turn(self.engine)
        self.dispatcher.finish()
        self.watchdog.stop()
        self._count()
        self.output.ended()
        wipe(self.buffer)
        self.reader.forget()
        while self.link.waiting:
            self.link.flush()
            time.sleep(0.001)

    def _idle(self) -> None:
        """Nothing arrives: on a live lane time goes on all the same, so that flows time out."""
        if self.settings.live:
            self.engine.expire(time.time_ns())
            self.dispatcher.turn(self.engine)
            self._count()

    def _analyse(self, block: SealedBlock) -> None:
        try:
            length = self.reader.unseal(block, self.buffer)
        except TrafficError as refused:
            self.counters.add(Counter.BLOCKS_REFUSED, 1)
            self.counters.add(Counter.PACKETS_DESTROYED, block.packet_count)
            reason = frames.REFUSALS.index(refused.kind) if refused.kind in frames.REFUSALS else 0
            self.output.event(frames.EventKind.BLOCK_REFUSED, block.number, block.packet_count, reason)
        else:
            plaintext = memoryview(self.buffer)[:length]
            while not self.engine.feed(block.format, plaintext, block.number):
                self.dispatcher.turn(self.engine)
            self.dispatcher.turn(self.engine)
            self.counters.add(Counter.BLOCKS_ANALYSED, 1)
            self.counters.add(Counter.BYTES_ANALYSED, length)
        self._count()
        self.link.send(Released(number=block.number))

    def _count(self) -> None:
        for name, value in self.engine.counters().items():
            counter = Counter.maybe(name)
            if counter is not None:
                self.counters.set(counter, value)
        self.counters.set(Counter.MEMORY_BYTES, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def wipe(buffer: bytearray) -> None:
    """Overwrite with zeros."""
    memoryview(buffer)[:] = bytes(len(buffer))


def main() -> int:
    """Run as a jailed process."""
    settings = settings_of(WorkerSettings)
    bundle = open_bundle(os.pread(settings.bundle_fd, os.fstat(settings.bundle_fd).st_size, 0))
    worker = Worker(settings, bundle)
    lock_down("worker")
    worker.run()
    return 0
