"""Offers packets to one end of a veth pair through `sendmmsg`: one system call for 512 packets.

    python -m bunker.cli.bench.sender INTERFACE SIZE PACKETS RATE

Prints {"packets": …, "seconds": …, "cpu_s": …}. RATE 0 is as fast as possible. The packets are valid UDP over IPv4 of
256 flows, addressed to another host's MAC, so that the receiving kernel hands them to packet sockets and then drops
them, as on a tap.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import struct
import sys
import time

BATCH = 512
FLOWS = 256
SMALLEST, LARGEST = 60, 1514
_SOL_PACKET, _QDISC_BYPASS = 263, 20
_PAUSE_S = 0.0002


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Head(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(_Vector)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    _fields_ = (("head", _Head), ("sent", ctypes.c_uint))


def _sum(content: bytes) -> int:
    total: int = sum(struct.unpack(f"!{(len(content) + 1) // 2}H", content + bytes(len(content) % 2)))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def packet(flow: int, size: int) -> bytes:
    """An Ethernet packet of `size` bytes, without the check sequence."""
    source, destination = bytes((198, 51, 100, 1 + flow % 250)), bytes((192, 0, 2, 1 + flow * 7 % 250))
    content = bytes((flow + n) & 0xFF for n in range(size - 42))
    udp = struct.pack("!HHHH", 1024 + flow, 9000, 8 + len(content), 0)
    check = ~_sum(source + destination + struct.pack("!HH", 17, 8 + len(content)) + udp + content) & 0xFFFF
    udp = udp[:6] + struct.pack("!H", check or 0xFFFF)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, size - 14, 0, 0x4000, 64, 17, 0) + source + destination
    ip = ip[:10] + struct.pack("!H", ~_sum(ip) & 0xFFFF) + ip[12:]
    return b"\x02\x00\x5e\x00\x53\x99\x02\x00\x5e\x00\x53\x01\x08\x00" + ip + udp + content


class Sender:
    """A packet socket with a prepared batch."""

    def __init__(self, interface: str, size: int) -> None:
        if not SMALLEST <= size <= LARGEST:
            raise ValueError(f"size {size} is not within {SMALLEST}..{LARGEST}")
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(_SOL_PACKET, _QDISC_BYPASS, 1)
        self._socket.bind((interface, 0))
        self._packets = [ctypes.create_string_buffer(packet(flow, size), size) for flow in range(FLOWS)]
        self._vectors = (_Vector * BATCH)()
        self._messages = (_Message * BATCH)()
        for number in range(BATCH):
            self._vectors[number].base = ctypes.addressof(self._packets[number % FLOWS])
            self._vectors[number].length = size
            self._messages[number].head.vectors = ctypes.pointer(self._vectors[number])
            self._messages[number].head.vector_count = 1
        self._sendmmsg = ctypes.CDLL(None, use_errno=True).sendmmsg
        self._sendmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]

    def _batch(self, count: int) -> int:
        sent = int(self._sendmmsg(self._socket.fileno(), ctypes.addressof(self._messages), count, 0))
        if sent >= 0:
            return sent
        if (number := ctypes.get_errno()) in (errno.ENOBUFS, errno.EAGAIN, errno.EINTR):
            return 0
        raise OSError(number, os.strerror(number))

    def send(self, packets: int, rate: int) -> float:
        """Send all; returns the seconds it took. A late sender catches up in batches, it never skips."""
        sent, started = 0, time.monotonic()
        while sent < packets:
            count = min(BATCH, packets - sent)
            if rate:
                due = int((time.monotonic() - started) * rate) + 1 - sent
                if due <= 0:
                    time.sleep(_PAUSE_S)
                    continue
                count = min(count, due)
            sent += self._batch(count)
        return time.monotonic() - started


def main() -> None:
    """The command line."""
    interface, size, packets, rate = sys.argv[1], *map(int, sys.argv[2:5])
    seconds = Sender(interface, size).send(packets, rate)
    print(json.dumps({"packets": packets, "seconds": seconds, "cpu_s": time.process_time(), "way": "sendmmsg"}))


if __name__ == "__main__":
    main()
