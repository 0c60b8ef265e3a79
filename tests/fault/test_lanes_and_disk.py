"""A lane that starves beside a quick one, and a disk that dies in the middle of a run."""

from __future__ import annotations

import fcntl
import json
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxed import box_of, start, wait_for_beats
from boxes import balanced, bunker, counters, events
from faulty import faulty_study, make_trace, released

EXT4_SHUTDOWN = 0x8004587D
"""_IOR('X', 125, u32): the file system is gone from now on, as if its device were."""
AT_ONCE = 2  # without writing its log


def test_a_slow_lane_loses_nothing_and_is_not_killed(tmp_path: Path) -> None:
    """Of two lanes one takes twenty times as long: each has its own share of the spool, so the other does not wait for
    it, and an honest slow worker is no worker that stands still."""
    trace = make_trace(tmp_path / "t.pcap", 6_000, "keepalive")
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert faulty_study(tmp_path / "w", "exit", set(), lanes=2).run(whole, "--read", str(trace)).returncode == 0
    slow, hasty = "time.sleep(0.002) if tx.uid >> 48 else None", 'time_per_call = "50ms"'
    one = faulty_study(tmp_path / "s", "exit", set(), lanes=2, spool="16MB", analysis=hasty, before=slow)
    done = one.run(out, "--read", str(trace))
    assert done.returncode == 0, done.stderr
    found = counters(out)
    assert found["worker_restarts"] == found["analyzer_faults"] == found["packets_dropped_spool"] == 0
    assert balanced(found)
    assert released(out, "seen") == released(whole, "seen")
    assert released(out, "ended") == released(whole, "ended")
    assert not [event for event in events(out) if event["kind"] == "flow_left_out"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own, mounted."""
    image, place = tmp_path / "disk.img", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(96 << 20)
    place.mkdir()
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.root
def test_a_disk_that_dies_ends_the_run_with_a_word_and_without_keys(disk: Path, tmp_path: Path) -> None:
    trace = make_trace(tmp_path / "t.pcap", 24_000, "keepalive")
    one = faulty_study(tmp_path / "s", "exit", set(), spool="12MB", before="time.sleep(0.0005)")
    text = one.file.read_text()
    one.file.write_text("\n".join(line for line in text.splitlines() if not line.startswith("directory")))
    one.file.write_text(one.file.read_text().replace("[spool]", f'[spool]\ndirectory = "{disk}"'))
    out = tmp_path / "out"
    process = start(one, out, "--read", str(trace))
    wait_for_beats(out, 3)
    time.sleep(0.5)
    assert process.poll() is None
    fd = os.open(disk, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, EXT4_SHUTDOWN, struct.pack("I", AT_ONCE))
    finally:
        os.close(fd)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 1, told
    last = json.loads((out / "heartbeats.jsonl").read_bytes().splitlines()[-1])
    assert (last["kind"], last["statement"]["reason"]) == ("abort", "child_failed")
    found = counters(out)
    assert balanced(found)
    assert found["packets_destroyed"] > 0 and found["live_raw_bytes"] == 0
    assert found["keys_destroyed"] == found["keys_created"] > 0
    assert bunker("verify", str(out)).returncode == 1
    assert not [pid for pids in box_of(process).values() for pid in pids]
