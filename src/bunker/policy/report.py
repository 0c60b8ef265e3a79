"""What a policy lets out, in rows that a privacy officer reads, and how much a cell can carry at the very most."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bunker import limits
from bunker.model.fields import FieldType
from bunker.model.headers import PCAP
from bunker.policy.load import Policy, Rule
from bunker.policy.transforms import NETWORKS, TRANSFORMS


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One field: how it leaves, or that it does not."""

    record: str
    field: str
    source: str
    type: str
    transform: str
    learns: str
    bits: float | None
    """The most bits that a cell can carry; None for a field that does not leave."""


_TYPE_BITS = {
    FieldType.PORT: 16.0,
    FieldType.CODE: 16.0,
    FieldType.VLAN: 12.0,
    FieldType.FLAG: 1.0,
    FieldType.TIME: 63.0,
    FieldType.DURATION: 63.0,
    FieldType.SCORE: 64.0,
    FieldType.BYTES: 64.0,
    FieldType.COUNT: 64.0,
    FieldType.FLAGS: 64.0,
    FieldType.ADDRESS: 128.0,
    FieldType.DIGEST: 4.0 * 128,
    FieldType.FINGERPRINT: 6.0 * 64,
}
_TEXT_CELL_BITS = 8.0 * 65_536
_LIST_ITEMS = 4_096
_YEARS_NS = 230 * 365 * 86_400 * 1e9
_SUFFIX_BITS = math.log2(10_000)
_TAG_BITS = 128.0
_CHAIN_TAGS, _CHAIN_TAG_BITS = 32, 64.0
_FAMILIES, _MAJORS = 23, 1_001
_SHOWN_BITS = 7.0 * 128
_ROLES = 4
_COUNT_BITS = math.log2(65_536 + 1)


def bits_of(rule: Rule, policy: Policy | None = None) -> float:
    """The most bits that a cell of this output can carry: what a hijacked worker could hide in it.

    An empty cell is one more value, hence the added one below each logarithm. The order of rows carries nothing: it
    follows from their content.
    """
    one = _one_cell(rule, policy)
    listed = rule.source.type in (FieldType.ADDRESS_LIST, FieldType.TEXT, FieldType.TEXT_LIST)
    if listed and rule.transform in ("pfx", "cryptopan", "truncate", "role", "keep", "allow"):
        return min(one * _LIST_ITEMS, 64.0 * (1 << 20))
    return one


def _one_cell(rule: Rule, policy: Policy | None) -> float:  # noqa: C901, PLR0911, PLR0912 - one line for each transform
    settings, kind = rule.settings, rule.source.type
    other = 1 if settings.get("other") is not None else 0
    if rule.waits:
        return _shown_bits(rule, policy)
    match rule.transform:
        case "const":
            return 0.0
        case "present":
            return 1.0
        case "enum" if rule.orders:
            return math.log2(limits.RECORD_ROWS.default + 1)
        case "enum":
            return math.log2(limits.NUMBERED_VALUES.default + 1)
        case "ja4_a":
            return math.log2(3 * 10 * 2 * 10**4 * 62**2 + 1)
        case "tag":
            return _TAG_BITS
        case "etld1_tag":
            return _TAG_BITS + _SUFFIX_BITS
        case "mail_tag":
            return 2 * _TAG_BITS + _SUFFIX_BITS
        case "labels" | "chain":
            return _CHAIN_TAGS * _CHAIN_TAG_BITS + _SUFFIX_BITS
        case "pfx" | "cryptopan":
            return 128.0
        case "tag48":
            return 48.0
        case "role":
            return math.log2(_ROLES + 1)
        case "truncate":
            return math.log2(max(2.0 ** settings.get("v4", 24), 2.0 ** settings.get("v6", 48)) + 1)
        case "allow" | "ext":
            return math.log2(_values(settings["values"]) + other + 1)
        case "param_names":
            return float(len(settings["values"]) + 1)
        case "class":
            classes = set(policy.lists[settings["list"]].values()) if policy else set()
            return math.log2(max(len(classes), 1) + other + 1)
        case "family_major":
            return math.log2(_FAMILIES * _MAJORS + 1)
        case "bucket":
            edges = settings["edges"]
            return math.log2((65 if edges == "log2" else len(edges)) + 1)
        case "service":
            return math.log2(len(settings["ports"]) + 1)
        case "shift+grain" | "jitter" | "rel":
            return math.log2(_YEARS_NS / settings["grain"] + 1)
        case "round":
            return _TYPE_BITS[kind] - math.log2(settings["to"]) + 1
        case "len" | "depth" | "count":
            return _COUNT_BITS
        case "keep" if rule.source.words:
            return math.log2(len(rule.source.words) + 1)
        case _:
            return _TYPE_BITS.get(kind, _TEXT_CELL_BITS)


def _values(values: str | list[object]) -> int:
    if isinstance(values, str):
        low, high = (int(end) for end in values.split("-"))
        return high - low + 1
    return len(values)


def _shown_bits(rule: Rule, policy: Policy | None) -> float:
    """A threshold: one of the list, or one that a worker invents for k units of its own; else what stands for it."""
    settings = rule.settings
    if "list" in settings and policy is not None:
        entries = policy.lists[settings["list"]]
        clear = math.log2(len(set(entries.values()) if rule.transform in NETWORKS else entries) + 2)
    elif rule.transform == "oui_top":
        clear = math.log2(2**22 + 2)
    elif rule.transform == "family_major":
        clear = math.log2(_FAMILIES * _MAJORS + 2)
    else:
        clear = _SHOWN_BITS
    return max(clear, _TAG_BITS + _SUFFIX_BITS) + 1 if settings.get("other") == "etld1_tag" else clear


def lines_of(policy: Policy) -> list[Line]:
    """Every field of every record: first those that leave, in the policy's order, then those that do not."""
    lines: list[Line] = []
    for record, schema in sorted(policy.schemas.items()):
        if record == PCAP and policy.trace is not None:
            continue
        rules = policy.rules.get(record, ())
        for rule in rules:
            lines.append(
                Line(
                    record=record,
                    field=rule.name,
                    source=rule.source.name,
                    type=rule.source.type.value,
                    transform=_described(rule),
                    learns=TRANSFORMS[rule.transform].learns,
                    bits=bits_of(rule, policy),
                )
            )
        named = {rule.source.name for rule in rules}
        for field in schema.fields:
            if field.name not in named:
                lines.append(
                    Line(
                        record=record,
                        field=field.name,
                        source=field.name,
                        type=field.type.value,
                        transform="dropped",
                        learns="nothing: it does not exist in the output",
                        bits=None,
                    )
                )
    for one in () if policy.trace is None else policy.trace.fields:
        lines.append(
            Line(
                record=PCAP,
                field=one.name,
                source=one.name,
                type="header",
                transform=one.transform,
                learns=one.learns,
                bits=one.bits,
            )
        )
    for aggregate in policy.aggregates:
        what = "rows" if aggregate.field is None else f"{aggregate.field} within {list(aggregate.bounds)}"
        by = "" if aggregate.by is None else f" by {aggregate.by}"
        lines.append(
            Line(
                record=aggregate.name,
                field="value",
                source=f"{aggregate.of}: {what}{by}",
                type="aggregate",
                transform=f"noise of scale {aggregate.noise_scale:g}",
                learns=f"the number, give or take {aggregate.noise_scale:g}; "
                f"of one {aggregate.unit} next to nothing (epsilon {aggregate.epsilon:g} a window)",
                bits=64.0 * max(len(aggregate.keys), 1),
            )
        )
    return lines


def row_bits(policy: Policy, record: str) -> float:
    """The most bits that a row of this record can carry."""
    return sum(bits_of(rule, policy) for rule in policy.rules.get(record, ()))


def _amount(rule: Rule, setting: str) -> str:
    amount = rule.settings[setting]
    return f"{amount / 1e9:g} s" if rule.source.type is FieldType.DURATION else f"{amount}"


def _described(rule: Rule) -> str:  # noqa: PLR0911 - one line for each transform
    settings = rule.settings
    if rule.waits:
        most = settings.get("n", settings.get("topk"))
        named = f", list {settings['list']}" if "list" in settings else ""
        return f"{rule.transform} k={settings['k']}" + (f" n={most}" if most else "") + named
    match rule.transform:
        case "bucket":
            edges = settings["edges"]
            return "bucket log2" if edges == "log2" else f"bucket {edges}"
        case "allow" | "ext" | "param_names":
            return f"{rule.transform} {_values(settings['values'])} values"
        case "rel":
            return f"rel, grain {settings['grain'] / 1e9:g} s"
        case "noise":
            return f"noise of scale {_amount(rule, 'scale')}"
        case "const":
            return f"const {settings['value']}"
        case "shift+grain":
            return f"shift+grain {settings['grain'] / 1e9:g} s"
        case "jitter":
            return f"jitter {settings['span'] / 1e9:g} s, grain {settings['grain'] / 1e9:g} s"
        case "round":
            return f"round to {_amount(rule, 'to')}"
        case "truncate":
            return f"truncate /{settings.get('v4', 24)} /{settings.get('v6', 48)}"
        case "class":
            return f"class of {settings['list']}"
        case name:
            return name
