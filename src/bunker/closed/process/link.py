"""What a capturer and the worker of a lane say to each other: a closed table of small messages.

Rules of this file:
1. The channel is a SOCK_SEQPACKET pair made at set-up: one message is one datagram, in order, no framing to get wrong.
2. Capturer to worker: `SEALED` (a block is on disk), `LOST` (a gap), `DAMAGED` (a capture file ended early),
   `INTERFACE` (it went down, or is back), `STEPPED` (the clock that stamps packets was set), `ENDED` (there will be no
   more), `AGAIN` (what follows was said before).
   Worker to capturer: `ANALYSED` (all blocks up to this one have been read), `RELEASED` (no block up to this number is
   needed any more; the keys of files that hold nothing else die), `RESUME` (say everything again that is not released:
   after a restart, or for another pass).
3. A message that is none of these ends the process that received it: the other side is broken.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from dataclasses import dataclass

from bunker.errors import BoxError

_SEALED = b"S"
_ENDED = b"E"
_RELEASED = b"R"
_DAMAGED = b"D"
_NUMBER = struct.Struct("<cQ")
_LOST = b"L"
_THREE = struct.Struct("<cQQQ")
_ANALYSED = b"A"
_AGAIN = b"B"
_RESUME = b"N"
_INTERFACE = b"I"
_STEPPED = b"C"
_SIGNED = struct.Struct("<cq")
MESSAGE_BYTES = 512
ALL_BLOCKS = (1 << 63) - 1
"""Released up to this number: the worker has ended and asks for nothing any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A block is on disk; `descriptor` is the spool's, packed."""

    descriptor: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The lane has no more blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """No block of the lane up to `number` is needed any more."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysed:
    """All blocks of the lane up to `number` have been read."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Say everything again that is not released."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """The answer to `Resume`: the next message is the `sequence`-th of the lane, counted from 1."""

    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """The interface went down, or packets come from it again."""

    up: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepped:
    """The clock that stamps packets was set by `by_ns`: blocks that follow may show it, and those before do not."""

    by_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Damaged:
    """Capture file `file` could be read up to `offset` only; `reason` is a place in `frames.DAMAGES`."""

    file: int
    offset: int
    reason: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A gap: `packets` of `size` captured bytes (0: the kernel dropped them, it does not say) within `duration_ns`."""

    packets: int
    size: int
    duration_ns: int


Message = Sealed | Ended | Released | Damaged | Lost | Interface | Stepped | Analysed | Resume | Again


def encode(message: Message) -> bytes:  # noqa: PLR0911 - a table
    """One datagram."""
    match message:
        case Sealed(descriptor=descriptor):
            return _SEALED + descriptor
        case Ended():
            return _ENDED
        case Released(number=number):
            return _NUMBER.pack(_RELEASED, number)
        case Analysed(number=number):
            return _NUMBER.pack(_ANALYSED, number)
        case Again(sequence=sequence):
            return _NUMBER.pack(_AGAIN, sequence)
        case Resume():
            return _RESUME
        case Interface(up=up):
            return _NUMBER.pack(_INTERFACE, up)
        case Stepped(by_ns=by_ns):
            return _SIGNED.pack(_STEPPED, by_ns)
        case Damaged(file=file, offset=offset, reason=reason):
            return _THREE.pack(_DAMAGED, file, offset, reason)
        case Lost(packets=packets, size=size, duration_ns=duration_ns):
            return _THREE.pack(_LOST, packets, size, duration_ns)


def decode(datagram: bytes) -> Message:  # noqa: PLR0911 - a table
    """The message in a datagram.

    Raises:
        BoxError: it is none.
    """
    tag = datagram[:1]
    if tag == _SEALED:
        return Sealed(descriptor=datagram[1:])
    if datagram == _ENDED:
        return Ended()
    if datagram == _RESUME:
        return Resume()
    if tag in (_RELEASED, _ANALYSED, _AGAIN, _INTERFACE) and len(datagram) == _NUMBER.size:
        return _numbered(tag, _NUMBER.unpack(datagram)[1])
    if tag == _STEPPED and len(datagram) == _SIGNED.size:
        return Stepped(by_ns=_SIGNED.unpack(datagram)[1])
    if tag == _DAMAGED and len(datagram) == _THREE.size:
        _, file, offset, reason = _THREE.unpack(datagram)
        return Damaged(file=file, offset=offset, reason=reason)
    if tag == _LOST and len(datagram) == _THREE.size:
        _, packets, size, duration_ns = _THREE.unpack(datagram)
        return Lost(packets=packets, size=size, duration_ns=duration_ns)
    raise BoxError("link between capturer and worker", "an unknown message", "This is a bug or a taken-over process")


def _numbered(tag: bytes, number: int) -> Message:
    if tag == _AGAIN:
        return Again(sequence=number)
    if tag == _INTERFACE:
        return Interface(up=number == 1)
    return Released(number=number) if tag == _RELEASED else Analysed(number=number)


class Link:
    """One end of the channel.

    What cannot be sent at once waits in order; there are never more messages than the spool has slots, so the queue
    is bounded by the spool's size.
    """

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self._waiting: deque[bytes] = deque()

    def fileno(self) -> int:
        """For poll."""
        return self._socket.fileno()

    @property
    def waiting(self) -> int:
        """Messages not yet sent."""
        return len(self._waiting)

    def send(self, message: Message) -> None:
        """Send, or keep for `flush`."""
        self._waiting.append(encode(message))
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the channel takes it.

        Raises:
            BrokenPipeError, ConnectionError: the other side is gone.
        """
        while self._waiting:
            try:
                self._socket.send(self._waiting[0])
            except BlockingIOError:
                return
            self._waiting.popleft()

    def receive(self) -> Message | None:
        """The next message, or None if there is none now.

        Raises:
            EOFError: the other side has closed or is gone.
            BoxError: an unknown message.
        """
        try:
            datagram = self._socket.recv(MESSAGE_BYTES)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            raise EOFError from None
        if not datagram:
            raise EOFError
        return decode(datagram)

    def forget(self) -> None:
        """What waits is not sent."""
        self._waiting.clear()

    def close(self) -> None:
        """Nothing more will be said."""
        self._socket.close()


def pair() -> tuple[int, int]:
    """A new channel: (capturer's end, worker's end), as descriptors."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (one, other):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
    return one.detach(), other.detach()
