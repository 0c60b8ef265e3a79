"""Header traces: the tables `[out.pcap...]` of a policy, compiled for the core.

Place in the flow: a policy's TOML ▶ here ▶ words (key, word, numbers) ▶ `crates/clear/src/trace/rules.rs`.

Rules of this file:
1. Default drop at every level: a table, key, option or message type that is not named is zeros or does not exist.
2. One map for every place an address can stand: all address rules of a trace are the same transform.
3. What is not understood is an error; what is known to be dangerous is one unless `accept` names it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bunker.model.headers import PCAP
from bunker.native.trace import trace_fault
from bunker.policy.trace_around import AroundRules, Refuse, TraceField, Word, is_whole, near
from bunker.policy.trace_fields import (
    ADDRESS,
    FIELDS,
    FLAG,
    IP_OPTIONS,
    LENGTHS,
    SEQUENCE,
    SIZES,
    STAMPS,
    TCP_OPTIONS,
    TOP,
    TUNNELS,
    WAYS,
    Kind,
)
from bunker.policy.trace_risks import Risk, risks_of

_GRAIN = re.compile(r"^(\d+)(us|ms|s|min|h)$")
_GRAIN_NS = {"us": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRules:
    """A header trace's rules.

    Attributes:
        words: For the core.
        format: "pcapng" or "pcap".
        two_passes: The trace must be read twice: not in a box, which reads it once.
        risks: Those that the policy accepts.
    """

    words: tuple[Word, ...]
    format: str
    two_passes: bool
    fields: tuple[TraceField, ...]
    risks: tuple[Risk, ...]


@dataclass(slots=True)
class _Reader(AroundRules):
    """`[out.pcap]` and the tables below it."""

    def list_of(self, table: str, key: str, value: object, kind: Kind) -> list[int]:
        if not isinstance(value, list) or not value:
            raise self.refuse(table, key, "values are no list", "Write values = [...]")
        if kind.values is not None:
            for item in value:
                if item not in kind.values:
                    raise self.refuse(table, key, f"unknown value {item!r}", near(item, kind.values))
            return [kind.values[item] for item in value]
        assert kind.numbers is not None
        if not all(is_whole(item, 0, kind.numbers - 1) for item in value):
            raise self.refuse(table, key, "values are no list of numbers", f"Use numbers below {kind.numbers}")
        return list(value)

    def field_rule(self, table: str, name: str, key: str, value: Any, kind: Kind) -> None:
        """One key of a layer's table."""
        settings = self.settings(table, key, value)
        do = settings.pop("do", None)
        path = f"{name}.{key}" if name else key
        if do == "drop":
            self.only(table, settings, ())
            return
        known = [*ADDRESS] if kind.address else ["bucket", "keep"] if kind.sizes else [*kind.words]
        if do not in known:
            raise self.refuse(table, key, f"unknown transform {do!r}", near(do, ["drop", *known]))
        if do == "keep" and not isinstance(settings.pop("because", None), str):
            raise self.refuse(table, key, "keep needs because", 'Write { do = "keep", because = "..." }')
        if kind.address:
            self.address_rule(table, key, path, do, settings)
            return
        numbers: list[int] = []
        word = do if kind.sizes else kind.words[do]
        if do == "allow":
            numbers = self.list_of(table, key, settings.pop("values", None), kind)
        elif do == "const":
            value = settings.pop("value", None)
            if not is_whole(value, 0, 255):
                raise self.refuse(table, key, "const needs a value", 'Write { do = "const", value = 64 }')
            numbers = [value]
        elif do == "bucket":
            numbers = self.edges(table, key, settings.pop("edges", "log2"))
        self.only(table, settings, ())
        self.word(path, word, numbers)
        self.told(path, do, kind.learns, kind.bits)

    def edges(self, table: str, key: str, edges: object) -> list[int]:
        if edges == "log2":
            return []
        if not isinstance(edges, list) or not edges or not all(is_whole(edge, 0, 2**32) for edge in edges):
            raise self.refuse(table, key, "edges are no list of numbers", 'Write "log2" or [64, 512, 1500]')
        if sorted(set(edges)) != edges:
            raise self.refuse(table, key, "edges do not grow", "Write them in order, each once")
        return list(edges)

    def address_rule(self, table: str, key: str, path: str, do: str, settings: dict[str, Any]) -> None:
        numbers: list[int] = []
        if do == "truncate":
            for setting, default, most in (("v4", 24, 32), ("v6", 48, 128)):
                bits = settings.pop(setting, default)
                if not is_whole(bits, 0, most):
                    raise self.refuse(table, key, f"{setting} is no prefix length", f"Use 0 to {most}")
                numbers.append(bits)
        self.only(table, settings, ())
        if self.addresses not in (None, (do, numbers)):
            raise self.refuse(
                table,
                key,
                "is another map than the addresses before it have",
                "A trace has one map for every place an address can stand: write the same everywhere",
            )
        self.addresses = (do, numbers)
        learns = {
            "tag": "which packets are of one address, not whose",
            "truncate": "the network, not the host",
        }.get(do, "which addresses share a network, and how much of it; each known pair tells the prefixes it shares")
        self.word(path, "map")
        self.told(path, do, learns, 32 if path.startswith(("arp", "ipv4", "icmp.")) else 128)

    def layer(self, name: str, content: Any) -> None:
        table = f"out.{PCAP}.{name}"
        if not isinstance(content, dict) or not content:
            raise self.refuse(table, None, "has no rules", "Name the fields that leave, or delete the table")
        kinds = FIELDS[name]
        special = {"tcp": ["options"], "ipv4": ["options"], "ipv6": ["ext_headers", "iid"]}.get(name, [])
        self.only(table, content, [*kinds, *special])
        if name not in ("eth", "icmp", "icmpv6"):
            self.word(name, "on")
        for key, value in content.items():
            if key in kinds:
                self.field_rule(table, name, key, value, kinds[key])
            elif key == "iid":
                if value != "bound-to-prefix":
                    raise self.refuse(
                        table, key, 'is not "bound-to-prefix"', "Interface identifiers are mapped with their network"
                    )
            elif key == "ext_headers":
                self.extensions(table, value)
            elif name == "ipv4":
                self.ip_options(table, value)
            else:
                self.tcp_options(table, value)

    def choice(self, table: str, key: str, settings: dict[str, Any], known: Mapping[str, int]) -> list[int]:
        allowed = settings.pop("allow", [])
        if not isinstance(allowed, list):
            raise self.refuse(table, key, "allow is no list", "Write allow = [...]")
        for item in allowed:
            if item not in known:
                raise self.refuse(table, key, f"unknown option {item!r}", near(item, known))
        return [known[item] for item in allowed]

    def extensions(self, table: str, value: Any) -> None:
        settings = self.settings(table, "ext_headers", value)
        if self.choice(table, "ext_headers", settings, {"fragment": 0}):
            self.word("ipv6.fragment", "on")
            self.told("ipv6.fragment", "keyed", "which fragments belong together, and their places", 32)
        other = settings.pop("other", "drop-packet")
        self.only(table, settings, ())
        if other not in ("drop-packet", "stop-parse", "skip"):
            remedy = near(other, ("drop-packet", "stop-parse", "skip"))
            raise self.refuse(table, "ext_headers", f"other is {other!r}", remedy)
        self.word("ipv6.ext_headers", other)

    def ip_options(self, table: str, value: Any) -> None:
        settings = self.settings(table, "options", value)
        allowed = self.choice(table, "options", settings, IP_OPTIONS)
        if settings.pop("other", "nop") != "nop":
            raise self.refuse(table, "options", 'other is not "nop"', "Options that are not allowed become NOPs")
        self.only(table, settings, ())
        self.word("ipv4.options", "allow", allowed)
        self.told("ipv4.options", "allow", "how long the options were, and router alerts if allowed", 4)

    def tcp_options(self, table: str, value: Any) -> None:
        settings = self.settings(table, "options", value)
        allowed = self.choice(table, "options", settings, TCP_OPTIONS)
        if settings.pop("other", "nop") != "nop":
            raise self.refuse(table, "options", 'other is not "nop"', "Options that are not allowed become NOPs")
        self.word("tcp.options", "allow", allowed)
        self.told("tcp.options", "allow", "how long the options were, and those of the list", 6)
        kinds = {"sack": SEQUENCE, "ts": STAMPS, "mss": SIZES, "wscale": FLAG}
        self.only(table, settings, kinds)
        for key, setting in settings.items():
            self.field_rule(table, "tcp.options", key, setting, kinds[key])

    def time(self, table: str, value: Any) -> None:
        settings = self.settings(table, "time", value)
        do = settings.pop("do", None)
        if do not in ("shift+grain", "rel"):
            raise self.refuse(table, "time", f"unknown transform {do!r}", near(do, ("shift+grain", "rel")))
        match = _GRAIN.match(str(settings.pop("grain", "")))
        if match is None or int(match[1]) == 0:
            raise self.refuse(table, "time", "grain is no duration", 'Write grain = "1ms"')
        self.only(table, settings, ())
        grain = int(match[1]) * _GRAIN_NS[match[2]]
        self.word("time", do, [grain])
        learns = "order and distance of packets to the grain; the date only if he can recognise an event in the trace"
        self.told("time", f"{do} {grain / 1e6:g} ms", learns, 63)

    def top(self, content: Mapping[str, Any]) -> str:
        """`[out.pcap]` itself; the format."""
        table = f"out.{PCAP}"
        self.only(table, content, TOP)
        for key in ("time", "wirelen"):
            if key not in content:
                raise self.refuse(table, key, "is missing", f"A packet has a {key}: say how it leaves")
        file = self.container(table, content)
        self.time(table, content["time"])
        self.field_rule(table, "", "wirelen", content["wirelen"], LENGTHS)
        if "wirelen" not in self.transforms:
            raise self.refuse(table, "wirelen", "is dropped", "A packet without a length cannot be read: use bucket")
        self.ways(table, content)
        for name in FIELDS:
            if name in content:
                self.layer(name, content[name])
        if "eth.type" not in self.transforms:
            raise self.refuse(f"{table}.eth", "type", "is missing", "Name the protocols that leave")
        return file

    def container(self, table: str, content: Mapping[str, Any]) -> str:
        """What file it becomes."""
        file = content.get("file", "pcapng")
        if file not in ("pcapng", "pcap"):
            raise self.refuse(table, "file", f"is {file!r}", 'Use "pcapng" or "pcap"')
        if content.get("linktype", "ethernet") != "ethernet":
            raise self.refuse(
                table, "linktype", 'is not "ethernet"', "Every link leaves as Ethernet; there is no other"
            )
        if set(content.get("blocks", ["shb", "idb", "epb"])) != {"shb", "idb", "epb"}:
            raise self.refuse(table, "blocks", "are not shb, idb, epb", "No other block is ever written")
        return str(file)

    def ways(self, table: str, content: Mapping[str, Any]) -> None:
        """Choices that concern whole packets."""
        for key, ways in WAYS.items():
            way = content.get(key, ways[0])
            if way not in ways:
                raise self.refuse(table, key, f"is {way!r}", near(way, ways))
            self.word(key, way)
        tunnels = content.get("tunnels", [])
        if not isinstance(tunnels, list):
            raise self.refuse(table, "tunnels", "is no list", 'Write tunnels = ["gre"]')
        for item in tunnels:
            if item not in TUNNELS:
                raise self.refuse(table, "tunnels", f"unknown tunnel {item!r}", near(item, TUNNELS))
        if tunnels:
            self.word("tunnels", "allow", [TUNNELS.index(item) for item in tunnels])
            self.told("tunnels", f"allow {len(tunnels)}", "the inner headers, by the rules of their layers", 0)


def trace_rules(content: Mapping[str, Any], refuse: Refuse) -> TraceRules | None:
    """The header trace of a policy; None if it has none.

    Args:
        content: The whole policy as TOML gives it: `[policy]`, `[keys]`, `[sites]`, `[passes]`, `[out.pcap]` are read.
        refuse: Makes an error of (table, key, cause, remedy), with its line.
    Raises:
        ConfigurationError: what is not understood, or a risk that `policy.accept` does not name.
    """
    out = content.get("out", {})
    table = out.get(PCAP) if isinstance(out, dict) else None
    if table is None:
        return None
    if not isinstance(table, dict):
        raise refuse(f"out.{PCAP}", None, "is no table", f"Write [out.{PCAP}]")
    reader = _Reader(content, refuse)
    file = reader.top(table)
    reader.services()
    reader.passes()
    reader.sample()
    if reader.addresses is not None:
        reader.word("addresses", *reader.addresses)
    head, keys = content.get("policy", {}), content.get("keys", {})
    epoch = str(keys.get("epoch", "run"))
    if epoch not in ("run", "day", "hour"):
        raise refuse("keys", "epoch", f"is {epoch!r}", "Use run, day or hour")
    reader.word("epoch", epoch)
    addresses = None if reader.addresses is None else reader.addresses[0]
    public = head.get("profile", "partner") == "public"
    risks = risks_of(reader.transforms, addresses, epoch=epoch, public=public)
    accepted = head.get("accept", [])
    for risk in risks:
        if risk.name not in accepted:
            raise refuse(
                "policy",
                "accept" if "accept" in head else None,
                f"the header trace has the risk {risk.name!r}: {risk.sentence}",
                f'Change the rule, or accept it by name: accept = ["{risk.name}"]',
            )
    bad = trace_fault(reader.words)
    assert bad is None, f"policy/trace.py and trace/rules.rs differ over {bad}"
    return TraceRules(
        words=tuple(reader.words),
        format=file,
        two_passes=reader.transforms.get("tcp.options.ts") == "rank" or "scanners" in reader.transforms,
        fields=tuple(reader.fields),
        risks=risks,
    )
