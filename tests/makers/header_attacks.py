"""Attacks on header traces, as somebody runs them who has the trace, knows the policy, and did something beforehand.

A `World` is a campus of two networks with servers and clients, traffic between it and others, and the attacker's own
packets in it. An attack sees the released trace and the attacker's knowledge, and answers with guesses (released
address ▶ true address); `share` scores them against the truth, which the harness has since packets leave in order.

Sources: Xu, Fan et al. 2002 (known pairs); Brekne et al. 2005, Burkhart et al. 2010 (injection); Koukis et al. 2006 and
tcpmkpub (scans); Koukis et al. 2006 (sizes of objects).
"""

from __future__ import annotations

import random
import struct
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import packets
import pcapfile

NETWORKS = (b"\x14\x0a\x01", b"\x14\x0a\x02")
HOSTS = 100
"""In each network: addresses .20 and up."""
OTHERS = 200
PAGES = 400
ATTACKER = b"\x5d\xb8\xd8\x22"
SCANNER = b"\x5d\xb8\xd8\x99"
_SYN, _RST = 2, 4


@dataclass(frozen=True, slots=True)
class Seen:
    """A released packet of IPv4, as far as attacks look."""

    ts_ns: int
    source: bytes
    destination: bytes
    protocol: int
    ports: tuple[int, int]
    flags: int
    sequence: int
    wire_len: int


@dataclass(slots=True)
class World:
    """The traffic, and what is true of it."""

    raw: list[pcapfile.Captured] = field(default_factory=list)
    internal: list[bytes] = field(default_factory=list)
    marks: dict[bytes, tuple[int, ...]] = field(default_factory=dict)
    """What the attacker sent to whom: sizes of datagrams."""
    scanned: list[bytes] = field(default_factory=list)
    pages: dict[int, int] = field(default_factory=dict)
    """Page to bytes: what the attacker has measured at the public server."""
    visits: list[tuple[bytes, int]] = field(default_factory=list)
    server: bytes = b""


def _frames(world: World, made: list[bytes], at_ns: int, step_ns: int = 200_000) -> int:
    for packet in made:
        world.raw.append(pcapfile.Captured(at_ns, packet, len(packet)))
        at_ns += step_ns
    return at_ns


def _mac(address: bytes) -> bytes:
    return b"\x02\x00" + address


def make_world(seed: int) -> World:
    """The same world for the same seed."""
    draw = random.Random(seed)
    world = World()
    world.internal = [network + bytes([20 + number]) for network in NETWORKS for number in range(HOSTS)]
    others = [bytes([80 + draw.randrange(40), *draw.randbytes(3)]) for _ in range(OTHERS)]
    world.server = others[0]
    world.pages = {page: draw.randrange(2_000, 60_000) for page in range(PAGES)}
    at = 1_700_000_000_000_000_000

    def conversation(client: bytes, server: bytes, size: int) -> list[bytes]:
        flow = packets.Conversation(
            (_mac(client), _mac(server)), (client, server), (draw.randrange(20_000, 60_000), 443)
        )
        flow.sequences = [draw.getrandbits(32), draw.getrandbits(32)]
        flow.open()
        flow.send(0, bytes(300))
        flow.send(1, bytes(size))
        return flow.close()

    for _ in range(600):
        client = draw.choice(world.internal)
        server = draw.choice(others[1:] + world.internal[:5])
        if client != server:
            at = _frames(world, conversation(client, server, draw.randrange(100, 5_000)), at + 3_000_000)
    for _ in range(60):
        client, page = draw.choice(world.internal), draw.randrange(PAGES)
        world.visits.append((client, page))
        at = _frames(world, conversation(client, world.server, world.pages[page]), at + 3_000_000)
    # The attacker's datagrams: each host of the campus gets a row of sizes of its own.
    for number, host in enumerate(world.internal):
        sizes = tuple(900 if number >> bit & 1 else 20 for bit in range(9))
        world.marks[host] = sizes
        sent = [
            packets.ethernet(
                _mac(ATTACKER),
                _mac(host),
                packets.ip(ATTACKER, host, 17, packets.udp(ATTACKER, host, (53, 33_000), bytes(n))),
            )
            for n in (444, *sizes)
        ]
        at = _frames(world, sent, at + 2_000_000)
    # Somebody scans both networks in order; nobody but the hosts answers.
    for network in NETWORKS:
        for last in range(1, 255):
            target = network + bytes([last])
            world.scanned.append(target)
            syn = packets.tcp(SCANNER, target, (40_000, 22), (last, 0), _SYN, b"", b"")
            at = _frames(
                world, [packets.ethernet(_mac(SCANNER), _mac(target), packets.ip(SCANNER, target, 6, syn))], at
            )
    return world


def released(path: Path) -> list[Seen]:
    """The IPv4 packets of a header trace."""
    found = []
    for ts_ns, packet, wire_len in pcapfile.read_packets(path):
        if packet[12:14] != b"\x08\x00" or len(packet) < 34:
            continue
        start = 14 + (packet[14] & 15) * 4
        ports, flags, sequence = (0, 0), 0, 0
        if packet[23] in (6, 17) and len(packet) >= start + 8:
            ports = struct.unpack_from("!HH", packet, start)
            if packet[23] == 6 and len(packet) >= start + 20:
                sequence, flags = struct.unpack_from("!I", packet, start + 4)[0], packet[start + 13]
        found.append(Seen(ts_ns, packet[26:30], packet[30:34], packet[23], ports, flags, sequence, wire_len))
    return found


def truth(world: World, seen: list[Seen]) -> dict[bytes, bytes]:
    """Released address ▶ true address, for all packets but the scanner's: what an attacker would love to have."""
    raw = [packet for _, packet, _ in world.raw]
    assert len(raw) == len(seen), "every packet leaves, in order"
    found: dict[bytes, bytes] = {}
    for packet, out in zip(raw, seen, strict=True):
        if SCANNER not in (packet[26:30], packet[30:34]):
            found[out.source], found[out.destination] = packet[26:30], packet[30:34]
    return found


Guesses = dict[bytes, bytes]


def share(guesses: Guesses, true: dict[bytes, bytes], wanted: list[bytes]) -> float:
    """How many of the wanted true addresses are told rightly."""
    right = {raw for out, raw in guesses.items() if true.get(out) == raw}
    return len(right & set(wanted)) / len(wanted)


def known_pairs(world: World, seen: list[Seen], count: int) -> float:
    """Who knows `count` pairs tells, for each other campus address, whether it is in the same /24 as a known one.

    Answers the share of addresses whose network is told rightly; only those that share no pair are asked for.
    """
    true = truth(world, seen)
    out_of = {raw: out for out, raw in true.items()}
    draw = random.Random(7)
    known = draw.sample(world.internal, count)
    pairs = [(raw, out_of[raw]) for raw in known if raw in out_of]
    asked = [raw for raw in world.internal if raw not in known and raw in out_of]
    right = 0
    for raw in asked:
        near = max(pairs, key=lambda pair: _common(pair[1], out_of[raw]))
        if _common(near[1], out_of[raw]) >= 24 and near[0][:3] == raw[:3]:
            right += 1
    return right / len(asked)


def _common(one: bytes, other: bytes) -> int:
    different = int.from_bytes(one, "big") ^ int.from_bytes(other, "big")
    return 32 - different.bit_length()


def injection(world: World, seen: list[Seen], _: int = 0) -> float:
    """Rows of sizes that the attacker sent are looked for: who received which row?"""
    by_target: dict[tuple[bytes, bytes], list[int]] = defaultdict(list)
    for one in seen:
        if one.protocol == 17:
            by_target[one.source, one.destination].append(one.wire_len)
    guesses: Guesses = {}
    rows = {tuple(size > 20 for size in sizes): host for host, sizes in world.marks.items()}
    for (_, target), lengths in by_target.items():
        if len(lengths) != 10:
            continue
        small = min(lengths)
        host = rows.get(tuple(length > small for length in lengths[1:]))
        if host is not None:
            guesses[target] = host
    return share(guesses, truth(world, seen), list(world.marks))


def scan(world: World, seen: list[Seen], _: int = 0) -> float:
    """A source that sends one SYN to each of very many is a scanner; the n-th one was to the n-th address."""
    by_source: dict[bytes, list[bytes]] = defaultdict(list)
    for one in seen:
        if one.protocol == 6 and one.flags == _SYN:
            by_source[one.source].append(one.destination)
    scanned = max(by_source.values(), key=lambda targets: len(set(targets)))
    guesses = dict(zip(scanned, world.scanned, strict=False)) if len(scanned) == len(world.scanned) else {}
    return share(guesses, truth(world, seen), world.internal)


def sizes(world: World, seen: list[Seen], _: int = 0) -> float:
    """Bytes that the server sent in a connection, by sequence numbers or by lengths: which page was it?

    Answers the share of visits whose page is told rightly and uniquely. The attacker knows the released server.
    """
    true = truth(world, seen)
    out_of = {raw: out for out, raw in true.items()}
    server = out_of[world.server]
    flows: dict[tuple[bytes, int], list[Seen]] = defaultdict(list)
    for one in seen:
        if one.protocol == 6 and one.source == server:
            flows[one.destination, one.ports[1]].append(one)
    told = 0
    for flow in flows.values():
        counted = max((one.sequence - flow[0].sequence) & 0xFFFF_FFFF for one in flow) - 1
        fits = [page for page, size in world.pages.items() if size == counted]
        told += len(fits) == 1
    return told / len(world.visits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """An attack, and what it recovers."""

    name: str
    does: str
    run: Callable[[World, list[Seen], int], float]
    strength: int = 0


ATTACKS = (
    Attack(
        name="1 known pair",
        does="networks of all others told from one address that is known",
        run=known_pairs,
        strength=1,
    ),
    Attack(name="10 known pairs", does="the same from ten", run=known_pairs, strength=10),
    Attack(name="injection", does="marked datagrams to every host: addresses told", run=injection),
    Attack(name="scan in order", does="one SYN to each address, in order: addresses told", run=scan),
    Attack(name="sizes of pages", does="bytes of a connection to a known server: pages told", run=sizes),
)
