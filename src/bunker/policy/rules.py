"""A policy as value types: what the loader makes, what the core takes, what reports read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bunker.model.fields import Field, FieldType, RecordSchema
from bunker.model.headers import PCAP
from bunker.policy.trace import TraceRules
from bunker.policy.transforms import NETWORKS, THRESHOLDS

EPOCHS = ("run", "day", "hour")
_NAMED = frozenset({FieldType.HOST, FieldType.URL, FieldType.MAIL_ADDRESS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One output field: where it comes from, what is done, with which settings."""

    record: str
    name: str
    source: Field
    transform: str
    settings: Mapping[str, Any]
    output: str

    @property
    def waits(self) -> bool:
        """Whether it holds values back until enough units share them."""
        return self.transform in THRESHOLDS or "k" in self.settings

    @property
    def orders(self) -> bool:
        """Whether it is the order of a window's times, which the window's end decides."""
        return self.transform == "enum" and self.source.type is FieldType.TIME

    @property
    def domain(self) -> str:
        """Values of one domain look equal if they are."""
        default = "host" if self.source.type in (FieldType.HOST, FieldType.URL) else self.source.type.value
        return str(self.settings.get("domain") or default)

    def compiled(self, lists: Mapping[str, int]) -> dict[str, Any]:
        """For the core."""
        settings = self.settings
        edges, values, other = settings.get("edges"), settings.get("values", []), settings.get("other")
        span = isinstance(values, str)
        constant = [str(settings["value"])] if "value" in settings else []
        return {
            "name": self.name,
            "from": self.source.name,
            "do": self.transform,
            "v4": settings.get("v4", 24),
            "v6": settings.get("v6", 48),
            "edges": [float(edge) for edge in edges] if isinstance(edges, list) else None,
            "values": [] if span else [str(value) for value in values] + constant,
            "range": tuple(int(end) for end in values.split("-")) if span else None,
            "other": None if other is None else str(other),
            "other_tag": self.waits and other == "etld1_tag",
            "grain_ns": settings.get("grain", 0),
            "span_ns": settings.get("span", 0),
            "to": settings.get("to", 0),
            "scale": settings.get("scale", 0),
            "domain": settings.get("domain", ""),
            "ports": settings.get("ports", []),
            "with": settings.get("with"),
            "list": lists[settings["list"]] if "list" in settings else None,
            "k": settings.get("k") if self.waits else None,
            "n": settings.get("n", settings.get("topk")),
            "shown": shown(self.source.type, self.transform),
        }


def shown(kind: FieldType, transform: str) -> str:
    """What a threshold counts and shows of a field: the core's word."""
    if transform == "family_major":
        return "family"
    if transform in NETWORKS:
        return "network"
    if transform == "oui_top":
        return "oui"
    return "domain" if kind in _NAMED else "value"


@dataclass(frozen=True, slots=True, kw_only=True)
class Company:
    """Rows of a record leave only if `k` units share the output columns `by` in a window."""

    k: int
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Rows of a record leave only for a share of its units, drawn by key: above 0, below 1, of the field `by`."""

    share: float
    by: str

    @property
    def below(self) -> int:
        """A draw of 64 bits must be below."""
        return round(self.share * 2**64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanners:
    """Who scans, and what becomes of his rows."""

    action: str
    window: int
    monotone: int
    fanout: int
    failed_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """A number with noise, for each window."""

    name: str
    of: str
    field: str | None
    bounds: tuple[int, int]
    by: str | None
    keys: tuple[str, ...]
    where: Mapping[str, tuple[str, ...]]
    unit: str
    rows_per_unit: int
    epsilon: float
    min_size: int

    @property
    def noise_scale(self) -> float:
        """Scale of the discrete Laplace noise: sensitivity through epsilon."""
        most = 1 if self.field is None else self.bounds[1]
        return self.rows_per_unit * most / self.epsilon

    def compiled(self) -> dict[str, Any]:
        """For the core."""
        return {
            "name": self.name,
            "of": self.of,
            "sum": None if self.field is None else (self.field, *self.bounds),
            "by": None if self.by is None else (self.by, list(self.keys)),
            "filter": [(name, list(values)) for name, values in self.where.items()],
            "unit": self.unit,
            "rows_per_unit": self.rows_per_unit,
            "epsilon": self.epsilon,
            "min_size": self.min_size,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy that fits its records."""

    name: str
    purpose: str
    profile: str
    digest: str
    rules: Mapping[str, tuple[Rule, ...]]
    schemas: Mapping[str, RecordSchema]
    accept: frozenset[str] = frozenset()
    epoch: str = "run"
    window: str = "run"
    internal: tuple[tuple[bytes, int], ...] = ()
    domains: tuple[str, ...] = ()
    sample: Mapping[str, Share] = field(default_factory=dict)
    delay: bool = False
    lists: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    literals: tuple[str, int, int] | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    company: Mapping[str, Company] = field(default_factory=dict)
    scanners: Scanners | None = None
    aggregates: tuple[Aggregate, ...] = ()
    epsilon: float = 0.0
    trace: TraceRules | None = None
    max_output_ratio: float | None = None
    """Bytes of cleared batches for each captured byte, at most."""
    on_violation: str = "skip-record"

    def releases(self, record: str) -> bool:
        """Whether anything of this record may leave."""
        return bool(self.rules.get(record)) or (record == PCAP and self.trace is not None)

    def packets(self) -> list[tuple[str, str, list[int]]] | None:
        """Rules of the header trace, for the core."""
        return None if self.trace is None else list(self.trace.words)

    def waits(self, record: str) -> bool:
        """Whether rows of this record wait for their window."""
        watched = self.scanners is not None and self.schemas[record].field("orig_h") is not None
        rules = self.rules.get(record, ())
        return (bool(rules) and (self.delay or watched or record in self.company)) or any(
            rule.waits or rule.orders for rule in rules
        )

    def compiled(self) -> dict[str, Any]:
        """For the core."""
        numbers = {name: number for number, name in enumerate(self.lists)}
        scanners = self.scanners
        return {
            "rules": {record: [rule.compiled(numbers) for rule in rules] for record, rules in self.rules.items()},
            "words": {name: schema.words() for name, schema in self.schemas.items()},
            "rotation": self.epoch,
            "window": self.window,
            "internal": list(self.internal),
            "domains": list(self.domains),
            "sample": {record: (share.by, share.below) for record, share in self.sample.items()},
            "delay": self.delay,
            "lists": [dict(entries) for entries in self.lists.values()],
            "literals": self.literals,
            "units": dict(self.units),
            "min_k": {record: (company.k, list(company.by)) for record, company in self.company.items()},
            "scanners": None
            if scanners is None
            else {
                "drop": scanners.action == "drop",
                "fanout": scanners.fanout,
                "failed": scanners.failed_ratio,
                "window": scanners.window,
                "monotone": scanners.monotone,
            },
            "aggregates": [aggregate.compiled() for aggregate in self.aggregates],
            "epsilon": self.epsilon,
        }
