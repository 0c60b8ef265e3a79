"""Settings of transforms: values checked and brought into the form that the core takes."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from bunker import limits
from bunker.model.fields import Field, FieldType, RecordSchema
from bunker.policy.text import PolicyText, did_you_mean
from bunker.policy.transforms import NETWORKS

_GRAIN = re.compile(r"^(\d+)(ms|s|min|h|d)$")
_GRAIN_NS = {"ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
_RANGE = re.compile(r"^(\d{1,5})-(\d{1,5})$")
NUMBERS = frozenset({FieldType.CODE, FieldType.PORT, FieldType.VLAN})
_COUNTED = NUMBERS | {FieldType.BYTES, FieldType.COUNT}


def check_settings(
    text: PolicyText,
    table: str,
    name: str,
    settings: dict[str, Any],
    source: Field,
    *,
    schema: RecordSchema,
    lists: Mapping[str, Any],
) -> None:
    """Check the values of a rule's settings; `grain` becomes nanoseconds.

    Raises:
        ConfigurationError: with line and remedy.
    """
    if "edges" in settings:
        _edges(text, table, name, settings["edges"], source)
    for key in ("grain", "span"):
        if key in settings:
            settings[key] = _grain(text, table, name, settings[key], key)
    if "scale" in settings:
        settings["scale"] = _scale(text, table, name, settings["scale"], source)
    if "value" in settings:
        _constant(text, table, name, settings["value"], source)
    if "to" in settings:
        settings["to"] = _multiple(text, table, name, settings["to"], source)
    if "values" in settings:
        _values(text, table, name, settings, source)
    _counts(text, table, name, settings)
    _names(text, table, name, settings, schema=schema, lists=lists)
    _words(text, table, name, settings, source)


def check_networks(text: PolicyText, table: str, name: str, transform: str, entries: Mapping[str, str]) -> None:
    """Check that a list says of prefixes what the transform shows: nothing else may leave in its place.

    Raises:
        ConfigurationError: an entry that is no prefix, a class that is none.
    """
    for entry in entries:
        try:
            ipaddress.ip_network(entry)
            there = "/" in entry
        except ValueError:
            there = False
        if not there:
            raise text.refuse(table, name, f"{entry!r} of its list is no prefix", 'Write "192.0.2.0/24 ..." on a line')
    wrong = sorted(word for word in set(entries.values()) if re.fullmatch(NETWORKS[transform], word) is None)
    if wrong:
        remedy = 'Write "192.0.2.0/24 AS64500"' if transform == "asn" else 'Write "192.0.2.0/24 DE"'
        raise text.refuse(table, name, f"its list calls a prefix {wrong[0]!r}", remedy)


def _multiple(text: PolicyText, table: str, name: str, to: object, source: Field) -> int:
    """A number of which values become multiples: of a duration a duration."""
    if source.type is FieldType.DURATION:
        return _grain(text, table, name, to, "to")
    if isinstance(to, bool) or not isinstance(to, int) or not 2 <= to <= 1 << 40:
        raise text.refuse(table, name, "to is no whole number from 2 on", "Write to = 1000")
    return to


def _scale(text: PolicyText, table: str, name: str, scale: object, source: Field) -> int:
    """How much noise: whole numbers, of a duration a duration."""
    most = limits.NOISE_SCALE.default
    if source.type is FieldType.DURATION:
        scale = _grain(text, table, name, scale, "scale")
    if isinstance(scale, bool) or not isinstance(scale, int) or not 1 <= scale <= most:
        remedy = 'Write scale = "10ms"' if source.type is FieldType.DURATION else "Write scale = 1000"
        raise text.refuse(table, name, f"scale is no whole number from 1 to {most}", remedy)
    return scale


def _constant(text: PolicyText, table: str, name: str, value: object, source: Field) -> None:
    """What stands in every row: a number for a number, else a word."""
    if source.type in _COUNTED:
        most = 65535 if source.type in NUMBERS else 2**63 - 1
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            raise text.refuse(table, name, f"value is no whole number from 0 to {most}", "Write value = 0")
    elif not isinstance(value, str) or not 1 <= len(value.encode()) <= limits.ENUM_WORD_BYTES.default:
        raise text.refuse(
            table, name, "value is no word", f'Write value = "x", at most {limits.ENUM_WORD_BYTES.default} bytes'
        )


def _grain(text: PolicyText, table: str, name: str, grain: object, key: str) -> int:
    match = _GRAIN.match(str(grain))
    if match is None or int(match[1]) == 0 or int(match[1]) * _GRAIN_NS[match[2]] >= 1 << 62:
        raise text.refuse(table, name, f"{key} is no duration", 'Write it as "1ms", "1s", "1min", "1h" or "1d"')
    return int(match[1]) * _GRAIN_NS[match[2]]


def _names(
    text: PolicyText,
    table: str,
    name: str,
    settings: Mapping[str, Any],
    *,
    schema: RecordSchema,
    lists: Mapping[str, Any],
) -> None:
    """What names something else: a list, another field."""
    if "list" in settings and settings["list"] not in lists:
        cause = f"there is no list {settings['list']!r}"
        raise text.refuse(table, name, cause, did_you_mean(str(settings["list"]), lists))
    if "with" in settings:
        other = schema.field(str(settings["with"]))
        if other is None or other.type is not FieldType.HOST:
            hosts = [field.name for field in schema.fields if field.type is FieldType.HOST]
            remedy = did_you_mean(str(settings["with"]), hosts)
            raise text.refuse(table, name, "with names no field of type Host", remedy)


def _words(text: PolicyText, table: str, name: str, settings: Mapping[str, Any], source: Field) -> None:
    for key in ("domain", "other", "because"):
        value = settings.get(key)
        if value is not None and not isinstance(value, str) and not (key == "other" and source.type in NUMBERS):
            raise text.refuse(table, name, f"{key} is no text", f'Write {key} = "..."')
    most = limits.ENUM_WORD_BYTES.default
    if isinstance(settings.get("other"), str) and len(settings["other"].encode()) > most:
        raise text.refuse(table, name, "other is long", f"Use at most {most} bytes")


def _counts(text: PolicyText, table: str, name: str, settings: Mapping[str, Any]) -> None:
    for key, most in (("v4", 32), ("v6", 128)):
        bits = settings.get(key, 0)
        if isinstance(bits, bool) or not isinstance(bits, int) or not 0 <= bits <= most:
            raise text.refuse(table, name, f"{key} is no prefix length", f"Use 0 to {most}")
    ports = settings.get("ports", [])
    if not isinstance(ports, list) or not all(isinstance(port, int) and 0 <= port < 65536 for port in ports):
        raise text.refuse(table, name, "ports are no list of port numbers", "Write ports = [80, 443]")
    bounds = {"k": (2, limits.THRESHOLD_K.default), "n": (1, 1 << 20), "topk": (1, 1 << 20)}
    for key, (low, high) in bounds.items():
        value = settings.get(key, low)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise text.refuse(table, name, f"{key} is no whole number from {low} to {high}", f"Write {key} = 50")


def _edges(text: PolicyText, table: str, name: str, edges: object, source: Field) -> None:
    """Limits of buckets: "log2", or numbers that grow."""
    if edges == "log2":
        if source.type is FieldType.SCORE:
            raise text.refuse(table, name, "a score has no log2 buckets", "Declare the edges, as [-5, 0, 5]")
        return
    numbers = isinstance(edges, list) and [e for e in edges if isinstance(e, int | float) and not isinstance(e, bool)]
    if not numbers or numbers != edges or sorted(set(numbers)) != numbers:
        raise text.refuse(table, name, "edges are no growing list of numbers", 'Write "log2" or [0, 1, 10, 100]')
    whole = source.type not in (FieldType.SCORE, FieldType.DURATION)
    if whole and any(e < 0 or e != int(e) or e > 2**53 for e in numbers):
        raise text.refuse(table, name, "edges of a whole number are not whole", "Use whole numbers from 0")


def _values(text: PolicyText, table: str, name: str, settings: Mapping[str, Any], source: Field) -> None:
    """The list of `allow`: numbers, or a range of them, for a number, words for a word."""
    number = source.type in NUMBERS
    kind: type = int if number else str
    values, other = settings["values"], settings.get("other")
    if number and isinstance(values, str):
        match = _RANGE.match(values)
        if match is None or not int(match[1]) <= int(match[2]) < 65536:
            raise text.refuse(table, name, "values are no range", 'Write values = "100-599"')
    elif not isinstance(values, list) or not values or not all(isinstance(value, kind) for value in values):
        word = "numbers" if number else "words"
        raise text.refuse(table, name, f"values are no list of {word}", "Write values = [...]")
    elif len(values) > limits.POLICY_VALUES.default:
        raise text.refuse(table, name, "has too many values", f"Use a sealed list above {limits.POLICY_VALUES.default}")
    elif "*" in values:
        raise text.refuse(table, name, 'values has "*", which is all', "Name what may pass")
    if other is not None and not isinstance(other, kind):
        remedy = "Make it a number" if number else "Make it a word"
        raise text.refuse(table, name, "other is not of the same kind as values", remedy)
