"""Live capture: the kernel's TPACKET_V3 ring, taken block by block, whole.

Place in the flow: network interface ▶ kernel ▶ here ▶ spool.

Rules of this file:
1. `open_ring` needs privileges and runs at set-up; it hands on a descriptor. `Ring` needs nothing but that descriptor.
2. No packet arrives before the ring is ready and filtered: the socket is opened for no protocol, bound last.
3. A block is taken whole: exactly its `blk_len` bytes. Behind them stands stale plaintext of older packets.
4. What the kernel drops is counted by PACKET_STATISTICS, which clears itself: one reader, one running sum.

Source: Documentation/networking/packet_mmap.rst; libpcap issues 843 and 887 (bind last).
"""

from __future__ import annotations

import ctypes
import mmap
import select
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from errno import ENETDOWN

from bunker.closed.capture.block import TPACKET_V3, Block
from bunker.errors import ConfigurationError

_SOL_PACKET = 263
_ADD_MEMBERSHIP, _RX_RING, _STATISTICS, _VERSION, _RESERVE, _FANOUT, _IGNORE_OUTGOING = 1, 5, 6, 10, 12, 18, 23
_TPACKET_V3_VERSION = 2
_MR_PROMISC = 1
_FANOUT_DATA, _FANOUT_CBPF = 22, 6
_SO_ATTACH_FILTER = 26
_ETH_P_ALL = 0x0003
_STATUS_KERNEL, _STATUS_USER, _STATUS_LOSING = 0, 1, 4
_FRAME_BYTES = 2048  # only has to divide the block; TPACKET_V3 packs packets without regard to it
_RETIRE_MS = 100
# tpacket_block_desc: version, offset_to_priv, then tpacket_hdr_v1.
_HEADER = struct.Struct("<IIIIIIQIIII")
_STATUS_OFFSET = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RingSetup:
    """A socket with a ring, bound and running: what the jailed capturer gets."""

    fd: int
    block_bytes: int
    blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fanout:
    """Rings that share an interface: the group's number in this network namespace, and the program that says which ring
    gets a packet (`fanout.lane_program`)."""

    group: int
    program: bytes


def open_ring(
    interface: str,
    *,
    block_bytes: int,
    ring_bytes: int,
    program: bytes,
    promiscuous: bool,
    fanout: Fanout | None,
    ignore_outgoing: bool = False,
) -> RingSetup:
    """Open and bind a packet socket with a ring.

    Args:
        interface: Name of the interface.
        block_bytes: Size of a block; a multiple of the page size.
        ring_bytes: Memory of the ring.
        program: Classic BPF; its return value is the snaplen.
        promiscuous: Take packets that are for others.
        fanout: Group of rings among which the kernel spreads packets; None for one lane.
        ignore_outgoing: Leave out what this machine sends (a tap sends nothing; a test on veth may want both).
    Raises:
        ConfigurationError: no such interface, no privileges, no memory.
    """
    try:
        index = socket.if_nametoindex(interface)
    except OSError:
        names = ", ".join(name for _, name in socket.if_nameindex())
        raise ConfigurationError(f"interface {interface}", "does not exist here", f"There are: {names}") from None
    blocks = max(4, ring_bytes // block_bytes)
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except PermissionError:
        raise ConfigurationError(
            f"interface {interface}",
            "packet sockets need CAP_NET_RAW",
            "Run as root, or read a capture file with --read",
        ) from None
    try:
        sock.setsockopt(_SOL_PACKET, _VERSION, _TPACKET_V3_VERSION)
        sock.setsockopt(_SOL_PACKET, _RESERVE, 4)
        if ignore_outgoing:
            sock.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        _set_program(sock, socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
        ring = struct.pack(
            "7I", block_bytes, blocks, _FRAME_BYTES, block_bytes // _FRAME_BYTES * blocks, _RETIRE_MS, 0, 0
        )
        sock.setsockopt(_SOL_PACKET, _RX_RING, ring)
        if promiscuous:
            sock.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, struct.pack("iHH8s", index, _MR_PROMISC, 0, b""))
        sock.bind((interface, _ETH_P_ALL))
        if fanout is not None:
            sock.setsockopt(_SOL_PACKET, _FANOUT, struct.pack("I", fanout.group | _FANOUT_CBPF << 16))
            _set_program(sock, _SOL_PACKET, _FANOUT_DATA, fanout.program)
    except OSError as error:
        sock.close()
        raise ConfigurationError(
            f"interface {interface}",
            f"its ring cannot be set up ({error.strerror})",
            "Lower capture.ring, or check the interface is up",
        ) from None
    return RingSetup(fd=sock.detach(), block_bytes=block_bytes, blocks=blocks)


def _set_program(sock: socket.socket, level: int, option: int, program: bytes) -> None:
    """A socket option whose value is a program of classic BPF (struct sock_fprog)."""
    buffer = ctypes.create_string_buffer(program, len(program))
    sock.setsockopt(level, option, struct.pack("HP", len(program) // 8, ctypes.addressof(buffer)))


def keep_all_program(snaplen: int) -> bytes:
    """A program that keeps every packet up to `snaplen` bytes."""
    return struct.pack("<HBBI", 0x06, 0, 0, snaplen)


class Ring:
    """The ring, mapped: blocks in the order the kernel retires them.

    Invariants:
        Between `next_block` and `give_back` the block is ours; the kernel has all others.
    """

    def __init__(self, fd: int, *, lane: int, block_bytes: int, blocks: int) -> None:
        self._fd, self._lane, self._block_bytes, self._blocks = fd, lane, block_bytes, blocks
        self._map = mmap.mmap(
            fd, block_bytes * blocks, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, prot=mmap.PROT_READ | mmap.PROT_WRITE
        )
        with suppress(OSError):
            self._map.madvise(16)  # MADV_DONTDUMP
        self._view = memoryview(self._map)
        self._at = 0
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN | select.POLLERR)
        self._socket = socket.socket(
            fileno=fd
        )  # owns it from here: a duplicate would need a right that a capturer has not
        self.dropped = 0
        """Packets that the kernel dropped because no block was free."""
        self.received = 0
        """Packets that passed the filter, dropped ones included."""
        self.is_down = False
        """The interface went down, and no packet has come since."""
        self.freezes = 0
        """Times the kernel had to wait for a block."""

    def next_block(self, timeout_s: float) -> Block | None:
        """The next retired block, or None when the time is over. The interface going down is no error: packets may
        come again.
        """
        start = self._at * self._block_bytes
        if not self._is_ours(start):
            for _, event in self._poll.poll(timeout_s * 1000):
                # Asking clears it: otherwise poll would answer at once from now on.
                if event & select.POLLERR and self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == ENETDOWN:
                    self.is_down = True
            if not self._is_ours(start):
                return None
        fields = _HEADER.unpack_from(self._view, start)
        status, packets, length = fields[2], fields[3], fields[5]
        self.is_down = self.is_down and not packets
        first_ts_ns = fields[7] * 1_000_000_000 + fields[8]
        last_ts_ns = fields[9] * 1_000_000_000 + fields[10]
        return Block(
            lane=self._lane,
            format=TPACKET_V3,
            plaintext=self._view[start : start + length],
            packet_count=packets,
            first_ts_ns=first_ts_ns,
            last_ts_ns=last_ts_ns,
            status=status,
        )

    def fileno(self) -> int:
        """For poll: readable while a block is ours."""
        return self._fd

    def _is_ours(self, start: int) -> bool:
        return bool(
            int.from_bytes(self._view[start + _STATUS_OFFSET : start + _STATUS_OFFSET + 4], "little") & _STATUS_USER
        )

    def give_back(self) -> None:
        """The block that `next_block` returned belongs to the kernel again."""
        start = self._at * self._block_bytes + _STATUS_OFFSET
        self._view[start : start + 4] = _STATUS_KERNEL.to_bytes(4, "little")
        self._at = (self._at + 1) % self._blocks

    def read_statistics(self) -> None:
        """Add what the kernel counted since the last call (it starts over at each reading)."""
        packets, drops, freezes = struct.unpack("III", self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 12))
        self.received += packets
        self.dropped += drops
        self.freezes += freezes

    def wipe(self) -> None:
        """Overwrite the whole ring: nothing of the traffic stays in it."""
        zeros = bytes(1 << 20)
        for start in range(0, len(self._view), len(zeros)):
            end = min(start + len(zeros), len(self._view))
            self._view[start:end] = zeros[: end - start]
