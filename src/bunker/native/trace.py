"""Header traces: rules checked, capture files cleared, packets as facts, cleared packets as a file."""

from bunker._core import (
    HeaderTrace,
    map_addresses,
    packet_headers,
    packet_record,
    trace_blocks,
    trace_fault,
    trace_head,
    trace_provenance,
)

__all__ = [
    "HeaderTrace",
    "map_addresses",
    "packet_headers",
    "packet_record",
    "trace_blocks",
    "trace_fault",
    "trace_head",
    "trace_provenance",
]
