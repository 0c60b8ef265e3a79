"""Which columns of a record the gate reads: no others are made in the core, and no others cross to the releaser.

Rules of this file:
1. Worker and releaser ask the same question of the same bundle, so that they agree on the schema that crosses.
2. What is left out is what no rule, threshold, sample, aggregate or scanner filter reads: the output is the same
   with it.
3. A record keeps at least one column, so that its rows can be counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bunker.model.fields import FieldType, RecordSchema
from bunker.model.headers import PCAP
from bunker.policy.rules import Policy

_SCANS = frozenset({"orig_h", "resp_h", "conn_state"})
"""What the gate reads of flows to find scanners (`crates/clear/src/window.rs`), and of other records to split off."""


def needed(policy: Policy, record: str) -> frozenset[str]:
    """Names of the columns of `record` that the gate reads under this policy."""
    schema = policy.schemas[record]
    if record == PCAP:
        return frozenset(field.name for field in schema.fields)
    names = {field.name for field in schema.fields if field.type is FieldType.TIME and not field.nullable}
    for rule in policy.rules.get(record, ()):
        names.add(rule.source.name)
        names.add(str(rule.settings.get("with", rule.source.name)))
    names.add(policy.units.get(record, ""))
    if record in policy.sample:
        names.add(policy.sample[record].by)
    if policy.scanners is not None:
        names |= _SCANS
    for aggregate in policy.aggregates:
        if aggregate.of == record:
            names |= {aggregate.unit, aggregate.field or "", aggregate.by or "", *aggregate.where}
    names &= {field.name for field in schema.fields}
    return frozenset(names or {schema.fields[0].name})


def crossing(policy: Policy) -> Mapping[str, RecordSchema]:
    """The records as they cross from a worker to the gate: their needed columns, in order."""
    crosses = {}
    for name, schema in policy.schemas.items():
        names = needed(policy, name)
        crosses[name] = replace(schema, fields=tuple(field for field in schema.fields if field.name in names))
    return crosses
