"""Seals blocks and writes them: one call of AES-256-GCM a block, one write a block, never a packet.

Place in the flow: capture ▶ here ▶ disk.

Rules of this file:
1. `try_seal` never waits: it seals into a staging buffer and queues the write, or says Full. The source's memory is
   free again when it returns.
2. Files are filled in order, each under a key of its own; a file whose blocks are all released loses its key at once.
3. What is written is ciphertext, tag and random padding. The index is in memory only.

Limits: STAGING_BUFFERS; a spool of which every slot is live is Full.
Source: reference design "one block, one call" of stenographer and the paper's bfr; format: docs/formats/spool.md.
"""

from __future__ import annotations

import mmap
import os
import queue
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bunker import limits
from bunker.closed.spool.block import PAGE, TAG_BYTES, SealedBlock
from bunker.closed.spool.keys import KeyStore
from bunker.errors import BoxError

_MADV_HUGEPAGE = 14
_MADV_DONTDUMP = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """A block to seal. `plaintext` is only read during the call."""

    format: int
    plaintext: memoryview
    packet_count: int
    first_ts_ns: int
    last_ts_ns: int
    status: int = 0


class Full:
    """No slot or no staging buffer is free."""


FULL = Full()


@dataclass(slots=True)
class _File:
    """One spool file's present use."""

    number: int
    lap: int = 0
    used: int = 0
    last_block: int = -1
    cipher: AESGCM | None = None


@dataclass(slots=True, frozen=True)
class _Live:
    number: int
    length: int
    sealed_ns: int
    file: int


class SpoolWriter:
    """A lane's end of the spool where blocks come in.

    Invariants:
        A file is free, current, or holds at least one block that is not released.
        Block numbers grow by one with each sealed block.
    """

    def __init__(
        self, *, run: bytes, lane: int, fds: list[int], file_bytes: int, slot_bytes: int, keys: KeyStore
    ) -> None:
        self._run, self._lane, self._fds = run, lane, fds
        self._slot_bytes, self._slots = slot_bytes, file_bytes // slot_bytes
        self._keys = keys
        self._free = deque(_File(number=number) for number in range(len(fds)))
        self._busy: deque[_File] = deque()
        self._current: _File | None = None
        self._live: deque[_Live] = deque()
        self.next_number = 0
        self.captured = 0
        self.dropped = 0
        self.live_bytes = 0
        self._staging: queue.SimpleQueue[mmap.mmap] = queue.SimpleQueue()
        for _ in range(limits.STAGING_BUFFERS.default):
            buffer = mmap.mmap(-1, slot_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            for advice in (_MADV_HUGEPAGE, _MADV_DONTDUMP):
                with suppress(OSError):
                    buffer.madvise(advice)
            self._staging.put(buffer)
        self._queue: queue.SimpleQueue[tuple[SealedBlock, mmap.mmap, int] | None] = queue.SimpleQueue()
        self._written: deque[SealedBlock] = deque()
        self._failed: OSError | None = None
        self._ended = False
        self._outstanding = 0
        self._thread = threading.Thread(target=self._write_all, daemon=True)
        self._thread.start()

    @property
    def free_bytes(self) -> int:
        """Bytes of slots that can be taken without a release."""
        current = 0 if self._current is None else self._slots - self._current.used
        return (len(self._free) * self._slots + current) * self._slot_bytes

    @property
    def total_bytes(self) -> int:
        """Bytes of all slots."""
        return len(self._fds) * self._slots * self._slot_bytes

    def oldest_age_ns(self, now_ns: int) -> int:
        """Age of the oldest block that is not released, by the monotonic clock; 0 if there is none."""
        return max(0, now_ns - self._live[0].sealed_ns) if self._live else 0

    def try_seal(self, block: Plain) -> SealedBlock | Full:
        """Seal a block and queue its write.

        Returns:
            Its descriptor (not yet on disk: see `written`), or FULL: nothing has happened.
        Raises:
            BoxError: an earlier write failed, the lane has ended, or the block does not fit a slot.
        """
        if self._ended:
            raise BoxError("spool", "the lane has ended", "This is a bug")
        if self._failed is not None:
            raise BoxError("spool", f"a write failed ({self._failed.strerror})", "Check the disk; the run ends")
        length = len(block.plaintext)
        if length + TAG_BYTES > self._slot_bytes:
            raise BoxError("spool", f"a block of {length} bytes does not fit its slot", "This is a bug")
        file = self._file()
        if file is None:
            return FULL
        try:
            buffer = self._staging.get_nowait()
        except queue.Empty:
            return FULL
        sealed = SealedBlock(
            number=self.next_number,
            lane=self._lane,
            format=block.format,
            file=file.number,
            lap=file.lap,
            slot=file.used,
            length=length,
            packet_count=block.packet_count,
            status=block.status,
            first_ts_ns=block.first_ts_ns,
            last_ts_ns=block.last_ts_ns,
            dropped=self.dropped,
            captured=self.captured,
        )
        assert file.cipher is not None
        end = length + TAG_BYTES
        view = memoryview(buffer)
        file.cipher.encrypt_into(sealed.nonce(), block.plaintext, sealed.associated_data(self._run), view[:end])
        padded = -(-end // PAGE) * PAGE
        view[end:padded] = os.urandom(padded - end)
        self.next_number += 1
        self.captured += block.packet_count
        self.live_bytes += length
        self._live.append(_Live(sealed.number, length, time.monotonic_ns(), file.number))
        file.used += 1
        file.last_block = sealed.number
        self._outstanding += 1
        self._queue.put((sealed, buffer, padded))
        return sealed

    def _file(self) -> _File | None:
        current = self._current
        if current is not None:
            if current.used < self._slots:
                return current
            self._busy.append(current)
            current.cipher = None
            self._current = None
        if not self._free:
            return None
        current = self._free.popleft()
        current.lap += 1
        current.used = 0
        self._keys.create(current.number)
        current.cipher = self._keys.cipher(current.number)
        self._current = current
        return current

    def _write_all(self) -> None:
        while True:
            item = self._queue.get()
            if item is None:
                return
            sealed, buffer, padded = item
            view = memoryview(buffer)[:padded]
            offset = sealed.slot * self._slot_bytes
            try:
                while view:
                    done = os.pwrite(self._fds[sealed.file], view, offset)
                    view, offset = view[done:], offset + done
            except OSError as error:
                self._failed = error
                return
            self._written.append(sealed)
            self._staging.put(buffer)

    def written(self) -> list[SealedBlock]:
        """Blocks that have reached the disk since the last call, in order.

        Raises:
            BoxError: a write failed.
        """
        if self._failed is not None:
            raise BoxError("spool", f"a write failed ({self._failed.strerror})", "Check the disk; the run ends")
        blocks = []
        while self._written:
            blocks.append(self._written.popleft())
        self._outstanding -= len(blocks)
        return blocks

    @property
    def outstanding(self) -> int:
        """Blocks sealed and not yet handed out by `written`."""
        return self._outstanding

    def release(self, number: int) -> None:
        """No block up to `number` is needed any more: files that hold nothing else lose their keys and are free
        again.
        """
        while self._live and self._live[0].number <= number:
            self.live_bytes -= self._live.popleft().length
        while self._busy and self._busy[0].last_block <= number:
            self._erase(self._busy.popleft())
        current = self._current
        if current is not None and current.used and current.last_block <= number and not self._busy:
            self._current = None
            self._erase(current)

    def _erase(self, file: _File) -> None:
        file.cipher = None
        self._keys.erase(file.number)
        self._free.append(file)

    def close(self) -> None:
        """End of the lane: wait for the writes, erase every key that is left. Nothing is sealed afterwards.

        The staging buffers hold ciphertext and are left as they are.
        """
        self._ended = True
        self._queue.put(None)
        self._thread.join()
        for file in (*self._busy, *([self._current] if self._current else [])):
            self._erase(file)
        self._busy.clear()
        self._current = None
        self._live.clear()
        self.live_bytes = 0
