"""Live capture from a veth pair in namespaces of the test's own: nothing is lost, what must be dropped is counted."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pcapfile
import pytest
from boxes import BUNKER, FLOW_OUT, HTTP_OUT, POLICY, TRAFFIC, Study, balanced, bunker, counters, events, rows, study

pytestmark = pytest.mark.root

SENDER = """
import pathlib, socket, sys, time
sys.path.insert(0, sys.argv[1])
import pcapfile
packets = [p.packet for p in pcapfile.read_packets(pathlib.Path(sys.argv[2]))]
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
    sender.bind(("net0", 0))
    for number, packet in enumerate(packets):
        sender.send(packet)
        if number % 200 == 199:
            time.sleep(0.02)
"""


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.fixture
def namespaces() -> Iterator[tuple[str, str]]:
    """(box's, with `tap0`; network's, with `net0`)."""
    names = (f"bunker-test-{os.getpid()}-b", f"bunker-test-{os.getpid()}-n")
    try:
        for name in names:
            _ip("netns", "add", name)
        _ip("link", "add", "tap0", "netns", names[0], "type", "veth", "peer", "name", "net0", "netns", names[1])
        for name, device in zip(names, ("tap0", "net0"), strict=True):
            silent = f"echo 1 > /proc/sys/net/ipv6/conf/{device}/disable_ipv6"
            subprocess.run(["ip", "netns", "exec", name, "sh", "-c", silent], check=True)
            _ip("-n", name, "link", "set", device, "mtu", "9000", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False)


def capture(one: Study, out: Path, namespaces: tuple[str, str], send: Callable[[], None]) -> subprocess.Popen[bytes]:
    """Run live on `tap0` while `send` sends, then end it with SIGINT."""
    box, _ = namespaces
    process = subprocess.Popen(
        ["ip", "netns", "exec", box, *BUNKER, "run", str(one.file), "-i", "tap0", "-o", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    until = time.monotonic() + 30
    beats = out / "heartbeats.jsonl"
    while time.monotonic() < until and not (beats.exists() and len(beats.read_bytes().splitlines()) >= 3):
        time.sleep(0.05)
    try:
        send()
        time.sleep(1.0)
    finally:
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    return process


def send_file(namespaces: tuple[str, str], path: Path) -> None:
    maker = Path(__file__).resolve().parents[1] / "pcaps"
    argv = ["ip", "netns", "exec", namespaces[1], sys.executable, "-c", SENDER, str(maker), str(path)]
    subprocess.run(argv, check=True)


def test_live_gives_what_the_file_gives(tmp_path: Path, namespaces: tuple[str, str]) -> None:
    one = study(tmp_path / "s")
    live, file = tmp_path / "live", tmp_path / "file"
    capture(one, live, namespaces, lambda: send_file(namespaces, TRAFFIC))
    assert one.run(file, "--read", str(TRAFFIC)).returncode == 0
    assert bunker("verify", str(live)).returncode == 0
    found = counters(live)
    assert balanced(found)
    assert found["packets_dropped_kernel"] == found["packets_dropped_spool"] == 0
    assert found["packets_analysed"] == counters(file)["packets_analysed"]

    def shape(directory: Path, record: str, *names: str) -> list[tuple[object, ...]]:
        return sorted(tuple(row[name] for name in names) for row in rows(directory, record))

    assert shape(live, "http", "status_code", "method") == shape(file, "http", "status_code", "method")
    names = ("resp_p", "orig_pkts", "resp_pkts", "outcome")
    assert shape(live, "flow", *names) == shape(file, "flow", *names)
    assert json.loads((live / "manifest.json").read_bytes())["tier"] == "process"


def test_vlan_tags_of_the_ring_are_kept(tmp_path: Path, namespaces: tuple[str, str]) -> None:
    tagged = tmp_path / "tagged.pcap"
    packets = [
        packet._replace(packet=packet.packet[:12] + struct.pack("!HH", 0x8100, 42) + packet.packet[12:])
        for packet in list(pcapfile.read_packets(TRAFFIC))[:300]
    ]
    pcapfile.write_pcap(tagged, packets)
    policy = POLICY + '[out.flow]\nvlan = { do = "keep", because = "needed here" }\n'
    out = tmp_path / "out"
    capture(study(tmp_path / "s", policy=policy), out, namespaces, lambda: send_file(namespaces, tagged))
    found = rows(out, "flow")
    assert found and {row["vlan"] for row in found} == {42}


def test_the_kernels_filter_and_snaplen_hold(tmp_path: Path, namespaces: tuple[str, str]) -> None:
    out = tmp_path / "out"
    one = study(tmp_path / "s", policy=POLICY + FLOW_OUT, capture='filter = "udp port 53"\nsnaplen = 96')
    capture(one, out, namespaces, lambda: send_file(namespaces, TRAFFIC))
    found = rows(out, "flow")
    assert found and {row["resp_p"] for row in found} == {53}
    assert counters(out)["bytes_received"] < counters(out)["packets_received"] * 300


STUCK = """
import time
from bunker.api import Count, Emit, Record, analyzer, http

class Seen(Record):
    depth: Count

@analyzer(emits=Seen)
def seen(tx: http.Transaction, emit: Emit) -> None:
    time.sleep(0.02)
    emit(Seen(depth=tx.trans_depth))
"""


def test_a_full_spool_is_a_counted_gap_and_capture_goes_on(tmp_path: Path, namespaces: tuple[str, str]) -> None:
    policy = POLICY + '[out.seen]\ndepth = { do = "keep", because = "needed here" }\n'
    one = study(
        tmp_path / "s", analyzers=("./mine.py:seen",), policy=policy, source=STUCK, lanes=1, spool="5MB", capture=""
    )
    out = tmp_path / "out"

    def send() -> None:
        for _ in range(8):
            send_file(namespaces, TRAFFIC)

    capture(one, out, namespaces, send)
    found = counters(out)
    assert found["packets_dropped_spool"] > 0
    assert found["gaps"] > 0
    assert balanced(found)
    told = [event for event in events(out) if event["kind"] == "gap"]
    lost = found["packets_dropped_spool"] + found["packets_dropped_kernel"]
    assert sum(event["count"] for event in told) == lost
    assert all(event["duration_ns"] > 0 for event in told)


def test_a_duration_ends_the_run(tmp_path: Path, namespaces: tuple[str, str]) -> None:
    one = study(tmp_path / "s", policy=POLICY + HTTP_OUT, capture='duration = "2s"')
    out = tmp_path / "out"
    argv = ["ip", "netns", "exec", namespaces[0], *BUNKER, "run", str(one.file), "-i", "tap0", "-o", str(out)]
    done = subprocess.run(argv, check=False, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "heartbeats.jsonl").read_bytes().splitlines()[-1])["statement"]["reason"] == "duration"


def test_no_packet_socket_is_left_behind(tmp_path: Path, namespaces: tuple[str, str]) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW):
        here = Path("/proc/net/packet").read_text().splitlines()
    assert len(here) > 1, "this is how one would be seen"
    capture(study(tmp_path / "s"), tmp_path / "out", namespaces, lambda: None)
    shown = subprocess.run(
        ["ip", "netns", "exec", namespaces[0], "cat", "/proc/net/packet"], check=True, capture_output=True, text=True
    )
    assert len(shown.stdout.splitlines()) == 1
