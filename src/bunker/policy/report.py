"""What a policy lets out, in rows that a privacy officer reads."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bunker.model.fields import FieldType
from bunker.policy.load import Policy, Rule
from bunker.policy.trace import RECORD as PCAP
from bunker.policy.transforms import TRANSFORMS


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
}
_TEXT_CELL_BITS = 8.0 * 65_536
_YEARS_NS = 230 * 365 * 86_400 * 1e9


def bits_of(rule: Rule) -> float:  # noqa: PLR0911 - one line for each transform
    """The most bits that a cell of this output can carry: what a hijacked worker could hide in it.

    An empty cell is one more value, hence the added one below each logarithm.
    """
    settings = rule.settings
    kind = rule.source.type
    match rule.transform:
        case "present":
            return 1.0
        case "tag":
            return 128.0
        case "etld1_tag":
            return 128.0 + math.log2(10_000)
        case "pfx":
            return 128.0 if kind is FieldType.ADDRESS else _TEXT_CELL_BITS
        case "truncate":
            most = max(2.0 ** settings.get("v4", 24), 2.0 ** settings.get("v6", 48))
            return math.log2(most + 1) if kind is FieldType.ADDRESS else _TEXT_CELL_BITS
        case "allow":
            return math.log2(len(settings["values"]) + 2)
        case "bucket":
            edges = settings["edges"]
            return math.log2((65 if edges == "log2" else len(edges)) + 1)
        case "service":
            return math.log2(len(settings["ports"]) + 1)
        case "shift+grain":
            return math.log2(_YEARS_NS / settings["grain"] + 1)
        case "len" | "depth":
            return math.log2(65_536 + 1)
        case _:
            return _TYPE_BITS.get(kind, _TEXT_CELL_BITS)


def lines_of(policy: Policy) -> list[Line]:
    """Every field of every record: first those that leave, in the policy's order, then those that do not."""
    lines: list[Line] = []
    for record, schema in sorted(policy.schemas.items()):
        if record == PCAP and policy.trace is not None:
            lines += [
                Line(
                    record=record,
                    field=field.name,
                    source="headers",
                    type="header",
                    transform=field.transform,
                    learns=field.learns,
                    bits=field.bits,
                )
                for field in policy.trace.fields
            ]
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
                    bits=bits_of(rule),
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
    return lines


def _described(rule: Rule) -> str:
    settings = rule.settings
    match rule.transform:
        case "bucket":
            edges = settings["edges"]
            return "bucket log2" if edges == "log2" else f"bucket {edges}"
        case "allow":
            return f"allow {len(settings['values'])} values"
        case "shift+grain":
            return f"shift+grain {settings['grain'] / 1e9:g} s"
        case "truncate":
            return f"truncate /{settings.get('v4', 24)} /{settings.get('v6', 48)}"
        case name:
            return name
