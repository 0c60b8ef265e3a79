"""Analysis: blocks in, batches of messages out, and what analyzers make of them."""

from bunker._core import (
    Address,
    Batch,
    Engine,
    RecordBuilder,
    Row,
    Rows,
    field_types,
    message_kinds,
    message_schema,
    overlap_policies,
    panic_sites,
)

__all__ = [
    "Address",
    "Batch",
    "Engine",
    "RecordBuilder",
    "Row",
    "Rows",
    "field_types",
    "message_kinds",
    "message_schema",
    "overlap_policies",
    "panic_sites",
]
