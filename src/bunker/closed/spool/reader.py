"""Reads blocks back: authentication first, then plaintext.

Place in the flow: disk ▶ here ▶ wire.

Rules of this file:
1. No plaintext leaves before its tag is checked, and the tag covers where the block belongs: run, lane, number,
   file, lap, slot, length, times, counters. A block that was changed, moved, replayed or cut is refused.
2. Numbers only grow; a descriptor that repeats or goes back is refused before anything is read.
"""

from __future__ import annotations

import mmap
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bunker.closed.spool.block import PAGE, TAG_BYTES, SealedBlock
from bunker.closed.spool.keys import KeyStore
from bunker.errors import TrafficError

_LAYER = "spool"


class SpoolReader:
    """A lane's end of the spool where blocks come out."""

    def __init__(
        self, *, run: bytes, lane: int, fds: list[int], file_bytes: int, slot_bytes: int, keys: KeyStore
    ) -> None:
        self._run, self._lane, self._fds = run, lane, fds
        self._slot_bytes, self._slots = slot_bytes, file_bytes // slot_bytes
        self._keys = keys
        self._buffer = mmap.mmap(-1, slot_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._last = -1
        self._cipher: tuple[int, int, AESGCM] | None = None

    def unseal(self, block: SealedBlock, into: bytearray) -> int:
        """Read and authenticate a block.

        Args:
            block: Its descriptor, from the capturer.
            into: Takes the plaintext.
        Returns:
            The plaintext's length.
        Raises:
            TrafficError: wrong_lane, replayed, no_such_place, erased, truncated, unreadable, not_authentic. Nothing of
                the block is in `into`: it is as it was, or zeros where the block would have stood.
        """
        if block.lane != self._lane:
            raise TrafficError("wrong_lane", layer=_LAYER)
        if block.number <= self._last:
            raise TrafficError("replayed", layer=_LAYER)
        end = block.length + TAG_BYTES
        if (
            block.file >= len(self._fds)
            or block.slot >= self._slots
            or end > self._slot_bytes
            or block.length > len(into)
        ):
            raise TrafficError("no_such_place", layer=_LAYER)
        if self._keys.is_erased(block.file):
            raise TrafficError("erased", layer=_LAYER)
        offset = block.slot * self._slot_bytes
        view = memoryview(self._buffer)
        padded = -(-end // PAGE) * PAGE
        done = 0
        try:
            while done < padded:
                read = os.preadv(self._fds[block.file], [view[done:padded]], offset + done)
                if read == 0:
                    raise TrafficError("truncated", layer=_LAYER, offset=offset, needed=padded, had=done)
                done += read
        except OSError:
            raise TrafficError("unreadable", layer=_LAYER, offset=offset) from None
        try:
            self._cipher_of(block).decrypt_into(
                block.nonce(), view[:end], block.associated_data(self._run), memoryview(into)[: block.length]
            )
        except InvalidTag:
            memoryview(into)[: block.length] = bytes(block.length)  # OpenSSL decrypts first and compares tags last
            self._cipher = None  # a false lap must not keep this key for the true one
            raise TrafficError("not_authentic", layer=_LAYER, offset=offset) from None
        self._last = block.number
        return block.length

    def _cipher_of(self, block: SealedBlock) -> AESGCM:
        cached = self._cipher
        if cached is not None and cached[:2] == (block.file, block.lap):
            return cached[2]
        cipher = self._keys.cipher(block.file)
        self._cipher = (block.file, block.lap, cipher)
        return cipher

    def rewind(self) -> None:
        """Blocks come from the beginning again: a worker that starts over, another pass."""
        self._last = -1

    def forget(self) -> None:
        """Drop the key schedule that is cached."""
        self._cipher = None
