"""A day of continuous tracing in seconds: spool files are used again and again, the buffer rises and drains, flows end
by the packets' time, and at the end every packet is accounted for."""

from __future__ import annotations

import json
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from boxes import BUNKER, balanced, bunker, counters
from faulty import faulty_study, make_trace

DAY_NS = 86_400 * 10**9
DAYTIME = 0.8
"""Share of the packets that come in the first half of the day."""
HEAD, RECORD = 24, struct.Struct("<IIII")


def records_in(content: bytes, at: int = 0) -> Iterator[bytes]:
    """The packet records of a pcap file's content from there on, whole."""
    while at < len(content):
        end = at + RECORD.size + RECORD.unpack_from(content, at)[2]
        yield content[at:end]
        at = end


def over_a_day(trace: Path) -> tuple[bytes, list[bytes]]:
    """The file's head and its records, with times spread over a day: most of them in its first half."""
    content = trace.read_bytes()
    records = list(records_in(content, HEAD))
    start, busy = 1_700_000_000 * 10**9, int(len(records) * DAYTIME)
    nanoseconds = content[:4] == struct.pack("<I", 0xA1B23C4D)
    for number, record in enumerate(records):
        share = number / busy / 2 if number < busy else 0.5 + (number - busy) / (len(records) - busy) / 2
        moment = start + int(DAY_NS * share)
        fraction = moment % 10**9 // (1 if nanoseconds else 1000)
        records[number] = struct.pack("<II", moment // 10**9, fraction) + record[8:]
    return content[:HEAD], records


def beats(out: Path) -> Iterator[dict[str, Any]]:
    for line in (out / "heartbeats.jsonl").read_bytes().splitlines():
        statement = json.loads(line)["statement"]
        found = statement.get("last", statement)
        if "counters" in found:
            yield found["counters"]


def test_a_day_in_seconds(tmp_path: Path) -> None:
    head, records = over_a_day(make_trace(tmp_path / "t.pcap", 24_000, "keepalive"))
    one = faulty_study(tmp_path / "s", "exit", set(), spool="12MB", before="time.sleep(0.0002)")
    out = tmp_path / "out"
    with subprocess.Popen(
        [*BUNKER, "run", str(one.file), "-o", str(out), "--read", "-"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(head)
        busy = int(len(records) * DAYTIME)
        process.stdin.write(b"".join(records[:busy]))
        night = records[busy:]
        for at in range(0, len(night), len(night) // 20 + 1):
            time.sleep(0.25)
            process.stdin.write(b"".join(night[at : at + len(night) // 20 + 1]))
        process.stdin.close()
        told = process.stderr.read()
        assert process.wait(timeout=120) == 0, told
    assert bunker("verify", str(out)).returncode == 0
    found = counters(out)
    assert balanced(found)
    assert found["packets_received"] == found["packets_analysed"] == len(records)
    assert found["bytes_received"] > 2 * found["spool_bytes"], "files were used again"
    assert found["keys_destroyed"] == found["keys_created"] > 8
    assert found["live_raw_bytes"] == 0
    assert found["flows_timed_out"] > 0, "the packets' time passes, not ours"
    assert found["flows_opened"] == sum(
        found[f"flows_{outcome}"] for outcome in ("completed", "timed_out", "ended", "evicted", "erroneous")
    )
    levels = list(beats(out))
    fullest = max(range(len(levels)), key=lambda at: levels[at]["lag_bytes"])
    assert levels[fullest]["lag_bytes"] > found["spool_bytes"] / 4, "the buffer rises by day"
    assert min(level["lag_bytes"] for level in levels[fullest:]) < found["spool_bytes"] / 8, "and drains by night"
    late = [level["memory_bytes"] for level in levels if level["packets_analysed"] > len(records) / 4]
    assert max(late) < 1.1 * late[0], "memory does not grow"


def test_flows_that_live_longer_than_the_spool_do_not_stop_it(tmp_path: Path) -> None:
    """Blocks are kept for flows that began in them; kept without measure, they would leave no file free for the next.

    The spool has four files of five blocks; the trace is larger, and all its flows stay open to its end.
    """
    trace = make_trace(tmp_path / "t.pcap", 48_000, "keepalive")
    assert trace.stat().st_size > 25 << 20
    one = faulty_study(tmp_path / "s", "exit", set(), spool="21.5MB")
    out = tmp_path / "out"
    done = one.run(out, "--read", str(trace))
    assert done.returncode == 0, done.stderr
    found = counters(out)
    assert balanced(found) and found["packets_destroyed"] == found["packets_dropped_spool"] == 0
    assert found["keys_created"] > 4, "files were used again"
