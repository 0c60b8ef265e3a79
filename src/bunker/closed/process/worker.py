"""The worker of one lane: unseals blocks, lets the core and the analyzers read them, writes records into one pipe.

Secrets: the lane's block keys. Reads: its lane of the spool, the bundle. Writes: one pipe, its counter page, one link.
If it is taken over completely: sees what the lane's spool holds; has no network, no files, no other process; what it writes is
typed and goes through the policy.

Rules of this file:
1. The bundle's analyzers are loaded inside the jail; from the first block on the strict system-call list holds as well.
2. A block's plaintext lives in one buffer that the next block overwrites and the end wipes.
3. A spool file is given back as soon as its last block has been analysed and its records are in the pipe.
"""

from __future__ import annotations

import os
import select
import signal
import time
from dataclasses import dataclass
from types import FrameType

from bunker.closed.analyze.dispatch import AnalyzerFailed, CallTimedOut, Dispatcher
from bunker.closed.process import frames
from bunker.closed.process.link import Ended, FileDone, Link, Sealed
from bunker.closed.process.settings import WorkerSettings, settings_of
from bunker.closed.spool.keys import KeyStore
from bunker.closed.spool.reader import SpoolReader
from bunker.closed.spool.writer import SealedBlock
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
        """Write a batch."""
        self.counters.add(Counter.RECORDS_EMITTED, batch.num_rows)
        for piece in frames.records_frame(self.records_by_name[schema.name], batch.ipc()):
            self._write(piece)

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

    A timer ticks four times within the limit; a call that the tick sees five times in a row is interrupted by `CallTimedOut`, raised in
    the analyzer. Costs nothing per call. A call that never returns to the interpreter is not reached this way: that worker
    is the supervisor's to kill.
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
        self.dispatcher = Dispatcher(analyzers, self.output)
        self.engine = Engine(
            lane=settings.lane,
            want=sorted(self.dispatcher.kinds | {"flow"}),
            needs=sorted(self.dispatcher.needs),
            seed=settings.seed,
            verify_checksums=experiment.verify_checksums,
        )
        self.keys = KeyStore.attach(settings.keys_fd, writable=False)
        self.reader = SpoolReader.attach(settings.spool, keys=self.keys)
        self.link = Link(settings.link_fd)
        self.buffer = bytearray(experiment.block_bytes + 4096)
        self.watchdog = Watchdog(self.dispatcher, experiment.time_per_call_ns)
        self._file: int | None = None

    def run(self) -> None:
        """Until the lane has ended and everything is written."""
        poll = select.poll()
        poll.register(self.link.fileno(), select.POLLIN)
        self.watchdog.start()
        ended = False
        while not ended:
            message = self.link.receive()
            if message is None:
                if not poll.poll(_IDLE_S * 1000):
                    self._idle()
                continue
            match message:
                case Sealed(descriptor=descriptor):
                    self._analyse(SealedBlock.unpack(descriptor))
                case Ended():
                    ended = True
                case FileDone():
                    raise BoxError("link between capturer and worker", "a message of the wrong side", "This is a bug")
        self.engine.finish()
        self.dispatcher.turn(self.engine)
        self.dispatcher.finish()
        self.watchdog.stop()
        self._count()
        if self._file is not None:
            self.link.send(FileDone(file=self._file))
        self.output.ended()
        wipe(self.buffer)

    def _idle(self) -> None:
        """Nothing arrives: on a live lane time goes on all the same, so that flows time out."""
        if self.settings.live:
            self.engine.expire(time.time_ns())
            self.dispatcher.turn(self.engine)
            self._count()

    def _analyse(self, block: SealedBlock) -> None:
        if self._file is not None and block.file != self._file:
            self.link.send(FileDone(file=self._file))
        self._file = block.file
        try:
            length = self.reader.unseal(block, self.buffer)
        except TrafficError:
            self.counters.add(Counter.BLOCKS_REFUSED, 1)
            self.counters.add(Counter.PACKETS_DESTROYED, block.packet_count)
            return
        self.engine.feed(block.format, memoryview(self.buffer)[:length], block.number)
        self.dispatcher.turn(self.engine)
        self.counters.add(Counter.BLOCKS_ANALYSED, 1)
        self.counters.add(Counter.BYTES_ANALYSED, length)
        self._count()

    def _count(self) -> None:
        for name, value in self.engine.counters().items():
            counter = Counter.maybe(name)
            if counter is not None:
                self.counters.set(counter, value)


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


if __name__ == "__main__":
    raise SystemExit(main())
