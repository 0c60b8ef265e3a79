"""The relay goes on after a break without losing or doubling anything, is bounded, and knows when the end is taken."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from enveloping import cut, record

from bunker.closed.egress.relay import Relay
from bunker.closed.egress.seal import Sealer
from bunker.errors import ConfigurationError
from bunker.open.unseal import Unsealer
from bunker.open.verifier import StreamVerifier

WHOLE = record().envelopes
STREAM = b"".join(WHOLE)


class Listener:
    """A receiver's listening socket and what its connections brought."""

    def __init__(self, family: int) -> None:
        if family == socket.AF_UNIX:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.bind("\0bunker-relay-" + os.urandom(8).hex())
            self.socket.listen()
        else:
            self.socket = socket.create_server(("127.0.0.1", 0))
        self.tries = 0
        self.down = False

    def connect(self) -> int:
        self.tries += 1
        if self.down:
            raise ConfigurationError("target", "does not answer", "")
        end = socket.socket(self.socket.family)
        end.connect(self.socket.getsockname())
        return end.detach()

    def accept(self) -> socket.socket:
        self.socket.settimeout(20)
        connection, _ = self.socket.accept()
        connection.settimeout(20)
        return connection


class Clock:
    """Time that moves when somebody waits, and by a second when it is asked for."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        time.sleep(0.001)


@pytest.fixture(params=[socket.AF_UNIX, socket.AF_INET])
def listener(request: pytest.FixtureRequest) -> Iterator[Listener]:
    made = Listener(request.param)
    yield made
    made.socket.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def started(
    listener: Listener, *, patience_s: float = 60, sealed: bool = False
) -> tuple[int, Relay, list[str], threading.Thread, list[bool]]:
    """A relay at work in a thread: (the box's end of the pipe, relay, lines for the operator, thread, its answer)."""
    reading, writing = os.pipe()
    told: list[str] = []
    answers: list[bool] = []
    relay = Relay(
        reading,
        listener.connect(),
        connect=listener.connect,
        clock=time.monotonic,
        tell=told.append,
        sleep=time.sleep,
        patience_s=patience_s,
        sealed=sealed,
    )
    thread = threading.Thread(target=lambda: answers.append(relay.run()), daemon=True)
    thread.start()
    return writing, relay, told, thread, answers


def read_to_end(connection: socket.socket) -> bytes:
    out = bytearray()
    while piece := connection.recv(65_536):
        out += piece
    return bytes(out)


def test_what_the_box_writes_arrives_as_it_was(listener: Listener) -> None:
    writing, _, told, thread, answers = started(listener)
    connection = listener.accept()
    os.write(writing, STREAM)
    os.close(writing)
    with connection:
        assert read_to_end(connection) == STREAM
    thread.join(20)
    assert answers == [True]
    assert told == []


def test_after_a_break_nothing_is_missing_and_repeats_are_whole_envelopes(listener: Listener) -> None:
    writing, _, told, thread, answers = started(listener)
    first = listener.accept()
    half = len(STREAM) // 2
    os.write(writing, STREAM[:half])
    first.recv(100)
    first.close()  # with bytes unread: a reset
    second = listener.accept()
    os.write(writing, STREAM[half:])
    os.close(writing)
    with second:
        again = read_to_end(second)
    thread.join(20)
    assert answers == [True]
    assert again == STREAM, "so short a stream is repeated from its start"
    verifier = StreamVerifier()
    for envelope in cut(again):
        verifier.feed(envelope)
    assert verifier.ended is not None
    assert "gone" in told[0]
    assert "back" in told[1]


def test_a_receiver_that_dies_with_the_end_unread_gets_it_again(listener: Listener) -> None:
    writing, _, _, thread, answers = started(listener)
    first = listener.accept()
    os.write(writing, STREAM)
    os.close(writing)
    time.sleep(0.3)  # everything is in the other kernel, and nobody has read it
    first.close()
    with listener.accept() as second:
        assert read_to_end(second) == STREAM
    thread.join(20)
    assert answers == [True]


def test_an_open_box_that_stays_away_is_given_up_after_the_end(listener: Listener) -> None:
    writing, _, told, thread, answers = started(listener, patience_s=0.5)
    first = listener.accept()
    listener.down = True
    first.close()
    for envelope in WHOLE:
        os.write(writing, envelope)
        time.sleep(0.02)
    os.close(writing)
    thread.join(30)
    assert answers == [False]
    assert len(told) == 1
    assert 1 < listener.tries < 30, "tries become rarer"


def test_while_the_open_box_is_away_the_box_is_not_given_up(listener: Listener) -> None:
    writing, _, _, thread, answers = started(listener, patience_s=0.1)
    first = listener.accept()
    listener.down = True
    first.close()
    os.write(writing, WHOLE[0])
    time.sleep(0.2)
    os.write(writing, WHOLE[1])
    time.sleep(1.0)
    assert thread.is_alive(), "patience begins with the end of the run"
    listener.down = False
    second = listener.accept()
    os.write(writing, b"".join(WHOLE[2:]))
    os.close(writing)
    with second:
        assert read_to_end(second) == STREAM
    thread.join(20)
    assert answers == [True]


def test_in_a_hurry_patience_is_short(listener: Listener) -> None:
    clock = Clock()
    reading, writing = os.pipe()
    fd = listener.connect()
    first = listener.accept()
    listener.down = True
    first.close()
    relay = Relay(
        reading,
        fd,
        connect=listener.connect,
        clock=clock,
        tell=lambda _line: None,
        sleep=clock.sleep,
    )
    os.write(writing, STREAM)
    os.close(writing)
    relay.hurry()
    assert not relay.run()


def test_the_pipe_is_not_read_when_the_queue_is_full(listener: Listener) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    fd = listener.connect()
    first = listener.accept()
    listener.down = True
    first.close()
    relay = Relay(
        reading,
        fd,
        connect=listener.connect,
        clock=Clock(),
        tell=lambda _line: None,
        sleep=lambda _seconds: None,
        queue_bytes=len(STREAM),
        resend_bytes=0,
    )
    written = 0
    for _ in range(10):
        with suppress(BlockingIOError):
            written += os.write(writing, STREAM)
        relay._turn()
    assert written < 3 * len(STREAM) + 65_536
    os.close(writing)
    os.close(reading)


def test_what_is_no_envelope_is_not_carried(listener: Listener) -> None:
    writing, _, told, thread, answers = started(listener)
    connection = listener.accept()
    os.write(writing, WHOLE[0] + b"GET / HTTP/1.1\r\n\r\n" * 10)
    with connection:
        assert read_to_end(connection) == WHOLE[0]
    os.close(writing)
    thread.join(20)
    assert answers == [True]
    assert "no envelope" in told[0]


def test_a_sealed_stream_is_repeated_from_the_begin_of_a_wrapping(listener: Listener) -> None:
    key = X25519PrivateKey.generate()
    sealer = Sealer(key.public_key().public_bytes_raw().hex())
    sealed = [sealer.seal(envelope) for envelope in WHOLE]
    content = b"".join(sealed)
    writing, _, _, thread, answers = started(listener, sealed=True)
    first = listener.accept()
    half = len(sealed[0]) + len(sealed[1]) // 2
    os.write(writing, content[:half])
    first.recv(100)
    first.close()
    second = listener.accept()
    os.write(writing, content[half:])
    os.close(writing)
    with second:
        again = read_to_end(second)
    thread.join(20)
    assert answers == [True]
    assert b"".join(Unsealer(key).feed(again)) == STREAM
