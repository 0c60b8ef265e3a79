"""A policy from TOML: checked against the schemas of the records it clears, or refused with line and remedy.

Rules of this file:
1. Default deny at every level: a record or field that is not named does not exist in the output. There is no way to
   name "all".
2. Whatever is not understood is an error: unknown tables, records, fields, transforms, settings; rules, lists and
   identities that nothing uses.
3. A transform that does not fit the type of its field is an error here, and a second time in the core.
4. A combination that is known to be bad is an error unless the policy accepts the risk by name (`risks.py`).
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from bunker.errors import ConfigurationError
from bunker.model.fields import Field, FieldType, RecordSchema
from bunker.model.headers import PCAP
from bunker.native.clear import transform_output
from bunker.policy.risks import check_risks
from bunker.policy.rules import EPOCHS, Policy, Rule, shown
from bunker.policy.settings import check_networks, check_settings
from bunker.policy.tables import Tables
from bunker.policy.text import PolicyText, did_you_mean
from bunker.policy.trace import TraceRules, trace_rules
from bunker.policy.transforms import NETWORKS, THRESHOLDS, TRANSFORMS, TransformKind

FORMAT = 1
PROFILES = ("public", "partner", "internal")
TABLES = ("policy", "keys", "sites", "addresses", "lists", "gate", "passes", "privacy", "id", "out", "aggregate")
_NAME = re.compile(r"^[a-z][a-z0-9_]{0,62}$")
# Keeping one of these lets a person, a machine or a content out as it is.
_IDENTIFYING = frozenset(
    {FieldType.ADDRESS, FieldType.ADDRESS_LIST, FieldType.FINGERPRINT, FieldType.DIGEST, FieldType.TIME}
)


class _Loader:
    def __init__(
        self, text: PolicyText, content: Mapping[str, Any], schemas: Mapping[str, RecordSchema], tables: Tables
    ) -> None:
        self.text, self.content, self.schemas, self.tables = text, content, schemas, tables
        self.identities: Mapping[str, Any] = content.get("id", {})
        self.used_identities: set[str] = set()

    def load(self) -> Policy:
        text, content, tables = self.text, self.content, self.tables
        for table in content:
            if table not in TABLES:
                raise text.refuse(table, None, "unknown table", did_you_mean(table, TABLES))
        head = self.head(content.get("policy"))
        keys = text.table(content, "keys", ("root", "epoch", "destroy"))
        for key, only in (("root", "random"), ("destroy", "end-of-run")):
            if keys.get(key, only) != only:
                raise text.refuse("keys", key, f'is not "{only}"', "Keys are drawn in the box and die with the run")
        epoch = text.word("keys", "epoch", keys.get("epoch", "run"), EPOCHS)
        out = {record: fields for record, fields in content.get("out", {}).items() if record != PCAP}
        if not out and not content.get("aggregate") and PCAP not in content.get("out", {}):
            raise ConfigurationError(text.name, "lets nothing out", "Add a table [out.<record>]")
        rules = {record: self.record(record, fields) for record, fields in out.items()}
        for name in self.identities:
            if name not in self.used_identities:
                raise text.refuse(f"id.{name}", None, "no rule uses it", 'Use it as "id.' + name + '", or delete it')
        self.used_lists(
            {rule.settings["list"] for fields in rules.values() for rule in fields if "list" in rule.settings}
        )
        window = tables.window(epoch)
        company = tables.company(rules)
        aggregates, epsilon = tables.aggregates(self.schemas)
        sample = tables.sample(rules, self.schemas)
        self.delays(tables.delay())
        waiting = set(company) | {record for record, fields in rules.items() if any(rule.waits for rule in fields)}
        policy = Policy(
            name=head["name"],
            purpose=head["purpose"],
            profile=head.get("profile", "partner"),
            digest=hashlib.sha256(text.text.encode()).hexdigest(),
            rules=rules,
            schemas=dict(self.schemas),
            accept=frozenset(head.get("accept", ())),
            epoch=epoch,
            window=window,
            internal=tables.internal,
            domains=tables.domains,
            sample=sample,
            delay=tables.delay(),
            lists=tables.lists,
            literals=tables.literals,
            units=tables.units(self.schemas, waiting),
            company=company,
            scanners=tables.scanners(),
            aggregates=aggregates,
            epsilon=epsilon,
            trace=self.packets(),
            max_output_ratio=tables.output_ratio(),
            on_violation=tables.violation(),
        )
        self.times(policy)
        check_risks(text, policy)
        return policy

    def packets(self) -> TraceRules | None:
        """The header trace. A box reads the traffic once, so rules that need a first pass are refused here."""
        refuse = self.text.refuse
        trace = trace_rules(self.content, refuse)
        if trace is None:
            return None
        if PCAP not in self.schemas:
            raise refuse(f"out.{PCAP}", None, "no analyzer emits packets", 'Add "packets" to analysis.analyzers')
        if trace.two_passes:
            raise refuse(
                f"out.{PCAP}",
                None,
                "has rules that need a first pass over the trace (passes.scanners, tcp.options.ts = rank)",
                'A box reads once: write ts = "flow_rank" and leave passes out, or use bunker anonymize',
            )
        return trace

    def delays(self, delay: bool) -> None:
        """Packets of a header trace leave as they come: there is no window that they could wait for."""
        if delay and PCAP in self.content.get("out", {}):
            raise self.text.refuse(
                "gate", "delay", f"packets of [out.{PCAP}] cannot wait", "Delete it, or run the trace on its own"
            )

    def head(self, head: Any) -> dict[str, Any]:
        if not isinstance(head, dict):
            raise ConfigurationError(self.text.name, "has no table [policy]", "Add one with format, name and purpose")
        self.text.table(self.content, "policy", ("format", "name", "purpose", "default", "profile", "accept"))
        for key in ("format", "name", "purpose"):
            if key not in head:
                raise self.text.refuse("policy", None, f"{key} is missing", f"Add {key} = ...")
        if head["format"] != FORMAT:
            raise self.text.refuse("policy", "format", f"is {head['format']!r}", f"This version reads format {FORMAT}")
        if head.get("default", "drop") != "drop":
            raise self.text.refuse("policy", "default", 'is not "drop"', "There is no other default")
        if head.get("profile", "partner") not in PROFILES:
            raise self.text.refuse("policy", "profile", "is none", f"Use one of {', '.join(PROFILES)}")
        accept = head.get("accept", [])
        if not isinstance(accept, list) or not all(isinstance(name, str) for name in accept):
            raise self.text.refuse("policy", "accept", "is no list of risks", 'Write accept = ["name-of-risk"]')
        return head

    def times(self, policy: Policy) -> None:
        """Epochs and windows need a time in each record that depends on them."""
        for record in policy.rules:
            timed = any(field.type is FieldType.TIME and not field.nullable for field in policy.schemas[record].fields)
            if timed and any(rule.orders and rule.source.nullable for rule in policy.rules[record]):
                continue
            if not timed and (policy.epoch != "run" or (policy.waits(record) and policy.window != "run")):
                raise self.text.refuse(
                    f"out.{record}", None, "the record has no time, so it has no epoch", "Give it a field of type Time"
                )

    def used_lists(self, used: set[str]) -> None:
        for name in self.tables.lists:
            if name not in used:
                raise self.text.refuse("lists", name, "no rule uses it", "Use it, or delete it")

    def record(self, record: str, fields: Any) -> tuple[Rule, ...]:
        table = f"out.{record}"
        schema = self.schemas.get(record)
        if schema is None:
            raise self.text.refuse(table, None, "no analyzer emits this record", did_you_mean(record, self.schemas))
        if not isinstance(fields, dict) or not fields:
            raise self.text.refuse(table, None, "has no rules", "Name the fields that leave, or delete the table")
        rules = tuple(rule for name, value in fields.items() if (rule := self.rule(schema, name, value)) is not None)
        noisy = [rule.source.name for rule in rules if rule.transform == "noise"]
        for rule in rules:
            if rule.transform == "noise" and noisy.count(rule.source.name) > 1:
                cause = f"{rule.source.name} leaves with two noises, whose mean is nearer to it than either"
                raise self.text.refuse(table, rule.name, cause, "Release it once")
        return rules

    def rule(self, schema: RecordSchema, name: str, value: Any) -> Rule | None:
        table, text = f"out.{schema.name}", self.text
        if not _NAME.match(name):
            raise text.refuse(table, name, "is no name for a field", "Use small letters, digits and underscores")
        settings = self.settings(table, name, value)
        source_name = settings.pop("from", name)
        source = schema.field(source_name) if isinstance(source_name, str) else None
        if source is None:
            remedy = did_you_mean(str(source_name), [field.name for field in schema.fields])
            raise text.refuse(table, name, f"the record has no field {source_name!r}", remedy)
        transform = settings.pop("do", None)
        if transform == "drop":
            return None
        kind = TRANSFORMS.get(transform) if isinstance(transform, str) else None
        if kind is None:
            raise text.refuse(
                table, name, f"unknown transform {transform!r}", did_you_mean(str(transform), [*TRANSFORMS, "drop"])
            )
        for key in settings:
            if key not in kind.settings:
                raise text.refuse(table, name, f"{kind.name} has no setting {key!r}", did_you_mean(key, kind.settings))
        self.defaults(kind.name, settings)
        waits = kind.name in THRESHOLDS or "k" in settings
        output = transform_output(
            kind.name,
            source.type.value,
            shown(source.type, kind.name) if waits else None,
            waits and settings.get("other") == "etld1_tag",
        )
        if output is None:
            raise text.refuse(
                table,
                name,
                f"{kind.name} does not fit a field of type {source.type}",
                f"These do: {', '.join(fitting(source.type))}",
            )
        if kind.name == "keep" and source.type is FieldType.ENUM and not source.words:
            raise text.refuse(
                table,
                name,
                "keep needs a field whose words are declared, so that nothing else can stand there",
                'Use { do = "allow", values = [...], other = "other" }',
            )
        self.complete(table, name, kind, settings, source)
        check_settings(text, table, name, settings, source, schema=schema, lists=self.tables.lists)
        if kind.name in NETWORKS:
            check_networks(text, table, name, kind.name, self.tables.lists[settings["list"]])
        return Rule(record=schema.name, name=name, source=source, transform=kind.name, settings=settings, output=output)

    def complete(self, table: str, name: str, kind: TransformKind, settings: Mapping[str, Any], source: Field) -> None:
        """Refuse a rule that lacks a setting."""
        needs_reason = kind.name == "keep" and source.type in _IDENTIFYING
        missing = [key for key in sorted(kind.required) if key not in settings and (key != "because" or needs_reason)]
        if kind.name in THRESHOLDS and "k" not in settings:
            missing = ["k"]
        if kind.name == "service" and "ports" not in settings:
            missing = ["ports"]
        if missing:
            raise self.text.refuse(
                table, name, f"{kind.name} needs {missing[0]}", f'Write {{ do = "{kind.name}", {missing[0]} = ... }}'
            )

    def defaults(self, transform: str, settings: dict[str, Any]) -> None:
        """What stands in [gate] and [sites] for all rules."""
        if transform in THRESHOLDS or "topk" in settings:
            k = self.tables.default_k()
            if k is not None:
                settings.setdefault("k", k)
        if transform == "service" and self.tables.services:
            settings.setdefault("ports", list(self.tables.services))

    def settings(self, table: str, name: str, value: Any) -> dict[str, Any]:
        if isinstance(value, str):
            if value.startswith("id."):
                identity = value.removeprefix("id.")
                shared = self.identities.get(identity)
                if not isinstance(shared, dict):
                    raise self.text.refuse(
                        table, name, f"there is no [{value}]", did_you_mean(identity, self.identities)
                    )
                self.used_identities.add(identity)
                return dict(shared)
            return {"do": value}
        if isinstance(value, dict):
            return dict(value)
        raise self.text.refuse(table, name, "is neither a transform nor a table", 'Write "tag" or { do = "tag", ... }')


def fitting(kind: FieldType) -> list[str]:
    """The transforms that fit a field of this type."""
    fits = [
        name
        for name in TRANSFORMS
        if transform_output(name, kind.value, shown(kind, name) if name in THRESHOLDS else None) is not None
    ]
    return ["drop", *fits]


def policy_of(text: str, schemas: Mapping[str, RecordSchema], lists: Mapping[str, bytes], *, name: str) -> Policy:
    """Read a policy.

    Args:
        text: The file.
        schemas: Every record that the analyzers may emit.
        lists: Content of the lists that the policy names, by file name.
        name: The file's name, for messages.
    Raises:
        ConfigurationError: anything in it that is not understood, does not fit or is not used; a list whose hash is
            another; a risk that the policy does not accept.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(name, f"is not valid TOML ({error})", "Correct the line that is named") from None
    where = PolicyText(text, name)
    return _Loader(where, content, schemas, Tables(where, content, lists)).load()


__all__ = ["Policy", "Rule", "did_you_mean", "fitting", "policy_of"]
