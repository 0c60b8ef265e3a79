"""The committed capture holds what the clients' ledger says, by a naive reader that shares no code with the product."""

from __future__ import annotations

import collections
import json
import re
import socket
import struct
from pathlib import Path
from typing import Any

import pcapfile
import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "web-study"
DOCUMENTATION = ("192.0.2.", "198.51.100.", "203.0.113.", "2001:db8:")

Segment = collections.namedtuple("Segment", "src sport dst dport seq flags payload")


def _transport(packet: bytes) -> tuple[int, str, str, bytes] | None:
    """(protocol, source, destination, transport bytes) of a plain Ethernet/IP packet."""
    ethertype = struct.unpack_from("!H", packet, 12)[0]
    if ethertype == 0x0800:
        total, protocol = struct.unpack_from("!H", packet, 16)[0], packet[23]
        source, destination = (socket.inet_ntoa(packet[n : n + 4]) for n in (26, 30))
        return protocol, source, destination, packet[14 + (packet[14] & 15) * 4 : 14 + total]
    if ethertype == 0x86DD:
        length, protocol = struct.unpack_from("!H", packet, 18)[0], packet[20]
        source, destination = (socket.inet_ntop(socket.AF_INET6, packet[n : n + 16]) for n in (22, 38))
        return protocol, source, destination, packet[54 : 54 + length]
    return None


@pytest.fixture(scope="module")
def datagrams() -> list[tuple[int, str, str, bytes]]:
    return [found for p in pcapfile.read_packets(EXAMPLE / "traffic.pcapng") if (found := _transport(p.packet))]


@pytest.fixture(scope="module")
def ledger() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((EXAMPLE / "traffic.ledger.json").read_text())
    return content


@pytest.fixture(scope="module")
def segments(datagrams: list[tuple[int, str, str, bytes]]) -> list[Segment]:
    found = []
    for protocol, source, destination, data in datagrams:
        if protocol == 6:
            sport, dport, seq, _, offset, flags = struct.unpack_from("!HHIIBB", data)
            found.append(Segment(source, sport, destination, dport, seq, flags, data[(offset >> 4) * 4 :]))
    return found


@pytest.fixture(scope="module")
def streams(segments: list[Segment]) -> dict[tuple[str, int, str, int], bytes]:
    """Bytes of each direction: segments laid at their sequence numbers."""
    start = {s[:4]: s.seq + 1 for s in segments if s.flags & 2}
    buffers: dict[tuple[str, int, str, int], bytearray] = collections.defaultdict(bytearray)
    for segment in segments:
        if segment.payload and not segment.flags & 2:
            key = segment[:4]
            at = (segment.seq - start[key]) % 2**32
            buffers[key].extend(bytes(max(0, at + len(segment.payload) - len(buffers[key]))))
            buffers[key][at : at + len(segment.payload)] = segment.payload
    return {key: bytes(value) for key, value in buffers.items()}


def test_each_connection_of_the_ledger_was_captured_and_no_other(
    segments: list[Segment], ledger: dict[str, Any]
) -> None:
    seen = collections.Counter(
        (s.src, s.dst, s.dport) for s in {s[:4]: s for s in segments if s.flags & 0x12 == 2}.values()
    )
    told = collections.Counter((c["client"], c["server"], c["server_port"]) for c in ledger["connections"])
    assert seen == told


def test_each_request_of_the_ledger_was_captured_and_no_other(
    streams: dict[tuple[str, int, str, int], bytes], ledger: dict[str, Any]
) -> None:
    seen: collections.Counter[tuple[str, str, str, str]] = collections.Counter()
    for (source, _, destination, port), data in streams.items():
        if port in (80, 8080):
            for line in re.finditer(rb"(?:^|\n|\x7d)(GET|HEAD|POST|PUT|DELETE|OPTIONS) (\S+) HTTP/1\.1\r\n", data):
                seen[source, destination, line[1].decode(), line[2].decode()] += 1
            # A body that ends without a line end stands directly before the next request.
            for line in re.finditer(rb"[^\n\x7d](GET|POST) (\S+) HTTP/1\.1\r\n", data):
                seen[source, destination, line[1].decode(), line[2].decode()] += 1
    told = collections.Counter((t["client"], t["server"], t["method"], t["uri"]) for t in ledger["http"])
    assert seen == told


def test_each_status_of_the_ledger_was_captured(
    streams: dict[tuple[str, int, str, int], bytes], ledger: dict[str, Any]
) -> None:
    seen: collections.Counter[tuple[str, int]] = collections.Counter()
    for (_, port, destination, _), data in streams.items():
        if port in (80, 8080):
            statuses = re.findall(rb"HTTP/1\.[01] (\d{3}) [^\r\n]*\r\n", data)
            seen.update((destination, int(status)) for status in statuses if status != b"100")
    assert seen == collections.Counter((t["client"], t["status"]) for t in ledger["http"])


def test_dns_queries_of_the_server_log_were_captured(
    datagrams: list[tuple[int, str, str, bytes]], ledger: dict[str, Any]
) -> None:
    sent = collections.Counter(
        (source, struct.unpack_from("!H", data)[0])
        for protocol, source, _, data in datagrams
        if protocol == 17 and struct.unpack_from("!H", data, 2)[0] == 53
    )
    logged = collections.Counter((q["client"], q["client_port"]) for q in ledger["dns"])
    over_tcp = sum(d["tcp"] for d in ledger["dig"])
    assert sum((logged - sent).values()) == over_tcp
    assert not sent - logged


def test_server_names_stand_in_as_many_hellos_as_the_ledger_says(
    streams: dict[tuple[str, int, str, int], bytes], ledger: dict[str, Any]
) -> None:
    hellos = [data for (_, _, _, port), data in streams.items() if port == 443 and data[:1] == b"\x16"]
    assert len(hellos) == len(ledger["tls"])
    told = collections.Counter(t["sni"] for t in ledger["tls"] if t["sni"])
    for name, count in told.items():
        extension = struct.pack("!HBH", len(name) + 3, 0, len(name)) + name.encode()
        assert sum(extension in hello for hello in hellos) == count


def test_all_addresses_are_documentation_addresses(
    datagrams: list[tuple[int, str, str, bytes]], ledger: dict[str, Any]
) -> None:
    for protocol, source, destination, _ in datagrams:
        local = source.startswith(("fe80:", "::")) or destination.startswith("ff02:")
        assert (local and protocol in (0, 58)) or (
            source.startswith(DOCUMENTATION) and destination.startswith(DOCUMENTATION)
        )
    assert len({t["client"] for t in ledger["http"]}) >= 8


def test_capture_has_whole_packets_below_the_mtu_in_a_small_file() -> None:
    path = EXAMPLE / "traffic.pcapng"
    packets = list(pcapfile.read_packets(path))
    assert path.stat().st_size <= 1_000_000
    assert all(len(p.packet) == p.wire_len <= 1514 for p in packets)
