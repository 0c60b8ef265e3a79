"""What stands around the rules of a header trace (services, passes, the sample), and how a rule becomes words."""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bunker.errors import ConfigurationError
from bunker.model.headers import PCAP
from bunker.policy.trace_fields import SCANNER_MARKS

Refuse = Callable[[str, str | None, str, str], ConfigurationError]
Word = tuple[str, str, list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceField:
    """One rule, for the privacy officer: how the field leaves, what is learnt, the most bits a packet carries in it."""

    name: str
    transform: str
    learns: str
    bits: float


def share_of(refuse: Refuse, record: str, share: object) -> float:
    """The share of a sample: above 0, below 1.

    Raises:
        ConfigurationError: it is none.
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 1e-6 <= share <= 1 - 1e-6:
        raise refuse("gate", "sample", f"{record}: share is no number between 0 and 1", "Write share = 0.1")
    return float(share)


def near(word: object, known: Iterable[str]) -> str:
    """The remedy for an unknown word."""
    words = list(known)
    found = difflib.get_close_matches(str(word), words, n=1)
    return f"Did you mean {found[0]!r}?" if found else f"Known: {', '.join(words)}"


def is_whole(value: object, low: int, high: int) -> bool:
    """Whether it is a whole number of this range."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def site(network: object) -> list[int]:
    """A network as the core takes it: two halves of the address, IPv4 as ::ffff:a.b.c.d, and the length."""
    found = ipaddress.ip_network(network)  # type: ignore[arg-type] # what is none raises
    value, length = int(found.network_address), found.prefixlen
    if found.version == 4:
        value, length = value | 0xFFFF << 32, length + 96
    return [value >> 64, value & (1 << 64) - 1, length]


@dataclass(slots=True)
class AroundRules:
    """A policy of a header trace, as far as it has been read."""

    content: Mapping[str, Any]
    refuse: Refuse
    words: list[Word] = field(default_factory=list)
    fields: list[TraceField] = field(default_factory=list)
    addresses: tuple[str, list[int]] | None = None
    transforms: dict[str, str] = field(default_factory=dict)

    def word(self, key: str, word: str, numbers: Iterable[int] = ()) -> None:
        self.words.append((key, word, list(numbers)))

    def told(self, key: str, transform: str, learns: str, bits: float) -> None:
        self.transforms[key] = transform
        self.fields.append(TraceField(name=key, transform=transform, learns=learns, bits=bits))

    def settings(self, table: str, key: str, value: Any) -> dict[str, Any]:
        if isinstance(value, str):
            return {"do": value}
        if isinstance(value, dict):
            return dict(value)
        raise self.refuse(table, key, "is neither a transform nor a table", 'Write "drop" or { do = ..., ... }')

    def only(self, table: str, content: Mapping[str, Any], known: Iterable[str]) -> None:
        names = list(known)
        for key in content:
            if key not in names:
                raise self.refuse(table, key, "unknown setting", near(key, names))

    def services(self) -> None:
        sites = self.content.get("sites", {})
        services = sites.get("services", {}) if isinstance(sites, dict) else {}
        if not isinstance(services, dict):
            raise self.refuse("sites", "services", "is no table", "Write services = { tcp = [80], udp = [53] }")
        for protocol, ports in services.items():
            if protocol not in ("tcp", "udp"):
                raise self.refuse("sites", "services", f"unknown protocol {protocol!r}", near(protocol, ("tcp", "udp")))
            if not isinstance(ports, list) or not all(is_whole(port, 0, 65535) for port in ports):
                raise self.refuse("sites", "services", f"{protocol} is no list of ports", "Write tcp = [80, 443]")
            self.word(f"services.{protocol}", "list", ports)

    def sample(self) -> None:
        """Whose packets leave: a share of the hosts. Of records `tables.py` reads the same table."""
        gate = self.content.get("gate", {})
        entries = gate.get("sample", {}) if isinstance(gate, dict) else {}
        entry = entries.get(PCAP) if isinstance(entries, dict) else None
        if entry is None:
            return
        if not isinstance(entry, dict) or set(entry) != {"share"}:
            remedy = f"Write {PCAP} = {{ share = 0.1 }}: a packet is drawn with its host"
            raise self.refuse("gate", "sample", f"{PCAP} is not a share", remedy)
        share = share_of(self.refuse, PCAP, entry["share"])
        self.word("sample", "host", [round(share * 2**64)])
        learns = "of a host in the sample what the rules let out, of any other nothing; who is in it, the key decides"
        self.told("sample", f"hosts, share {share:g}", learns, 0)
        sites = self.content.get("sites", {})
        for network in sites.get("internal", []) if isinstance(sites, dict) else []:
            try:
                self.word("sites", "internal", site(network))
            except (ValueError, TypeError):
                remedy = 'Write them as "192.0.2.0/24"'
                raise self.refuse("sites", "internal", "has an entry that is no network", remedy) from None

    def passes(self) -> None:
        passes = self.content.get("passes", {})
        if not isinstance(passes, dict):
            raise self.refuse("passes", None, "is no table", "Write [passes]")
        if passes.get("timestamps", "rank") != "rank":
            raise self.refuse("passes", "timestamps", 'is not "rank"', "There is no other first pass over them")
        scanners = passes.get("scanners")
        if scanners is None:
            return
        settings = self.settings("passes", "scanners", scanners)
        do = settings.pop("do", None)
        if do not in ("split", "drop"):
            raise self.refuse("passes", "scanners", f"unknown way {do!r}", near(do, ("split", "drop")))
        self.only("passes", settings, SCANNER_MARKS)
        marks = {**SCANNER_MARKS, **settings}
        ratio = marks["failed_ratio"]
        whole = all(is_whole(marks[key], 2, 4096) for key in ("window", "monotone", "fanout"))
        if not whole or not isinstance(ratio, int | float) or not 0 <= ratio <= 1:
            remedy = "Use whole numbers from 2 to 4096, and a ratio from 0 to 1"
            raise self.refuse("passes", "scanners", "a mark is out of range", remedy)
        numbers = [int(marks["window"]), int(marks["monotone"]), int(marks["fanout"]), round(ratio * 1000)]
        self.word("scanners", do, numbers)
        self.transforms["scanners"] = do
