"""Analysis: blocks in, batches of messages out, and what analyzers make of them."""

from bunker._core import (
    Address,
    Batch,
    Engine,
    Hand,
    RecordBuilder,
    Row,
    Rows,
    fault_words,
    field_types,
    hand_words,
    message_kinds,
    message_schema,
    overlap_policies,
    panic_sites,
)

__all__ = [
    "Address",
    "Batch",
    "Engine",
    "Hand",
    "RecordBuilder",
    "Row",
    "Rows",
    "fault_words",
    "field_types",
    "hand_words",
    "message_kinds",
    "message_schema",
    "overlap_policies",
    "panic_sites",
]
