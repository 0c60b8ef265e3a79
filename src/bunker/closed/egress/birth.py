"""The schemas of records as they leave, for the start statement: what the policy makes of what analyzers emit."""

from __future__ import annotations

from bunker.model.headers import PCAP
from bunker.model.heartbeat import OutputField, OutputSchema
from bunker.native.clear import Gate
from bunker.policy.load import Policy

_ARROW = {
    "text": "Utf8",
    "u16": "UInt16",
    "u64": "UInt64",
    "f64": "Float64",
    "bool": "Boolean",
    "binary": "Binary",
    "timestamp_ns": 'Timestamp(ns, "UTC")',
    "duration_ns": "Duration(ns)",
    "list<text>": "List<Utf8>",
}


def output_schemas(policy: Policy, gate: Gate) -> tuple[OutputSchema, ...]:
    """One schema for each record and aggregate that the policy releases, in the order of their names.

    A field's `type` is the emitted type and what was done to it ("Host.tag"); `arrow` is the core's own word for its
    output.
    """
    rows = tuple(
        OutputSchema(
            record=record,
            fields=[
                OutputField(
                    name=name,
                    type=f"{rule.source.type.value}.{rule.transform.replace('+', '_')}",
                    arrow=_ARROW[word],
                    nullable=True,
                )
                for (name, word), rule in zip(gate.outputs(record), policy.rules[record], strict=True)
            ],
        )
        for record in policy.rules
        if policy.releases(record)
    )
    noisy = tuple(
        OutputSchema(
            record=aggregate.name,
            fields=[
                OutputField(name=name, type=f"Aggregate.{name}", arrow=_ARROW[word], nullable=True)
                for name, word in gate.outputs(aggregate.name)
            ],
        )
        for aggregate in policy.aggregates
    )
    packets: tuple[OutputSchema, ...] = ()
    if policy.trace is not None:
        types = {"ts": "Time.released", "wirelen": "Bytes.released", "packet": "Packet.header_trace"}
        packets = (
            OutputSchema(
                record=PCAP,
                fields=[
                    OutputField(name=name, type=types[name], arrow=_ARROW[word], nullable=True)
                    for name, word in gate.outputs(PCAP)
                ],
            ),
        )
    return tuple(sorted((*rows, *packets, *noisy), key=lambda schema: schema.record))
