"""Capture files as a source of blocks: pcap and pcapng, plain or compressed, from descriptors that were opened at
set-up.

Rules of this file:
1. Files are read one after another, in pieces; the core cuts them into blocks over lanes.
2. A damaged file ends where it is damaged: what was readable is delivered, and `damages` says file, offset and kind.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from bunker.closed.capture.block import PACKED, Block
from bunker.native.capture import FileSource, PackedBlock

_PIECE = 512 << 10
_NO_END = 1 << 63


class FileReader:
    """Blocks from capture files."""

    def __init__(
        self,
        fds: list[int],
        *,
        sizes: list[int] | None = None,
        lanes: int,
        block_bytes: int,
        snaplen: int,
        filters: dict[int, bytes] | None,
        seed: bytes,
    ) -> None:
        self._fds = fds
        self._sizes = sizes or [_NO_END] * len(fds)
        self._source = FileSource(lanes=lanes, block_bytes=block_bytes, snaplen=snaplen, filters=filters, seed=seed)
        self.damages: list[tuple[int, int, str]] = []
        """(number of the file, offset in its decompressed bytes, kind)."""

    def blocks(self) -> Iterator[Block]:
        """All blocks of all files, in order within a lane."""
        for number, fd in enumerate(self._fds):
            damage = None
            rest = self._sizes[number]
            while rest:
                try:
                    piece = os.read(fd, min(_PIECE, rest))
                    rest -= len(piece)
                except OSError:
                    damage = (0, "unreadable")
                    break
                if not piece:
                    break
                yield from map(_block, self._source.feed(piece))
            damage = self._source.end_file() or damage
            if damage is not None:
                self.damages.append((number, *damage))
        yield from map(_block, self._source.finish())

    def counters(self) -> dict[str, int]:
        """Packets by what became of them on the way into blocks."""
        return self._source.counters()


def _block(packed: PackedBlock) -> Block:
    return Block(
        lane=packed.lane,
        format=PACKED,
        plaintext=memoryview(packed),
        packet_count=packed.packet_count,
        first_ts_ns=packed.first_ts_ns,
        last_ts_ns=packed.last_ts_ns,
    )
