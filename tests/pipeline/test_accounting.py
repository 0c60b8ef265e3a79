"""`bunker run` over any capture: each packet of the file is analysed or lost for a counted reason.

Whole files and damaged ones. The packets of the outermost flow records are those that the same file has without a box,
over two lanes as over one. The engine alone is held to this on all captures that other projects publish
(`tests/conformance/comparers/capture.py`) and on their cut and bent copies (`fuzz/src/lib.rs`, target `capture_file`).
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from boxes import POLICY, TRAFFIC, balanced, bunker, counters, rows, study
from pcapfile import Captured, read_packets, write_pcap

COUNTING = """
from bunker.api import Count, Emit, Flag, Record, analyzer, flow

class Seen(Record):
    packets: Count
    outermost: Flag

@analyzer(emits=Seen)
def seen(one: flow.Flow, emit: Emit) -> None:
    emit(Seen(packets=one.orig_pkts + one.resp_pkts, outermost=one.outer_uid is None))
"""
SEEN_OUT = """
[out.seen]
packets = { do = "keep", because = "needed here" }
outermost = { do = "keep", because = "needed here" }
"""
PACKETS = 3866


def _ipv4(protocol: int, payload: bytes, *, offset: int = 0, more: bool = False) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 7, offset // 8 | more << 13, 64, protocol, 0)
    head += bytes([192, 0, 2, 1, 198, 51, 100, 7])
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return head[:10] + struct.pack("!H", checksum) + head[12:] + payload


def _udp(payload: bytes) -> bytes:
    return struct.pack("!HHHH", 1000, 2000, 8 + len(payload), 0) + payload


def _mixed(path: Path) -> Path:
    """A packet for each reason to be in no flow, and some that are in two: tunnels, fragments, cuts and lies."""
    mac = bytes([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2])
    plain, datagram = _ipv4(17, _udp(b"plain")), _udp(b"x" * 64)
    frames = [
        mac + b"\x08\x00" + plain,
        mac + b"\x08\x06" + bytes(28),  # ARP
        mac + b"\x88\xcc" + bytes(20),  # LLDP
        mac[:9],  # not even an Ethernet header
        mac + b"\x08\x00" + plain[:15],  # half an IP header
        mac + b"\x08\x00" + b"\x41" + plain[1:],  # a header of four bytes
        mac + b"\x08\x00" + plain[:10] + b"\0\0" + plain[12:],  # a wrong checksum
        mac + b"\x08\x00" + _ipv4(17, datagram[:40], more=True),
        mac + b"\x08\x00" + _ipv4(17, datagram[40:], offset=40),
        mac + b"\x08\x00" + _ipv4(17, datagram[:8], offset=800, more=True),  # never completed
        mac + b"\x08\x00" + _ipv4(47, b"\0\0\x08\x00" + plain),  # GRE
        mac + b"\x08\x00" + _ipv4(4, _ipv4(4, plain)),
        mac + b"\x08\x00" + _ipv4(89, b"ospf"),
        b"".join([mac, b"\x81\x00\0\x05" * 30, b"\x08\x00", plain]),  # more tags than are read
    ]
    write_pcap(path, (Captured(10**18 + number, frame, len(frame)) for number, frame in enumerate(frames)))
    return path


def _cut(path: Path) -> Path:
    path.write_bytes(TRAFFIC.read_bytes()[:-10_001])
    return path


def _bent(path: Path) -> Path:
    """Bits of the packets themselves flipped: headers that lie, streams that go wrong."""
    dice = random.Random(7)
    packets = []
    for ts_ns, packet, wire_len in read_packets(TRAFFIC):
        bent = bytearray(packet)
        if dice.random() < 0.3:
            bent[dice.randrange(len(bent))] ^= 1 << dice.randrange(8)
        packets.append(Captured(ts_ns, bytes(bent), wire_len))
    write_pcap(path, packets)
    return path


def _dissected(path: Path) -> tuple[int, int]:
    """(packets in the file, packets of the outermost flows) without a box."""
    told = bunker("dissect", str(path), "--json", "--messages", "flow", "--counters")
    lines = [msgspec.json.decode(line) for line in told.stdout.splitlines()]
    flows = [line for line in lines if line["message"] == "flow" and "outer_uid" not in line]
    return lines[-1]["packets_read"], sum(line["orig_pkts"] + line["resp_pkts"] for line in flows)


@pytest.mark.parametrize(
    ("make", "packets", "returns"),
    [(_mixed, 14, 0), (_cut, None, 1), (_bent, PACKETS, 0)],
    ids=["every reason", "cut file", "bent packets"],
)
def test_every_packet_is_analysed_or_lost_for_a_reason(
    make: Callable[[Path], Path], packets: int | None, returns: int, tmp_path: Path
) -> None:
    path = make(tmp_path / "in.pcap")
    read, in_flows = _dissected(path)
    assert packets in (None, read)
    one = study(tmp_path / "s", analyzers=("mine.py:seen",), policy=POLICY + SEEN_OUT, source=COUNTING)
    done = one.run(tmp_path / "out", "--read", str(path), "--closed-box", "none")
    assert done.returncode == returns, done.stderr
    found = counters(tmp_path / "out")
    assert balanced(found)
    assert found["packets_received"] == read
    told = rows(tmp_path / "out", "seen")
    assert sum(row["packets"] for row in told if row["outermost"]) == in_flows
