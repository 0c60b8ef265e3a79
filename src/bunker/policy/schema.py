"""The language as JSON Schema, for editors: what may stand where. The loader knows more, and has the last word."""

from __future__ import annotations

from typing import Any

from bunker import limits
from bunker.policy.load import FORMAT, PROFILES
from bunker.policy.risks import RISKS
from bunker.policy.rules import EPOCHS
from bunker.policy.tables import DELAYS, LITERALS, VIOLATIONS
from bunker.policy.transforms import TRANSFORMS

_WORD: dict[str, Any] = {"type": "string"}
_K: dict[str, Any] = {"type": "integer", "minimum": 2, "maximum": limits.THRESHOLD_K.default}
_EPSILON: dict[str, Any] = {"type": "number", "exclusiveMinimum": 0, "maximum": 100}
_SETTINGS: dict[str, dict[str, Any]] = {
    "because": _WORD,
    "domain": _WORD,
    "edges": {"oneOf": [{"const": "log2"}, {"type": "array", "items": {"type": "number"}, "minItems": 1}]},
    "grain": {"type": "string", "pattern": r"^\d+(ms|s|min|h|d)$"},
    "k": _K,
    "list": _WORD,
    "n": {"type": "integer", "minimum": 1},
    "other": {"type": ["string", "integer"]},
    "ports": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 65535}},
    "span": {"type": "string", "pattern": r"^\d+(ms|s|min|h|d)$"},
    "to": {
        "oneOf": [
            {"type": "integer", "minimum": 2},
            {"type": "string", "pattern": r"^\d+(ms|s|min|h|d)$"},
        ]
    },
    "scale": {
        "oneOf": [
            {"type": "integer", "minimum": 1, "maximum": limits.NOISE_SCALE.default},
            {"type": "string", "pattern": r"^\d+(ms|s|min|h|d)$"},
        ]
    },
    "topk": {"type": "integer", "minimum": 1},
    "v4": {"type": "integer", "minimum": 0, "maximum": 32},
    "v6": {"type": "integer", "minimum": 0, "maximum": 128},
    "value": {"type": ["string", "integer"]},
    "values": {
        "oneOf": [
            {"type": "array", "minItems": 1, "maxItems": limits.POLICY_VALUES.default},
            {"type": "string", "pattern": r"^\d{1,5}-\d{1,5}$"},
        ]
    },
    "with": _WORD,
}


def _table(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "required": list(required),
    }


def _rule() -> dict[str, Any]:
    tables = [
        _table(
            {"do": {"const": kind.name}, "from": _WORD} | {name: _SETTINGS[name] for name in sorted(kind.settings)},
            "do",
            *sorted(kind.required - {"because"}),
        )
        | {"description": f"Who has the output learns {kind.learns}."}
        for kind in TRANSFORMS.values()
    ]
    tables.append(_table({"do": {"const": "drop"}, "from": _WORD}, "do"))
    bare = sorted(name for name, kind in TRANSFORMS.items() if not kind.required - {"because"})
    return {
        "oneOf": [
            {"enum": [*bare, "drop"]},
            {"type": "string", "pattern": r"^id\.[a-z][a-z0-9_]*$"},
            *tables,
        ]
    }


def json_schema() -> dict[str, Any]:
    """The whole language."""
    names = {"pattern": "^[a-z][a-z0-9_]{0,62}$"}
    words = {"type": "array", "items": {"type": "string"}}
    ports = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 65535}}
    epoch = {"enum": list(EPOCHS)}
    rule = {"$ref": "#/$defs/rule"}
    aggregate = _table(
        {
            "of": _WORD,
            "do": {"enum": ["count", "sum"]},
            "field": _WORD,
            "bounds": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 2, "maxItems": 2},
            "by": _WORD,
            "keys": {"type": "array", "minItems": 1},
            "where": {"type": "object", "additionalProperties": {"type": "array"}},
            "epsilon": _EPSILON,
            "unit": _WORD,
            "rows_per_unit": {"type": "integer", "minimum": 1},
            "min_size": {"type": "integer", "minimum": 0},
        },
        "of",
        "do",
        "epsilon",
    )
    scanners = _table(
        {
            "do": {"enum": ["split", "drop"]},
            "window": {"type": "integer", "minimum": 2, "maximum": 256},
            "monotone": {"type": "integer", "minimum": 2, "maximum": 256},
            "fanout": {"type": "integer", "minimum": 2, "maximum": limits.THRESHOLD_K.default},
            "failed_ratio": {"type": "number", "minimum": 0, "maximum": 1},
        },
        "do",
    )
    list_file = _table({"file": _WORD, "sha256": _WORD, "blake3": _WORD}, "file")
    head = _table(
        {
            "format": {"const": FORMAT},
            "name": _WORD,
            "purpose": _WORD,
            "default": {"const": "drop"},
            "profile": {"enum": list(PROFILES)},
            "accept": {"type": "array", "items": {"anyOf": [{"enum": sorted(RISKS)}, _WORD]}},
        },
        "format",
        "name",
        "purpose",
    )
    rows = {"type": "object", "additionalProperties": _table({"min_k": _K, "by": words}, "by")}
    share = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
    sample = {"type": "object", "additionalProperties": _table({"share": share, "by": _WORD}, "share")}
    fields = {"type": "object", "propertyNames": names, "additionalProperties": rule, "minProperties": 1}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Bunker policy",
        "$defs": {"rule": _rule()},
        **_table(
            {
                "policy": head,
                "keys": _table({"root": {"const": "random"}, "epoch": epoch, "destroy": {"const": "end-of-run"}}),
                "passes": _table({"scanners": scanners, "timestamps": {"const": "rank"}}),
                "sites": _table(
                    {
                        "internal": words,
                        "domains": words,
                        "services": {"oneOf": [ports, {"type": "object", "additionalProperties": ports}]},
                    }
                ),
                "addresses": _table({"names": {"enum": list(LITERALS)}, "v4": _SETTINGS["v4"], "v6": _SETTINGS["v6"]}),
                "lists": {"type": "object", "additionalProperties": list_file},
                "gate": _table(
                    {
                        "min_k": _K,
                        "unit": _WORD,
                        "window": epoch,
                        "rows": rows,
                        "sample": sample,
                        "delay": {"enum": list(DELAYS)},
                        "max_output_ratio": {"type": "number", "exclusiveMinimum": 0, "maximum": 100},
                        "on_violation": {"enum": list(VIOLATIONS)},
                    }
                ),
                "privacy": _table(
                    {"epsilon": _EPSILON, "unit": _WORD, "rows_per_unit": {"type": "integer", "minimum": 1}}, "epsilon"
                ),
                "id": {"type": "object", "additionalProperties": {"type": "object"}},
                "out": {
                    "type": "object",
                    "properties": {"pcap": {"type": "object"}},
                    "additionalProperties": fields,
                },
                "aggregate": {"type": "object", "propertyNames": names, "additionalProperties": aggregate},
            },
            "policy",
        ),
    }
