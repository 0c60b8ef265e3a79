"""What a machine sends is carried on as a process box's is: over a break, to a file, and until the plug is pulled."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from enveloping import record

from bunker.cli.machine import Onward
from bunker.errors import ConfigurationError

ENVELOPES = record().envelopes
STREAM = b"".join(ENVELOPES)


class Carrying:
    """`Onward.carry` in a thread; the machine's end of its connection."""

    def __init__(self, onward: Onward, *, patience_s: float = 20) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.machine = socket.create_connection(listener.getsockname())
        reading, _ = listener.accept()
        listener.close()
        self.delivered: bool | None = None
        self.hurry: Callable[[], None] = lambda: None

        def run() -> None:
            self.delivered = onward.carry(reading.detach(), patience_s=patience_s, hurry=self._when_destroyed)

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def _when_destroyed(self, call: Callable[[], None]) -> None:
        self.hurry = call

    def pull_the_plug(self) -> None:
        """A process that is killed with unread bytes resets its connections."""
        self.machine.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.machine.close()

    def wait(self) -> bool:
        self._thread.join(60)
        assert self.delivered is not None
        return self.delivered


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        yield listener


def _target(receiver: socket.socket) -> str:
    return "{}:{}".format(*receiver.getsockname())


def _all_of(connection: socket.socket) -> bytes:
    connection.settimeout(20)
    found = b""
    with connection, suppress(ConnectionResetError):
        while piece := connection.recv(1 << 16):
            found += piece
    return found


def test_a_receiver_that_dies_is_found_again(receiver: socket.socket) -> None:
    carrying = Carrying(Onward(_target(receiver), sealed=False))
    first, _ = receiver.accept()
    half = len(STREAM) // 2
    carrying.machine.sendall(STREAM[:half])
    first.settimeout(20)
    assert first.recv(10)
    first.close()  # with unread bytes: a reset, as of a process that was killed
    second, _ = receiver.accept()
    carrying.machine.sendall(STREAM[half:])
    carrying.machine.close()
    assert _all_of(second) == STREAM
    assert carrying.wait()


def test_a_receiver_that_stays_away_is_told(receiver: socket.socket) -> None:
    carrying = Carrying(Onward(_target(receiver), sealed=False), patience_s=0.5)
    first, _ = receiver.accept()
    receiver.close()
    first.close()
    carrying.machine.sendall(STREAM)
    carrying.machine.close()
    assert not carrying.wait()


def test_a_plug_that_is_pulled_ends_the_stream(receiver: socket.socket) -> None:
    carrying = Carrying(Onward(_target(receiver), sealed=False))
    first, _ = receiver.accept()
    carrying.machine.sendall(ENVELOPES[0])
    first.settimeout(20)
    begun = first.recv(len(ENVELOPES[0]))
    carrying.pull_the_plug()
    assert begun + _all_of(first) == ENVELOPES[0]
    assert carrying.wait()


def test_a_run_that_is_destroyed_does_not_wait_for_its_receiver(receiver: socket.socket) -> None:
    carrying = Carrying(Onward(_target(receiver), sealed=False), patience_s=3600)
    first, _ = receiver.accept()
    receiver.close()
    first.close()
    carrying.machine.sendall(STREAM)
    carrying.pull_the_plug()
    time.sleep(0.5)
    carrying.hurry()
    assert not carrying.wait()


def test_a_file_gets_every_byte_and_is_never_replaced(tmp_path: Path) -> None:
    file = tmp_path / "run.stream"
    carrying = Carrying(Onward(str(file), sealed=False))
    carrying.machine.sendall(STREAM)
    carrying.machine.close()
    assert carrying.wait()
    assert file.read_bytes() == STREAM
    with pytest.raises(ConfigurationError, match="exists already"):
        Onward(str(file), sealed=False)


def test_nobody_who_answers_is_said_before_the_machine_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        target = _target(gone)
    with pytest.raises(ConfigurationError):
        Onward(target, sealed=False)
