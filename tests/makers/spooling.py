"""A small spool to test with: lanes of a few slots, and a second door to what stands on the disk."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bunker.closed.spool.block import PAGE, TAG_BYTES, SealedBlock
from bunker.closed.spool.files import LaneFiles, claim
from bunker.closed.spool.keys import KeyStore, create_store
from bunker.closed.spool.reader import SpoolReader
from bunker.closed.spool.writer import Full, Plain, SpoolWriter

RUN = bytes(range(16))
FILES = 4


@dataclass(kw_only=True)
class Lane:
    """One lane: its writer, readers on demand, and the bytes on disk."""

    number: int
    files: LaneFiles
    keys: KeyStore
    writer: SpoolWriter
    doors: list[int] = field(default_factory=list)

    def reader(self, *, run: bytes = RUN, fds: list[int] | None = None, keys: KeyStore | None = None) -> SpoolReader:
        """A new reader, which has seen nothing yet."""
        return SpoolReader(
            run=run,
            lane=self.number,
            fds=self.files.read_fds if fds is None else fds,
            file_bytes=self.files.file_bytes,
            slot_bytes=self.files.slot_bytes,
            keys=self.keys if keys is None else keys,
        )

    @property
    def slots(self) -> int:
        """Slots of all files."""
        return len(self.files.fds) * self.files.slots_per_file

    @property
    def longest(self) -> int:
        """The longest plaintext that fits a slot."""
        return self.files.slot_bytes - TAG_BYTES

    def seal(self, data: bytes, **others: int) -> SealedBlock:
        """Seal, and wait until it is on disk."""
        sealed = self.writer.try_seal(plain(data, **others))
        assert not isinstance(sealed, Full), "the test's spool is full"
        self.drain()
        return sealed

    def drain(self) -> list[SealedBlock]:
        """Wait for the writes; the blocks that have reached the disk meanwhile."""
        blocks = self.writer.written()
        deadline = time.monotonic() + 30
        while self.writer.outstanding:
            assert time.monotonic() < deadline, "the writer does not write"
            time.sleep(0.0005)
            blocks += self.writer.written()
        return blocks

    def place(self, block: SealedBlock) -> int:
        """Where a block begins in its file."""
        return block.slot * self.files.slot_bytes

    def on_disk(self, block: SealedBlock, *, padded: bool = False) -> bytes:
        """Ciphertext and tag of a block, with its padding if asked for."""
        end = block.length + TAG_BYTES
        return os.pread(self.doors[block.file], -(-end // PAGE) * PAGE if padded else end, self.place(block))

    def put(self, block: SealedBlock, data: bytes, *, at: int = 0) -> None:
        """Overwrite what stands at a block's place."""
        assert os.pwrite(self.doors[block.file], data, self.place(block) + at) == len(data)

    def all_bytes(self) -> bytes:
        """All that this lane has on disk."""
        return b"".join(os.pread(door, self.files.file_bytes, 0) for door in self.doors)


def plain(data: bytes | bytearray, **others: int) -> Plain:
    """A block to seal."""
    values = {"format": 2, "packet_count": 3, "first_ts_ns": 1_000, "last_ts_ns": 2_000, "status": 0, **others}
    return Plain(plaintext=memoryview(data), **values)


def take(reader: SpoolReader, block: SealedBlock) -> bytes:
    """A block's plaintext."""
    into = bytearray(block.length)
    length = reader.unseal(block, into)
    return bytes(into[:length])


def doors_of(files: LaneFiles) -> list[int]:
    """Descriptors of a lane's nameless files that know nothing of O_DIRECT."""
    return [os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC) for fd in files.fds]


@contextmanager
def spool(directory: Path, *, lanes: int = 1, slots: int = 2, slot_bytes: int = 2 * PAGE) -> Iterator[list[Lane]]:
    """Lanes of FILES files with `slots` slots each; all is closed afterwards."""
    claimed = claim(
        directory,
        lanes=lanes,
        size=lanes * FILES * slots * slot_bytes,
        block_bytes=slot_bytes - TAG_BYTES,
        wanted=FILES,
    )
    stores, made = [], []
    for number, files in enumerate(claimed):
        stores.append(create_store(FILES)[0])
        keys = KeyStore.attach(stores[-1], writable=True)
        writer = SpoolWriter(
            run=RUN,
            lane=number,
            fds=files.fds,
            file_bytes=files.file_bytes,
            slot_bytes=files.slot_bytes,
            keys=keys,
        )
        lane = Lane(number=number, files=files, keys=keys, writer=writer)
        lane.doors = doors_of(files)
        made.append(lane)
    try:
        yield made
    finally:
        for lane in made:
            lane.writer.close()
            for fd in (*lane.doors, *lane.files.fds, *lane.files.read_fds):
                os.close(fd)
        for store in stores:
            os.close(store)
