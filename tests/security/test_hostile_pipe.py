"""A worker that has become another program: what it writes into its pipe is refused, counted, and does not leave.

The analyzer stands for whoever took the worker over: it finds the pipe among its descriptors and writes into it what
it likes, made of the traffic in hand. That is all a hijacked worker has: the releaser must be right about every byte.
"""

from __future__ import annotations

import io
import json
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from boxes import POLICY, Study, balanced, counters, events, rows, study
from canary import Canaries, make_canaries, search_tree
from canary_capture import write_canary_capture

HEAD = struct.Struct("<BHI")
RECORDS, FAULT, ENDED, EVENT = 1, 2, 3, 4
HOSTILE = """
import os
import stat
from bunker.api import Emit, Host, Record, analyzer, http

class Said(Record):
    site: Host

PIECES = {pieces!r}
PLACE = {place!r}
DONE = []

def pipe() -> int:
    fds = []
    for fd in range(3, 256):
        try:
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                os.write(fd, b"")
                fds.append(fd)
        except OSError:
            continue
    assert len(fds) == 1, "the records pipe alone can be written"
    return fds[0]

@analyzer(emits=Said)
def hostile(tx: http.Transaction, emit: Emit) -> None:
    if tx.host is None or len(tx.host) != len(PLACE):
        return
    emit(Said(site=tx.host))
    if not DONE:
        DONE.append(True)
        for piece in PIECES:
            whole = piece.replace(PLACE, tx.host.encode())
            while whole:
                whole = whole[os.write(pipe(), whole):]
"""
_COPIES = 5
_TRANSACTIONS = 2 * _COPIES
"""One in HTTP/1 and one in HTTP/2 a copy."""
SAID_OUT = """
[out.said]
site = "tag"
"""
SCHEMA = pa.schema([pa.field("site", pa.utf8(), nullable=False)])


def batch(place: str, *, schema: pa.Schema = SCHEMA, columns: list[Any] | None = None, extra: bytes = b"") -> bytes:
    """A RECORDS frame with one Arrow IPC stream; the cell is the place of the canary."""
    sink = io.BytesIO()
    arrays = [pa.array([place], pa.utf8())] if columns is None else columns
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
    body = sink.getvalue() + extra
    return HEAD.pack(RECORDS, 0, len(body)) + body


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is written, and how it must end.

    Args:
        pieces: Made of the place where the canary will stand.
        counter: Which counter must say it.
        whole: Whether the run goes on to its end: a batch is refused alone, a broken frame shuts the pipe.
    """

    pieces: Any
    counter: str
    whole: bool


def extra_column(place: str) -> bytes:
    schema = SCHEMA.append(pa.field("more", pa.utf8()))
    return batch(place, schema=schema, columns=[pa.array([place]), pa.array([place])])


def other_type(place: str) -> bytes:
    raw = pa.array([place.encode()], pa.binary())
    return batch(place, schema=pa.schema([pa.field("site", pa.binary(), nullable=False)]), columns=[raw])


def other_name(place: str) -> bytes:
    return batch(place, schema=pa.schema([pa.field(place, pa.utf8(), nullable=False)]))


def dictionary(place: str) -> bytes:
    words = pa.array([place]).dictionary_encode()
    return batch(place, schema=pa.schema([pa.field("site", words.type, nullable=False)]), columns=[words])


CASES = {
    "raw_bytes": Case(pieces=lambda p: [b"\xff" + p.encode() * 3], counter="gate_refused_frame", whole=False),
    "raw_text": Case(pieces=lambda p: [p.encode() * 64], counter="gate_refused_frame", whole=False),
    "huge_frame": Case(
        pieces=lambda p: [HEAD.pack(RECORDS, 0, 0xFFFF_FFFF) + p.encode()], counter="gate_refused_frame", whole=False
    ),
    "no_such_record": Case(
        pieces=lambda p: [HEAD.pack(RECORDS, 9, len(p)) + p.encode()], counter="gate_refused_frame", whole=False
    ),
    "event_with_text": Case(
        pieces=lambda p: [HEAD.pack(EVENT, 0, len(p)) + p.encode()], counter="gate_refused_frame", whole=False
    ),
    "fault_of_no_analyzer": Case(
        pieces=lambda p: [HEAD.pack(FAULT, 0, 9) + struct.pack("<HHIB", 999, 0, 1, 0)],
        counter="gate_refused_frame",
        whole=False,
    ),
    "no_arrow": Case(
        pieces=lambda p: [HEAD.pack(RECORDS, 0, len(p)) + p.encode()], counter="gate_refused_schema", whole=True
    ),
    "extra_column": Case(pieces=lambda p: [extra_column(p)], counter="gate_refused_schema", whole=True),
    "other_type": Case(pieces=lambda p: [other_type(p)], counter="gate_refused_schema", whole=True),
    "other_name": Case(pieces=lambda p: [other_name(p)], counter="gate_refused_schema", whole=True),
    "metadata": Case(
        pieces=lambda p: [batch(p, schema=SCHEMA.with_metadata({"note": p}))],
        counter="gate_refused_schema",
        whole=True,
    ),
    "dictionary": Case(pieces=lambda p: [dictionary(p)], counter="gate_refused_schema", whole=True),
    "trailing_bytes": Case(pieces=lambda p: [batch(p, extra=p.encode())], counter="gate_refused_schema", whole=True),
    "two_streams": Case(pieces=lambda p: [batch(p, extra=batch(p)[7:])], counter="gate_refused_schema", whole=True),
    "null_cell": Case(
        pieces=lambda p: [
            batch(p, schema=pa.schema([pa.field("site", pa.utf8())]), columns=[pa.array([None], pa.utf8())])
        ],
        counter="gate_refused_schema",
        whole=True,
    ),
    "huge_cell": Case(
        pieces=lambda p: [batch(p, columns=[pa.array([p * 8_000])])], counter="gate_refused_value", whole=True
    ),
    "many_rows": Case(
        pieces=lambda p: [batch(p, columns=[pa.array([p] + ["x"] * (1 << 20))])],
        counter="gate_refused_size",
        whole=True,
    ),
}


def hostile_study(folder: Path, canaries: Canaries, pieces: list[bytes], place: str) -> Study:
    """An experiment whose analyzer writes these pieces into the worker's pipe."""
    write_canary_capture(folder / "c.pcap", canaries, copies=_COPIES)
    text = HOSTILE.format(pieces=pieces, place=place.encode())
    return study(folder / "s", analyzers=("./mine.py:hostile",), policy=POLICY + SAID_OUT, source=text, lanes=1)


@pytest.mark.parametrize("name", sorted(CASES))
def test_what_a_hijacked_worker_writes_is_refused_and_counted(name: str, tmp_path: Path) -> None:
    case, canaries = CASES[name], make_canaries(f"pipe {name}")
    place = "P" * len(canaries.text("host") + ".example")
    one = hostile_study(tmp_path, canaries, case.pieces(place), place)
    out = tmp_path / "out"
    done = one.run(out, "--read", str(tmp_path / "c.pcap"))
    found = counters(out)
    refused = {word: count for word, count in found.items() if word.startswith("gate_refused") and count}
    assert refused == {case.counter: 1}, done.stderr
    assert [event["kind"] for event in events(out)].count("gate_refused") == 1
    assert balanced(found)
    assert found["live_raw_bytes"] == 0
    last = json.loads((out / "heartbeats.jsonl").read_bytes().splitlines()[-1])
    if case.whole:
        assert (done.returncode, last["kind"]) == (0, "end")
        assert len(rows(out, "said")) == _TRANSACTIONS, (
            "what the analyzer emitted in the ordinary way came out beside it"
        )
    else:
        assert (done.returncode, last["kind"], last["statement"]["reason"]) == (1, "abort", "child_failed")
    assert search_tree(out, canaries, shortest=6) == []


def test_the_same_bytes_in_the_declared_shape_pass_the_gate(tmp_path: Path) -> None:
    """The control: a batch that breaks no rule is cleared like any other (a hijacked worker can lie in a field)."""
    canaries = make_canaries("pipe control")
    place = "P" * len(canaries.text("host") + ".example")
    one = hostile_study(tmp_path, canaries, [batch(place)], place)
    out = tmp_path / "out"
    done = one.run(out, "--read", str(tmp_path / "c.pcap"))
    assert done.returncode == 0, done.stderr
    said = rows(out, "said")
    # Two sites in the capture; what was made up names one of them, and has its tag.
    assert sorted(Counter(row["site"] for row in said).values()) == [_COPIES, _COPIES + 1]
    assert search_tree(out, canaries, shortest=6) == []
