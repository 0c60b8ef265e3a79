"""What a worker and the keeper of an external program say to each other: a closed table of small messages.

    worker ──ASK, GIVE, FINISH, RESET──▶ keeper ──lines──▶ program
           ◀──HELLO, TOOK, ENDED──────          ◀──lines──

Rules of this file:
1. The channel is a SOCK_SEQPACKET pair: one message is one datagram; both ends outlive the processes that use them.
2. A keeper has one program and one token of its own in its life. What carries another token was meant for a predecessor
   and is passed over: so neither side is confused by what the other's predecessor left in the channel.
3. A message that is none of these ends the process that received it.
"""

from __future__ import annotations

import os
import select
from collections import deque
from dataclasses import dataclass
from enum import IntEnum

from bunker import limits
from bunker.errors import BoxError

TOKEN_BYTES = 8
NO_TOKEN = bytes(TOKEN_BYTES)
PIECE_BYTES = limits.EXTERNAL_DATAGRAM_BYTES.default
_HEAD_BYTES = 1 + TOKEN_BYTES


class Word(IntEnum):
    """The first byte of a message."""

    ASK = 1
    """Worker: who are you? A keeper whose program has been given something ends, so that the answer is a fresh one."""
    GIVE = 2
    """Worker: bytes for the program."""
    FINISH = 3
    """Worker: there is no more; close the program's input, tell the rest of its output."""
    RESET = 4
    """Worker: end, with your program."""
    HELLO = 5
    """Keeper: I am here, this is my token."""
    TOOK = 6
    """Keeper: bytes from the program."""
    ENDED = 7
    """Keeper: the program has ended, and this was all of its output. One byte: 1 if it ended because of FINISH."""


_WORDS = frozenset(map(int, Word))
_FROM_KEEPER = frozenset({Word.HELLO, Word.TOOK, Word.ENDED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One message."""

    word: Word
    token: bytes
    body: bytes


class Channel:
    """One end. What cannot be sent at once waits in order: the worker's window at most, or one piece of the keeper's.

    Args:
        fd: This end.
        keeper: It is the keeper's.
    """

    def __init__(self, fd: int, *, keeper: bool) -> None:
        os.set_blocking(fd, False)
        self._fd, self._keeper = fd, keeper
        self._waiting: deque[bytes] = deque()

    def fileno(self) -> int:
        """For poll."""
        return self._fd

    @property
    def waiting(self) -> bool:
        """Something is not yet sent."""
        return bool(self._waiting)

    def say(self, word: Word, token: bytes = NO_TOKEN, body: bytes = b"") -> None:
        """Send, cut into pieces, or keep for `flush`."""
        for start in range(0, len(body) or 1, PIECE_BYTES):
            self._waiting.append(bytes([word]) + token + body[start : start + PIECE_BYTES])
        self.flush()

    def unsay(self) -> None:
        """Forget what waits: it was for somebody who is gone."""
        self._waiting.clear()

    def flush(self) -> None:
        """Send what waits, as far as the channel takes it."""
        while self._waiting:
            try:
                os.write(self._fd, self._waiting[0])
            except BlockingIOError:
                return
            self._waiting.popleft()

    def hear(self) -> Said | None:
        """The next message, or None if there is none now.

        Raises:
            EOFError: nobody has the other end any more.
            BoxError: an unknown message.
        """
        try:
            datagram = os.read(self._fd, PIECE_BYTES + _HEAD_BYTES)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            raise EOFError from None
        if not datagram:
            raise EOFError
        if len(datagram) < _HEAD_BYTES or datagram[0] not in _WORDS:
            raise BoxError("dialogue with an external program", "an unknown message", "This is a bug")
        said = Said(word=Word(datagram[0]), token=datagram[1:_HEAD_BYTES], body=datagram[_HEAD_BYTES:])
        if (said.word in _FROM_KEEPER) is self._keeper:
            raise BoxError("dialogue with an external program", "a message of the wrong side", "This is a bug")
        return said

    def wait(self, timeout_s: float) -> None:
        """Until there is something to hear, or room for what waits, or the time is over."""
        events = select.POLLIN | (select.POLLOUT if self._waiting else 0)
        poll = select.poll()
        poll.register(self._fd, events)
        poll.poll(timeout_s * 1000)
        self.flush()
