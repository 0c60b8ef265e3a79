"""The worker of one lane: unseals blocks, lets the core and the analyzers read them, writes records into one pipe.

Secrets: the lane's block keys. Reads: its lane of the spool, the bundle. Writes: one pipe, its counter page, one link,
the hand page and the ledger. If it is taken over completely: sees what the lane's spool holds; has no network, no
files, no other process; what it writes is typed and goes through the policy.

Rules of this file:
1. The bundle's analyzers are loaded inside the jail; from the first block on the strict system-call list holds as well.
2. A block's plaintext lives in one buffer that the next block overwrites and the end wipes.
3. A turn is: messages taken, analyzers called, records written, committed. Before the commit nothing of it counts: no
   record, no counter, no flow. A worker that starts over goes on behind the last commit.
4. A block is given back when its turns are committed and no open flow began in it, so that a successor can open that
   flow again; beyond RESTART_SHARE of the spool it is given back all the same.
"""

from __future__ import annotations

import os
import resource
import select
import time
from collections.abc import Callable

from bunker import limits
from bunker.closed.analyze.dispatch import Dispatcher, LeftOut, Suspect
from bunker.closed.analyze.external import ExternalRunner
from bunker.closed.analyze.runner import Phases
from bunker.closed.process import frames
from bunker.closed.process.hand import Phase, Word, open_hand
from bunker.closed.process.ledger import NOTHING, Commit, Ledger, Position
from bunker.closed.process.link import (
    ALL_BLOCKS,
    Again,
    Analysed,
    Damaged,
    Ended,
    Interface,
    Link,
    Lost,
    Message,
    Released,
    Resume,
    Sealed,
    Stepped,
)
from bunker.closed.process.output import Counts, PipeOutput
from bunker.closed.process.settings import Restart, WorkerSettings, settings_of
from bunker.closed.process.watchdog import Watchdog
from bunker.closed.spool.block import SealedBlock
from bunker.closed.spool.keys import KeyStore, ledger_slot
from bunker.closed.spool.reader import SpoolReader
from bunker.errors import BoxError, TrafficError
from bunker.experiment.bundle import Bundle, open_bundle
from bunker.model.counters import Counter, CounterPage
from bunker.native.heap import keep_heap
from bunker.native.jail import lock_down
from bunker.native.wire import Engine
from bunker.policy.load import policy_of
from bunker.policy.needed import crossing

EXIT_OURS = 72
"""The fault is ours or the machine's, no flow's: another worker would meet it again."""
_IDLE_S = 0.5
PHASES = Phases(
    phase=Word.PHASE,
    sequence=Word.SEQUENCE,
    uid=Word.UID,
    analyzer=Word.ANALYZER,
    calls=Word.CALLS,
    modulus=Word.MODULUS,
    residue=Word.RESIDUE,
    call=Phase.CALL,
    batch=Phase.BATCH,
    finish=Phase.FINISH,
)
_STRAND_AHEAD = 16
_START = Position(turn=0, number=1, sequence=0, done=0)


class Worker:
    """The lane's loop."""

    def __init__(self, settings: WorkerSettings, bundle: Bundle) -> None:
        self.settings = settings
        self.experiment = bundle.experiment
        analyzers = bundle.load_analyzers()
        policy = policy_of(bundle.policy_text, bundle.schemas, bundle.lists, name=bundle.policy_name)
        records = crossing(policy)
        restart = settings.restart
        self.page = CounterPage.attach(settings.counters_fd, writable=True)
        self.hand = open_hand(settings.hand_fd)
        self.counts = Counts()
        self.output = PipeOutput(
            fd=settings.records_fd,
            records_by_name={name: number for number, name in enumerate(sorted(bundle.schemas))},
            analyzers_by_name={analyzer.name: number for number, analyzer in enumerate(analyzers)},
            counts=self.counts,
            hand=self.hand,
            crossing=records,
        )
        externals = dict(zip(bundle.programs, settings.external_fds, strict=True))
        self.dispatcher = Dispatcher(
            analyzers,
            self.output,
            hand=self.hand,
            phases=PHASES,
            left_out=tuple(LeftOut(uid=f.uid, analyzer=f.analyzer) for f in restart.left_out) if restart else (),
            suspects=tuple(
                Suspect(analyzer=s.analyzer, sequence=s.sequence, modulus=s.modulus, residue=s.residue)
                for s in restart.suspects
            )
            if restart
            else (),
            external=lambda analyzer, number: ExternalRunner(
                analyzer, externals[analyzer.name], number=number, hand=self.hand, phases=PHASES
            ),
            crossing=records,
        )
        self.engine = self._new_engine()
        self._engine_counters = tuple(Counter.maybe(name) for name in self.engine.counter_names())
        spool = settings.spool
        keys = KeyStore.attach(spool.keys_fd, writable=False)
        os.close(spool.keys_fd)  # whoever takes over this process has no second mapping to ask for
        self.ledger = Ledger(settings.ledger_fd, lambda: keys.cipher(ledger_slot(spool.file_fds)))
        self.reader = SpoolReader(
            run=spool.run,
            lane=spool.lane,
            fds=spool.file_fds,
            file_bytes=spool.file_bytes,
            slot_bytes=spool.slot_bytes,
            keys=keys,
        )
        self.keep_blocks = self._kept_at_most(len(spool.file_fds), spool.file_bytes // spool.slot_bytes)
        self.link = Link(settings.link_fd)
        self.buffer = bytearray(spool.slot_bytes)
        self.watchdog = Watchdog(
            self.dispatcher,
            self.hand,
            call_ns=self.experiment.time_per_call_ns,
            flow_ns=self.experiment.time_per_flow_ns,
        )
        self.position = _START
        self.last_block = 0
        """One more than the number of the last block read whole."""
        self._released = self._told = 0
        self._stranded = 0
        """Flows that began before this block are in the ledger with who talks."""
        self._base: dict[Counter, int] = {}
        """What workers before this one have counted, and this one not."""
        self._target: Commit | None = None
        """Where the lane was when the worker before this one died; None: there."""
        self._expects_again = False
        self._newest_ns, self._newest_at_ns = 0, time.monotonic_ns()

    def _kept_at_most(self, files: int, slots: int) -> int:
        """Blocks of the lane's spool that may be kept for a restart.

        Live, kept blocks stand where new ones could; a capture file can wait, as long as there is some room; after a
        deferred capture nothing new comes. A file is free again as a whole, so two are always left out of it: or
        capture would wait for room, and analysis for the packets that end the flows which take it.
        """
        experiment = self.experiment
        if experiment.mode == "deferred" and not experiment.during_capture:
            return files * slots
        share = limits.RESTART_SHARE.default if self.settings.live else limits.RESTART_SHARE_FILES.default
        return min(files * slots * share // 100, (files - 2) * slots)

    def _new_engine(self) -> Engine:
        engine = Engine(
            lane=self.settings.spool.lane,
            want=sorted(self.dispatcher.kinds),
            needs=sorted(self.dispatcher.needs),
            seed=self.settings.seed,
            verify_checksums=self.experiment.verify_checksums,
            auto_checksums=self.experiment.auto_checksums,
            overlap=self.experiment.overlap,
            hand=self.hand,
            columns=self.dispatcher.columns,
        )
        engine.keep_journal()
        if self.settings.restart is not None:
            for flow in self.settings.restart.left_out:
                engine.leave_out(flow.uid, flow.fault)
            for packet in self.settings.restart.passed_over:
                engine.pass_over(packet.block, packet.packet)
        return engine

    # ---- starting over ----

    def _start_over(self, restart: Restart) -> None:
        """Ask for everything again that is not released, and remember up to where it has been read."""
        self.link.send(Resume())
        self._expects_again = True
        self.output.event(frames.EventKind.WORKER_RESTARTED, restart.count, restart.cause, 0)
        if restart.newly_left_out:
            self.output.event(frames.EventKind.FLOW_LEFT_OUT, restart.newly_left_out, restart.cause, 0)
        self.counts.values[Counter.WORKER_RESTARTS] = restart.count
        if restart.turn == 0:
            self.ledger.clear()
            return
        journals, commit = self.ledger.read(restart.turn)
        self._target = commit
        self.position = Position(turn=commit.position.turn, number=1, sequence=0, done=0)
        if self.dispatcher.passes == 1:
            self.engine.read_again(journals, (commit.next_uid, commit.now_ns))

    def _catch_up(self) -> None:
        """Everything has been read again: from here on turns count."""
        assert self._target is not None
        target, self._target = self._target, None
        stranded, missed = self.engine.caught_up() if self.dispatcher.passes == 1 else (0, 0)
        restarts = self.counts.values[Counter.WORKER_RESTARTS]
        self.counts.unpack(target.counts)
        self.counts.values[Counter.WORKER_RESTARTS] = restarts
        own = self._engine_counts()
        for counter, value in own.items():
            if counter.meaning.grows:
                self._base[counter] = self.counts.values[counter] - value
        if missed:
            self._base[Counter.FLOWS_ERRONEOUS] = self._base.get(Counter.FLOWS_ERRONEOUS, 0) + missed
        if stranded or missed:
            self.output.event(frames.EventKind.FLOW_LEFT_OUT, stranded + missed, frames.CAUSES.index("key_gone"), 0)
        self.position = target.position
        self.last_block = target.last_block
        self.engine.take_journal()
        self.ledger.rewrite(self.engine.whole_journal(), target)
        # What was said of this restart counts from here on, even if the next packet ends this worker, too.
        self._commit(target.position.sequence, done=target.position.done)

    def _is_behind(self, sequence: int) -> bool:
        """Whether this message was read whole by the worker before."""
        target = self._target
        return target is not None and (self.position.number, sequence) <= (
            target.position.number,
            target.position.sequence,
        )

    # ---- the loop ----

    def run(self) -> None:
        """Until the lane has ended and everything is written."""
        poll = select.poll()
        poll.register(self.link.fileno(), select.POLLIN)
        self.watchdog.start()
        self.dispatcher.begin_pass(1)
        if self.settings.restart is not None:
            self._start_over(self.settings.restart)
        self.hand.set(Word.PHASE, Phase.IDLE)
        while True:
            message = self.link.receive()
            if message is None:
                self.link.flush()
                if not poll.poll(_IDLE_S * 1000):
                    self._idle()
            elif self._expects_again:
                self._expects_again = not isinstance(message, Again)
                if isinstance(message, Again):
                    self._begin_again(message)
            elif self._take(message):
                break
            self.hand.set(Word.PHASE, Phase.IDLE)
        self.watchdog.stop()
        self.output.ended()
        wipe(self.buffer)
        self.reader.forget()
        self.hand.set(Word.PHASE, Phase.ENDED)
        self.link.send(Released(number=ALL_BLOCKS))
        while self.link.waiting:
            self.link.flush()
            time.sleep(0.001)

    def _begin_again(self, again: Again) -> None:
        self.reader.rewind()
        number = self.position.number
        self.position = Position(turn=self.position.turn, number=number, sequence=again.sequence - 1, done=0)
        if self._target is not None and not self._is_behind(again.sequence) and not self._target.position.done:
            self._catch_up()  # there is nothing left to read again

    def _take(self, message: Message) -> bool:
        """Handle the next message of the lane; true at the end of the last pass."""
        sequence = self.position.sequence + 1
        behind = self._is_behind(sequence)
        self.hand.set(Word.SEQUENCE, sequence)
        match message:
            case Sealed(descriptor=descriptor):
                self._read(SealedBlock.unpack(descriptor), sequence, behind=behind)
            case Damaged(file=file, offset=offset, reason=reason):
                self._tell(sequence, frames.EventKind.CAPTURE_FILE_DAMAGED, file, offset, reason, behind=behind)
            case Lost(packets=packets, size=size, duration_ns=duration_ns):
                self._tell(sequence, frames.EventKind.GAP, packets, size, duration_ns, behind=behind)
            case Interface(up=up):
                self._tell(sequence, frames.EventKind.INTERFACE, int(up), 0, 0, behind=behind)
            case Stepped(by_ns=by_ns):
                self.engine.clock_stepped(by_ns)
                if self.settings.spool.lane == 0:  # the clock is one, whatever lanes are told
                    self._tell(sequence, frames.EventKind.CLOCK_STEPPED, abs(by_ns), int(by_ns < 0), 0, behind=behind)
                elif not behind:
                    self._commit(sequence)
            case Ended():
                return self._end_pass(sequence, behind=behind)
            case Released() | Analysed() | Resume() | Again():
                raise BoxError("link between capturer and worker", "a message of the wrong side", "This is a bug")
        target = self._target
        if target is not None and behind:
            self.position = Position(turn=self.position.turn, number=self.position.number, sequence=sequence, done=0)
            if not self._is_behind(sequence + 1) and not target.position.done:
                self._catch_up()
        return False

    def _tell(self, sequence: int, kind: frames.EventKind, *numbers: int, behind: bool) -> None:
        if not behind and self.position.number == 1:
            self.output.event(kind, *numbers)
        if not behind:
            self._commit(sequence)

    def _end_pass(self, sequence: int, *, behind: bool) -> bool:
        self._core(self.engine.finish)
        number = self.position.number
        if self._target is not None and behind and self._target.position != self._ended(sequence):
            self.dispatcher.turn(self.engine, muted=True)
        elif self._target is not None and behind:
            # The worker before had committed the end of this pass: nothing of it is written again.
            self.dispatcher.turn(self.engine, muted=True)
            self._catch_up()
        else:
            self.dispatcher.turn(self.engine)
            self.dispatcher.finish()
            self._commit(sequence)
        if number == self.dispatcher.passes:
            return True
        self.engine = self._new_engine()
        self._base = dict(self.counts.values)
        self.position = Position(turn=self.position.turn, number=number + 1, sequence=0, done=0)
        self.dispatcher.begin_pass(number + 1)
        self.link.send(Resume())
        self._expects_again = True
        return False

    def _ended(self, sequence: int) -> Position:
        turn = self._target.position.turn if self._target is not None else 0
        return Position(turn=turn, number=self.position.number, sequence=sequence, done=0)

    def _idle(self) -> None:
        """Nothing arrives: on a live lane time goes on all the same, so that flows time out.

        The wall clock may step; what has passed since the newest packet is measured by the other one.
        """
        if self.settings.live and self._newest_ns and self._target is None:
            passed = time.monotonic_ns() - self._newest_at_ns
            self._core(lambda: self.engine.expire(self._newest_ns + passed))
            self.dispatcher.turn(self.engine)
            self._commit(self.position.sequence)

    def _core(self, act: Callable[[], object]) -> object:
        self.hand.set(Word.UID, 0)
        self.hand.set(Word.PACKET, 0)
        self.hand.set(Word.PHASE, Phase.CORE)
        return act()

    def _read(self, block: SealedBlock, sequence: int, *, behind: bool) -> None:
        """Unseal a block and analyse it, or only read it again."""
        first_pass = self.position.number == 1
        self.hand.set(Word.BLOCK, block.number)
        try:
            length = self.reader.unseal(block, self.buffer)
        except TrafficError as refused:
            if not behind:
                if self._target is not None:
                    self._catch_up()
                self._refuse(block, refused, counted=first_pass)
                self.last_block = max(self.last_block, block.number + 1)
                self._commit(sequence)
            return
        plaintext = memoryview(self.buffer)[:length]
        if behind:
            while not self._core(lambda: self.engine.feed(block.format, plaintext, block.number)):
                self.dispatcher.turn(self.engine, muted=True)
            self.dispatcher.turn(self.engine, muted=True)
            return
        if self._target is not None:
            self._read_partly(block, plaintext, self._target.position.done)
        while not self._core(lambda: self.engine.feed(block.format, plaintext, block.number)):
            self.dispatcher.turn(self.engine)
            self._commit(sequence - 1, done=self.engine.fed())
        self.dispatcher.turn(self.engine)
        if first_pass:
            self.counts.add(Counter.BLOCKS_ANALYSED, 1)
            self.counts.add(Counter.BYTES_ANALYSED, length)
        self.last_block = max(self.last_block, block.number + 1)
        self._newest_ns, self._newest_at_ns = self.engine.clock()[1], time.monotonic_ns()
        self._commit(sequence)

    def _read_partly(self, block: SealedBlock, plaintext: memoryview, done: int) -> None:
        """Of this block the worker before had committed the first packets."""
        while self.engine.fed() < done:
            self._core(lambda: self.engine.feed(block.format, plaintext, block.number, done))
            self.dispatcher.turn(self.engine, muted=True)
        self._catch_up()

    def _refuse(self, block: SealedBlock, refused: TrafficError, *, counted: bool) -> None:
        if counted:
            self.counts.add(Counter.BLOCKS_REFUSED, 1)
            self.counts.add(Counter.PACKETS_DESTROYED, block.packet_count)
        reason = frames.REFUSALS.index(refused.kind) if refused.kind in frames.REFUSALS else 0
        self.output.event(frames.EventKind.BLOCK_REFUSED, block.number, block.packet_count, reason)

    # ---- committing ----

    def _commit(self, sequence: int, *, done: int = 0) -> None:
        """Everything up to here counts now."""
        position = Position(turn=self.position.turn + 1, number=self.position.number, sequence=sequence, done=done)
        if position.number == 1:
            self._count()
        next_uid, now_ns = self.engine.clock()
        commit = Commit(
            position=position,
            next_uid=next_uid,
            now_ns=now_ns,
            last_block=self.last_block,
            counts=self.counts.packed(),
        )
        self.ledger.append(self.engine.take_journal(), commit)
        self.output.commit((position.turn, position.number, position.sequence, position.done))
        self.position = position
        self.counts.publish(self.page)
        if self.last_block > self._told:
            self._told = self.last_block
            self.link.send(Analysed(number=self.last_block - 1))
        if self.ledger.has_grown:
            self.ledger.rewrite(self.engine.whole_journal(), commit)
        if self.dispatcher.passes == 1:
            self._release(commit)

    def _release(self, commit: Commit) -> None:
        """Give back blocks that no open flow began in, and those beyond what may be kept for a restart."""
        needed = self.engine.oldest_needed_block()
        keep_from = self.last_block if needed is None else min(needed, self.last_block)
        keep_from = max(keep_from, self.last_block - self.keep_blocks)
        if keep_from > self._released:
            if needed is not None and needed < keep_from > self._stranded:
                # Some blocks ahead, so that the open flows are gone through now and then only.
                self._stranded = keep_from + self.keep_blocks // _STRAND_AHEAD
                stranded = self.engine.strand(self._stranded)
                if stranded:
                    self.ledger.append((*NOTHING[:3], stranded), commit)
            self._released = keep_from
            self.link.send(Released(number=keep_from - 1))

    def _engine_counts(self) -> dict[Counter, int]:
        found = zip(self._engine_counters, self.engine.counter_values(), strict=True)
        return {counter: value for counter, value in found if counter is not None}

    def _count(self) -> None:
        for counter, value in self._engine_counts().items():
            self.counts.values[counter] = value + self._base.get(counter, 0)
        self.counts.values[Counter.MEMORY_BYTES] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def wipe(buffer: bytearray) -> None:
    """Overwrite with zeros."""
    memoryview(buffer)[:] = bytes(len(buffer))


def main() -> int:
    """Run as a jailed process."""
    keep_heap()
    settings = settings_of(WorkerSettings)
    bundle = open_bundle(os.pread(settings.bundle_fd, os.fstat(settings.bundle_fd).st_size, 0))
    worker = Worker(settings, bundle)
    lock_down("worker")
    try:
        worker.run()
    except BoxError:
        return EXIT_OURS
    return 0
