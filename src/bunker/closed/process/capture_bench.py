"""The capture half of a box by itself, for `bunker bench capture`: ring, seal, spool, with no worker behind it.

    python -m bunker.closed.process.capture_bench --interface IF --block-bytes N --ring-bytes N --spool DIR --seconds S

It captures until S seconds are over or SIGINT or SIGTERM comes, takes what the ring still holds, waits for the writes
and prints one line of JSON: counters, nothing else. Blocks are released when the spool is half full, the oldest
first, as by a worker that lags.

Secrets: the block keys, which die with it. It has no jail: it is a measuring device, not a way to trace. What it
captured cannot be read afterwards by anybody, because nothing hands the keys or the index on.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections import deque
from pathlib import Path
from types import FrameType
from typing import Any

from bunker import limits
from bunker.closed.capture.ring import Ring, keep_all_program, open_ring
from bunker.closed.spool.files import claim
from bunker.closed.spool.keys import KeyStore, create_store
from bunker.closed.spool.writer import Full, Plain, SpoolWriter
from bunker.errors import BunkerError

_POLL_S = 0.2
_RUN = bytes(16)


class _NoCipher:
    """Copies where a cipher would seal: what plain capture costs."""

    def encrypt_into(self, _nonce: bytes, plaintext: bytes, _data: bytes, out: memoryview) -> int:
        out[: len(plaintext)] = plaintext
        return len(out)


class _NoKeys(KeyStore):
    """A key store whose ciphers do nothing. There is no such thing but here: a spool of a box is sealed."""

    def cipher(self, _number: int) -> Any:
        return _NoCipher()


class CaptureBench:
    """One lane: ring and writer, and what has been stored."""

    def __init__(
        self,
        *,
        interface: str,
        block_bytes: int,
        ring_bytes: int,
        spool: Path,
        spool_bytes: int,
        sealed: bool = True,
    ) -> None:
        files = claim(spool, lanes=1, size=spool_bytes, block_bytes=block_bytes)[0]
        store, _ = create_store(len(files.fds))
        self._writer = SpoolWriter(
            run=_RUN,
            lane=0,
            fds=files.fds,
            file_bytes=files.file_bytes,
            slot_bytes=files.slot_bytes,
            keys=(KeyStore if sealed else _NoKeys).attach(store, writable=True),
        )
        ring = open_ring(
            interface,
            block_bytes=block_bytes,
            ring_bytes=ring_bytes,
            program=keep_all_program(limits.SNAPLEN.default),
            promiscuous=True,
            fanout=None,
        )
        self._ring = Ring(ring.fd, lane=0, block_bytes=block_bytes, blocks=ring.blocks)
        self._direct = files.direct
        self._kept: deque[int] = deque()
        self._keep = max(1, files.slots_per_file * len(files.fds) // 2)
        self.packets = self.bytes = self.blocks = self.waits = 0

    def take(self, timeout_s: float) -> bool:
        """Seal the next block if there is one; False if there is none.

        While spool or staging is full the block stays in the ring: the kernel drops and counts, nothing is overwritten.
        """
        block = self._ring.next_block(timeout_s)
        if block is None:
            self._settle()
            return False
        plain = Plain(
            format=block.format,
            plaintext=block.plaintext,
            packet_count=block.packet_count,
            first_ts_ns=block.first_ts_ns,
            last_ts_ns=block.last_ts_ns,
            status=block.status,
        )
        while isinstance(self._writer.try_seal(plain), Full):
            self.waits += 1
            self._settle()
            time.sleep(0.001)
        self._ring.give_back()
        self.packets += block.packet_count
        self.bytes += len(block.plaintext)
        self.blocks += 1
        return True

    def _settle(self) -> None:
        """Release the oldest of what has reached the disk."""
        self._kept.extend(block.number for block in self._writer.written())
        while len(self._kept) > self._keep:
            self._writer.release(self._kept.popleft())

    def told(self) -> dict[str, int]:
        """Counters so far."""
        self._ring.read_statistics()
        return {"packets": self.packets, "dropped": self._ring.dropped, "waits": self.waits}

    def finish(self) -> dict[str, int | bool]:
        """Take the rest of the ring, wait for the writes, erase the keys; the counters."""
        while self.take(_POLL_S):
            pass
        while self._writer.outstanding:
            self._settle()
            time.sleep(0.001)
        self._ring.read_statistics()
        self._writer.close()
        self._ring.wipe()
        return {
            "packets": self.packets,
            "bytes": self.bytes,
            "blocks": self.blocks,
            "dropped": self._ring.dropped,
            "received": self._ring.received,
            "waits": self.waits,
            "direct": self._direct,
        }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Capture, seal, spool, count; for bunker bench capture.")
    parser.add_argument("--interface", required=True)
    parser.add_argument("--block-bytes", type=int, default=limits.BLOCK_BYTES.default)
    parser.add_argument("--ring-bytes", type=int, default=64 << 20)
    parser.add_argument("--spool", type=Path, required=True)
    parser.add_argument("--spool-bytes", type=int, default=1 << 30)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--tell", action="store_true", help="print counters once a second")
    parser.add_argument("--plain", action="store_true", help="do not seal: what capture costs without it")
    given = parser.parse_args()
    ended: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        ended.append(number)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    try:
        bench = CaptureBench(
            interface=given.interface,
            block_bytes=given.block_bytes,
            ring_bytes=given.ring_bytes,
            spool=given.spool,
            spool_bytes=given.spool_bytes,
            sealed=not given.plain,
        )
        deadline = time.monotonic() + given.seconds
        next_word = time.monotonic()
        while not ended and time.monotonic() < deadline:
            bench.take(_POLL_S)
            if given.tell and time.monotonic() >= next_word:
                sys.stdout.write(f"bench: {json.dumps(bench.told())}\n")
                sys.stdout.flush()
                next_word += 1
        counters = bench.finish()
    except BunkerError as error:
        sys.stderr.write(f"capture_bench: {error}\n")
        sys.exit(1)
    sys.stdout.write(json.dumps(counters) + "\n")


if __name__ == "__main__":
    main()
