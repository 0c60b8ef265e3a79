"""The hand page: what a worker has in hand, so that the supervisor can name it when the worker is dead or stands still.

Rules of this file:
1. One page of shared memory a lane; the worker writes words, each by one store, the supervisor only reads.
2. Words are numbers of ours: phases, blocks, flows, analyzers. Nothing of the traffic.
3. The core writes the flow, the number of messages and the packet itself (`crates/py/src/hand.rs`), so that showing
   them costs a store and no call.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from enum import IntEnum

from bunker.errors import BoxError
from bunker.native.wire import Hand

PAGE_BYTES = 4096


class Word(IntEnum):
    """Places of words on the page. UID, CALLS and PACKET are the core's."""

    PHASE = 1
    SEQUENCE = 2
    UID = 3
    ANALYZER = 4
    CALLS = 5
    PACKET = 6
    MODULUS = 7
    RESIDUE = 8
    BLOCK = 9


class Phase(IntEnum):
    """What a worker is doing."""

    START = 0
    """Being launched, importing, loading the analyzers."""
    IDLE = 1
    """Waiting for a block."""
    CORE = 2
    """The core reads a block: PACKET and UID say where it is."""
    CALL = 3
    """An analyzer has a message: UID says whose."""
    BATCH = 4
    """An analyzer has a batch: its flows are those whose number leaves RESIDUE when divided by MODULUS; UID if it is
    one alone."""
    FINISH = 5
    """An analyzer begins a pass, or says its last."""
    WRITING = 6
    """Records go into the pipe, which may have to be waited for."""
    ENDED = 7
    """Everything is written."""


BUSY = frozenset({Phase.CORE, Phase.CALL, Phase.BATCH, Phase.FINISH})
"""Phases in which a worker that does not move stands still."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InHand:
    """One reading of the page."""

    phase: Phase
    sequence: int
    uid: int
    analyzer: int
    calls: int
    packet: int
    modulus: int
    residue: int
    block: int


def create_page() -> int:
    """A new page, all zero: its descriptor."""
    fd = os.memfd_create("bunker-hand", os.MFD_CLOEXEC)
    os.ftruncate(fd, PAGE_BYTES)
    return fd


def open_hand(fd: int) -> Hand:
    """The worker's end.

    Raises:
        BoxError: the page cannot be mapped.
    """
    try:
        return Hand(mmap.mmap(fd, PAGE_BYTES))
    except (OSError, ValueError, BufferError):
        raise BoxError("hand page", "cannot be mapped", "This is a bug: it was set up otherwise") from None


def own_hand() -> Hand:
    """A page that nobody else reads (diagnostic mode, tests)."""
    return Hand(mmap.mmap(-1, PAGE_BYTES))


class HandReader:
    """The supervisor's end.

    Raises:
        BoxError: the page cannot be mapped.
    """

    def __init__(self, fd: int) -> None:
        try:
            self._words = memoryview(mmap.mmap(fd, PAGE_BYTES, access=mmap.ACCESS_READ)).cast("Q")
        except (OSError, ValueError):
            raise BoxError("hand page", "cannot be mapped", "This is a bug: it was set up otherwise") from None

    def read(self) -> InHand:
        """What stands there; a phase that is none reads as START (a hijacked worker can write anything)."""
        words = self._words
        phase = words[Word.PHASE]
        return InHand(
            phase=Phase(phase) if phase <= max(Phase) else Phase.START,
            sequence=words[Word.SEQUENCE],
            uid=words[Word.UID],
            analyzer=words[Word.ANALYZER],
            calls=words[Word.CALLS],
            packet=words[Word.PACKET],
            modulus=words[Word.MODULUS],
            residue=words[Word.RESIDUE],
            block=words[Word.BLOCK],
        )
