"""The format page, its vectors and the program say the same."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import spool_vectors

from bunker.closed.spool import reader as spool_reader
from bunker.closed.spool.block import SealedBlock
from bunker.closed.spool.keys import KEY_BYTES, KeyStore, create_store
from bunker.closed.spool.reader import SpoolReader
from bunker.closed.spool.writer import Plain, SpoolWriter
from bunker.errors import TrafficError

FORMATS = Path(__file__).parents[4] / "docs" / "formats"
SLOT = spool_vectors.SLOT_BYTES
FILES = 4
VECTORS = json.loads((FORMATS / "spool-vectors.json").read_text())
SEALED: dict[str, dict[str, Any]] = {vector["name"]: vector for vector in VECTORS["sealed"]}


def test_file_is_what_its_maker_makes() -> None:
    assert (FORMATS / "spool-vectors.json").read_text() == spool_vectors.text()


WIDTHS = {"u16": 2, "u32": 4, "u64": 8}


def test_page_and_program_have_the_same_descriptor() -> None:
    page = (FORMATS / "spool.md").read_text()
    part = page[page.index("## Descriptor, 68 bytes") : page.index("## Sealing")]
    rows = {int(offset): (width, name) for offset, width, name in re.findall(r"(\d+)  (u\d+)  (\w+)", part)}
    fields = [field.name for field in dataclasses.fields(SealedBlock)]
    assert len(rows) == len(fields) and [name for _, (_, name) in sorted(rows.items())] == fields
    zero = SealedBlock(**dict.fromkeys(fields, 0))
    for offset, (width, name) in rows.items():
        packed = dataclasses.replace(zero, **{name: 2 ** (8 * WIDTHS[width]) - 1}).pack()
        assert len(packed) == 68
        assert packed == (bytes(offset) + b"\xff" * WIDTHS[width]).ljust(68, b"\0")


def test_page_names_each_refusal() -> None:
    page = (FORMATS / "spool.md").read_text()
    source = inspect.getsource(spool_reader)
    kinds = set(re.findall(r'TrafficError\("(\w+)"', source))
    assert len(kinds) == 7 and set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == kinds


def block_of(vector: dict[str, Any]) -> SealedBlock:
    return SealedBlock(**vector["fields"])


@pytest.fixture
def files(tmp_path: Path) -> Iterator[list[int]]:
    fds = [os.open(tmp_path / str(number), os.O_RDWR | os.O_CREAT) for number in range(FILES)]
    for fd in fds:
        os.ftruncate(fd, 2 * SLOT)
    yield fds
    for fd in fds:
        os.close(fd)


@pytest.fixture
def keys() -> Iterator[KeyStore]:
    fd, _ = create_store(FILES)
    yield KeyStore.attach(fd, writable=True)
    os.close(fd)


def lay(vector: dict[str, Any], files: list[int], keys: KeyStore) -> None:
    """Put a vector's bytes and key where they belong."""
    block = block_of(vector)
    os.pwrite(files[block.file], bytes.fromhex(vector["sealed"]), block.slot * SLOT)
    keys._slot(block.file)[:] = bytes.fromhex(vector["key"])


def reader(lane: int, files: list[int], keys: KeyStore) -> SpoolReader:
    return SpoolReader(run=spool_vectors.RUN, lane=lane, fds=files, file_bytes=2 * SLOT, slot_bytes=SLOT, keys=keys)


@pytest.mark.parametrize("name", SEALED)
def test_program_reads_the_vector(name: str, files: list[int], keys: KeyStore) -> None:
    vector = SEALED[name]
    lay(vector, files, keys)
    block = block_of(vector)
    assert block.pack().hex() == vector["descriptor"] and SealedBlock.unpack(block.pack()) == block
    assert block.nonce().hex() == vector["nonce"]
    assert block.associated_data(spool_vectors.RUN).hex() == vector["associated_data"]
    into = bytearray(SLOT)
    length = reader(block.lane, files, keys).unseal(block, into)
    assert into[:length].hex() == vector["plaintext"]


@pytest.mark.parametrize("number", range(len(VECTORS["refused"])))
def test_program_refuses_the_vector(number: int, files: list[int], keys: KeyStore) -> None:
    refused = VECTORS["refused"][number]
    vector = SEALED[refused["of"]]
    lay(vector, files, keys)
    with pytest.raises(TrafficError) as error:
        reader(0, files, keys).unseal(SealedBlock.unpack(bytes.fromhex(refused["descriptor"])), bytearray(2 * SLOT))
    assert error.value.kind == refused["refusal"]
    assert reader(0, files, keys).unseal(block_of(vector), bytearray(SLOT)) == vector["fields"]["length"]


class Fixed(KeyStore):
    """A store that draws what the test says."""

    drawn = b""

    def create(self, slot: int) -> None:
        self._slot(slot)[:] = self.drawn


@pytest.mark.parametrize("name", ["empty", "one byte"])
def test_program_writes_the_vector(name: str, files: list[int]) -> None:
    vector = SEALED[name]
    fd, _ = create_store(FILES)
    keys = Fixed.attach(fd, writable=True)
    assert isinstance(keys, Fixed) and KEY_BYTES == 32
    keys.drawn = bytes.fromhex(vector["key"])
    writer = SpoolWriter(run=spool_vectors.RUN, lane=0, fds=files, file_bytes=2 * SLOT, slot_bytes=SLOT, keys=keys)
    block = block_of(vector)
    sealed = writer.try_seal(
        Plain(
            format=block.format,
            plaintext=memoryview(bytes.fromhex(vector["plaintext"])),
            packet_count=block.packet_count,
            first_ts_ns=block.first_ts_ns,
            last_ts_ns=block.last_ts_ns,
            status=block.status,
        )
    )
    writer.close()
    assert sealed == block
    assert os.pread(files[0], block.length + 16, 0).hex() == vector["sealed"]
    os.close(fd)
