"""The supervisor: starts the other processes, waits for them, and says how the run ended.

Secrets: none. It holds the descriptor of the key store to hand it to a worker that it starts, and maps it never.
Reads: the status of its children. Writes: orders to the capturer, the verdict to the releaser.
If it is taken over completely: can stop the run.

Rules of this file:
1. It is process 1 of the box: when it dies, however it dies, the kernel kills every other process of the box, and
   the keys with them.
2. First SIGTERM: capture stops, what is captured is analysed. Second: everything is destroyed at once; capturer and
   workers die
   first, and with their last reference the kernel frees the keys' memory. It dies itself with the command that
   started the box.
3. A capturer or worker that dies ends the run: ABORT is said if there is still somebody to say it.
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from types import FrameType

import msgspec

from bunker.closed.process import capturer as capturer_role
from bunker.closed.process.external import Keepers
from bunker.closed.process.jail import Enforcement, JailSpec, Process, Role, spawn, surroundings
from bunker.closed.process.releaser import Verdict
from bunker.closed.process.settings import (
    FIRST_WORKER_UID,
    SpoolSettings,
    SupervisorSettings,
    encoded,
    settings_of,
)
from bunker.native.jail import lock_down

EXIT_FAILED = 1
EXIT_DAMAGED = capturer_role.EXIT_DAMAGED
_RELEASER_UID, _CAPTURER_UID, _WORKER_UID = 1, 2, FIRST_WORKER_UID


def _spool(spool: SpoolSettings) -> dict[str, int]:
    """Files and keys of a lane."""
    files = {f"spool-{spool.lane}-{number}": fd for number, fd in enumerate(spool.file_fds)}
    return {f"keys-{spool.lane}": spool.keys_fd, **files}


class Supervisor:
    """The children of a run."""

    def __init__(self, settings: SupervisorSettings) -> None:
        self.settings = settings
        self.terms = 0
        self.children: dict[str, Process] = {}
        self.keepers = Keepers(
            settings.externals,
            memory_bytes=settings.worker_memory,
            first_uid=_WORKER_UID + len(settings.workers),
        )
        self.failed = self.damaged = self.destroyed = False

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

    def _start_worker(self, lane: int) -> None:
        worker = self.settings.workers[lane]
        spec = JailSpec(
            role=Role.WORKER,
            descriptors={
                "bundle": worker.bundle_fd,
                "records": worker.records_fd,
                "link": worker.link_fd,
                "counters": worker.counters_fd,
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
        """Whatever only the children need is closed here: an end of file must mean that the process at the other end
        is gone, and the keys must vanish with the processes that use them."""
        settings = self.settings
        own = {settings.orders_fd, settings.verdict_fd}
        capturer, releaser = settings.capturer, settings.releaser
        theirs = {capturer.counters_fd, capturer.orders_fd, *capturer.file_fds}
        for lane in capturer.lanes:
            theirs |= {lane.link_fd, *_spool(lane.spool).values()}
            if lane.ring_fd is not None:
                theirs.add(lane.ring_fd)
        for worker in settings.workers:
            theirs |= {worker.bundle_fd, worker.records_fd, worker.link_fd, worker.counters_fd}
            theirs |= {*_spool(worker.spool).values()}
        theirs |= {releaser.bundle_fd, releaser.egress_fd, releaser.counters_fd, releaser.verdict_fd}
        theirs |= {*releaser.records_fds, *releaser.all_counters_fds}
        for fd in theirs - own:
            with suppress(OSError):
                os.close(fd)

    def on_term(self, _number: int, _frame: FrameType | None) -> None:
        """First: stop capture. Second: destroy."""
        self.terms += 1
        if self.terms == 1:
            with suppress(OSError):
                os.write(self.settings.orders_fd, b"s")
        else:
            self.destroyed = True
            self._kill_all_but_releaser()

    def _kill_all_but_releaser(self) -> None:
        self.failed = True
        for name, child in self.children.items():
            if name != "releaser":
                child.kill()
        self.keepers.end()

    def run(self) -> int:
        """Until all children are gone. 0 if the run ended whole, EXIT_DAMAGED if it did but for a damaged capture
        file.
        """
        told = False
        waiting = dict(self.children)
        while waiting:
            poll = select.poll()
            for child in waiting.values():
                poll.register(child.fileno(), select.POLLIN)
            for fd in self.keepers.filenos():
                poll.register(fd, select.POLLIN)
            poll.poll(1000)
            if any(name.startswith("worker") for name in waiting):
                self.keepers.tend()
            else:
                self.keepers.end()
            for name, child in list(waiting.items()):
                status = child.poll()
                if status is not None:
                    del waiting[name]
                    self._ended(name, status)
            if not told and not waiting.keys() - {"releaser"}:
                told = True
                self._tell()
        if self.failed:
            return EXIT_FAILED
        return EXIT_DAMAGED if self.damaged else 0

    def _ended(self, name: str, status: int) -> None:
        if name == "capturer" and status == EXIT_DAMAGED:
            self.damaged = True
        elif status != 0:
            self._kill_all_but_releaser()

    def _tell(self) -> None:
        if self.destroyed:
            verdict = Verdict.OPERATOR
        elif self.failed:
            verdict = Verdict.CHILD_FAILED
        elif self.terms:
            verdict = Verdict.INTERRUPTED
        else:
            live = self.settings.capturer.lanes[0].ring_fd is not None
            verdict = Verdict.DURATION if live else Verdict.DONE
        with suppress(OSError):
            os.write(self.settings.verdict_fd, verdict.value)


def main() -> int:
    """Run as process 1 of the box."""
    supervisor = Supervisor(settings_of(SupervisorSettings))
    signal.signal(signal.SIGTERM, supervisor.on_term)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    supervisor.start()
    lock_down("supervisor")
    return supervisor.run()
