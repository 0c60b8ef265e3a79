"""Attacks on the records of a policy, as somebody runs them who has the output, knows the policy, and did something
beforehand.

A `World` is a list of events: a client asks a server for something under a name, of a size, at a time. Every record of
a policy gets a row of each event, cleared by the policy's own gate. An attack sees what left and the attacker's
knowledge, and answers with the share that it recovers; the truth is known to the harness because it clears row by row.

Sources: Xu, Fan et al. 2002 (known pairs); Brekne et al. 2005, Burkhart et al. 2010 (injection); Koukis et al. 2006
(scans, sizes of objects); Kumar et al. 2007 (how often names come).
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from bunker.experiment.bundle import seal
from bunker.model.fields import Field, FieldType, RecordSchema
from bunker.native.clear import Gate
from bunker.native.wire import Batch
from bunker.policy.load import policy_of
from bunker.policy.rules import Policy

NETWORKS = ("20.10.1", "20.10.2")
HOSTS = 40
SITES = 50
PAGES = 200
VISITS = 300
SIZES = (20, 900, 9_000, 90_000)
"""Of the attacker's answers: how many of each size a client gets spells its number."""
START_NS = 1_700_000_000_000_000_000
SCANNER, ATTACKER_SITE, PAGES_SITE = "93.184.216.99", "marked-by-attacker.com", "pages-of-note.com"
CLIENT_FIELDS, SERVER_FIELDS = ("orig_h", "client"), ("resp_h", "server")
NAME_FIELDS = ("host", "query", "server_name", "mailfrom", "site")
SIZE_FIELDS = ("response_body_len", "size", "ttl_min", "resp_bytes", "orig_bytes", "request_body_len")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a client did."""

    at_s: float
    client: str
    server: str
    name: str
    size: int


@dataclass(slots=True)
class World:
    """What happened, and what the attacker knows of it."""

    events: list[Event] = field(default_factory=list)
    clients: list[str] = field(default_factory=list)
    popularity: list[str] = field(default_factory=list)
    """Sites, the most asked for first."""
    pages: dict[int, int] = field(default_factory=dict)
    """Page to bytes, as measured at the site."""
    scanned: list[str] = field(default_factory=list)


def _digits(number: int) -> tuple[int, ...]:
    """How many answers of each size client `number` gets: 1 to 4 of each."""
    return tuple((number >> 2 * place & 3) + 1 for place in range(len(SIZES)))


def make_world(seed: int) -> World:
    """The same world for the same seed; all of it within six minutes, so that it rarely meets the end of an epoch."""
    draw = random.Random(seed)
    world = World()
    world.clients = [f"{network}.{20 + number}" for network in NETWORKS for number in range(HOSTS)]
    world.popularity = [f"site{number}.com" for number in range(SITES)]
    servers = {site: f"80.{draw.randrange(250)}.{draw.randrange(250)}.1" for site in world.popularity}
    for rank, site in enumerate(world.popularity):
        for _ in range(2 * (SITES - rank) + 10):
            client = draw.choice(world.clients)
            world.events.append(Event(draw.uniform(0, 300), client, servers[site], site, draw.randrange(100, 60_000)))
    world.pages = {page: draw.randrange(2_000, 60_000) for page in range(PAGES)}
    for _ in range(VISITS):
        client, page = draw.choice(world.clients), draw.randrange(PAGES)
        world.events.append(Event(draw.uniform(0, 300), client, "80.1.1.1", PAGES_SITE, world.pages[page]))
    for number, client in enumerate(world.clients):
        for count, size in zip(_digits(number), SIZES, strict=True):
            world.events += [Event(draw.uniform(0, 300), client, "80.2.2.2", ATTACKER_SITE, size)] * count
    for client in world.clients:
        other = draw.choice(world.clients)
        world.events.append(Event(draw.uniform(0, 300), other, client, "peers.net", draw.randrange(100, 60_000)))
    world.scanned = [f"{NETWORKS[0]}.{last}" for last in range(1, 255)]
    world.events += [Event(30.5 + n, SCANNER, target, "scan.net", 40) for n, target in enumerate(world.scanned)]
    world.events.sort(key=lambda event: event.at_s)
    return world


def _address(text: str) -> bytes:
    return bytes(10) + b"\xff\xff" + bytes(map(int, text.split(".")))


_ARROW: dict[FieldType, tuple[pa.DataType, object]] = {
    FieldType.ADDRESS: (pa.binary(16), _address("192.0.2.1")),
    FieldType.ADDRESS_LIST: (pa.list_(pa.binary(16)), [_address("192.0.2.1")]),
    FieldType.MAC: (pa.binary(6), bytes(6)),
    FieldType.TIME: (pa.timestamp("ns", tz="UTC"), START_NS),
    FieldType.DURATION: (pa.duration("ns"), 10**6),
    FieldType.SCORE: (pa.float64(), 1.0),
    FieldType.FLAG: (pa.bool_(), True),
    FieldType.TEXT_LIST: (pa.list_(pa.string()), ["x"]),
    FieldType.CONTENT: (pa.binary(), b""),
    FieldType.DIGEST: (pa.string(), "00"),
    **dict.fromkeys((FieldType.PORT, FieldType.CODE, FieldType.VLAN), (pa.uint16(), 443)),
    **dict.fromkeys((FieldType.BYTES, FieldType.COUNT, FieldType.FLOW_ID, FieldType.FLAGS), (pa.uint64(), 7)),
}


def _cells(one: Field, events: Sequence[Event]) -> pa.Array:
    """A column of a record, by what its name says of an event; what says nothing is always the same."""
    kind, usual = _ARROW.get(one.type, (pa.string(), one.words[0] if one.words else "word"))
    values: list[object] = [usual] * len(events)
    if one.name in CLIENT_FIELDS and one.type is FieldType.ADDRESS:
        values = [_address(event.client) for event in events]
    elif one.name in SERVER_FIELDS and one.type is FieldType.ADDRESS:
        values = [_address(event.server) for event in events]
    elif one.name in NAME_FIELDS:
        mail = one.type is FieldType.MAIL_ADDRESS
        values = [f"user@{event.name}" if mail else f"www.{event.name}" for event in events]
    elif one.name in SIZE_FIELDS and kind == pa.uint64():
        values = [event.size for event in events]
    elif one.type is FieldType.TIME:
        values = [START_NS + int(event.at_s * 1e9) for event in events]
    elif one.type is FieldType.DURATION and one.name.startswith("ttl"):
        values = [event.size * 10**9 for event in events]
    return pa.array(values, kind)


Row = dict[str, Any]
Changes = Sequence[tuple[str, str]]


@dataclass(slots=True)
class Released:
    """A record's rows as they left, each beside what it was made of, and which columns say what."""

    rows: list[tuple[Event, Row]]
    columns: dict[str, list[str]]

    def of(self, what: str) -> str | None:
        """The column that says most about it: the last that the policy names, None if there is none."""
        return self.columns[what][-1] if self.columns[what] else None


def _columns(policy: Policy, record: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    tells_nothing = ("present", "role", "len", "count", "class")
    rules = [rule for rule in policy.rules[record] if rule.transform not in tells_nothing]
    concepts = {
        "client": CLIENT_FIELDS,
        "server": SERVER_FIELDS,
        "name": NAME_FIELDS,
        "size": SIZE_FIELDS,
        "ts": ("ts",),
    }
    for concept, names in concepts.items():
        found[concept] = [rule.name for rule in rules if rule.source.name in names]
    return found


def release(experiment: Path, world: World, changed: Changes = ()) -> dict[str, Released]:
    """Clear every event as each record that the experiment's policy lets out; a gate, hence keys, for each record.

    Args:
        changed: (old, new) text of the policy, applied in order.
    """
    bundle = seal(experiment)
    text = bundle.policy_text
    for old, new in changed:
        assert old in text, old
        text = text.replace(old, new)
    policy = policy_of(text, bundle.schemas, bundle.lists, name=bundle.policy_name)
    out = {}
    for record in policy.rules:
        if policy.rules[record]:
            out[record] = _release(policy, bundle.schemas[record], _in_company(policy, record, world.events))
    return out


def _in_company(policy: Policy, record: str, events: list[Event]) -> list[Event]:
    """Without those that a threshold on names holds back, so that what leaves can be laid beside what came in."""
    if record not in policy.company:
        return events
    clients: dict[str, set[str]] = defaultdict(set)
    for event in events:
        clients[event.name].add(event.client)
    return [event for event in events if len(clients[event.name]) >= policy.company[record].k]


def _release(policy: Policy, schema: RecordSchema, events: list[Event]) -> Released:
    gate = Gate(policy.compiled(), {name: one.described() for name, one in policy.schemas.items()})
    columns = [_cells(one, events) for one in schema.fields]
    whole = Batch.from_arrow(pa.record_batch(columns, names=[one.name for one in schema.fields])).conform(
        schema.described()
    )
    cleared = []
    for number in range(len(events)):
        cleared += gate.clear(schema.name, whole.slice(number, 1).ipc())
    cleared += gate.finish()
    rows = [row for one in cleared if one.record == schema.name for row in _rows(one.ipc())]
    assert len(rows) == len(events), "every row leaves, in order"
    return Released(list(zip(events, rows, strict=True)), _columns(policy, schema.name))


def _rows(ipc: bytes) -> list[Row]:
    table = pa.ipc.open_stream(ipc).read_all()
    plain = [column.cast(pa.int64()) if pa.types.is_temporal(column.type) else column for column in table.columns]
    rows: list[Row] = pa.table(plain, names=table.column_names).to_pylist()
    return rows


def known_pairs(world: World, seen: Released, count: int) -> float:
    """Who knows `count` clients by their released addresses tells which network each other client is of."""
    best = 0.0
    for column in seen.columns["client"]:
        out_of = {event.client: row[column] for event, row in seen.rows if event.client in world.clients}
        if not all(isinstance(text, str) and text.count(".") == 3 for text in out_of.values()):
            continue  # no address: a tag has no prefix
        if len(set(out_of.values())) < len(out_of):
            continue  # truncated: what is told of a network stands there for everybody, and no pair is needed
        known = random.Random(7).sample(world.clients, count)
        asked = [client for client in world.clients if client not in known]
        right = 0
        for client in asked:
            near = max(known, key=lambda one: _common(out_of[one], out_of[client]))
            right += (
                _common(out_of[near], out_of[client]) >= 24 and near.rpartition(".")[0] == client.rpartition(".")[0]
            )
        best = max(best, right / len(asked))
    return best


def _common(one: str, other: str) -> int:
    different = int.from_bytes(_address(one), "big") ^ int.from_bytes(_address(other), "big")
    return 32 - different.bit_length()


def injection(world: World, seen: Released, _: int = 0) -> float:
    """Answers in marked numbers of marked sizes: which pseudonym got which? No time, no name and no order is needed."""
    client, size = seen.of("client"), seen.of("size")
    if client is None or size is None:
        return 0.0
    apart = seen.columns["name"] + seen.columns["server"]
    groups: dict[tuple[Any, ...], Counter[Any]] = defaultdict(Counter)
    truth: dict[Any, str] = {}
    for event, row in seen.rows:
        groups[row[client], *(row[column] for column in apart)][row[size]] += 1
        truth[row[client]] = event.client
    marks = {_digits(number): address for number, address in enumerate(world.clients)}
    told = set()
    for (pseudonym, *_), sizes in groups.items():
        digits = tuple(sizes[size] for size in sorted(sizes))
        guess = marks.get(digits) if len(sizes) == len(SIZES) else None
        if guess is not None and truth[pseudonym] == guess:
            told.add(guess)
    return len(told) / len(world.clients)


def scan(world: World, seen: Released, _: int = 0) -> float:
    """Whoever asks the most servers is a scanner; the n-th that he asked was the n-th address. Scored are the addresses
    of others' rows that are told so: under keys of his own the scanner's rows say nothing of them.
    """
    client, server, ts = seen.of("client"), seen.of("server"), seen.of("ts")
    if client is None or server is None or ts is None:
        return 0.0
    asked: dict[Any, list[tuple[int, Any]]] = defaultdict(list)
    truth: dict[Any, str] = {}
    for event, row in seen.rows:
        asked[row[client]].append((row[ts], row[server]))
        if event.client != SCANNER and event.server in world.clients:
            truth[row[server]] = event.server
    targets = max(asked.values(), key=lambda rows: len({server for _, server in rows}))
    ordered = [server for _, server in sorted(targets, key=lambda one: one[0])]
    if len(set(ordered)) < len(world.scanned):
        return 0.0
    right = sum(truth.get(server) == raw for server, raw in zip(ordered, world.scanned, strict=False))
    return right / len(set(truth.values()) & set(world.scanned))


def sizes(world: World, seen: Released, _: int = 0) -> float:
    """A visit to a site whose pages are known: which page was it? The attacker knows the site's pseudonym, and which
    released size each page has (he can visit all of them).
    """
    size = seen.of("size")
    visits = [(event, row) for event, row in seen.rows if event.name == PAGES_SITE]
    if size is None or not visits:
        return 0.0
    fits: dict[Any, set[int]] = defaultdict(set)
    for event, row in visits:
        fits[row[size]] |= {page for page, exact in world.pages.items() if exact == event.size}
    return sum(len(fits[row[size]]) == 1 for _, row in visits) / len(visits)


def frequency(world: World, seen: Released, _: int = 0) -> float:
    """The n-th most common pseudonym of a name is the n-th most popular site; a name in clear is told anyway.

    What stands for many names (`rare`) stands in no ranking.
    """
    name = seen.of("name")
    if name is None:
        return 0.0
    counts = Counter(row[name] for event, row in seen.rows if event.name in world.popularity)
    truth: dict[Any, set[str]] = defaultdict(set)
    for event, row in seen.rows:
        truth[row[name]].add(event.name)
    ranked = [text for text, _ in counts.most_common() if len(truth[text]) == 1]
    right = {site for text, site in zip(ranked, world.popularity, strict=False) if truth[text] == {site}}
    right |= {site for site in world.popularity if truth.get(site) == {site}}
    return len(right) / len(world.popularity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """An attack, and what it recovers."""

    name: str
    does: str
    run: Callable[[World, Released, int], float]
    strength: int = 0


ATTACKS = (
    Attack(name="1 known pair", does="networks of all other clients told from one", run=known_pairs, strength=1),
    Attack(name="10 known pairs", does="the same from ten", run=known_pairs, strength=10),
    Attack(name="injection", does="marked numbers of marked answers to every client: clients told", run=injection),
    Attack(name="scan in order", does="one flow a second to each address, in order: addresses told", run=scan),
    Attack(name="sizes of pages", does="visits to a known site: pages told", run=sizes),
    Attack(name="how often names come", does="sites told by their rank", run=frequency),
)


def recovered(attack: Attack, world: World, released: dict[str, Released]) -> float:
    """The most that the attack recovers of any record."""
    return max(attack.run(world, seen, attack.strength) for seen in released.values())
