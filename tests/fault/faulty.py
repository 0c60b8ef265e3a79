"""Runs with faults injected into chosen flows, and what should come out of them.

The analyzer under test records each HTTP transaction; in flows whose client port is guilty it misbehaves. The trace
is made by `bunker bench`'s maker: as many flows as asked for, the same bytes each time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from boxes import POLICY, Study, study

from bunker.cli.bench.traffic import write_trace

HEAD = """
import ctypes, os, signal, sys, threading, time
from typing import Literal
from bunker.api import Count, Emit, Enum, Port, Record, analyzer, flow, http

class Seen(Record):
    host: Count
    port: Port
    depth: Count
    size: Count

class Ended(Record):
    host: Count
    port: Port
    packets: Count
    size: Count
    history: Enum
    fault: Literal["exception", "panic", "time", "memory", "output", "crash", "exited", "killed", "external"] | None
    outcome: Literal["completed", "timed_out", "ended", "evicted", "erroneous"]

GUILTY = frozenset({guilty})

def number(tx):
    return int.from_bytes(tx.orig_h.packed[-4:], "big")

def misbehave(tx, emit):
{body}

@analyzer(emits=Ended)
def ended(one: flow.Flow, emit: Emit) -> None:
    emit(Ended(host=number(one), port=one.orig_p, packets=one.orig_pkts + one.resp_pkts, size=one.resp_bytes,
               history=one.history, fault=one.fault, outcome=one.outcome))

@analyzer(emits=Seen)
def seen(tx: http.Transaction, emit: Emit) -> None:
    {before}
    emit(Seen(host=number(tx), port=tx.orig_p, depth=tx.trans_depth, size=tx.response_body_len))
    if (number(tx), tx.orig_p) in GUILTY:
        misbehave(tx, emit)
"""
BATCH_TAIL = """
import pyarrow as pa

@analyzer(emits=Seen, batch=True)
def in_batch(batch: http.Transaction, emit: Emit) -> None:
    table = pa.table(batch)
    hosts = [int.from_bytes(host[-4:], "big") for host in table["orig_h"].to_pylist()]
    ports = table["orig_p"].to_pylist()
    for pair in zip(hosts, ports):
        if pair in GUILTY:
            misbehave(None, emit)
    sizes = [int(size) for size in table["response_body_len"].to_pylist()]
    depths = [int(depth) for depth in table["trans_depth"].to_pylist()]
    emit(pa.table({"host": pa.array(hosts, pa.uint64()), "port": pa.array(ports, pa.uint16()),
                   "depth": pa.array(depths, pa.uint64()), "size": pa.array(sizes, pa.uint64())}))
"""
HASTY = 'time_per_call = "1s"\nmemory = "256MB"'
PATIENT = 'time_per_call = "30s"\nmemory = "256MB"'
KINDS = {
    "exception": ("    raise ValueError(tx.uri)", "exception"),
    # A schema whose pointers are all null: what reads it in Rust asserts that they are not.
    "panic": (
        "    capsule = ctypes.pythonapi.PyCapsule_New\n    capsule.restype = ctypes.py_object\n"
        "    capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]\n"
        "    nothing = ctypes.create_string_buffer(160)\n"
        "    class Poisoned:\n        def __arrow_c_array__(self, requested_schema=None):\n"
        "            return tuple(capsule(ctypes.addressof(nothing), name, None)"
        " for name in (b'arrow_schema', b'arrow_array'))\n"
        "    from bunker._core import Batch\n    Batch.from_arrow(Poisoned())",
        "panic",
    ),
    "exit": ("    os._exit(0)", "exited"),
    "sys_exit": ("    sys.exit(3)", "exited"),
    "segfault": ("    ctypes.string_at(8)", "crash"),
    "abort": ("    os.abort()", "crash"),
    "loop": ("    while True:\n        pass", "time"),
    "loop_that_catches": (
        "    while True:\n        try:\n            while True:\n                pass\n"
        "        except BaseException:\n            pass",
        "time",
    ),
    "deadlock": ("    lock = threading.Lock()\n    lock.acquire()\n    lock.acquire()", "time"),
    "native_deadlock": (
        "    lock = ctypes.create_string_buffer(128)\n    library = ctypes.CDLL(None)\n"
        "    library.pthread_mutex_lock(lock)\n    library.pthread_mutex_lock(lock)",
        "time",
    ),
    "memory": ("    held = []\n    while True:\n        held.append(bytearray(1 << 24))", "memory"),
    "flood": (
        "    while True:\n        emit(Seen(host=1, port=1, depth=1, size=1))",
        "output",
    ),
}
"""What an analyzer does to a guilty flow, and the reason in the flow's record."""
OUT = """
[out.seen]
host = { do = "keep", because = "invented traffic" }
port = { do = "keep", because = "invented traffic" }
depth = { do = "keep", because = "invented traffic" }
size = { do = "keep", because = "invented traffic" }
[out.ended]
host = { do = "keep", because = "invented traffic" }
port = { do = "keep", because = "invented traffic" }
packets = { do = "keep", because = "invented traffic" }
size = { do = "keep", because = "invented traffic" }
history = "len"
fault = { do = "keep", because = "a word of ours" }
outcome = { do = "keep", because = "a word of ours" }
"""
Pair = tuple[int, int]


def make_trace(path: Path, requests: int, shape: str = "close") -> Path:
    """A trace of `requests` requests; in shape "close" each has a connection of its own."""
    write_trace(path, shape, requests)
    return path


def faulty_study(
    folder: Path,
    kind: str,
    guilty: set[Pair],
    *,
    tail: str = "",
    analyzers: tuple[str, ...] = ("./mine.py:ended", "./mine.py:seen"),
    lanes: int = 1,
    spool: str = "64MB",
    analysis: str = PATIENT,
    mode: str = "continuous",
    before: str = "pass",
) -> Study:
    """An experiment whose analyzer misbehaves on the guilty flows (client address and port).

    Args:
        analysis: HASTY where a fault is that time runs out: on a busy machine other flows are taken for such as well.
        before: What it does before each of its records: a statement, mostly one that takes time.
    """
    source = HEAD.format(guilty=sorted(guilty), body=KINDS[kind][0], before=before) + tail
    return study(
        folder,
        analyzers=analyzers,
        policy=POLICY + OUT,
        source=source,
        lanes=lanes,
        spool=spool,
        analysis=analysis,
        mode=mode,
    )


def released(out: Path, record: str) -> list[tuple[Any, ...]]:
    """Rows of a record, sorted."""
    rows: list[tuple[Any, ...]] = []
    for part in sorted((out / "records" / record).glob("*.parquet")):
        table = pq.read_table(part)
        rows += zip(*(column.to_pylist() for column in table.columns), strict=True)
    return sorted(rows, key=lambda row: tuple((value is None, value) for value in row))
