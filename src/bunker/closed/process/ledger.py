"""The ledger of a lane: what a worker that starts over must know of the one before, in memory that outlives it.

Place in the flow: worker, after each turn ▶ here ▶ the next worker of the lane, if there has to be one.

Rules of this file:
1. A log of entries: flows begun, ended, condemned in a turn, then the turn's commit. The releaser tells which commit
   was the last that counts; whatever stands behind it never happened.
2. A log that has grown is written anew, as if all that lives had begun just now, into the other half; the header then
   points there, by one store. A worker that dies meanwhile leaves the old half whole.
3. It holds numbers of flows and places of packets; no byte of them. Of flows whose first blocks were given back it
   holds who talks, sealed under a key of the lane's store: it is noise once that key is zero.

Limits: LEDGER_BYTES; a lane whose open flows no longer fit ends the worker (it cannot: FLOWS take less than a half).
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bunker import limits
from bunker.errors import BoxError

Journal = tuple[bytes, bytes, bytes, bytes]
"""Begun, ended, condemned, stranded, as the core encodes them."""
NOTHING: Journal = (b"", b"", b"", b"")

_MAGIC = 0x3147_444C_4B4E_4231
_HALF = limits.LEDGER_BYTES.default // 2
_HEADER = 4096
_ENTRY = struct.Struct("<IIIII")
_COMMIT = struct.Struct("<7QI")
_MAGIC_WORD, _ACTIVE_WORD, _USED_WORD = 0, 1, 2
_NONCE_BYTES = 12
_REWRITE_MIN = 1 << 20
_REWRITE_FACTOR = 4


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Position:
    """How far a lane is: messages of the link count from 1 in each pass, packets within the next block from 0."""

    turn: int
    """Grows with each commit."""
    number: int
    """Pass, from 1."""
    sequence: int
    done: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """The end of a turn."""

    position: Position
    next_uid: int
    now_ns: int
    last_block: int
    """Number of the last block that was read whole, plus one."""
    counts: bytes


def create_ledger() -> int:
    """Memory for one lane's ledger: its descriptor. Pages that are never written take no memory."""
    fd = os.memfd_create("bunker-ledger", os.MFD_CLOEXEC)
    os.ftruncate(fd, _HEADER + 2 * _HALF)
    return fd


class Ledger:
    """One lane's ledger, mapped.

    Args:
        fd: Its memory.
        cipher: Makes the cipher that seals stranded flows; asked for when there are some: the key may not be drawn yet.
    Raises:
        BoxError: it cannot be mapped.
    """

    def __init__(self, fd: int, cipher: Callable[[], AESGCM]) -> None:
        self._cipher = cipher
        try:
            self._view = memoryview(mmap.mmap(fd, _HEADER + 2 * _HALF))
        except (OSError, ValueError):
            raise BoxError("ledger", "cannot be mapped", "This is a bug: it was set up otherwise") from None
        self._words = self._view[:_HEADER].cast("Q")
        self._words[_MAGIC_WORD] = _MAGIC
        self._threshold = _REWRITE_MIN

    @property
    def used(self) -> int:
        """Bytes of the active half."""
        return int(self._words[_USED_WORD + self._active])

    @property
    def _active(self) -> int:
        return int(self._words[_ACTIVE_WORD]) & 1

    def append(self, journal: Journal, commit: Commit) -> None:
        """Write a turn; with the commit of the last one, what belongs to it as well.

        Raises:
            BoxError: there is no room.
        """
        half = self._active
        self._words[_USED_WORD + half] = self._write(half, self.used, journal, commit)

    def clear(self) -> None:
        """Nothing that stands there counts."""
        self._words[_USED_WORD + self._active] = 0

    @property
    def has_grown(self) -> bool:
        """It is time to write it anew: what is dead takes more room than what lives."""
        return self.used > self._threshold

    def rewrite(self, whole: Journal, commit: Commit) -> None:
        """Write it anew: `whole` is everything that lives at `commit`, which must be in the releaser's pipe already.

        Raises:
            BoxError: there is no room.
        """
        other = 1 - self._active
        used = self._write(other, 0, whole, commit)
        self._words[_USED_WORD + other] = used
        self._words[_ACTIVE_WORD] = other
        self._threshold = max(_REWRITE_MIN, _REWRITE_FACTOR * used)

    def _write(self, half: int, used: int, journal: Journal, commit: Commit) -> int:
        position = commit.position
        tail = (
            _COMMIT.pack(
                position.turn,
                position.number,
                position.sequence,
                position.done,
                commit.next_uid,
                commit.now_ns,
                commit.last_block,
                len(commit.counts),
            )
            + commit.counts
        )
        parts = (*journal[:3], self._sealed(journal[3]), tail)
        head = _ENTRY.pack(*map(len, parts))
        end = used + len(head) + sum(map(len, parts))
        if end > _HALF:
            raise BoxError("ledger", "no room for the open flows", "This is a bug: FLOWS and LEDGER_BYTES do not fit")
        at = _HEADER + half * _HALF + used
        for part in (head, *parts):
            self._view[at : at + len(part)] = part
            at += len(part)
        return end

    def _sealed(self, stranded: bytes) -> bytes:
        if not stranded:
            return b""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher().encrypt(nonce, stranded, None)

    def _unsealed(self, sealed: bytes) -> bytes:
        if not sealed:
            return b""
        try:
            return self._cipher().decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)
        except (InvalidTag, ValueError):
            raise BoxError("ledger", "an entry is not authentic", "The worker before was hijacked") from None

    def read(self, turn: int) -> tuple[list[Journal], Commit]:
        """Everything up to the commit of this turn.

        Raises:
            BoxError: there is no such commit, or the ledger is damaged.
        """
        half = self._active
        at, end = _HEADER + half * _HALF, _HEADER + half * _HALF + min(self.used, _HALF)
        journals: list[Journal] = []
        last: Commit | None = None
        while at + _ENTRY.size <= end:
            lengths = _ENTRY.unpack_from(self._view, at)
            at += _ENTRY.size
            if at + sum(lengths) > end or lengths[-1] < _COMMIT.size:
                break
            parts = []
            for length in lengths:
                parts.append(bytes(self._view[at : at + length]))
                at += length
            commit = _commit(parts[-1])
            if commit.position.turn > turn:
                break
            journals.append((parts[0], parts[1], parts[2], self._unsealed(parts[3])))
            last = commit
        if last is None or last.position.turn != turn:
            raise BoxError(
                "ledger", "the last turn that counts is not in it", "This is a bug, or the worker was hijacked"
            )
        return journals, last


def _commit(tail: bytes) -> Commit:
    turn, number, sequence, done, next_uid, now_ns, last_block, _ = _COMMIT.unpack_from(tail)
    return Commit(
        position=Position(turn=turn, number=number, sequence=sequence, done=done),
        next_uid=next_uid,
        now_ns=now_ns,
        last_block=last_block,
        counts=tail[_COMMIT.size :],
    )
