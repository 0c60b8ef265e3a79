"""A week of continuous tracing, compressed: seven days with day and night, a weekend, packets stamped accordingly.

The replay paces itself by our clock, a day in DAY_S seconds; time-outs, epochs and records go by the packets' stamps.
`make test` takes half a minute for it; `make test-week` (BUNKER_DAY_S=60) seven minutes, with four million packets.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from boxed import children
from boxes import BUNKER, balanced, bunker, counters
from faulty import faulty_study, make_trace
from test_continuous import HEAD, beats, records_in

DAY_S = float(os.environ.get("BUNKER_DAY_S", "3.5"))
REQUESTS = int(2_400 * DAY_S)
"""Of a day."""
HOUR_NS = 3_600 * 10**9
START_NS = 1_700_438_400 * 10**9
"""A Monday, 0:00 UTC."""
BUSY, QUIET, WEEKEND = 10, 2, 3
"""Shares of a week's packets: an hour of a weekday from 8 to 20 o'clock, another, any at the weekend."""
DELAY_S = 0.0002
"""Of each request, on purpose: a worker on a quiet machine then takes some 3,300 a second. A weekday brings 4,700 by
day, 900 by night, the weekend 1,400: the buffer rises by day and drains by night, unless the machine is slower still.
"""


def share(hour: int) -> int:
    """Of an hour of the week."""
    day, of_day = divmod(hour, 24)
    return WEEKEND if day >= 5 else BUSY if 8 <= of_day < 20 else QUIET


def hours_of(trace: Path) -> tuple[bytes, list[bytes]]:
    """The file's head, and its records cut into the 168 hours of a week and stamped within them."""
    content = trace.read_bytes()
    records = list(records_in(content, HEAD))
    shares = [share(hour) for hour in range(7 * 24)]
    hours: list[bytes] = []
    done, told = 0, 0
    for hour, part in enumerate(shares):
        told += part
        chosen = records[done : len(records) * told // sum(shares)]
        done += len(chosen)
        stamped = bytearray()
        for number, record in enumerate(chosen):
            moment = START_NS + hour * HOUR_NS + HOUR_NS * number // len(chosen)
            seconds, fraction = divmod(moment, 10**9)
            stamped += seconds.to_bytes(4, "little") + (fraction // 1000).to_bytes(4, "little") + record[8:]
        hours.append(bytes(stamped))
    return content[:HEAD], hours


@dataclass
class Memory:
    """Resident memory of a process of the box, over time: (hour of the week, bytes)."""

    name: str
    levels: list[tuple[int, int]]

    @property
    def growth(self) -> float:
        """The most of the last four days, divided by the most of the second and third."""
        early = max(size for hour, size in self.levels if 24 <= hour < 72)
        return max(size for hour, size in self.levels if hour >= 72) / early


def resident(pid: int) -> tuple[str, int] | None:
    """(module that the process runs, resident bytes without files)."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        status = Path(f"/proc/{pid}/status").read_text()
        maps = Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return None
    name = "supervisor"
    if "bunker-ledger" in maps:
        name = "worker"
    elif "secretmem" in maps or "memfd:keys" in maps:
        name = "capturer"
    elif "bunker-counters" in maps:
        name = "releaser"
    elif b"run" in words:
        name = "command"
    sizes = [int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(("RssAnon", "RssShmem"))]
    return name, sum(sizes)


def paced(hours: list[bytes]) -> Iterator[tuple[int, bytes]]:
    """Each hour when it is due."""
    began = time.monotonic()
    for hour, content in enumerate(hours):
        time.sleep(max(0.0, began + hour * DAY_S / 24 - time.monotonic()))
        yield hour, content


@pytest.mark.root
def test_a_week_of_continuous_tracing(tmp_path: Path) -> None:
    trace = make_trace(tmp_path / "t.pcap", 7 * REQUESTS, "crowd")
    head, hours = hours_of(trace)
    packets = sum(1 for content in hours for _ in records_in(content))
    spool = max(24_000_000, trace.stat().st_size // 6)
    size = f"{spool // 1_000_000}MB"
    one = faulty_study(tmp_path / "s", "exit", set(), spool=size, before=f"time.sleep({DELAY_S})")
    out = tmp_path / "out"
    memory: dict[int, Memory] = {}
    with subprocess.Popen(
        [*BUNKER, "run", str(one.file), "-o", str(out), "--read", "-"],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(head)
        for hour, content in paced(hours):
            process.stdin.write(content)
            process.stdin.flush()
            if hour % 4 == 0:
                for pid in (process.pid, *children(process.pid)):
                    found = resident(pid)
                    if found is not None:
                        of_pid = memory.setdefault(pid, Memory("", []))
                        of_pid.name = found[0]  # while it is launched it looks like the one that launches it
                        of_pid.levels.append((hour, found[1]))
        process.stdin.close()
        assert process.wait(timeout=600) == 0
    assert bunker("verify", str(out)).returncode == 0
    found = counters(out)
    assert found["packets_received"] == packets
    assert balanced(found), "packets in = analysed + dropped + destroyed"
    assert found["packets_dropped_spool"] == found["packets_destroyed"] == 0, "a file waits"
    assert found["keys_destroyed"] == found["keys_created"] > 7 and found["live_raw_bytes"] == 0
    assert found["flows_opened"] == sum(
        found[f"flows_{outcome}"] for outcome in ("completed", "timed_out", "ended", "evicted", "erroneous")
    )
    assert found["flows_ended"] < found["flows_opened"] / 10, "flows end by the packets' time, not with the run"
    lasting = [one_memory for one_memory in memory.values() if len(one_memory.levels) > 30]
    for each in lasting:
        days = [max(size for hour, size in each.levels if hour // 24 == day) >> 20 for day in range(7)]
        print(f"{each.name}: MiB by day {days}")
    assert {"worker", "capturer", "releaser", "supervisor", "command"} <= {each.name for each in lasting}
    lags = [level["lag_bytes"] for level in beats(out)]
    print(f"{packets:,} packets, {found['flows_opened']:,} flows, {found['keys_created']} keys")
    print(f"buffer at most {max(lags) / 1e6:.1f} MB of {spool / 1e6:.0f}")
    fullest = lags.index(max(lags))
    assert max(lags) > spool / 20, "the buffer rises"
    assert min(lags[fullest:]) < max(lags) / 4, "and drains"
    for each in lasting:
        assert each.growth < 1.25, f"memory of the {each.name} grows"
    shown = bunker("show", str(out), "--buffer")
    assert shown.returncode == 0, shown.stderr
    print(shown.stdout.decode())
