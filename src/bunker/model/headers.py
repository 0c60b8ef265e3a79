"""The record of packets on their way to the gate: facts of headers in a grammar that has no place for a payload.

`docs/formats/headers.md` is the grammar; `crates/clear/src/trace/facts.rs` reads and writes it.
"""

from __future__ import annotations

from functools import cache

from bunker.model.fields import Field, FieldType, RecordSchema
from bunker.native.trace import packet_record

PCAP = "pcap"


@cache
def headers_record() -> RecordSchema:
    """The record that the analyzer `packets` emits; `[out.pcap]` of a policy clears it, and nothing else can."""
    fields = (Field(name=name, type=FieldType(word), nullable=nullable) for name, word, nullable in packet_record())
    return RecordSchema(name=PCAP, fields=tuple(fields))
