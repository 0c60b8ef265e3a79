"""Every bound of Bunker: name, unit, default, and where the number comes from.

The Rust half is `crates/wire/src/limits.rs`; a test keeps the two equal. Reaching a bound is an outcome with a counter, never a
silent drop.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One bound: its default, the unit, and a precedent or a measurement for the number."""

    default: int
    unit: str
    reason: str


BLOCK_BYTES = Limit(default=4 << 20, unit="bytes", reason="4 MiB sealed whole costs least CPU (reference/capture.md, section 4)")
BLOCK_BYTES_MIN = Limit(default=1 << 20, unit="bytes", reason="below 1 MiB loss begins at 1500 B (reference/capture.md, section 4)")
BLOCK_BYTES_MAX = Limit(default=8 << 20, unit="bytes", reason="above 8 MiB a write takes > 20 ms (reference/capture.md, section 3)")
SNAPLEN = Limit(default=262_144, unit="bytes", reason="tcpdump's default; longer packets do not exist on any link we read")
LANES = Limit(default=64, unit="lanes", reason="PACKET_FANOUT takes up to 65536, a machine has fewer cores than 64 to give away")
RECORD_FRAME_BYTES = Limit(default=64 << 20, unit="bytes", reason="one batch of records on the pipe; a worker that claims more is refused")
RECORD_ROWS = Limit(default=1 << 20, unit="rows", reason="rows of one batch; the engine hands out at most 65536")
RECORD_TEXT_BYTES = Limit(default=65_536, unit="bytes", reason="one text cell; heads are bounded by 64 KiB too")
STAGING_BUFFERS = Limit(default=8, unit="blocks", reason="sealed blocks that wait for the disk, a lane: 32 MiB bridge a stall of 25 ms at 10 Gbit/s; the ring bridges more")
EGRESS_QUEUE_BYTES = Limit(default=256 << 20, unit="bytes", reason="cleared envelopes waiting for a slow open box")
EGRESS_RESEND_BYTES = Limit(default=32 << 20, unit="bytes", reason="more than Linux keeps in a TCP send buffer (tcp_wmem max 4-16 MiB), so a reconnect loses nothing")


def table() -> dict[str, Limit]:
    """All limits by name, for `docs/limits.md` and the test against the Rust twin."""
    return {name: value for name, value in globals().items() if isinstance(value, Limit)}


__all__ = ["Limit", "table"]
