"""Packets from nothing: the little builder under `capture.py`, valid lengths and checksums throughout.

Addresses are packed bytes, 4 for IPv4 and 16 for IPv6.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

FIN, SYN, PSH, ACK = 1, 2, 8, 16


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(source: bytes, destination: bytes, packet: bytes, *, padding: bytes = b"") -> bytes:
    """Around an IP packet; `padding` follows it as a trailer would."""
    return destination + source + (b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd") + packet + padding


def ip(
    source: bytes,
    destination: bytes,
    protocol: int,
    payload: bytes,
    *,
    identification: int = 0,
    fragment: tuple[int, bool] | None = None,
) -> bytes:
    """An IPv4 or IPv6 packet. `fragment` is (offset in bytes, more follow) and IPv4 only."""
    if len(source) == 16:
        return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + source + destination + payload
    flags = 0x4000 if fragment is None else fragment[0] // 8 | (0x2000 if fragment[1] else 0)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), identification, flags, 64, protocol, 0)
    head += source + destination
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def _pseudo(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    tail = (
        struct.pack("!BBH", 0, protocol, length) if len(source) == 4 else struct.pack("!IHBB", length, 0, 0, protocol)
    )
    return source + destination + tail


def udp(source: bytes, destination: bytes, ports: tuple[int, int], payload: bytes) -> bytes:
    """A UDP datagram."""
    head = struct.pack("!HHHH", *ports, 8 + len(payload), 0)
    value = checksum(_pseudo(source, destination, 17, len(head) + len(payload)) + head + payload) or 0xFFFF
    return head[:6] + struct.pack("!H", value) + payload


def tcp(  # noqa: PLR0917 - as they stand in the header
    source: bytes,
    destination: bytes,
    ports: tuple[int, int],
    place: tuple[int, int],
    flags: int,
    options: bytes,
    payload: bytes,
) -> bytes:
    """A TCP segment; `place` is (sequence, acknowledgement) number, `options` a multiple of four bytes."""
    head = struct.pack("!HHIIBBHHH", *ports, *place, (20 + len(options)) // 4 << 4, flags, 64240, 0, 0) + options
    value = checksum(_pseudo(source, destination, 6, len(head) + len(payload)) + head + payload)
    return head[:16] + struct.pack("!H", value) + head[18:] + payload


def echo(source: bytes, destination: bytes, payload: bytes, *, reply: bool, identifier: int = 7) -> bytes:
    """An ICMP or ICMPv6 echo message."""
    kind, protocol = ((0 if reply else 8), 1) if len(source) == 4 else ((129 if reply else 128), 58)
    message = struct.pack("!BBHHH", kind, 0, 0, identifier, 1) + payload
    pseudo = b"" if protocol == 1 else _pseudo(source, destination, 58, len(message))
    return message[:2] + struct.pack("!H", checksum(pseudo + message)) + message[4:]


@dataclass(slots=True)
class Conversation:
    """One TCP connection between two hosts: makes the Ethernet packets of both sides, in order.

    `timestamp` is the TSval of the originator's segments, sent as it is in all of them.
    """

    macs: tuple[bytes, bytes]
    hosts: tuple[bytes, bytes]
    ports: tuple[int, int]
    sequences: list[int] = field(default_factory=lambda: [1_000_000, 2_000_000])
    timestamp: int = 1
    identification: int = 0
    padding: bytes = b""
    sent: list[bytes] = field(default_factory=list)

    def _segment(self, side: int, flags: int, payload: bytes = b"") -> None:
        other = 1 - side
        acknowledged = self.sequences[other] if flags & ACK else 0
        stamps = (self.timestamp, 1) if side == 0 else (1, self.timestamp)
        options = (b"\x02\x04\x05\xb4" if flags & SYN else b"") + b"\x01\x01\x08\x0a" + struct.pack("!II", *stamps)
        hosts, ports = (self.hosts[side], self.hosts[other]), (self.ports[side], self.ports[other])
        segment = tcp(*hosts, ports, (self.sequences[side], acknowledged), flags, options, payload)
        packet = ip(*hosts, 6, segment, identification=self.identification if side == 0 else 0)
        self.sent.append(ethernet(self.macs[side], self.macs[other], packet, padding=b"" if payload else self.padding))
        self.sequences[side] = (self.sequences[side] + len(payload) + bool(flags & (SYN | FIN))) % 2**32

    def open(self) -> None:
        """The three-way handshake."""
        self._segment(0, SYN)
        self._segment(1, SYN | ACK)
        self._segment(0, ACK)

    def send(self, side: int, payload: bytes, *, size: int = 1400) -> None:
        """Bytes of one side in segments of at most `size`, acknowledged by the other."""
        for start in range(0, len(payload), size):
            self._segment(side, PSH | ACK, payload[start : start + size])
        self._segment(1 - side, ACK)

    def close(self) -> list[bytes]:
        """Both sides finish; returns all packets."""
        self._segment(0, FIN | ACK)
        self._segment(1, FIN | ACK)
        self._segment(0, ACK)
        return self.sent
