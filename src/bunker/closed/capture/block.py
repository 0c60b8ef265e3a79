"""A block of packets on its way to the spool, whichever source it comes from."""

from __future__ import annotations

from dataclasses import dataclass, field

TPACKET_V3 = 1
PACKED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Packets as the source delivered them (docs/formats/block.md).

    `plaintext` is valid until the source is asked for the next block or told to take this one back.
    """

    lane: int
    format: int
    plaintext: memoryview = field(repr=False)
    packet_count: int
    first_ts_ns: int
    last_ts_ns: int
    status: int = 0
