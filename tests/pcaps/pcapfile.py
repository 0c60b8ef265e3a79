"""Capture files without libraries: the little that the makers and tests of captures need.

Rules of this file:
1. Reads what tcpdump writes (classic pcap, µs or ns, either byte order) and what `write_pcapng` writes, nothing else.
2. This is a maker and an oracle for tests, independent of the product's own reader on purpose.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ETHERNET = 1
_MAGICS = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}


class Captured(NamedTuple):
    """One packet: capture time in nanoseconds since the epoch, its bytes, its length on the wire."""

    ts_ns: int
    packet: bytes
    wire_len: int


def write_pcap(path: Path, packets: Iterable[Captured], *, linktype: int = ETHERNET) -> int:
    """Write a classic pcap with nanoseconds; returns the number of packets."""
    count = 0
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, linktype))
        for ts_ns, packet, wire_len in packets:
            file.write(struct.pack("<IIII", ts_ns // 10**9, ts_ns % 10**9, len(packet), wire_len))
            file.write(packet)
            count += 1
    return count


def _block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = len(body) + 12
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


def write_pcapng(path: Path, packets: Iterable[Captured], *, linktype: int = ETHERNET) -> int:
    """Write a pcapng of one section, one interface, nanoseconds, no comments, no names; returns the packets."""
    count = 0
    with path.open("wb") as file:
        file.write(_block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
        tsresol = struct.pack("<HHB3x", 9, 1, 9) + struct.pack("<HH", 0, 0)
        file.write(_block(1, struct.pack("<HHI", linktype, 0, 262144) + tsresol))
        for ts_ns, packet, wire_len in packets:
            head = struct.pack("<IIIII", 0, ts_ns >> 32, ts_ns & 0xFFFFFFFF, len(packet), wire_len)
            file.write(_block(6, head + packet))
            count += 1
    return count


def read_packets(path: Path) -> Iterator[Captured]:
    """The packets of a file that `write_pcap`, `write_pcapng` or tcpdump wrote."""
    content = path.read_bytes()
    if content[:4] == b"\x0a\x0d\x0d\x0a":
        yield from _read_pcapng(content)
    else:
        yield from _read_pcap(content)


def _read_pcap(content: bytes) -> Iterator[Captured]:
    for order in "<>":
        magic = struct.unpack_from(order + "I", content)[0]
        if magic in _MAGICS:
            break
    else:
        raise ValueError("no pcap")
    record, offset = struct.Struct(order + "IIII"), 24
    while offset + 16 <= len(content):
        seconds, fraction, captured_len, wire_len = record.unpack_from(content, offset)
        packet = content[offset + 16 : offset + 16 + captured_len]
        yield Captured(seconds * 10**9 + fraction * _MAGICS[magic], packet, wire_len)
        offset += 16 + captured_len


def _read_pcapng(content: bytes) -> Iterator[Captured]:
    offset = 0
    while offset + 12 <= len(content):
        kind, length = struct.unpack_from("<II", content, offset)
        if kind == 6:
            _, high, low, captured_len, wire_len = struct.unpack_from("<IIIII", content, offset + 8)
            packet = content[offset + 28 : offset + 28 + captured_len]
            yield Captured(high << 32 | low, packet, wire_len)
        offset += length
