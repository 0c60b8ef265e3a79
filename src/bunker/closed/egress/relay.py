"""Carries a box's stream to an open box on the network, and goes on when the connection breaks.

    releaser ──pipe, one way──▶ here, outside the box ──TCP or unix socket──▶ bunker receive

Place in the flow: Outlet ▶ pipe ▶ here ▶║ the open box. This runs in the command that started the box: no process of
the box can make a socket, and the box is not told of the network (docs/adr/0010).

Rules of this file:
1. What passes here is the releaser's envelopes, cleared and signed, and sealed if the experiment names a key; there are
   no keys and no traffic in this process.
2. Bounded: when RELAY_QUEUE_BYTES wait, the pipe is not read, so the releaser's queue fills, then workers wait, then
   the spool fills.
3. The open box answers nothing. After a break the last EGRESS_RESEND_BYTES are said again, and it leaves out what it
   has. So nothing is lost as long as the two kernels hold less than that.
4. The end is delivered once the other kernel has closed its end without an error; a reset means that it is repeated.

Limits: RELAY_QUEUE_BYTES, RELAY_RETRY_S, RELAY_PATIENCE_S, RELAY_CLOSE_S.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress

from bunker import limits
from bunker.closed.egress.outlet import Outlet, OutletState
from bunker.errors import ConfigurationError
from bunker.model.envelope import EnvelopeReader, EnvelopeRefused
from bunker.model.sealing import Wrappings

_PIECE = 1 << 20
_ROOM = limits.ENVELOPE_RECORDS_BYTES.default + 2 * _PIECE
"""What one piece may complete: the envelope that is held, and those that the piece brings."""
_TICK_S = 0.2
_FIRST_RETRY_S = 0.2
_HURRY_S = 10.0
_TCP_GONE = frozenset({6, 7})
"""TIME_WAIT, CLOSE: the other end has acknowledged everything and closed as well."""


class Relay:
    """One run's way out.

    Args:
        source: The reading end of the box's pipe, or of a machine's connection; becomes the relay's.
        first: A connection that stands already (`open_egress`).
        connect: Makes another; raises ConfigurationError if nobody answers.
        clock: Seconds that only grow.
        tell: Says a line to the operator: connection lost, back.
        sleep: Waits so many seconds.
        sealed: The stream is sealed to the open box: it is cut into wrappings.
    Invariants:
        At most RELAY_QUEUE_BYTES wait, beside the last EGRESS_RESEND_BYTES that were sent.
    """

    def __init__(
        self,
        source: int,
        first: int,
        *,
        connect: Callable[[], int],
        clock: Callable[[], float],
        tell: Callable[[str], None],
        sleep: Callable[[float], None],
        sealed: bool = False,
        queue_bytes: int = limits.RELAY_QUEUE_BYTES.default,
        resend_bytes: int = limits.EGRESS_RESEND_BYTES.default,
        patience_s: float = limits.RELAY_PATIENCE_S.default,
    ) -> None:
        self._source: int | None = source
        os.set_blocking(source, False)
        self._connect, self._clock, self._tell, self._sleep = connect, clock, tell, sleep
        self._outlet = Outlet(first, queue_bytes=queue_bytes, resend_bytes=resend_bytes, reserve_bytes=0)
        self._cut = Wrappings() if sealed else _Envelopes()
        self._patience_s = patience_s
        self._room = min(_ROOM, queue_bytes)
        self._lost_at: float | None = None
        self._next_try = 0.0
        self._pause = _FIRST_RETRY_S
        self._ended_at: float | None = None

    def hurry(self) -> None:
        """Everything is to be over soon: an open box that is gone is not waited for any longer."""
        self._patience_s = min(self._patience_s, _HURRY_S)

    def run(self) -> bool:
        """Until the box has ended and all of it is delivered, or the open box was waited for too long. Whether it is
        delivered."""
        while True:
            self._turn()
            if self._source is None and not self._outlet.waiting and self._outlet.state is OutletState.OPEN:
                if self._is_taken():
                    self._outlet.finish()
                    return True
                self._outlet.peer_gone()
            if self._is_over():
                self._close_source()
                return False

    def _is_over(self) -> bool:
        """The box has ended, and since then (or since the connection was lost, if that is later) patience is over."""
        if self._ended_at is None or self._lost_at is None:
            return False
        return self._clock() - max(self._ended_at, self._lost_at) >= self._patience_s

    def _turn(self) -> None:
        poll = select.poll()
        if self._source is not None and self._outlet.room(self._room, records=False):
            poll.register(self._source, select.POLLIN)
        if self._outlet.state is OutletState.OPEN:
            poll.register(self._outlet.fileno(), select.POLLOUT if self._outlet.waiting else 0)
        ready = dict(poll.poll(_TICK_S * 1000))
        if self._source in ready:
            self._read()
        events = ready.get(self._outlet.fileno(), 0)
        if events & select.POLLOUT:
            self._outlet.flush()
        if events & (select.POLLERR | select.POLLHUP):
            self._outlet.peer_gone()
        if self._outlet.state is OutletState.LOST:
            self._reconnect()

    def _read(self) -> None:
        assert self._source is not None
        try:
            piece = os.read(self._source, _PIECE)
        except BlockingIOError:
            return
        except ConnectionResetError:  # a machine whose plug was pulled
            piece = b""
        if not piece:
            self._close_source()
            return
        try:
            for envelope in self._cut.feed(piece):
                self._outlet.put(envelope)
        except EnvelopeRefused:
            # Only a releaser that was taken over writes anything else: nothing more of it is carried.
            self._tell("the box wrote something that is no envelope; nothing more of it is sent")
            self._close_source()

    def _close_source(self) -> None:
        if self._source is not None:
            os.close(self._source)
            self._source = None
            self._ended_at = self._clock()

    def _reconnect(self) -> None:
        now = self._clock()
        if self._lost_at is None:
            self._lost_at, self._next_try, self._pause = now, now, _FIRST_RETRY_S
            self._tell("the open box is gone; trying to reach it again")
        if now < self._next_try:
            return
        try:
            fd = self._connect()
        except ConfigurationError:
            self._next_try = self._clock() + self._pause
            self._pause = min(2 * self._pause, float(limits.RELAY_RETRY_S.default))
            return
        away = self._clock() - self._lost_at
        self._tell(f"the open box is back after {away:.0f} s; {self._outlet.waiting:,} bytes waited")
        self._lost_at = None
        self._outlet.reconnected(fd)

    def _is_taken(self) -> bool:
        """Say that there is no more, and wait until the other kernel has closed as well.

        False: it was reset, and what it had may be lost.
        """
        with socket.socket(fileno=os.dup(self._outlet.fileno())) as end:
            with suppress(OSError):
                end.shutdown(socket.SHUT_WR)
            until = self._clock() + limits.RELAY_CLOSE_S.default
            while self._clock() < until:
                taken = _has_taken(end)  # before the question for an error: a reset shows as nothing left, too
                if end.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    return False
                if taken:
                    return True
                self._sleep(0.02)
        return True  # acknowledged and only not closed: some receivers stay


class _Envelopes:
    """Bytes in, whole envelopes out."""

    def __init__(self) -> None:
        self._reader = EnvelopeReader()

    def feed(self, piece: bytes) -> Iterator[bytes]:
        for envelope in self._reader.feed(piece):
            yield envelope.raw


def _has_taken(end: socket.socket) -> bool:
    """Whether everything has arrived, after the writing half was shut."""
    if end.family == socket.AF_UNIX:
        unread: int = struct.unpack("i", fcntl.ioctl(end.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
        return unread == 0
    return end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _TCP_GONE
