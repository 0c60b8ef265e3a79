"""Seals canaries without end in a child process, kills it at random moments, and searches what is left. A program.

    python sealing_victim.py SPOOL_DIRECTORY SEED MOMENTS [open]

The spool's nameless files are claimed before the fork, so this process can still read all that reached them when the
child is dead. With `open` the child writes what it should have sealed: the control, in which the search must find the
canaries. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import canary
import canary_capture
from spooling import Lane, plain, spool

from bunker.closed.spool.block import SealedBlock
from bunker.closed.spool.writer import Full

LAST_S = 0.02


def traffic(path: Path, canaries: canary.Canaries) -> bytes:
    """More than a slot of packets that hold every canary; `path` is for the moment."""
    canary_capture.write_canary_capture(path, canaries, copies=20)
    return path.read_bytes()


class Glass:
    """A cipher that hides nothing."""

    def encrypt_into(self, nonce: bytes, data: memoryview, associated: bytes, into: memoryview) -> int:
        into[: len(data)] = data
        return len(into)


def seal_until_killed(lane: Lane, data: bytes, begun: int, *, glass: bool) -> None:
    """Seal, release, lap after lap; one byte into `begun` before the first block, one after each lap."""
    if glass:
        lane.keys.cipher = lambda slot: Glass()  # type: ignore[method-assign, assignment, return-value]
    os.write(begun, b"b")
    while True:
        sealed = lane.writer.try_seal(plain(data))
        for block in lane.writer.written():
            if block.number >= lane.slots // 2:
                lane.writer.release(block.number - lane.slots // 2)
        if isinstance(sealed, Full):
            time.sleep(0)
        elif isinstance(sealed, SealedBlock) and sealed.number % lane.slots == lane.slots - 1:
            os.write(begun, b"l")


def moment(directory: Path, data: bytes, after_s: float, *, glass: bool) -> tuple[bytes, bool]:
    """All that stands in the files after a kill so many seconds after the beginning, and whether it was a kill."""
    reading, begun = os.pipe()
    with spool(directory, slots=2, slot_bytes=64 << 10) as (lane,):
        child = os.fork()
        if child == 0:
            revive(lane)
            seal_until_killed(lane, data[: lane.longest], begun, glass=glass)
        os.close(begun)
        os.read(reading, 1)
        time.sleep(after_s)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.close(reading)
        return lane.all_bytes(), os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def revive(lane: Lane) -> None:
    """A fork has no threads: make the writer anew."""
    old = lane.writer
    lane.writer = type(old)(
        run=bytes(16),
        lane=0,
        fds=lane.files.fds,
        file_bytes=lane.files.file_bytes,
        slot_bytes=lane.files.slot_bytes,
        keys=lane.keys,
    )


def main(directory: Path, seed: str, moments: int, *, glass: bool) -> dict[str, object]:
    canaries = canary.make_canaries(seed)
    source = directory.parent / "source.pcap"
    data = traffic(source, canaries)
    source.unlink()
    search = canary.Search(canaries)
    chance = random.Random(seed)
    hits, written, killed = [], 0, 0
    for _ in range(moments):
        left, by_kill = moment(directory, data, chance.random() * LAST_S, glass=glass)
        written += any(left)
        killed += by_kill
        hits += search.in_bytes(left, "spool")
    return {"hits": sorted({hit.canary for hit in hits}), "written": written, "killed": killed, "data": len(data)}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), glass=sys.argv[4:] == ["open"])))
