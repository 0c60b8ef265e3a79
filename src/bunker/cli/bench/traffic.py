"""Large synthetic HTTP and DNS traces with a known truth, for `bunker bench analysis`.

Rules of this file:
1. The same shape, count and seed give the same bytes; nothing is drawn from a clock or a random source.
2. All lengths and checksums are right; names end in `.example`, addresses are documentation addresses.
3. A trace is cached under a name that holds a digest of this file: changed code never reads an old trace.

Not real traffic: one reply fits one packet (but in `bodies`), nothing is lost or reordered. What real programs do is in
`examples/web-study/traffic.pcapng`; hostile traffic is the fuzzers' and the wire tests' business.
"""

from __future__ import annotations

import array
import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import click

_EPOCH_NS = 1_700_000_000 * 10**9
_STEP_NS = 4_000
_FLUSH_BYTES = 4 << 20
_MSS = 1460
_FIN, _SYN, _PSH, _ACK = 1, 2, 8, 16

_RECORD = struct.Struct("<IIII")
_TCP = struct.Struct("!12sHHHHHBBH4s4sHHIIHHHH")
_UDP = struct.Struct("!12sHHHHHBBH4s4sHHHH")


class Payload(NamedTuple):
    """Bytes and their checksum, summed up once."""

    content: bytes
    total: int
    body: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What a trace holds."""

    shape: str
    packets: int
    bytes: int
    connections: int
    requests: int
    response_bodies: int
    dns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A capture file and its truth."""

    path: Path
    truth: Truth


def _total(content: bytes) -> int:
    """One's complement sum, folded, not inverted (RFC 1071)."""
    padded = content + bytes(len(content) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _payload(content: bytes, body: int = 0) -> Payload:
    return Payload(content, _total(content), body)


def _requests(seed: int) -> list[Payload]:
    """4,096 requests of 256 sites, 200 to 330 bytes."""
    made = []
    for number in range(4096):
        site, page = (number + seed) % 256, (number * 7919 + seed) % 100_000
        head = (
            f"GET /section-{page % 40}/page-{page}.html?ref={number % 97} HTTP/1.1\r\nHost: site-{site}.example\r\n"
            f"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:{100 + number % 30}.0) Gecko/20100101\r\n"
            f"Accept: text/html,application/xhtml+xml\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n"
        )
        if number % 3 == 0:
            head += f"Referer: http://site-{site}.example/section-{page % 40}/\r\n"
        made.append(_payload((head + "\r\n").encode()))
    return made


def _response(status: str, kind: str, body: bytes) -> Payload:
    head = (
        f"HTTP/1.1 {status}\r\nServer: bench\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: keep-alive\r\n\r\n"
    )
    return _payload(head.encode() + body, len(body))


def _responses() -> list[Payload]:
    """64 replies that fit one packet: pages, images, some errors."""
    made = []
    for number in range(64):
        body = (b"<p>packets and flows</p>" * 40)[: 40 + number * 13]
        if number % 16 == 15:
            made.append(_response("404 Not Found", "text/html", body))
        else:
            made.append(_response("200 OK", "image/png" if number % 4 == 1 else "text/html", body))
    return made


def _name(label: str) -> bytes:
    return b"".join(bytes([len(part)]) + part.encode() for part in f"{label}.example".split(".")) + b"\0"


class _Connection:
    """One TCP connection: constant parts of both directions' headers, sequence numbers."""

    __slots__ = ("_fixed", "_out", "_sequences")

    def __init__(self, out: _Out, number: int) -> None:
        client = bytes((198, 51, 100, 1 + number % 250))
        server = bytes((192, 0, 2, 1 + number * 7 % 200))
        port = 1024 + number // 250 % 64_000
        sums = _total(client) + _total(server)
        macs = b"\x02\x00\x5e\x00\x53\x01\x02\x00\x5e\x00\x53\x02"
        self._out = out
        self._fixed = (
            (macs, client, server, port, 80, sums),
            (macs[6:] + macs[:6], server, client, 80, port, sums),
        )
        self._sequences = [(number * 2654435761) & 0xFFFFFFFF, (number * 40503 + 77) & 0xFFFFFFFF]

    def segment(self, side: int, flags: int, payload: Payload | None = None) -> None:
        """One packet."""
        macs, source, destination, sport, dport, sums = self._fixed[side]
        sequences = self._sequences
        seq, ack = sequences[side], sequences[1 - side] if flags & _ACK else 0
        content, total = (payload.content, payload.total) if payload else (b"", 0)
        length = len(content)
        ip = 0x4500 + 40 + length + 0x4000 + 0x4006 + sums
        ip = (ip & 0xFFFF) + (ip >> 16)
        ip += ip >> 16
        offset = 0x5000 | flags
        tcp = sums + 6 + 20 + length + sport + dport + (seq >> 16) + (seq & 0xFFFF) + (ack >> 16) + (ack & 0xFFFF)
        tcp += offset + 64240 + total
        tcp = (tcp & 0xFFFF) + (tcp >> 16)
        tcp += tcp >> 16
        head = _TCP.pack(
            macs, 0x0800, 0x4500, 40 + length, 0, 0x4000, 64, 6, ~ip & 0xFFFF, source, destination,
            sport, dport, seq, ack, offset, 64240, ~tcp & 0xFFFF, 0,
        )  # fmt: skip
        self._out.packet(head, content)
        sequences[side] = (seq + length + (1 if flags & (_SYN | _FIN) else 0)) & 0xFFFFFFFF

    def resume(self, sent: int) -> None:
        """Go on after the handshake and a request of `sent` bytes."""
        self._sequences = [(self._sequences[0] + 1 + sent) & 0xFFFFFFFF, (self._sequences[1] + 1) & 0xFFFFFFFF]

    def open(self, step: int) -> None:
        """Packet `step` of the handshake."""
        self.segment(*((0, _SYN), (1, _SYN | _ACK), (0, _ACK))[step])

    def close(self, step: int) -> None:
        """Packet `step` of the farewell."""
        self.segment(*((0, _FIN | _ACK), (1, _FIN | _ACK), (0, _ACK))[step])


class _Out:
    """The file: pcap records, and the count of what went in."""

    def __init__(self, write: Callable[[bytes], object], seed: int) -> None:
        self._write = write
        self._pieces: list[bytes] = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)]
        self._held = 24
        self._ts_ns = _EPOCH_NS
        self.packets = self.bytes = self.connections = self.requests = self.bodies = self.dns = 0
        self._requests, self._responses, self._seed = _requests(seed), _responses(), seed

    def packet(self, head: bytes, content: bytes) -> None:
        """One record."""
        length, ts_ns = len(head) + len(content), self._ts_ns
        self._ts_ns = ts_ns + _STEP_NS
        self._pieces += (_RECORD.pack(ts_ns // 10**9, ts_ns % 10**9, length, length), head, content)
        self._held += 16 + length
        self.packets += 1
        if self._held >= _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        self.bytes += self._held
        self._write(b"".join(self._pieces))
        self._pieces, self._held = [], 0

    def connection(self) -> _Connection:
        """The next connection; no two of a trace have the same four-tuple up to 16 million."""
        self.connections += 1
        return _Connection(self, self.connections - 1)

    def request(self, connection: _Connection) -> int:
        """Send the next request; returns its bytes."""
        number = (self.requests * 2654435761 + self._seed >> 8) & 4095
        self.requests += 1
        connection.segment(0, _PSH | _ACK, self._requests[number])
        return len(self._requests[number].content)

    def response(self, connection: _Connection, number: int) -> None:
        """Send a reply of one packet."""
        payload = self._responses[number & 63]
        self.bodies += payload.body
        connection.segment(1, _PSH | _ACK, payload)

    def datagram(self, number: int, side: int, content: bytes) -> None:
        """One UDP packet between a client and the name server."""
        client, server = bytes((198, 51, 100, 1 + number % 250)), bytes((203, 0, 113, 53))
        source, destination = (client, server) if side == 0 else (server, client)
        port, length, sums = 1024 + number // 250 % 64_000, len(content), _total(client) + _total(server)
        sport, dport = (port, 53) if side == 0 else (53, port)
        macs = b"\x02\x00\x5e\x00\x53\x02\x02\x00\x5e\x00\x53\x01"
        ip = 0x4500 + 28 + length + 0x4000 + 0x4011 + sums
        ip = (ip & 0xFFFF) + (ip >> 16)
        ip += ip >> 16
        udp = sums + 17 + 2 * (8 + length) + sport + dport + _total(content)
        udp = (udp & 0xFFFF) + (udp >> 16)
        udp += udp >> 16
        head = _UDP.pack(
            macs, 0x0800, 0x4500, 28 + length, 0, 0x4000, 64, 17, ~ip & 0xFFFF, source, destination,
            sport, dport, 8 + length, (~udp & 0xFFFF) or 0xFFFF,
        )  # fmt: skip
        self.packet(head, content)


def _groups(count: int, size: int) -> Iterator[int]:
    while count > 0:
        yield min(size, count)
        count -= size


def _keepalive(out: _Out, count: int) -> None:
    """100 requests a connection, 64 connections at a time, one after the other in turn."""
    for group in _groups(count, 6400):
        connections = [out.connection() for _ in range((group + 99) // 100)]
        for step in range(3):
            for connection in connections:
                connection.open(step)
        left = group
        while left > 0:
            for number, connection in enumerate(connections[:left]):
                out.request(connection)
                out.response(connection, number + left)
            left -= len(connections)
        for step in range(3):
            for connection in connections:
                connection.close(step)


def _close(out: _Out, count: int) -> None:
    """One connection a request, 32 at a time: 8 packets each."""
    for group in _groups(count, 32):
        connections = [out.connection() for _ in range(group)]
        for step in range(3):
            for connection in connections:
                connection.open(step)
        for connection in connections:
            out.request(connection)
        for connection in connections:
            out.response(connection, out.connections)
        for step in range(3):
            for connection in connections:
                connection.close(step)


def _bodies(out: _Out, count: int) -> None:
    """Replies of 256 KiB, ten a connection, acknowledged every second segment."""
    whole = _response("200 OK", "application/octet-stream", hashlib.shake_256(b"bodies").digest(256 << 10))
    pieces = [_payload(whole.content[at : at + _MSS]) for at in range(0, len(whole.content), _MSS)]
    for group in _groups(count, 10):
        connection = out.connection()
        for step in range(3):
            connection.open(step)
        for _ in range(group):
            out.request(connection)
            out.bodies += whole.body
            for number, piece in enumerate(pieces):
                connection.segment(1, _ACK, piece)
                if number % 2:
                    connection.segment(0, _ACK)
        for step in range(3):
            connection.close(step)


def _mix(out: _Out, count: int) -> None:
    """A DNS exchange before each connection of ten requests."""
    for group in _groups(count, 10):
        number = out.dns
        question = _name(f"site-{number % 256}") + b"\x00\x01\x00\x01"
        query = struct.pack("!HHHHHH", number & 0xFFFF, 0x0100, 1, 0, 0, 0) + question
        answer = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x01\x2c\x00\x04" + bytes((192, 0, 2, 1 + number % 200))
        out.datagram(number, 0, query)
        out.datagram(number, 1, struct.pack("!HHHHHH", number & 0xFFFF, 0x8180, 1, 1, 0, 0) + question + answer)
        out.dns += 1
        connection = out.connection()
        for step in range(3):
            connection.open(step)
        for depth in range(group):
            out.request(connection)
            out.response(connection, number + depth)
        for step in range(3):
            connection.close(step)


def _flows(out: _Out, count: int) -> None:
    """All connections open before the first reply: `count` flows live at the same time."""
    sent = array.array("H")  # a million connection objects would be a gigabyte
    for _ in range(count):
        connection = out.connection()
        for step in range(3):
            connection.open(step)
        sent.append(out.request(connection))
    for number in range(count):
        connection = _Connection(out, number)
        connection.resume(sent[number])
        out.response(connection, number)
        for step in range(3):
            connection.close(step)


_CROWD = 2000


def _crowd(out: _Out, count: int) -> None:
    """2,000 connections live at any time, most of one request, few of hundreds: lengths fall off as a power."""
    state = 12345
    live: list[tuple[_Connection, int]] = []
    begun = 0
    while live or begun < count:
        while begun < count and len(live) < _CROWD:
            state = state * 48271 % 2147483647
            length = min(int((2147483647 / state) ** 0.8), 1000, count - begun)
            connection = out.connection()
            for step in range(3):
                connection.open(step)
            live.append((connection, length))
            begun += length
        state = state * 48271 % 2147483647
        place = state % len(live)
        connection, left = live[place]
        out.request(connection)
        out.response(connection, state)
        if left > 1:
            live[place] = (connection, left - 1)
            continue
        for step in range(3):
            connection.close(step)
        live[place] = live[-1]
        live.pop()


SHAPES: dict[str, Callable[[_Out, int], None]] = {
    "keepalive": _keepalive,
    "close": _close,
    "bodies": _bodies,
    "mix": _mix,
    "flows": _flows,
    "crowd": _crowd,
}


def write_trace(path: Path, shape: str, requests: int, *, seed: int = 1) -> Truth:
    """Write a trace; it appears under `path` only when it is complete."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        out = _Out(file.write, seed)
        SHAPES[shape](out, requests)
        out.flush()
    partial.rename(path)
    return Truth(
        shape=shape,
        packets=out.packets,
        bytes=out.bytes,
        connections=out.connections,
        requests=out.requests,
        response_bodies=out.bodies,
        dns=out.dns,
    )


def default_work() -> Path:
    """Where traces and spools of the bench stand if the user says nothing: never inside the repository."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "bunker-bench"


def trace(work: Path, shape: str, requests: int, *, seed: int = 1) -> Trace:
    """A cached trace of `requests` requests; made if it is not there."""
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    path = work / "traces" / f"{shape}-{requests}-{seed}-{version}.pcap"
    told = path.with_suffix(".json")
    if not (path.exists() and told.exists()):
        path.parent.mkdir(parents=True, exist_ok=True)
        truth = write_trace(path, shape, requests, seed=seed)
        told.write_text(json.dumps(asdict(truth)))
    return Trace(path=path, truth=Truth(**json.loads(told.read_text())))


@click.command("traffic")
@click.option("--shape", type=click.Choice(list(SHAPES)), default="keepalive", show_default=True)
@click.option("--requests", type=click.IntRange(1, 16_000_000), default=1_000_000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option(
    "--work", type=click.Path(path_type=Path), default=default_work, help="Cache of traces.  [default: user's cache]"
)
def make_traffic(shape: str, requests: int, seed: int, work: Path) -> None:
    """Make a trace (or find it in the cache) and print its path and truth."""
    made = trace(work, shape, requests, seed=seed)
    click.echo(f"{made.path}\n{json.dumps(asdict(made.truth))}")
