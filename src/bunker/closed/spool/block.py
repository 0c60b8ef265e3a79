"""What is known of a sealed block. It lives in memory only: on disk there is nothing but what looks like noise."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from bunker.errors import BoxError

_LAYOUT = struct.Struct("<QHHIIIIIIQQQQ")
_MAGIC = b"BNKSPL01"
PAGE = 4096
TAG_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedBlock:
    """One block in the spool.

    Invariants:
        number grows by one in a lane, over all files and laps, and never comes again under any key.
        length is the plaintext's; on disk follow the tag and random padding up to a page.
    """

    number: int
    lane: int
    format: int
    file: int
    lap: int
    slot: int
    length: int
    packet_count: int
    status: int
    first_ts_ns: int
    last_ts_ns: int
    dropped: int
    """Packets that the kernel and the spool had dropped on this lane when the block was sealed."""
    captured: int
    """Packets sealed on this lane before this block."""

    def pack(self) -> bytes:
        """Fixed-size form, for the link."""
        return _LAYOUT.pack(
            self.number,
            self.lane,
            self.format,
            self.file,
            self.lap,
            self.slot,
            self.length,
            self.packet_count,
            self.status,
            self.first_ts_ns,
            self.last_ts_ns,
            self.dropped,
            self.captured,
        )

    @classmethod
    def unpack(cls, data: bytes) -> SealedBlock:
        """From the fixed-size form.

        Raises:
            BoxError: not that size.
        """
        if len(data) != _LAYOUT.size:
            raise BoxError("block descriptor", f"has {len(data)} bytes instead of {_LAYOUT.size}", "This is a bug")
        number, lane, form, file, lap, slot, length, packets, status, first, last, dropped, captured = _LAYOUT.unpack(
            data
        )
        return cls(
            number=number,
            lane=lane,
            format=form,
            file=file,
            lap=lap,
            slot=slot,
            length=length,
            packet_count=packets,
            status=status,
            first_ts_ns=first,
            last_ts_ns=last,
            dropped=dropped,
            captured=captured,
        )

    def associated_data(self, run: bytes) -> bytes:
        """What the tag covers besides the ciphertext: magic, run, and every field of this descriptor."""
        return _MAGIC + run + self.pack()

    def nonce(self) -> bytes:
        """96 bits: lane, then the block's number; never the same under one key (SP 800-38D section 8.2.1)."""
        return struct.pack(">IQ", self.lane, self.number)


def slot_bytes_of(block_bytes: int) -> int:
    """Bytes of a slot that takes a block of `block_bytes` and its tag, in whole pages."""
    return -(-(block_bytes + TAG_BYTES) // PAGE) * PAGE
