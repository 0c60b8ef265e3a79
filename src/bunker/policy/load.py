"""A policy from TOML: checked against the schemas of the records it clears, or refused with line and remedy.

Rules of this file:
1. Default deny at every level: a record or field that is not named does not exist in the output. There is no way to
   name "all".
2. Whatever is not understood is an error: unknown tables, records, fields, transforms, settings; rules that nothing
   uses.
3. A transform that does not fit the type of its field is an error here, and a second time in the core.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bunker.errors import ConfigurationError
from bunker.model.fields import Field, FieldType, RecordSchema
from bunker.native.clear import transform_output
from bunker.policy.trace import RECORD as PCAP
from bunker.policy.trace import TraceRules, trace_rules
from bunker.policy.transforms import TRANSFORMS

FORMAT = 1
_TABLES = ("policy", "keys", "id", "sites", "passes", "out")
_PROFILES = ("public", "partner", "internal")
_GRAIN = re.compile(r"^(\d+)(ms|s|min|h|d)$")
_GRAIN_NS = {"ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
_NAME = re.compile(r"^[a-z][a-z0-9_]{0,62}$")
# Keeping one of these lets a person, a machine or a content out as it is.
_IDENTIFYING = frozenset(
    {
        FieldType.ADDRESS,
        FieldType.ADDRESS_LIST,
        FieldType.HOST,
        FieldType.URL,
        FieldType.MAIL_ADDRESS,
        FieldType.USER_AGENT,
        FieldType.FINGERPRINT,
        FieldType.DIGEST,
        FieldType.TIME,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One output field: where it comes from, what is done, with which settings."""

    record: str
    name: str
    source: Field
    transform: str
    settings: Mapping[str, Any]
    output: str

    def compiled(self) -> dict[str, Any]:
        """For the core."""
        edges = self.settings.get("edges")
        return {
            "name": self.name,
            "from": self.source.name,
            "do": self.transform,
            "v4": self.settings.get("v4", 24),
            "v6": self.settings.get("v6", 48),
            "edges": [float(edge) for edge in edges] if isinstance(edges, list) else None,
            "values": [str(value) for value in self.settings.get("values", [])],
            "other": None if self.settings.get("other") is None else str(self.settings["other"]),
            "grain_ns": self.settings.get("grain", 0),
            "domain": self.settings.get("domain", ""),
            "ports": self.settings.get("ports", []),
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
    trace: TraceRules | None = None

    def releases(self, record: str) -> bool:
        """Whether anything of this record may leave."""
        return bool(self.rules.get(record)) or (record == PCAP and self.trace is not None)

    def packets(self) -> list[tuple[str, str, list[int]]] | None:
        """Rules of the header trace, for the core."""
        return None if self.trace is None else list(self.trace.words)

    def compiled(self) -> dict[str, list[dict[str, Any]]]:
        """Rules by record, for the core."""
        return {record: [rule.compiled() for rule in rules] for record, rules in self.rules.items()}


class _Loader:
    def __init__(self, text: str, schemas: Mapping[str, RecordSchema], name: str) -> None:
        self.text, self.schemas, self.name = text, schemas, name
        self.used_identities: set[str] = set()

    def line(self, table: str, key: str | None = None) -> int | None:
        inside = False
        for number, line in enumerate(self.text.splitlines(), start=1):
            head = re.match(r"^\s*\[([^\[\]]+)\]", line)
            if head:
                inside = head[1].strip() == table
                if inside and key is None:
                    return number
            elif inside and key is not None and re.match(rf"^\s*{re.escape(key)}\s*=", line):
                return number
        return None

    def refuse(self, table: str, key: str | None, cause: str, remedy: str) -> ConfigurationError:
        thing = f"{self.name}, [{table}]" + (f" {key}" if key else "")
        return ConfigurationError(thing, cause, remedy, line=self.line(table, key))

    def only(self, table: str, content: Mapping[str, Any], known: Iterable[str]) -> None:
        for key in content:
            if key not in known:
                raise self.refuse(table, key, "unknown setting", did_you_mean(key, known))

    def load(self) -> Policy:
        try:
            content = tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(
                self.name, f"is not valid TOML ({error})", "Correct the line that is named"
            ) from None
        for table in content:
            if table not in _TABLES:
                raise self.refuse(table, None, "unknown table", did_you_mean(table, _TABLES))
        head = self.head(content.get("policy"))
        keys = content.get("keys", {})
        self.only("keys", keys, ("root", "epoch"))
        if keys.get("root", "random") != "random":
            raise self.refuse("keys", "root", 'is not "random"', "Keys are drawn in the box; there is no other choice")
        if keys.get("epoch", "run") != "run" and set(content.get("out", {})) != {PCAP}:
            raise self.refuse(
                "keys", "epoch", 'is not "run"', "Records have one epoch, the run; header traces have more"
            )
        identities = content.get("id", {})
        out = content.get("out", {})
        if not out:
            raise ConfigurationError(self.name, "lets nothing out", "Add a table [out.<record>]")
        rules = {record: self.record(record, fields, identities) for record, fields in out.items() if record != PCAP}
        trace = self.packets(content)
        for name in identities:
            if name not in self.used_identities:
                raise self.refuse(f"id.{name}", None, "no rule uses it", 'Use it as "id.' + name + '", or delete it')
        return Policy(
            name=head["name"],
            purpose=head["purpose"],
            profile=head.get("profile", "partner"),
            digest=hashlib.sha256(self.text.encode()).hexdigest(),
            rules=rules,
            schemas=dict(self.schemas),
            trace=trace,
        )

    def packets(self, content: Mapping[str, Any]) -> TraceRules | None:
        """The header trace. A box reads the traffic once, so rules that need a first pass are refused here."""
        trace = trace_rules(content, self.refuse)
        if trace is None:
            return None
        if PCAP not in self.schemas:
            raise self.refuse(f"out.{PCAP}", None, "no analyzer emits packets", 'Add "packets" to analysis.analyzers')
        if trace.two_passes:
            raise self.refuse(
                f"out.{PCAP}",
                None,
                "has rules that need a first pass over the trace (passes.scanners, tcp.options.ts = rank)",
                'A box reads once: write ts = "flow_rank" and leave passes out, or use bunker anonymize',
            )
        return trace

    def head(self, head: Any) -> dict[str, Any]:
        if not isinstance(head, dict):
            raise ConfigurationError(self.name, "has no table [policy]", "Add one with format, name and purpose")
        self.only("policy", head, ("format", "name", "purpose", "default", "profile", "accept"))
        for key in ("format", "name", "purpose"):
            if key not in head:
                raise self.refuse("policy", None, f"{key} is missing", f"Add {key} = ...")
        if head["format"] != FORMAT:
            raise self.refuse("policy", "format", f"is {head['format']!r}", f"This version reads format {FORMAT}")
        if head.get("default", "drop") != "drop":
            raise self.refuse("policy", "default", 'is not "drop"', "There is no other default")
        if head.get("profile", "partner") not in _PROFILES:
            raise self.refuse("policy", "profile", "is none", f"Use one of {', '.join(_PROFILES)}")
        return head

    def record(self, record: str, fields: Any, identities: Mapping[str, Any]) -> tuple[Rule, ...]:
        table = f"out.{record}"
        schema = self.schemas.get(record)
        if schema is None:
            raise self.refuse(table, None, "no analyzer emits this record", did_you_mean(record, self.schemas))
        if not isinstance(fields, dict) or not fields:
            raise self.refuse(table, None, "has no rules", "Name the fields that leave, or delete the table")
        return tuple(
            rule for name, value in fields.items() if (rule := self.rule(schema, name, value, identities)) is not None
        )

    def rule(self, schema: RecordSchema, name: str, value: Any, identities: Mapping[str, Any]) -> Rule | None:
        table = f"out.{schema.name}"
        if not _NAME.match(name):
            raise self.refuse(table, name, "is no name for a field", "Use small letters, digits and underscores")
        settings = self.settings(table, name, value, identities)
        source_name = settings.pop("from", name)
        source = schema.field(source_name) if isinstance(source_name, str) else None
        if source is None:
            remedy = did_you_mean(str(source_name), [field.name for field in schema.fields])
            raise self.refuse(table, name, f"the record has no field {source_name!r}", remedy)
        transform = settings.pop("do", None)
        if transform == "drop":
            return None
        kind = TRANSFORMS.get(transform) if isinstance(transform, str) else None
        if kind is None:
            raise self.refuse(
                table, name, f"unknown transform {transform!r}", did_you_mean(str(transform), [*TRANSFORMS, "drop"])
            )
        for key in settings:
            if key not in kind.settings:
                raise self.refuse(table, name, f"{kind.name} has no setting {key!r}", did_you_mean(key, kind.settings))
        output = transform_output(kind.name, source.type.value)
        if output is None:
            fitting = [other for other in TRANSFORMS if transform_output(other, source.type.value) is not None]
            raise self.refuse(
                table,
                name,
                f"{kind.name} does not fit a field of type {source.type}",
                f"These do: drop, {', '.join(fitting)}",
            )
        needs_reason = kind.name == "keep" and source.type in _IDENTIFYING
        missing = [key for key in kind.required if key not in settings and (key != "because" or needs_reason)]
        if missing:
            raise self.refuse(
                table, name, f"{kind.name} needs {missing[0]}", f'Write {{ do = "{kind.name}", {missing[0]} = ... }}'
            )
        self.check_settings(table, name, settings, source)
        return Rule(record=schema.name, name=name, source=source, transform=kind.name, settings=settings, output=output)

    def settings(self, table: str, name: str, value: Any, identities: Mapping[str, Any]) -> dict[str, Any]:
        if isinstance(value, str):
            if value.startswith("id."):
                identity = value.removeprefix("id.")
                shared = identities.get(identity)
                if not isinstance(shared, dict):
                    raise self.refuse(table, name, f"there is no [{value}]", did_you_mean(identity, identities))
                self.used_identities.add(identity)
                return dict(shared)
            return {"do": value}
        if isinstance(value, dict):
            return dict(value)
        raise self.refuse(table, name, "is neither a transform nor a table", 'Write "tag" or { do = "tag", ... }')

    def check_settings(self, table: str, name: str, settings: dict[str, Any], source: Field) -> None:
        """Values of settings; `grain` becomes nanoseconds."""
        if "edges" in settings:
            self.check_edges(table, name, settings["edges"], source)
        if "grain" in settings:
            match = _GRAIN.match(str(settings["grain"]))
            if match is None or int(match[1]) == 0:
                raise self.refuse(table, name, "grain is no duration", 'Write it as "1ms", "1s", "1min", "1h" or "1d"')
            settings["grain"] = int(match[1]) * _GRAIN_NS[match[2]]
        for key, most in (("v4", 32), ("v6", 128)):
            bits = settings.get(key, 0)
            if not isinstance(bits, int) or not 0 <= bits <= most:
                raise self.refuse(table, name, f"{key} is no prefix length", f"Use 0 to {most}")
        if "values" in settings:
            self.check_values(table, name, settings, source)
        ports = settings.get("ports", [])
        if not isinstance(ports, list) or not all(isinstance(port, int) and 0 <= port < 65536 for port in ports):
            raise self.refuse(table, name, "ports are no list of port numbers", "Write ports = [80, 443]")

    def check_edges(self, table: str, name: str, edges: object, source: Field) -> None:
        """Limits of buckets: "log2", or numbers that grow."""
        if edges == "log2":
            if source.type is FieldType.SCORE:
                raise self.refuse(table, name, "a score has no log2 buckets", "Declare the edges, as [-5, 0, 5]")
            return
        numbers = isinstance(edges, list) and [
            e for e in edges if isinstance(e, int | float) and not isinstance(e, bool)
        ]
        if not numbers or numbers != edges or sorted(set(numbers)) != numbers:
            raise self.refuse(table, name, "edges are no growing list of numbers", 'Write "log2" or [0, 1, 10, 100]')
        whole = source.type not in (FieldType.SCORE, FieldType.DURATION)
        if whole and any(e < 0 or e != int(e) or e > 2**53 for e in numbers):
            raise self.refuse(table, name, "edges of a whole number are not whole", "Use whole numbers from 0")

    def check_values(self, table: str, name: str, settings: Mapping[str, Any], source: Field) -> None:
        """The list of `allow`: numbers for a number, words for a word."""
        number = source.type in (FieldType.CODE, FieldType.PORT, FieldType.VLAN)
        kind: type = int if number else str
        values, other = settings["values"], settings.get("other")
        if not isinstance(values, list) or not values or not all(isinstance(value, kind) for value in values):
            word = "numbers" if number else "words"
            raise self.refuse(table, name, f"values are no list of {word}", "Write values = [...]")
        if other is not None and not isinstance(other, kind):
            remedy = "Make it a number" if number else "Make it a word"
            raise self.refuse(table, name, "other is not of the same kind as values", remedy)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The remedy for an unknown word: the nearest known one, or all of them."""
    words = sorted(known)
    near = difflib.get_close_matches(word, words, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(words)}"


def policy_of(text: str, schemas: Mapping[str, RecordSchema], lists: Mapping[str, bytes], *, name: str) -> Policy:
    """Read a policy.

    Args:
        text: The file.
        schemas: Every record that the analyzers may emit.
        lists: Content of the lists that the policy names, by file name.
        name: The file's name, for messages.
    Raises:
        ConfigurationError: anything in it that is not understood, does not fit or is not used.
    """
    if lists:
        raise ConfigurationError(name, "names lists", "This version has no transform that uses one")
    return _Loader(text, schemas, name).load()
