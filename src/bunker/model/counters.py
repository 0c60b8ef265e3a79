"""Counters: the closed list of what a box counts, and the shared page through which a process publishes its own.

Place in the flow: each process writes its page ▶ the releaser reads all pages ▶ heartbeats.

Rules of this file:
1. A counter is a member of `Counter`; there is no other way to count, so no name and no text can get in.
2. A page has one writer, its process; everybody else maps it read-only (`read_only`), and the kernel enforces that.
3. A slot is eight bytes, aligned, written by one store: a reader sees the old or the new value. Two slots are not read
   at one moment: sums over them can be off by what happened meanwhile, until the writers have stopped.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path

from bunker.errors import BoxError

_MAGIC = 0x3147_5443_4B4E_4231  # "1BNKCTG1", the layout of this version
_PAGE_BYTES = 4096
_TOP = (1 << 63) - 1  # what every JSON reader of statements can hold


class Combine(Enum):
    """How the values of several processes become one."""

    SUM = "sum"
    MAX = "max"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What a counter counts, in which unit, whether it only grows, and how pages combine."""

    unit: str
    text: str
    grows: bool = True
    combine: Combine = Combine.SUM


class Counter(StrEnum):
    """Every number a box tells about itself. The value is its name in heartbeats."""

    PACKETS_RECEIVED = "packets_received"
    PACKETS_ANALYSED = "packets_analysed"
    PACKETS_DROPPED_KERNEL = "packets_dropped_kernel"
    PACKETS_DROPPED_SPOOL = "packets_dropped_spool"
    PACKETS_DESTROYED = "packets_destroyed"
    PACKETS_UNPARSED = "packets_unparsed"
    BYTES_RECEIVED = "bytes_received"
    BYTES_ANALYSED = "bytes_analysed"
    BYTES_DROPPED_SPOOL = "bytes_dropped_spool"
    BLOCKS_SEALED = "blocks_sealed"
    BLOCKS_ANALYSED = "blocks_analysed"
    BLOCKS_REFUSED = "blocks_refused"
    GAPS = "gaps"
    CAPTURE_FILES_DAMAGED = "capture_files_damaged"
    FLOWS_OPENED = "flows_opened"
    FLOWS_COMPLETED = "flows_completed"
    FLOWS_TIMED_OUT = "flows_timed_out"
    FLOWS_ENDED = "flows_ended"
    FLOWS_EVICTED = "flows_evicted"
    FLOWS_ERRONEOUS = "flows_erroneous"
    FLOWS_OPEN = "flows_open"
    STREAM_BYTES_MISSED = "stream_bytes_missed"
    LIMITS_REACHED = "limits_reached"
    MESSAGES = "messages"
    RECORDS_EMITTED = "records_emitted"
    RECORDS_RELEASED = "records_released"
    RECORDS_REFUSED = "records_refused"
    RECORDS_DESTROYED = "records_destroyed"
    RECORDS_SAMPLED_OUT = "records_sampled_out"
    GATE_REFUSED_FRAME = "gate_refused_frame"
    GATE_REFUSED_SCHEMA = "gate_refused_schema"
    GATE_REFUSED_VALUE = "gate_refused_value"
    GATE_REFUSED_SIZE = "gate_refused_size"
    AGGREGATES_REFUSED = "aggregates_refused"
    VALUES_UNNUMBERED = "values_unnumbered"
    ANALYZER_FAULTS = "analyzer_faults"
    WORKER_RESTARTS = "worker_restarts"
    DIAGNOSTICS_OMITTED = "diagnostics_omitted"
    HEARTBEATS_OMITTED = "heartbeats_omitted"
    EGRESS_LOST = "egress_lost"
    EGRESS_WAITING_BYTES = "egress_waiting_bytes"
    LIVE_RAW_BYTES = "live_raw_bytes"
    OLDEST_RAW_AGE_NS = "oldest_raw_age_ns"
    KEYS_CREATED = "keys_created"
    KEYS_DESTROYED = "keys_destroyed"
    LAG_BYTES = "lag_bytes"
    LAG_NS = "lag_ns"
    SPOOL_BYTES = "spool_bytes"
    SPOOL_FREE_BYTES = "spool_free_bytes"
    MEMORY_BYTES = "memory_bytes"

    # A worker looks up each after each block: a member's own hash is a call of Python, that of its text is not.
    __hash__ = str.__hash__

    @classmethod
    def maybe(cls, name: str) -> Counter | None:
        """The counter of this name, or None."""
        return _BY_NAME.get(name)

    @property
    def meaning(self) -> Meaning:
        """Unit, text, and how it combines."""
        return MEANINGS[self]


_BY_NAME: dict[str, Counter] = {str(counter.value): counter for counter in Counter}
_SLOTS: dict[Counter, int] = {counter: slot for slot, counter in enumerate(Counter, start=1)}


def _level(unit: str, text: str, combine: Combine = Combine.SUM) -> Meaning:
    return Meaning(unit=unit, text=text, grows=False, combine=combine)


def _count(unit: str, text: str) -> Meaning:
    return Meaning(unit=unit, text=text)


MEANINGS: dict[Counter, Meaning] = {
    Counter.PACKETS_RECEIVED: _count(
        "packets", "that passed the capture filter: analysed, dropped and destroyed ones alike"
    ),
    Counter.PACKETS_ANALYSED: _count("packets", "that the engine has read, whatever it made of them"),
    Counter.PACKETS_DROPPED_KERNEL: _count("packets", "that the kernel dropped because the ring was full"),
    Counter.PACKETS_DROPPED_SPOOL: _count("packets", "dropped because the spool was full; each stands in a gap"),
    Counter.PACKETS_DESTROYED: _count(
        "packets", "sealed and then destroyed without analysis: abort, refused block, dead worker"
    ),
    Counter.PACKETS_UNPARSED: _count(
        "packets", "analysed of which no layer could be read (a part of packets_analysed)"
    ),
    Counter.BYTES_RECEIVED: _count("bytes", "captured bytes of the packets received"),
    Counter.BYTES_ANALYSED: _count("bytes", "plaintext bytes of blocks that the engine has read"),
    Counter.BYTES_DROPPED_SPOOL: _count("bytes", "of blocks dropped because the spool was full"),
    Counter.BLOCKS_SEALED: _count("blocks", "written to the spool"),
    Counter.BLOCKS_ANALYSED: _count("blocks", "unsealed and read by the engine"),
    Counter.BLOCKS_REFUSED: _count("blocks", "whose tag, number, lane or length did not fit when they were unsealed"),
    Counter.GAPS: _count("gaps", "times during which packets were dropped because the spool was full"),
    Counter.CAPTURE_FILES_DAMAGED: _count("files", "capture files that could be read in part only"),
    Counter.FLOWS_OPENED: _count("flows", "begun"),
    Counter.FLOWS_COMPLETED: _count("flows", "ended by both sides, by a reset, or a finished exchange"),
    Counter.FLOWS_TIMED_OUT: _count("flows", "ended because nothing was heard of them"),
    Counter.FLOWS_ENDED: _count("flows", "still open when the trace ended"),
    Counter.FLOWS_EVICTED: _count("flows", "given up because a limit was reached"),
    Counter.FLOWS_ERRONEOUS: _count("flows", "ended because a parser, an analyzer or the core failed on them"),
    Counter.FLOWS_OPEN: _level("flows", "open now"),
    Counter.STREAM_BYTES_MISSED: _count("bytes", "of streams known to be missing"),
    Counter.LIMITS_REACHED: _count("times", "a bound of the engine was reached"),
    Counter.MESSAGES: _count("messages", "that parsers made"),
    Counter.RECORDS_EMITTED: _count("rows", "written by analyzers"),
    Counter.RECORDS_RELEASED: _count("rows", "cleared and put into an envelope"),
    Counter.RECORDS_REFUSED: _count("rows", "of batches that the gate refused, as far as they could be counted"),
    Counter.RECORDS_DESTROYED: _count(
        "rows", "destroyed before they left: the egress queue was full, or they waited for their window at an abort"
    ),
    Counter.RECORDS_SAMPLED_OUT: _count("rows", "left out because their unit is not in the policy's sample"),
    Counter.GATE_REFUSED_FRAME: _count("batches", "refused: broken frame on a worker's pipe"),
    Counter.GATE_REFUSED_SCHEMA: _count("batches", "refused: other columns or types than declared"),
    Counter.GATE_REFUSED_VALUE: _count("batches", "refused: a value outside its type's domain"),
    Counter.GATE_REFUSED_SIZE: _count("batches", "refused: too many rows or bytes, or over gate.max_output_ratio"),
    Counter.AGGREGATES_REFUSED: _count(
        "windows", "of aggregates that were not released: the budget was spent, or there was no noise"
    ),
    Counter.VALUES_UNNUMBERED: _count("cells", "left empty because enum had given all its numbers"),
    Counter.ANALYZER_FAULTS: _count("faults", "exceptions and time-outs of analyzers"),
    Counter.WORKER_RESTARTS: _count("restarts", "workers that died and were started again"),
    Counter.DIAGNOSTICS_OMITTED: _count("events", "counted but not listed, because there were too many"),
    Counter.HEARTBEATS_OMITTED: _count("heartbeats", "not made, because the egress queue was full to its reserve"),
    Counter.EGRESS_LOST: _count("times", "the open box vanished"),
    Counter.EGRESS_WAITING_BYTES: _level("bytes", "in the egress queue"),
    Counter.LIVE_RAW_BYTES: _level("bytes", "of raw traffic that exist sealed and whose key exists"),
    Counter.OLDEST_RAW_AGE_NS: _level("ns", "age of the oldest raw traffic whose key exists", Combine.MAX),
    Counter.KEYS_CREATED: _count("keys", "spool file keys made"),
    Counter.KEYS_DESTROYED: _count("keys", "spool file keys overwritten"),
    Counter.LAG_BYTES: _level("bytes", "sealed and not yet analysed"),
    Counter.LAG_NS: _level("ns", "between the newest packet sealed and the newest analysed", Combine.MAX),
    Counter.SPOOL_BYTES: _level("bytes", "size of the spool"),
    Counter.SPOOL_FREE_BYTES: _level("bytes", "of the spool that can be written"),
    Counter.MEMORY_BYTES: _level("bytes", "resident memory of the processes of the box"),
}


class CounterPage:
    """One process's counters in shared memory.

    Made at set-up by `create`, mapped by its process with `attach(fd, writable=True)`, by everybody else from a
    descriptor that `read_only` made.
    """

    def __init__(self, mapping: mmap.mmap) -> None:
        self._mapping = mapping
        self._slots = memoryview(mapping).cast("Q")

    @staticmethod
    def create() -> int:
        """A new page, all zero: the descriptor of sealed memory (its size is fixed).

        Raises:
            BoxError: the kernel refuses.
        """
        try:
            fd = os.memfd_create("bunker-counters", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(fd, _PAGE_BYTES)
            os.pwrite(fd, _MAGIC.to_bytes(8, "little"), 0)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        except OSError as error:
            raise BoxError("counters", f"no shared memory ({error.strerror})", "Check the memory limits") from None
        return fd

    @staticmethod
    def read_only(fd: int) -> int:
        """Another descriptor of the page that can neither write nor be mapped for writing. Needs /proc: at set-up."""
        return os.open(Path("/proc/self/fd") / str(fd), os.O_RDONLY | os.O_CLOEXEC)

    @classmethod
    def attach(cls, fd: int, *, writable: bool) -> CounterPage:
        """Map a page.

        Raises:
            BoxError: it is no page of this version, or may not be written.
        """
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        try:
            mapping = mmap.mmap(fd, _PAGE_BYTES, access=access)
        except (OSError, ValueError):
            raise BoxError("counters", "the page cannot be mapped", "This is a bug: it was set up otherwise") from None
        page = cls(mapping)
        if page._slots[0] != _MAGIC:
            raise BoxError("counters", "the page is of another version", "Start the box anew")
        return page

    def add(self, counter: Counter, amount: int) -> None:
        """Count `amount` more. Stops at 2^63 - 1."""
        slot = _SLOTS[counter]
        self._slots[slot] = min(self._slots[slot] + amount, _TOP)

    def set(self, counter: Counter, value: int) -> None:
        """State a level, or a count that is kept elsewhere. Values beyond the slot stop at its ends."""
        self._slots[_SLOTS[counter]] = min(max(value, 0), _TOP)

    def value(self, counter: Counter) -> int:
        """One slot."""
        return int(self._slots[_SLOTS[counter]])

    def snapshot(self) -> dict[Counter, int]:
        """All slots."""
        return {counter: int(self._slots[slot]) for counter, slot in _SLOTS.items()}

    def close(self) -> None:
        """Unmap."""
        self._slots.release()
        self._mapping.close()


def combined(snapshots: Iterable[dict[Counter, int]]) -> dict[Counter, int]:
    """One number a counter out of several pages: the sum, or the largest for ages."""
    total = dict.fromkeys(Counter, 0)
    for snapshot in snapshots:
        for counter, value in snapshot.items():
            if counter.meaning.combine is Combine.MAX:
                total[counter] = max(total[counter], value)
            else:
                total[counter] = min(total[counter] + value, _TOP)
    return total


BALANCE_IN = Counter.PACKETS_RECEIVED
BALANCE_OUT = (
    Counter.PACKETS_ANALYSED,
    Counter.PACKETS_DROPPED_KERNEL,
    Counter.PACKETS_DROPPED_SPOOL,
    Counter.PACKETS_DESTROYED,
)
"""At the end of a run the first is the sum of the others: no packet is unaccounted for."""
