"""The header trace of a run as a capture file: `pcap.pcapng` in the output directory.

Rules of this file:
1. The file is the attested rows of the record, in the order of the stream: section, interface, one block a packet.
   `verify` makes the same bytes again and compares.
2. Packets of several lanes are in order within a batch, not across lanes: `reordercap` sorts them.
"""

from __future__ import annotations

import pyarrow as pa

from bunker.model.heartbeat import OutputSchema
from bunker.native.trace import trace_blocks, trace_head

TRACE = "pcap.pcapng"


def trace_of(schemas: list[OutputSchema]) -> OutputSchema | None:
    """The record of cleared packets among those that leave, if there is one."""
    return next(
        (schema for schema in schemas if any(field.type == "Packet.header_trace" for field in schema.fields)), None
    )


def head() -> bytes:
    """The bytes before the first packet."""
    return trace_head()


def blocks(batch: pa.RecordBatch) -> bytes:
    """A batch of cleared packets as blocks of the file.

    Raises:
        ValueError: it has other columns.
    """
    return trace_blocks(batch)
