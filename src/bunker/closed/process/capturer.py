"""The capturer: takes blocks from the packet rings or from capture files, seals them, puts them into the spool.

Secrets: the block keys (to seal). Reads: the packet sockets or the capture files. Writes: spool files, its counter
page, the links. If it is taken over completely: sees traffic from now on; has no way to send it.

Rules of this file:
1. Nothing blocks capture: a full spool is a counted gap, a slow disk waits in the ring, a slow worker is the spool's
   business.
2. Capture files can wait, and do: nothing of a file is dropped because the spool is full, unless analysis begins
   only afterwards.
3. A spool file's key dies as soon as its worker has said that it is done with it, and all keys die at the end.
"""

from __future__ import annotations

import os
import select
import time
from collections import deque
from dataclasses import dataclass

from bunker.closed.capture.block import Block
from bunker.closed.capture.clock import ClockWatch
from bunker.closed.capture.files import FileReader
from bunker.closed.capture.ring import Ring
from bunker.closed.process import frames
from bunker.closed.process.link import (
    ALL_BLOCKS,
    Again,
    Analysed,
    Damaged,
    Ended,
    Interface,
    Link,
    Lost,
    Released,
    Resume,
    Sealed,
    Stepped,
)
from bunker.closed.process.settings import CapturerSettings, LaneSettings, settings_of
from bunker.closed.spool.block import SealedBlock
from bunker.closed.spool.keys import KeyStore, ledger_slot
from bunker.closed.spool.writer import Full, Plain, SpoolWriter
from bunker.errors import BoxError
from bunker.model.counters import Counter, CounterPage
from bunker.native.jail import lock_down

EXIT_DAMAGED = 3
"""A capture file could be read in part only; all else went well."""
_POLL_MS = 200
_BUSY_MS = 1
_COUNT_S = 0.2
_DRAIN_S = 0.5
"""After the order to stop: longer than the kernel keeps a block that is not full (100 ms)."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A sealed block that its worker has not read."""

    number: int
    packets: int
    size: int
    last_ts_ns: int


Told = Sealed | Lost | Damaged | Interface | Stepped | Ended
"""What a worker is told in order and may ask for again."""


@dataclass(slots=True)
class _Gap:
    """Packets that found the spool full, since when."""

    since_ns: int
    packets: int = 0
    size: int = 0


class Lane:
    """One lane's writer and link, and what is known of its blocks."""

    def __init__(self, settings: LaneSettings, *, deferred: bool, held: bool) -> None:
        spool = settings.spool
        self.keys = KeyStore.attach(spool.keys_fd, writable=True)
        self._ledger_slot = ledger_slot(spool.file_fds)
        self.keys.create(self._ledger_slot)
        self.writer = SpoolWriter(
            run=spool.run,
            lane=spool.lane,
            fds=spool.file_fds,
            file_bytes=spool.file_bytes,
            slot_bytes=spool.slot_bytes,
            keys=self.keys,
        )
        self.slot_bytes = spool.slot_bytes
        self.link = Link(settings.link_fd)
        self.ring: Ring | None = None
        self.told_down = False
        self.deferred, self.held = deferred, held
        self.worker_gone = False
        self.sealed_packets = self.sealed_bytes = self.sealed_blocks = 0
        self.spool_packets = self.spool_bytes = self.gaps = 0
        self.destroyed_packets = 0
        self._gap: _Gap | None = None
        self.kernel_told, self._kernel_told_ns = 0, time.monotonic_ns()
        self._unread: deque[_Waiting] = deque()
        self._unreleased = 0
        self._announced: deque[Told] = deque()
        self._told: deque[tuple[int, Told]] = deque()
        """What the worker has been told and may ask for again, each with its block's number (-1: none). Bounded by the
        spool's slots: between two blocks there is at most one gap."""
        self._forgotten = 0
        self._worker_ended = False
        self.unread_bytes = 0
        self._newest_ts_ns = 0

    def hear(self) -> None:
        """Take what the worker has said."""
        while not self.worker_gone:
            try:
                message = self.link.receive()
            except EOFError:
                self.worker_gone = True
                return
            if message is None:
                return
            match message:
                case Analysed(number=number):
                    self._read_up_to(number)
                case Released(number=number):
                    self._worker_ended = number == ALL_BLOCKS
                    self._read_up_to(number)
                    self._forget_up_to(number)
                    self.writer.release(number)
                case Resume():
                    self._tell_again()
                case _:
                    raise BoxError("link between capturer and worker", "a message of the wrong side", "This is a bug")

    def _read_up_to(self, number: int) -> None:
        while self._unread and self._unread[0].number <= number:
            self.unread_bytes -= self._unread.popleft().size

    def _forget_up_to(self, number: int) -> None:
        """Nobody will ask again for what stands up to this block."""
        forgotten = 0
        for index, (block, _) in enumerate(self._told, start=1):
            if block > number:
                break
            if block >= 0:
                forgotten = index
                self._unreleased -= 1
        self._forgotten += forgotten
        for _ in range(forgotten):
            self._told.popleft()

    def _tell_again(self) -> None:
        """A worker starts over, or the trace is read once more."""
        self.link.forget()
        self.link.send(Again(sequence=self._forgotten + 1))
        for _, message in self._told:
            self.link.send(message)

    def announce(self) -> None:
        """Tell the worker of the blocks that have reached the disk; before a deferred analysis, remember them."""
        for block in self.writer.written():
            self._announced.append(Sealed(descriptor=block.pack()))
        if self.held or self.worker_gone:
            return
        try:
            while self._announced:
                self._say(self._announced.popleft())
            self.link.flush()
        except (BrokenPipeError, ConnectionError):
            return  # `hear` finds its end

    def tell_lost(self) -> None:
        """A gap is over, or the run is; and what the kernel has dropped since the last time."""
        now_ns = time.monotonic_ns()
        if self._gap is not None:
            gap, self._gap = self._gap, None
            self._announce_lost(Lost(packets=gap.packets, size=gap.size, duration_ns=now_ns - gap.since_ns))
        if self.ring is not None and self.ring.dropped > self.kernel_told:
            packets = self.ring.dropped - self.kernel_told
            self._announce_lost(Lost(packets=packets, size=0, duration_ns=now_ns - self._kernel_told_ns))
            self.kernel_told = self.ring.dropped
        self._kernel_told_ns = now_ns

    def tell_step(self, by_ns: int) -> None:
        """The wall clock was set: before the first block whose stamps may show it."""
        self._announced.append(Stepped(by_ns=by_ns))

    def _announce_lost(self, lost: Lost) -> None:
        """In order with the blocks; gaps with no block between them become one, so that no more wait than blocks do."""
        last = self._announced[-1] if self._announced else None
        if isinstance(last, Lost):
            self._announced[-1] = Lost(
                packets=last.packets + lost.packets,
                size=last.size + lost.size,
                duration_ns=last.duration_ns + lost.duration_ns,
            )
        else:
            self._announced.append(lost)

    def _say(self, message: Told) -> None:
        number = SealedBlock.unpack(message.descriptor).number if isinstance(message, Sealed) else -1
        self._told.append((number, message))
        self.link.send(message)

    def say(self, message: Damaged | Interface | Ended) -> None:
        """Tell the worker something else."""
        if not self.worker_gone:
            try:
                self._say(message)
            except (BrokenPipeError, ConnectionError):
                return

    def seal(self, block: Block) -> bool:
        """Seal a block. False: there is no room now."""
        dropped = 0 if self.ring is None else self.ring.dropped
        self.writer.dropped = dropped + self.spool_packets
        sealed = self.writer.try_seal(
            Plain(
                format=block.format,
                plaintext=block.plaintext,
                packet_count=block.packet_count,
                first_ts_ns=block.first_ts_ns,
                last_ts_ns=block.last_ts_ns,
                status=block.status,
            )
        )
        if isinstance(sealed, Full):
            return False
        if self._gap is not None:
            self.tell_lost()
        self.sealed_packets += block.packet_count
        self.sealed_bytes += len(block.plaintext)
        self.sealed_blocks += 1
        self._newest_ts_ns = block.last_ts_ns
        self._unread.append(_Waiting(sealed.number, block.packet_count, len(block.plaintext), block.last_ts_ns))
        self.unread_bytes += len(block.plaintext)
        self._unreleased += 1
        return True

    @property
    def spool_full(self) -> bool:
        """No slot is free: what comes now is lost (otherwise only the disk is slow)."""
        return self.writer.free_bytes < self.slot_bytes

    def drop(self, block: Block) -> None:
        """The spool is full: count the block's packets as a gap."""
        self.spool_packets += block.packet_count
        self.spool_bytes += len(block.plaintext)
        if self._gap is None:
            self._gap = _Gap(time.monotonic_ns())
            self.gaps += 1
        self._gap.packets += block.packet_count
        self._gap.size += len(block.plaintext)

    @property
    def lag_ns(self) -> int:
        """Packets' time between the newest sealed and the newest analysed."""
        return max(0, self._newest_ts_ns - self._unread[0].last_ts_ns) if self._unread else 0

    @property
    def settled(self) -> bool:
        """The worker has ended and given everything back; or there is nobody to wait for."""
        return self.worker_gone or (self._worker_ended and not self._unreleased)

    def close(self) -> None:
        """Destroy what was not analysed, and every key."""
        self.destroyed_packets += sum(block.packets for block in self._unread)
        self._unread.clear()
        self.unread_bytes = 0
        self.writer.close()
        self.keys.erase(self._ledger_slot)
        if self.ring is not None:
            self.ring.wipe()


class Capturer:
    """All lanes of a box."""

    def __init__(self, settings: CapturerSettings) -> None:
        self.settings = settings
        self.counters = CounterPage.attach(settings.counters_fd, writable=True)
        self.lanes = [Lane(lane, deferred=settings.deferred, held=settings.held) for lane in settings.lanes]
        for number, (lane, given) in enumerate(zip(self.lanes, settings.lanes, strict=True)):
            if given.ring_fd is not None:
                lane.ring = Ring(given.ring_fd, lane=number, block_bytes=settings.block_bytes, blocks=given.ring_blocks)
        self.damaged = 0
        self._clock = ClockWatch(*_clocks())
        self._next_count = 0.0
        self._poll = select.poll()
        self._poll.register(settings.orders_fd, select.POLLIN | select.POLLHUP)
        for lane in self.lanes:
            self._poll.register(lane.link.fileno(), select.POLLIN)
            if lane.ring is not None:
                self._poll.register(lane.ring.fileno(), select.POLLIN | select.POLLERR)

    def run(self) -> int:
        """Wait for the order to begin, capture, wait until all is analysed, erase every key."""
        if os.read(self.settings.orders_fd, 1):
            if self.settings.lanes[0].ring_fd is not None:
                self._capture_live()
            else:
                self._read_files()
        # A second order may stand in the pipe for ever: nobody waits for it any more.
        self._poll.unregister(self.settings.orders_fd)
        for lane in self.lanes:
            lane.held = False
            while lane.writer.outstanding and not lane.worker_gone:
                self._attend(_BUSY_MS)
            lane.tell_lost()
            lane.announce()
            lane.say(Ended())
        while not all(lane.settled for lane in self.lanes):
            self._attend(_BUSY_MS)
        for lane in self.lanes:
            lane.close()
        self._count()
        return EXIT_DAMAGED if self.damaged else 0

    def _stop_asked(self) -> bool:
        return bool(select.select([self.settings.orders_fd], [], [], 0)[0])

    def _attend(self, wait_ms: int) -> None:
        """Everything but the packets: links, finished writes, counters."""
        self._poll.poll(wait_ms)
        for lane in self.lanes:
            gone = lane.worker_gone
            lane.hear()
            if lane.worker_gone and not gone:
                self._poll.unregister(lane.link.fileno())
            lane.announce()
        now = time.monotonic()
        if now >= self._next_count:
            self._next_count = now + _COUNT_S
            self._count()

    def _capture_live(self) -> None:
        started = time.monotonic_ns()
        duration = self.settings.duration_ns
        until: float | None = None
        while until is None or time.monotonic() < until:
            over = duration is not None and time.monotonic_ns() - started >= duration
            if until is None and (over or self._stop_asked()):
                until = time.monotonic() + _DRAIN_S
            waits = [self._take(lane) for lane in self.lanes if lane.ring is not None]
            self._attend(min(waits))
        for lane in self.lanes:
            if lane.ring is not None:
                lane.ring.read_statistics()

    def _take(self, lane: Lane) -> int:
        """Take one block from a lane's ring; how long may be waited then, in ms."""
        assert lane.ring is not None
        block = lane.ring.next_block(0)
        if lane.ring.is_down != lane.told_down:
            lane.told_down = lane.ring.is_down
            if lane is self.lanes[0]:  # the interface is one, whatever lanes share it
                lane.say(Interface(up=not lane.ring.is_down))
        self._watch_clock()
        if block is None:
            return _POLL_MS
        if not lane.seal(block):
            if not lane.spool_full:
                return _BUSY_MS  # the disk is slow: the block waits in the ring
            lane.drop(block)
        lane.ring.give_back()
        return 0

    def _watch_clock(self) -> None:
        by_ns = self._clock.step(*_clocks())
        if by_ns is not None:
            for lane in self.lanes:
                lane.tell_step(by_ns)

    def _read_files(self) -> None:
        settings = self.settings
        reader = FileReader(
            settings.file_fds,
            sizes=settings.file_bytes,
            lanes=len(self.lanes),
            block_bytes=settings.block_bytes,
            snaplen=settings.snaplen,
            filters=settings.filters,
            seed=settings.seed,
        )
        for block in reader.blocks():
            lane = self.lanes[block.lane]
            while not lane.seal(block):
                if lane.worker_gone or (lane.deferred and lane.spool_full):
                    lane.drop(block)
                    break
                self._attend(_BUSY_MS)
            self._attend(0)
            if self._stop_asked():
                break
        self.damaged = len(reader.damages)
        for file, offset, word in reader.damages:
            reason = frames.DAMAGES.index(word) if word in frames.DAMAGES else 0
            self.lanes[0].say(Damaged(file=file, offset=offset, reason=reason))

    def _count(self) -> None:
        for lane in self.lanes:
            if lane.ring is not None:
                lane.ring.read_statistics()
                if lane.ring.dropped > lane.kernel_told:
                    lane.tell_lost()
        lanes, put = self.lanes, self.counters.set
        now = time.monotonic_ns()
        dropped_kernel = sum(lane.ring.dropped for lane in lanes if lane.ring is not None)
        dropped_spool = sum(lane.spool_packets for lane in lanes)
        sealed = sum(lane.sealed_packets for lane in lanes)
        raw = sum(lane.writer.live_bytes for lane in lanes)
        put(Counter.PACKETS_RECEIVED, sealed + dropped_kernel + dropped_spool)
        put(Counter.PACKETS_DROPPED_KERNEL, dropped_kernel)
        put(Counter.PACKETS_DROPPED_SPOOL, dropped_spool)
        put(Counter.PACKETS_DESTROYED, sum(lane.destroyed_packets for lane in lanes))
        put(Counter.BYTES_RECEIVED, sum(lane.sealed_bytes + lane.spool_bytes for lane in lanes))
        put(Counter.BYTES_DROPPED_SPOOL, sum(lane.spool_bytes for lane in lanes))
        put(Counter.BLOCKS_SEALED, sum(lane.sealed_blocks for lane in lanes))
        put(Counter.GAPS, sum(lane.gaps for lane in lanes))
        put(Counter.CAPTURE_FILES_DAMAGED, self.damaged)
        put(Counter.KEYS_CREATED, sum(lane.keys.created for lane in lanes))
        put(Counter.KEYS_DESTROYED, sum(lane.keys.destroyed for lane in lanes))
        put(Counter.LIVE_RAW_BYTES, raw)
        put(Counter.LAG_BYTES, sum(lane.unread_bytes for lane in lanes))
        put(Counter.LAG_NS, max(lane.lag_ns for lane in lanes))
        put(Counter.OLDEST_RAW_AGE_NS, max(lane.writer.oldest_age_ns(now) for lane in lanes))
        put(Counter.SPOOL_BYTES, sum(lane.writer.total_bytes for lane in lanes))
        put(Counter.SPOOL_FREE_BYTES, sum(lane.writer.free_bytes for lane in lanes))


def _clocks() -> tuple[int, int]:
    """The clock that stamps packets, and one that nobody sets."""
    return time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def main() -> int:
    """Run as a jailed process."""
    capturer = Capturer(settings_of(CapturerSettings))
    lock_down("capturer")
    return capturer.run()
