"""The dialogue between a worker and a keeper."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from bunker.closed.analyze.dialogue import NO_TOKEN, PIECE_BYTES, Channel, Said, Word
from bunker.errors import BoxError

TOKEN = b"12345678"


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        yield Channel(one.fileno(), keeper=False), Channel(other.fileno(), keeper=True)


def test_what_is_said_is_heard_in_order(ends: tuple[Channel, Channel]) -> None:
    worker, keeper = ends
    worker.say(Word.ASK)
    worker.say(Word.GIVE, TOKEN, b"line\n")
    assert keeper.hear() == Said(word=Word.ASK, token=NO_TOKEN, body=b"")
    assert keeper.hear() == Said(word=Word.GIVE, token=TOKEN, body=b"line\n")
    assert keeper.hear() is None


def test_long_bodies_are_cut_and_wait_for_room(ends: tuple[Channel, Channel]) -> None:
    worker, keeper = ends
    body = os.urandom(40 * PIECE_BYTES + 1)
    worker.say(Word.GIVE, TOKEN, body)
    assert worker.waiting
    heard = b""
    while len(heard) < len(body):
        said = keeper.hear()
        if said is None:
            worker.flush()
            continue
        heard += said.body
    assert heard == body and not worker.waiting


def test_what_is_unsaid_never_arrives(ends: tuple[Channel, Channel]) -> None:
    worker, keeper = ends
    worker.say(Word.GIVE, TOKEN, bytes(40 * PIECE_BYTES))
    worker.unsay()
    worker.say(Word.RESET, TOKEN)
    while (said := keeper.hear()) is None or said.word is Word.GIVE:
        worker.flush()
    assert said.word is Word.RESET


@pytest.mark.parametrize("datagram", [b"\x01", b"\x63" + TOKEN, b"\x05" + TOKEN, bytes(9)])
def test_messages_that_are_none_or_of_the_wrong_side_are_refused(datagram: bytes) -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        one.send(datagram)
        with pytest.raises(BoxError):
            Channel(other.fileno(), keeper=True).hear()


def test_the_other_end_gone_is_an_end() -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    one.close()
    with other, pytest.raises(EOFError):
        Channel(other.fileno(), keeper=True).hear()
