"""The outlet: the one descriptor out of the box, written and never read, that never blocks its owner.

Place in the flow: Envelopes ▶ here (sealed first, if the experiment names a key) ▶║ the open box.

Rules of this file:
1. Nothing here reads. A socket's reading half is shut down before the first byte is written; what the peer sends is the
   kernel's to throw away.
2. The queue is bounded. The owner asks `room` before it makes an envelope of records, because an envelope that was made
   must leave: leaving one out would break the chain. A part of the queue is kept for heartbeats and the end.
3. A vanished peer is a state, not an error: the queue goes on filling, and `reconnected` repeats the last
   EGRESS_RESEND_BYTES from an envelope boundary, as the kernel may have lost what it had taken. The receiver leaves
   out what it has.
"""

from __future__ import annotations

import os
import socket
import stat
from collections import deque
from contextlib import suppress
from enum import Enum

from bunker import limits
from bunker.closed.egress.seal import Sealer
from bunker.errors import BoxError
from bunker.model.sealing import WRAPPING_BYTES

_WRITE_BYTES = 1 << 20


class OutletState(Enum):
    """OPEN: writes go out. LOST: the open box vanished. CLOSED: everything is written, nothing will follow."""

    OPEN = "open"
    LOST = "lost"
    CLOSED = "closed"


def shut_reading(fd: int) -> None:
    """Shut the reading half of a socket; other descriptors must have been opened for writing alone."""
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return
    with socket.socket(fileno=os.dup(fd)) as end, suppress(OSError):  # a peer that is gone already shows at the write
        end.shutdown(socket.SHUT_RD)


class Outlet:
    """The queue in front of the descriptor.

    Args:
        fd: Opened by `open_egress`; the outlet owns it.
        queue_bytes: EGRESS_QUEUE_BYTES.
        resend_bytes: EGRESS_RESEND_BYTES.
        reserve_bytes: EGRESS_RESERVE_BYTES, the part of the queue for what is not records.
        sealer: Wraps each envelope for a remote open box before it is queued, so what waits is sealed too.
    Invariants:
        Envelopes that wait for the first time take at most queue_bytes.
        What was written and is kept for a reconnect: at least min(resend_bytes, all of it), whole envelopes.
    """

    def __init__(
        self,
        fd: int,
        *,
        queue_bytes: int = limits.EGRESS_QUEUE_BYTES.default,
        resend_bytes: int = limits.EGRESS_RESEND_BYTES.default,
        reserve_bytes: int = limits.EGRESS_RESERVE_BYTES.default,
        sealer: Sealer | None = None,
    ) -> None:
        self._sealer = sealer
        self._queue_bytes, self._resend_bytes, self._reserve_bytes = queue_bytes, resend_bytes, reserve_bytes
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._offset = 0
        """Bytes of the first waiting envelope that are written."""
        self._written: deque[bytes] = deque()
        self._written_bytes = 0
        self._again, self._again_bytes = 0, 0
        """How many of the first waiting envelopes are repeats, and their bytes: they take no room of the queue."""
        self._fd: int | None = None
        self.state = OutletState.LOST
        self._attach(fd)

    def fileno(self) -> int:
        """For poll (POLLOUT while `waiting`); -1 while there is no descriptor."""
        return -1 if self._fd is None else self._fd

    @property
    def waiting(self) -> int:
        """Bytes not yet written."""
        return self._waiting_bytes - self._offset

    def room(self, size: int, *, records: bool) -> bool:
        """Whether an envelope of this size may be put. Records leave the reserve to heartbeats and the end."""
        reserve = self._reserve_bytes if records else 0
        wrapping = 0 if self._sealer is None else WRAPPING_BYTES
        return self._waiting_bytes - self._again_bytes + size + wrapping + reserve <= self._queue_bytes

    def put(self, envelope: bytes) -> None:
        """Queue an envelope, and write what can be written at once.

        Raises:
            BoxError: no room (the caller did not ask), or after `finish`.
        """
        if self.state is OutletState.CLOSED or not self.room(len(envelope), records=False):
            raise BoxError("egress queue", "an envelope too many", "This is a bug: room() was not asked")
        outgoing = envelope if self._sealer is None else self._sealer.seal(envelope)
        self._waiting.append(outgoing)
        self._waiting_bytes += len(outgoing)
        self.flush()

    def flush(self) -> int:
        """Write what the descriptor takes now; answers how many bytes that was."""
        total = 0
        while self._waiting and self._fd is not None:
            envelope = self._waiting[0]
            piece = memoryview(envelope)[self._offset : self._offset + _WRITE_BYTES]
            try:
                written = os.write(self._fd, piece)
            except BlockingIOError:
                break
            except OSError:
                self._lose()
                break
            total += written
            self._offset += written
            if self._offset == len(envelope):
                self._sent()
        return total

    def peer_gone(self) -> None:
        """Poll said that the descriptor has hung up."""
        if self.state is OutletState.OPEN:
            self._lose()

    def reconnected(self, fd: int) -> None:
        """Go on through another descriptor, repeating what may have been lost on the way.

        Raises:
            BoxError: the outlet still has a descriptor, or is closed.
        """
        if self.state is not OutletState.LOST:
            raise BoxError("egress", "a second descriptor", "This is a bug: the first is not lost")
        self._waiting.extendleft(reversed(self._written))
        self._waiting_bytes += self._written_bytes
        self._again += len(self._written)
        self._again_bytes += self._written_bytes
        self._written.clear()
        self._written_bytes = 0
        self._attach(fd)
        self.flush()

    def finish(self) -> bool:
        """Nothing will be put any more. True once everything is written; then the descriptor is closed."""
        self.flush()
        if self._waiting or self._fd is None:
            return self.state is OutletState.CLOSED
        os.close(self._fd)
        self._fd = None
        self.state = OutletState.CLOSED
        self._written.clear()
        return True

    def _attach(self, fd: int) -> None:
        shut_reading(fd)
        os.set_blocking(fd, False)
        self._fd = fd
        self.state = OutletState.OPEN

    def _lose(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None
        self._offset = 0
        self.state = OutletState.LOST

    def _sent(self) -> None:
        envelope = self._waiting.popleft()
        self._waiting_bytes -= len(envelope)
        if self._again:
            self._again -= 1
            self._again_bytes -= len(envelope)
        self._offset = 0
        self._written.append(envelope)
        self._written_bytes += len(envelope)
        while self._written and self._written_bytes - len(self._written[0]) >= self._resend_bytes:
            self._written_bytes -= len(self._written.popleft())
