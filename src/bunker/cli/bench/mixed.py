"""Mixed traffic for `bunker bench clear`: each place where an identifier can stand has a mark of its own to look for.

Shape (that of the reference measurement): 72 % TCP over IPv4, 12 % DNS, 12 % TCP over IPv6, 2 % ICMP errors that quote
a packet, 1 % ARP, 1 % VLAN; neighbour discovery in place of some ARP; valid checksums. A TCP connection has 16 packets
on average, of which `OPEN` are under way at a time; with `packets_a_flow=1` every packet is a flow of its own, which
is the worst that can be done to a program that remembers flows.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PAYLOAD = b"bunker-bench-secret-payload."
NAME = b"qbunkerbenchname"
MAC = b"\x02\xc0\xff\xee"
V6 = bytes.fromhex("20010db8c0ffee77")
STAMP = b"\x08\x0a\xc5\xa7"
OPEN = 4_000
"""Connections that are under way at a time, for each version of IP."""
_MARKED = 64
"""Addresses of IPv4 that stand in one kind of place alone."""


@dataclass(slots=True)
class Marks:
    """What a search looks for, by place: patterns, and how often they stand in the input."""

    patterns: dict[str, list[bytes]] = field(default_factory=dict)

    def found(self, data: bytes) -> dict[str, int]:
        """Hits by place."""
        return {place: sum(data.count(pattern) for pattern in patterns) for place, patterns in self.patterns.items()}


def _sum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _v4(source: bytes, destination: bytes, protocol: int, payload: bytes, identification: int) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), identification, 0x4000, 64, protocol, 0)
    head += source + destination
    return head[:10] + struct.pack("!H", _sum(head)) + head[12:] + payload


def _v6(source: bytes, destination: bytes, protocol: int, payload: bytes) -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + source + destination + payload


def _with_sum(source: bytes, destination: bytes, protocol: int, segment: bytes, at: int) -> bytes:
    pseudo = source + destination + struct.pack("!HH", protocol, len(segment))
    value = _sum(pseudo + segment) or 0xFFFF
    return segment[:at] + struct.pack("!H", value) + segment[at + 2 :]


@dataclass(slots=True)
class _Flow:
    """A connection under way."""

    ends: tuple[bytes, bytes]
    ports: tuple[int, int]
    sent: list[int]
    clocks: list[int]


class Mixed:
    """A generator of packets, the same for the same seed."""

    def __init__(self, seed: int, hosts: int = 12_000, packets_a_flow: int = 16) -> None:
        self._random = random.Random(seed)  # noqa: S311 - synthetic traffic, no secret
        draw = self._random
        self._v4 = [bytes([draw.randrange(11, 120), *draw.randbytes(3)]) for _ in range(hosts)]
        self._v6 = [V6 + draw.randbytes(8) for _ in range(hosts // 6)]
        self._macs = [MAC + draw.randbytes(2) for _ in range(40)]
        self._ends_with = 1 / packets_a_flow
        self._open: dict[int, list[_Flow]] = {4: [], 6: []}
        kinds = ("IPv4 in a header", "IPv4 in a quote", "IPv4 in ARP")
        self._marked = {
            kind: [bytes([131 + number, *draw.randbytes(3)]) for _ in range(_MARKED)]
            for number, kind in enumerate(kinds)
        }
        self.marks = Marks(
            patterns={
                **self._marked,
                "IPv6, anywhere": [V6],
                "MAC, anywhere": [MAC],
                "payload": [PAYLOAD],
                "DNS name": [NAME],
                "TCP time stamp": [STAMP],
            }
        )

    def _ethernet(self, kind: int, packet: bytes) -> bytes:
        one, other = self._random.sample(self._macs, 2)
        return one + other + struct.pack("!H", kind) + packet

    def _host(self) -> bytes:
        draw = self._random
        return draw.choice(self._marked["IPv4 in a header"]) if draw.random() < 0.01 else draw.choice(self._v4)

    def _flow(self, version: int) -> _Flow:
        """One of those under way, or a new one; each packet may be its last."""
        draw, flows = self._random, self._open[version]
        if len(flows) < OPEN:
            place = len(flows)
            flows.append(self._new_flow(version))
        else:
            place = draw.randrange(OPEN)
        flow = flows[place]
        if draw.random() < self._ends_with:
            flows[place] = self._new_flow(version)
        return flow

    def _new_flow(self, version: int) -> _Flow:
        draw = self._random
        ends = (self._host(), self._host()) if version == 4 else (draw.choice(self._v6), draw.choice(self._v6))
        ports = (draw.randrange(32768, 60999), draw.choice((80, 443, 22, 25)))
        return _Flow(
            ends, ports, [draw.getrandbits(32), draw.getrandbits(32)], [draw.getrandbits(15), draw.getrandbits(15)]
        )

    def _tcp(self, flow: _Flow) -> tuple[bytes, bytes, bytes]:
        """Source, destination and segment of the next packet of a connection."""
        draw = self._random
        side = draw.randrange(2)
        flow.clocks[side] = (flow.clocks[side] + 1) & 0xFFFF
        options = b"\x01\x01" + STAMP + struct.pack("!H2sH", flow.clocks[side], STAMP[2:], flow.clocks[1 - side])
        size = draw.choice((0, 0, 40, 300, 1000, 1400))
        ports = flow.ports if side == 0 else flow.ports[::-1]
        head = struct.pack("!HHIIBBHHH", *ports, flow.sent[side], flow.sent[1 - side], 0x80, 0x18, 501, 0, 0)
        flow.sent[side] = (flow.sent[side] + size) & 0xFFFF_FFFF
        body = (PAYLOAD * (size // len(PAYLOAD) + 1))[:size]
        source, destination = flow.ends if side == 0 else flow.ends[::-1]
        return source, destination, _with_sum(source, destination, 6, head + options + body, 16)

    def _dns(self, source: bytes, destination: bytes) -> bytes:
        draw = self._random
        name = NAME + f"{draw.randrange(5000):05}".encode()
        question = bytes([len(name)]) + name + b"\x07example\x00\x00\x01\x00\x01"
        message = struct.pack("!HHHHHH", draw.getrandbits(16), 0x0100, 1, 0, 0, 0) + question
        head = struct.pack("!HHHH", draw.randrange(32768, 60999), 53, 8 + len(message), 0)
        return _with_sum(source, destination, 17, head + message, 6)

    def packet(self) -> bytes:  # noqa: PLR0911 - one line for each kind
        """One more."""
        draw = self._random
        share = draw.random()
        one, other = self._host(), self._host()
        number = draw.getrandbits(16)
        if share < 0.72:
            source, destination, segment = self._tcp(self._flow(4))
            return self._ethernet(0x0800, _v4(source, destination, 6, segment, number))
        if share < 0.84:
            return self._ethernet(0x0800, _v4(one, other, 17, self._dns(one, other), number))
        if share < 0.96:
            source, destination, segment = self._tcp(self._flow(6))
            return self._ethernet(0x86DD, _v6(source, destination, 6, segment))
        if share < 0.98:
            hidden = draw.choice(self._marked["IPv4 in a quote"])
            quoted = _v4(hidden, one, 17, self._dns(hidden, one), number)[:64]
            message = b"\x03\x01\x00\x00\x00\x00\x00\x00" + quoted
            message = message[:2] + struct.pack("!H", _sum(message)) + message[4:]
            return self._ethernet(0x0800, _v4(other, one, 1, message, number))
        if share < 0.985:
            target, asker = draw.choice(self._v6), draw.choice(self._v6)
            group = bytes.fromhex("ff0200000000000000000001ff") + target[13:]
            message = b"\x87\0\0\0\0\0\0\0" + target + b"\x01\x01" + draw.choice(self._macs)
            solicitation = _with_sum(asker, group, 58, message, 2)
            return self._ethernet(0x86DD, _v6(asker, group, 58, solicitation))
        if share < 0.99:
            hidden = draw.choice(self._marked["IPv4 in ARP"])
            mac = draw.choice(self._macs)
            arp = b"\x00\x01\x08\x00\x06\x04\x00\x01" + mac + hidden + bytes(6) + one
            return self._ethernet(0x0806, arp + bytes(18))
        tagged = struct.pack("!HH", draw.randrange(1, 4095), 0x0800) + _v4(
            one, other, 17, self._dns(one, other), number
        )
        return self._ethernet(0x8100, tagged)

    def packets(self, count: int) -> Iterator[bytes]:
        """So many."""
        return (self.packet() for _ in range(count))


def write_mixed(path: Path, count: int, *, seed: int = 1, packets_a_flow: int = 16) -> Marks:
    """Write a pcap of mixed traffic; what to look for in what others make of it."""
    mixed = Mixed(seed, packets_a_flow=packets_a_flow)
    start = 1_700_000_000
    with path.open("wb", buffering=1 << 20) as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1))
        for number, packet in enumerate(mixed.packets(count)):
            microseconds = number * 25
            stamp = (start + microseconds // 10**6, microseconds % 10**6)
            file.write(struct.pack("<IIII", *stamp, len(packet), len(packet)) + packet)
    return mixed.marks
