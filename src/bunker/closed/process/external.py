"""The keeper of an external program: starts it, carries lines to it and from it, and ends with it.

Secrets: the messages of one lane that its analyzer subscribes to. Reads and writes: one dialogue with the worker, pipes
to its program. If it or its program is taken over completely: sees those messages; has no network, no files to
write; what it answers is checked against the analyzer's records, and goes through the policy.

    supervisor ──spawn──▶ keeper, process 1 of a pid namespace ──fork, exec──▶ program

Rules of this file:
1. A keeper has one program. Whatever goes wrong with that, the keeper ends, and the kernel ends whatever the program
   had started; the supervisor starts another keeper. The program itself starts only when there is something for it.
2. The keeper looks at no line: limits and records are the worker's business.
3. Towards the worker one piece is held; towards the program as much as the worker lets be under way
   (EXTERNAL_WINDOW_BYTES, or one message): the worker must always be heard, or nobody could end a program that does
   not read.
4. An exec makes a process dumpable again, so its own uid may attach to the program: a box that gives every process a
   uid of its own is needed (root starts it), and the start statement says `not_dumpable` is missing for the program.
"""

from __future__ import annotations

import os
import secrets
import select
import signal
import subprocess
import sys
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from bunker.closed.analyze.dialogue import PIECE_BYTES, TOKEN_BYTES, Channel, Word
from bunker.closed.process.settings import ExternalSettings, settings_of
from bunker.errors import BoxError
from bunker.native.jail import Entry, lock_down

if TYPE_CHECKING:
    from bunker.closed.process.jail import Enforcement, Process

EXIT_DONE = 0
EXIT_AGAIN = 75
"""The program is gone, or must go: another keeper is wanted."""


class Keeper:
    """One program, from its first message to its end."""

    def __init__(self, settings: ExternalSettings) -> None:
        self._settings = settings
        self._channel = Channel(settings.link_fd, keeper=True)
        self._token = secrets.token_bytes(TOKEN_BYTES)
        self._program: subprocess.Popen[bytes] | None = None
        self._input = self._output = -1
        self._unwritten: deque[memoryview] = deque()
        self._finishing = False

    def run(self) -> int:
        """Until the program is gone, or must go."""
        self._channel.say(Word.HELLO, self._token)
        try:
            while True:
                self._wait()
                self._channel.flush()
                if not self._listen():
                    return EXIT_AGAIN
                self._write()
                if self._program is not None and not self._channel.waiting and not self._read():
                    return self._ended()
        except EOFError:
            return EXIT_DONE  # the box is ending
        finally:
            self._kill()

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._channel.fileno(), select.POLLIN | (select.POLLOUT if self._channel.waiting else 0))
        if self._output >= 0 and not self._channel.waiting:
            poll.register(self._output, select.POLLIN)
        if self._unwritten and self._input >= 0:
            poll.register(self._input, select.POLLOUT)
        poll.poll()

    def _listen(self) -> bool:
        """What the worker says, one message; False: end."""
        said = self._channel.hear()
        if said is None:
            return True
        if said.word is Word.ASK:
            if self._program is not None:
                return False
            self._channel.say(Word.HELLO, self._token)
        elif said.token != self._token:
            return True
        elif said.word is Word.RESET:
            return False
        else:
            if self._program is None:
                self._start()
            if said.word is Word.FINISH:
                self._finishing = True
            elif self._input >= 0:
                self._unwritten.append(memoryview(said.body))
        return True

    def _start(self) -> None:
        settings = self._settings
        self._program = subprocess.Popen(
            settings.argv,
            executable=settings.executable,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Standard error stays the keeper's: /dev/null in a box, the terminal in diagnostic mode.
            cwd=settings.directory,
            env={"LANG": "C.UTF-8", "TZ": "UTC", "PATH": "/usr/bin:/bin"},
            close_fds=True,
            start_new_session=settings.own_session,
        )
        assert self._program.stdin is not None and self._program.stdout is not None
        self._input, self._output = self._program.stdin.fileno(), self._program.stdout.fileno()
        os.set_blocking(self._input, False)
        os.set_blocking(self._output, False)

    def _write(self) -> None:
        try:
            while self._unwritten and self._input >= 0:
                rest = self._unwritten[0][os.write(self._input, self._unwritten[0]) :]
                if rest:
                    self._unwritten[0] = rest
                else:
                    self._unwritten.popleft()
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._close_input()  # its end is seen where its output ends
        if self._finishing and not self._unwritten:
            self._close_input()

    def _read(self) -> bool:
        """Tell the worker what the program wrote; False: its output has ended."""
        try:
            piece = os.read(self._output, PIECE_BYTES)
        except BlockingIOError:
            return True
        if not piece:
            return False
        self._channel.say(Word.TOOK, self._token, piece)
        return True

    def _ended(self) -> int:
        """The output has ended: say so. Only an end that was asked for, with exit code 0, is a good one."""
        assert self._program is not None
        good = False
        if self._finishing:
            with suppress(subprocess.TimeoutExpired):
                good = self._program.wait(timeout=1) == 0
        self._channel.say(Word.ENDED, self._token, b"\1" if good else b"\0")
        while self._channel.waiting:
            self._channel.wait(1)
        return EXIT_DONE if good else EXIT_AGAIN

    def _close_input(self) -> None:
        self._unwritten.clear()
        if self._program is not None and self._program.stdin is not None and self._input >= 0:
            self._program.stdin.close()
            self._input = -1

    def _kill(self) -> None:
        """In a box the end of this process does it; in diagnostic mode this."""
        if self._program is not None and self._settings.own_session and self._program.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._program.pid, signal.SIGKILL)


class Keepers:
    """The keepers of a run, as the supervisor sees them: starts them, starts them again, ends them.

    Args:
        settings: One for each lane and external analyzer.
        memory_bytes: Address space of a program.
        first_uid: Uid of the first; the others follow.
    """

    def __init__(self, settings: list[ExternalSettings], *, memory_bytes: int, first_uid: int) -> None:
        self._settings, self._memory_bytes, self._first_uid = settings, memory_bytes, first_uid
        self._running: dict[int, Process] = {}
        self.restarts = 0

    def start(self) -> None:
        """Start all.

        Raises:
            BoxError: this box cannot hold a program: processes share a uid, or one could outlive its keeper.
        """
        for number in range(len(self._settings)):
            self._spawn(number)

    def _spawn(self, number: int) -> None:
        from bunker.closed.process.jail import JailSpec, Role, spawn  # noqa: PLC0415 - not needed by a keeper

        settings = self._settings[number]
        spec = JailSpec(
            role=Role.EXTERNAL,
            descriptors={"link": settings.link_fd},
            uid=self._first_uid + number,
            memory_bytes=self._memory_bytes,
            file_bytes=0,
        )
        process = spawn(spec, "bunker.closed.process.external", msgspec.json.encode(settings).decode())
        if not (process.enforcement.holds("uid_range") and process.enforcement.holds("pid_namespace")):
            process.kill()
            raise BoxError(
                "external analyzers", "need a uid and a pid namespace for every process", "Start the run as root"
            )
        self._running[number] = process

    def enforcement(self) -> dict[str, Enforcement]:
        """What holds for each program."""
        return {f"external {number}": _of_program(process.enforcement) for number, process in self._running.items()}

    def filenos(self) -> list[int]:
        """For poll: readable when one has ended."""
        return [process.fileno() for process in self._running.values()]

    def tend(self) -> None:
        """Start those again that ended because of their program.

        Raises:
            BoxError: a launch failed.
        """
        for number, process in list(self._running.items()):
            status = process.poll()
            if status is not None:
                del self._running[number]
                if status != EXIT_DONE:
                    self.restarts += 1
                    self._spawn(number)

    def end(self) -> None:
        """Kill all: what they hold is raw."""
        for process in self._running.values():
            process.kill()
            process.wait()
        self._running.clear()


def _of_program(enforcement: Enforcement) -> Enforcement:
    """What still holds after the exec."""
    lost = {"not_dumpable": "its program can be attached to by its uid, which nobody else has"}
    entries = (
        Entry(name=entry.name, enforced=False, detail=lost[entry.name]) if entry.name in lost else entry
        for entry in enforcement.entries
    )
    return type(enforcement)(entries=tuple(entries))


class PlainKeepers:
    """Keepers without a jail, for diagnostic mode; started again when the worker finds nobody.

    Args:
        settings: As `Keepers`; `link_fd` is each keeper's end.
    """

    def __init__(self, settings: list[ExternalSettings]) -> None:
        self._settings = settings
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def revive(self) -> None:
        """Start those that do not run, unless they had finished."""
        for number, settings in enumerate(self._settings):
            process = self._running.get(number)
            if process is None or process.poll() not in {None, EXIT_DONE}:
                self._running[number] = subprocess.Popen(
                    [sys.executable, "-m", __name__, msgspec.json.encode(settings).decode()],
                    pass_fds=[settings.link_fd],
                )

    def end(self) -> None:
        """Close their ends and wait."""
        for settings in self._settings:
            os.close(settings.link_fd)
        for process in self._running.values():
            process.terminate()
            process.wait()


def main() -> int:
    """Run as a jailed process."""
    keeper = Keeper(settings_of(ExternalSettings))
    lock_down("external")
    return keeper.run()


if __name__ == "__main__":  # without a jail: diagnostic mode
    sys.exit(Keeper(settings_of(ExternalSettings)).run())
