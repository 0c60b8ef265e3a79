"""The supervisor: starts the other processes, waits for them, and says how the run ended.

Secrets: none. It holds the descriptor of the key store to hand it to a worker that it starts, and maps it never.
Reads: the status of its children. Writes: counters. If it is taken over completely: can stop the run.

Rules of this file:
1. It is PID 1 of the box: when it dies, however it dies, the kernel kills every other process of the box, and the keys with them.
2. First signal (SIGTERM or SIGINT): capture stops, what is captured is analysed. Second signal: everything is destroyed at once;
   capturer and workers die first, and with their last reference the kernel wipes the keys.
3. A capturer or releaser that dies ends the run: ABORTED is said if there is still somebody to say it.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from types import FrameType

from bunker.closed.process.jail import Child, JailSpec, spawn
from bunker.closed.process.settings import SupervisorSettings, encoded, settings_of
from bunker.model.counters import Counter, CounterPage
from bunker.native.jail import lock_down

_CAPTURER, _RELEASER, _SUPERVISOR_EXIT_FAILED = "capturer", "releaser", 1


class Supervisor:
    """The children of a run."""

    def __init__(self, settings: SupervisorSettings) -> None:
        self.settings = settings
        self.counters = CounterPage.attach(settings.counters_fd, writable=True)
        self.signals = 0
        self.children: dict[str, Child] = {}
        self.failed = False

    def start(self) -> None:
        """Start the releaser first (somebody must be there to speak), then the workers, then the capturer."""
        settings = self.settings
        releaser = settings.releaser
        self._spawn(
            JailSpec.releaser(),
            encoded(releaser),
            [
                releaser.bundle_fd,
                releaser.egress_fd,
                releaser.counters_fd,
                releaser.verdict_fd,
                *releaser.records_fds,
                *releaser.all_counters_fds,
            ],
        )
        for worker in settings.workers:
            self._spawn(
                JailSpec.worker(lane=worker.lane, memory=settings.memory_worker),
                encoded(worker),
                [
                    worker.bundle_fd,
                    worker.records_fd,
                    worker.link_fd,
                    worker.keys_fd,
                    worker.counters_fd,
                    *worker.spool.file_fds,
                ],
            )
        capturer = settings.capturer
        self._spawn(
            JailSpec.capturer(),
            encoded(capturer),
            [
                capturer.keys_fd,
                capturer.counters_fd,
                capturer.stop_fd,
                *capturer.file_fds,
                *(lane.link_fd for lane in capturer.lanes),
                *(fd for lane in capturer.lanes for fd in lane.spool.file_fds),
                *(lane.ring_fd for lane in capturer.lanes if lane.ring_fd is not None),
            ],
        )
        # Whatever only the children need is closed here: an end of file must mean that the process at the other end is gone,
        # and the keys must vanish with the processes that use them.
        for fd in settings.close_fds:
            with suppress(OSError):
                os.close(fd)

    def _spawn(self, spec: JailSpec, argument: str, fds: list[int]) -> None:
        child = spawn(spec, argument, fds)
        self.children[spec.name] = child

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """First: stop capture. Second: destroy."""
        self.signals += 1
        if self.signals == 1:
            with suppress(OSError):
                os.write(self.settings.stop_fd, b"s")
        else:
            self._destroy()

    def _destroy(self) -> None:
        self.failed = True
        for name, child in self.children.items():
            if name != _RELEASER:
                with suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGKILL)

    def run(self) -> int:
        """Until all children are gone. 0 if the run ended whole."""
        by_pid = {child.pid: name for name, child in self.children.items()}
        waiting = set(by_pid)
        told = False
        while waiting:
            try:
                pid, status = os.waitpid(-1, 0)
            except InterruptedError:
                continue
            except ChildProcessError:
                break
            if pid not in waiting:
                continue
            waiting.discard(pid)
            name = by_pid[pid]
            if status != 0:
                self.failed = True
                self.counters.add(Counter.PROCESSES_LOST, 1)
                if name == _RELEASER:
                    self._destroy()
                    break
                self._destroy()
            if not told and all(by_pid[other] == _RELEASER for other in waiting):
                told = True
                self._tell()
        return _SUPERVISOR_EXIT_FAILED if self.failed else 0

    def _tell(self) -> None:
        if self.failed:
            word = b"A"
        else:
            word = b"I" if self.signals else b"D"
        with suppress(OSError):
            os.write(self.settings.verdict_fd, word)


def main() -> int:
    """Run as PID 1 of the box."""
    settings = settings_of(SupervisorSettings)
    supervisor = Supervisor(settings)
    signal.signal(signal.SIGTERM, supervisor.on_signal)
    signal.signal(signal.SIGINT, supervisor.on_signal)
    supervisor.start()
    lock_down("supervisor")
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
