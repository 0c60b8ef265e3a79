"""The ledger gives back what stood at a commit, whatever was written after it."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bunker.closed.process import ledger as module
from bunker.closed.process.ledger import NOTHING, Commit, Journal, Position, create_ledger
from bunker.errors import BoxError

KEY = AESGCM.generate_key(256)


def Ledger(fd: int, key: bytes = KEY) -> module.Ledger:  # noqa: N802 - a maker
    return module.Ledger(fd, lambda: AESGCM(key))


def commit(turn: int) -> Commit:
    position = Position(turn=turn, number=1, sequence=turn * 2, done=turn % 3)
    return Commit(position=position, next_uid=turn * 10, now_ns=turn * 100, last_block=turn, counts=bytes([turn % 256]))


def journal(turn: int) -> Journal:
    return (b"o" * turn, b"e" * 8, b"", b"who talks" * (turn % 2))


def test_a_commit_is_found_with_what_stands_before_it_and_nothing_after() -> None:
    fd = create_ledger()
    ledger = Ledger(fd)
    for turn in range(1, 6):
        ledger.append(journal(turn), commit(turn))
    journals, found = Ledger(fd).read(3)
    assert found == commit(3)
    assert journals == [journal(turn) for turn in (1, 2, 3)]


def test_a_commit_that_is_not_there_is_refused() -> None:
    ledger = Ledger(create_ledger())
    ledger.append(journal(1), commit(1))
    with pytest.raises(BoxError):
        ledger.read(2)
    ledger.clear()
    with pytest.raises(BoxError):
        ledger.read(1)


def test_written_anew_it_goes_on_from_there() -> None:
    fd = create_ledger()
    ledger = Ledger(fd)
    for turn in range(1, 400):
        ledger.append((b"x" * 4096, b"", b"", b""), commit(turn))
    assert ledger.has_grown
    ledger.rewrite((b"all", b"", b"", b"all who talk"), commit(399))
    assert not ledger.has_grown
    ledger.append(journal(7), commit(400))
    journals, found = Ledger(fd).read(400)
    assert found == commit(400)
    assert journals == [(b"all", b"", b"", b"all who talk"), journal(7)]


def test_a_damaged_length_ends_the_reading() -> None:
    fd = create_ledger()
    ledger = Ledger(fd)
    ledger.append(journal(1), commit(1))
    ledger._view[4096:4100] = b"\xff\xff\xff\x7f"
    with pytest.raises(BoxError):
        Ledger(fd).read(1)


def test_what_is_written_with_the_last_commit_again_belongs_to_it() -> None:
    fd = create_ledger()
    ledger = Ledger(fd)
    for turn in (1, 2):
        ledger.append(journal(turn), commit(turn))
    stranded: Journal = (*NOTHING[:3], b"later")
    ledger.append(stranded, commit(2))
    ledger.append(journal(3), commit(3))
    assert Ledger(fd).read(2) == ([journal(1), journal(2), stranded], commit(2))
    assert Ledger(fd).read(1) == ([journal(1)], commit(1))


def test_who_talks_is_sealed_and_gone_with_the_key() -> None:
    fd = create_ledger()
    ledger = Ledger(fd)
    ledger.append((b"number", b"", b"", b"203.0.113.77"), commit(1))
    assert b"number" in bytes(ledger._view[: 1 << 16])
    assert b"203.0.113.77" not in bytes(ledger._view[: 1 << 16])
    with pytest.raises(BoxError, match="not authentic"):
        Ledger(fd, bytes(32)).read(1)
