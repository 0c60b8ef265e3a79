"""The supervisor: starts the other processes, waits for them, and says how the run ended.

Secrets: none. It holds the descriptor of the key store to hand it to a worker that it starts, and maps it once: to
overwrite it, when everything is to be destroyed. Reads: the status of its children, the workers' hand pages. Writes:
orders to the capturer, the deaths of workers and the verdict to the releaser.
If it is taken over completely: can stop the run.

Rules of this file:
1. It is process 1 of the box: when it dies, however it dies, the kernel kills every other process of the box, and
   the keys with them.
2. First SIGTERM: capture stops, what is captured is analysed. Second, SIGQUIT, or the run's maximum age: everything is
   destroyed at once. The keys are overwritten before anything else, then capturer and workers die. It dies itself with
   the command that started the box.
3. A worker that dies or stands still is replaced (`restarts.py` says how often); its successor goes on behind the last
   turn that the releaser has.
4. A capturer that dies ends the run: keys are overwritten, ABORT is said if there is still somebody to say it.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import time
from contextlib import suppress
from types import FrameType

import msgspec

from bunker.closed.process import capturer as capturer_role
from bunker.closed.process import worker as worker_role
from bunker.closed.process.external import Keepers
from bunker.closed.process.hand import BUSY, HandReader, InHand, Phase
from bunker.closed.process.jail import Enforcement, JailSpec, Process, Role, spawn, surroundings
from bunker.closed.process.releaser import ACK, VIOLATED, WORKER_DEAD, Verdict
from bunker.closed.process.restarts import Cause, LaneRestarts, cause_of
from bunker.closed.process.settings import (
    FIRST_WORKER_UID,
    SpoolSettings,
    SupervisorSettings,
    encoded,
    settings_of,
)
from bunker.errors import BoxError
from bunker.native.jail import lock_down

EXIT_FAILED = 1
EXIT_DAMAGED = capturer_role.EXIT_DAMAGED
_WATCH_MS = 100
_ACK_S = 60.0
_RELEASER_UID, _CAPTURER_UID, _WORKER_UID = 1, 2, FIRST_WORKER_UID


def _spool(spool: SpoolSettings) -> dict[str, int]:
    """Files and keys of a lane."""
    files = {f"spool-{spool.lane}-{number}": fd for number, fd in enumerate(spool.file_fds)}
    return {f"keys-{spool.lane}": spool.keys_fd, **files}


class WatchedLane:
    """A lane's worker, what it has in hand, and its predecessors."""

    def __init__(self, hand_fd: int) -> None:
        self.hand = HandReader(hand_fd)
        self.restarts = LaneRestarts()
        self.ended = False
        self.stalled = False
        self._seen: InHand | None = None
        self._since_ns = 0

    def stands_still(self, now_ns: int, limit_ns: int) -> bool:
        """Whether a busy worker has not moved for too long."""
        hand = self.hand.read()
        if hand != self._seen or hand.phase not in BUSY:
            self._seen, self._since_ns = hand, now_ns
        return now_ns - self._since_ns > limit_ns


class Supervisor:
    """The children of a run."""

    def __init__(self, settings: SupervisorSettings) -> None:
        self.settings = settings
        self.terms = 0
        self.children: dict[str, Process] = {}
        self.lanes = [WatchedLane(worker.hand_fd) for worker in settings.workers]
        self.failed = self.damaged = False
        self.verdict: Verdict | None = None
        """Why everything was destroyed."""
        self.deadline = None if settings.max_age_ns is None else time.monotonic_ns() + settings.max_age_ns
        self.keepers = Keepers(
            settings.externals,
            memory_bytes=settings.worker_memory,
            first_uid=_WORKER_UID + len(settings.workers),
        )

    def start(self) -> None:
        """Start the workers, the capturer (which waits for its order), and the releaser, which tells what holds for
        all; then capture.
        """
        self.keepers.start()
        for worker in self.settings.workers:
            self._start_worker(worker.spool.lane)
        self._start_capturer()
        self._start_releaser()
        self._close_others()
        os.write(self.settings.orders_fd, b"g")

    def _start_worker(self, lane: int, turn: int | None = None) -> None:
        worker = self.settings.workers[lane]
        if turn is not None:
            worker = msgspec.structs.replace(worker, restart=self.lanes[lane].restarts.restart(turn))
        spec = JailSpec(
            role=Role.WORKER,
            descriptors={
                "bundle": worker.bundle_fd,
                "records": worker.records_fd,
                "link": worker.link_fd,
                "counters": worker.counters_fd,
                "hand": worker.hand_fd,
                "ledger": worker.ledger_fd,
                **{f"external-{number}": fd for number, fd in enumerate(worker.external_fds)},
                **_spool(worker.spool),
            },
            unread=("records",),
            uid=_WORKER_UID + lane,
            memory_bytes=self.settings.worker_memory,
            file_bytes=0,
        )
        self.children[f"worker {lane}"] = spawn(spec, "bunker.closed.process.worker", encoded(worker))

    def _start_capturer(self) -> None:
        capturer = self.settings.capturer
        links = {f"link-{lane.spool.lane}": lane.link_fd for lane in capturer.lanes}
        rings = {f"ring-{lane.spool.lane}": lane.ring_fd for lane in capturer.lanes if lane.ring_fd is not None}
        spec = JailSpec(
            role=Role.CAPTURER,
            descriptors={
                "counters": capturer.counters_fd,
                "orders": capturer.orders_fd,
                **links,
                **rings,
                **{f"file-{number}": fd for number, fd in enumerate(capturer.file_fds)},
                **{name: fd for lane in capturer.lanes for name, fd in _spool(lane.spool).items()},
            },
            # A packet socket can send: whoever takes over the capturer must not.
            writable=tuple(links),
            uid=_CAPTURER_UID,
        )
        self.children["capturer"] = spawn(spec, "bunker.closed.process.capturer", encoded(capturer))

    def _start_releaser(self) -> None:
        releaser = self.settings.releaser
        spec = JailSpec(
            role=Role.RELEASER,
            descriptors={
                "bundle": releaser.bundle_fd,
                "egress": releaser.egress_fd,
                "counters": releaser.counters_fd,
                "verdict": releaser.verdict_fd,
                "acks": releaser.acks_fd,
                **{f"attest-{number}": fd for number, fd in enumerate(releaser.attest_fds or ())},
                **{f"records-{number}": fd for number, fd in enumerate(releaser.records_fds)},
                **{f"page-{number}": fd for number, fd in enumerate(releaser.all_counters_fds)},
            },
            unread=("egress",),
            uid=_RELEASER_UID,
        )
        # The releaser's own is told by what its launch has in common with its siblings': the floor is the same for all.
        several = {name: child.enforcement for name, child in self.children.items()}
        several |= self.keepers.enforcement()
        several["supervisor"] = surroundings().enforcement
        told = msgspec.structs.replace(releaser, enforcement={**releaser.enforcement, **Enforcement.weakest(several)})
        self.children["releaser"] = spawn(spec, "bunker.closed.process.releaser", encoded(told))

    def _close_others(self) -> None:
        """Whatever no later worker needs is closed here: an end of file must mean that nobody is there any more."""
        settings = self.settings
        own = {settings.orders_fd, settings.verdict_fd, settings.acks_fd}
        capturer, releaser = settings.capturer, settings.releaser
        theirs = {capturer.counters_fd, capturer.orders_fd, *capturer.file_fds}
        for lane in capturer.lanes:
            theirs |= {lane.link_fd, *lane.spool.file_fds}
            if lane.ring_fd is not None:
                theirs.add(lane.ring_fd)
        theirs |= {releaser.egress_fd, releaser.counters_fd, releaser.verdict_fd, releaser.acks_fd}
        theirs |= {*releaser.records_fds, *releaser.all_counters_fds, *(releaser.attest_fds or ())}
        _close(theirs - own)

    def _close_lane(self, lane: int) -> None:
        """The lane gets no other worker."""
        worker = self.settings.workers[lane]
        self.lanes[lane].ended = True
        _close({worker.records_fd, worker.link_fd, worker.counters_fd, worker.hand_fd, worker.ledger_fd})
        _close(set(worker.spool.file_fds))

    def on_term(self, _number: int, _frame: FrameType | None) -> None:
        """First: stop capture. Second: destroy."""
        self.terms += 1
        if self.terms == 1:
            with suppress(OSError):
                os.write(self.settings.orders_fd, b"s")
        else:
            self._destroy(Verdict.OPERATOR)

    def on_quit(self, _number: int, _frame: FrameType | None) -> None:
        """Destroy at once."""
        self._destroy(Verdict.OPERATOR)

    def _destroy(self, verdict: Verdict) -> None:
        """Everything: the keys first."""
        for lane in self.settings.capturer.lanes:
            overwrite(lane.spool.keys_fd)
        self.verdict = self.verdict or verdict
        self._kill_all_but_releaser()

    def _kill_all_but_releaser(self) -> None:
        self.failed = True
        for name, child in self.children.items():
            if name != "releaser":
                child.kill()
        for number, lane in enumerate(self.lanes):
            if not lane.ended:
                self._close_lane(number)
        self.keepers.end()

    def run(self) -> int:
        """Until all children are gone. 0 if the run ended whole, EXIT_DAMAGED if it did but for a damaged capture
        file.
        """
        told = False
        while self.children:
            try:
                self._turn()
            except Exception:
                # Whatever it is, it must not cost the last word: keys first, then ABORT. What fails again ends here.
                if self.failed:
                    raise
                self._destroy(Verdict.CHILD_FAILED)
            if not told and not self.children.keys() - {"releaser"}:
                told = True
                self._tell()
        if self.failed:
            return EXIT_FAILED
        return EXIT_DAMAGED if self.damaged else 0

    def _turn(self) -> None:
        """Wait for something to happen, and see to it."""
        poll = select.poll()
        # One that ended while another was seen to (two die of one disk) has no descriptor left: it is seen to below.
        running = [child for child in self.children.values() if child.poll() is None]
        for child in running:
            poll.register(child.fileno(), select.POLLIN)
        for fd in self.keepers.filenos():
            poll.register(fd, select.POLLIN)
        if not self.failed:
            poll.register(self.settings.acks_fd, select.POLLIN)
        patience_ms = _WATCH_MS if len(running) == len(self.children) else 0
        self._hear_releaser(dict(poll.poll(patience_ms)).get(self.settings.acks_fd, 0))
        self._watch(time.monotonic_ns())
        self._tend_keepers()
        for name, child in list(self.children.items()):
            status = child.poll()
            if status is not None:
                del self.children[name]
                self._ended(name, status)

    def _hear_releaser(self, events: int) -> None:
        """Unasked it says one thing only: that the policy was violated, and that this destroys the run."""
        if events & select.POLLIN and not self.failed:
            self._acknowledged()

    def _acknowledged(self) -> tuple[int, bool, int] | None:
        ack = os.read(self.settings.acks_fd, ACK.size)
        if len(ack) != ACK.size:
            return None
        lane, usable, turn = ACK.unpack(ack)
        if lane == VIOLATED:
            self._destroy(Verdict.POLICY)
            return None
        return lane, usable, turn

    def _ended(self, name: str, status: int) -> None:
        if self.failed:
            return
        kind, _, number = name.partition(" ")
        if kind == "worker":
            self._worker_ended(int(number), status)
        elif name == "capturer" and status == EXIT_DAMAGED:
            self.damaged = True
        elif status != 0:
            self._destroy(Verdict.CHILD_FAILED)

    def _tend_keepers(self) -> None:
        """External programs live as long as there is a worker to ask them."""
        if not any(name.startswith("worker") for name in self.children):
            self.keepers.end()
        elif not self.failed:
            try:
                self.keepers.tend()
            except BoxError:
                self._destroy(Verdict.CHILD_FAILED)

    def _watch(self, now_ns: int) -> None:
        """Kill what stands still, and everything when its time has come."""
        if self.deadline is not None and now_ns >= self.deadline and not self.failed:
            self._destroy(Verdict.MAXIMUM_AGE)
        for number, lane in enumerate(self.lanes):
            worker = self.children.get(f"worker {number}")
            if worker is not None and not lane.stalled and lane.stands_still(now_ns, self.settings.stall_ns):
                lane.stalled = True
                worker.kill()

    def _worker_ended(self, number: int, status: int) -> None:
        """In order, or another takes its place behind the last turn that counts."""
        lane = self.lanes[number]
        hand = lane.hand.read()
        if hand.phase is Phase.ENDED:
            self._close_lane(number)
            return
        if status == worker_role.EXIT_OURS:
            self._destroy(Verdict.CHILD_FAILED)
            return
        lane.restarts.died(hand, Cause.TIME if lane.stalled else cause_of(status))
        lane.stalled = False
        turn = self._last_turn(number)
        if turn is None or self.failed:
            self._destroy(Verdict.CHILD_FAILED)
        elif not lane.restarts.granted(turn):
            self._destroy(Verdict.ANALYSIS_FAILS)
        else:
            try:
                self._start_worker(number, turn)
                if self.failed:  # a second SIGTERM came meanwhile
                    self.children[f"worker {number}"].kill()
            except BoxError:
                self._destroy(Verdict.CHILD_FAILED)

    def _last_turn(self, number: int) -> int | None:
        """Have the releaser forget what the dead worker did not commit; None: it does not go on with this lane."""
        try:
            os.write(self.settings.verdict_fd, WORKER_DEAD + bytes([number]))
        except OSError:
            return None
        if not select.select([self.settings.acks_fd], [], [], _ACK_S)[0]:
            return None
        ack = self._acknowledged()
        if ack is None:
            return None
        lane, usable, turn = ack
        return turn if usable and lane == number else None

    def _tell(self) -> None:
        if self.verdict is not None:
            verdict = self.verdict
        elif self.terms:
            verdict = Verdict.INTERRUPTED
        else:
            live = self.settings.capturer.lanes[0].ring_fd is not None
            verdict = Verdict.DURATION if live else Verdict.DONE
        with suppress(OSError):
            os.write(self.settings.verdict_fd, verdict.value)


def _close(fds: set[int]) -> None:
    for fd in fds:
        with suppress(OSError):
            os.close(fd)


def overwrite(keys_fd: int) -> None:
    """Zero every key in the store: from here on what the spool holds is noise, whoever still maps it."""
    with suppress(OSError, ValueError):
        length = os.fstat(keys_fd).st_size
        with mmap.mmap(keys_fd, length, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE) as store:
            store[:] = bytes(length)


def main() -> int:
    """Run as process 1 of the box."""
    supervisor = Supervisor(settings_of(SupervisorSettings))
    signal.signal(signal.SIGTERM, supervisor.on_term)
    signal.signal(signal.SIGQUIT, supervisor.on_quit)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    supervisor.start()
    lock_down("supervisor")
    return supervisor.run()
