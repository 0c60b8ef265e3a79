"""An interface that goes down and comes back, and a disk that fails: the run goes on, or it ends and says so."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxed import wait_for_beats
from boxes import BUNKER, TRAFFIC, balanced, counters, events, rows, study

from bunker.closed.spool.keys import KeyStore, create_store
from bunker.closed.spool.writer import Plain, SpoolWriter
from bunker.errors import BoxError

SEND = """
import pathlib, socket, sys, time
sys.path.insert(0, sys.argv[1])
import pcapfile
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
    sender.bind((sys.argv[3], 0))
    for number, one in enumerate(pcapfile.read_packets(pathlib.Path(sys.argv[2]))):
        sender.send(one.packet)
        if number % 200 == 199:
            time.sleep(0.02)
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.fixture
def devices() -> Iterator[tuple[str, str]]:
    """Two ends of a veth pair in this namespace: the box's, the network's."""
    names = (f"faults{os.getpid() % 100000}b", f"faults{os.getpid() % 100000}n")
    ip("link", "add", names[0], "type", "veth", "peer", "name", names[1])
    try:
        for name in names:
            Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
            ip("link", "set", name, "mtu", "9000", "up")
        yield names
    finally:
        ip("link", "del", names[0])


@pytest.mark.root
def test_an_interface_that_goes_down_and_comes_back(devices: tuple[str, str], tmp_path: Path) -> None:
    tap, net = devices
    one = study(tmp_path / "s", lanes=1)
    out = tmp_path / "out"
    makers = str(Path(__file__).resolve().parents[1] / "pcaps")
    with subprocess.Popen(
        [*BUNKER, "run", str(one.file), "-i", tap, "-o", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        wait_for_beats(out, 3)
        ip("link", "set", tap, "down")
        time.sleep(0.6)
        ip("link", "set", tap, "up")
        time.sleep(0.6)
        subprocess.run(["python3", "-c", SEND, makers, str(TRAFFIC), net], check=True)
        time.sleep(1.0)
        process.send_signal(2)
        told = process.stderr.read()
        assert process.wait(timeout=60) == 0, told
    assert [event["kind"] for event in events(out) if event["kind"].startswith("interface")] == [
        "interface_down",
        "interface_up",
    ]
    assert len(rows(out, "http")) == 464, "what came after it was back is there"
    assert balanced(counters(out))


def test_a_disk_that_fails_ends_the_lane_with_a_word() -> None:
    keys_fd, _ = create_store(4)
    keys = KeyStore.attach(keys_fd, writable=True)
    full = os.open("/dev/full", os.O_RDWR)
    writer = SpoolWriter(run=bytes(16), lane=0, fds=[full] * 4, file_bytes=1 << 20, slot_bytes=1 << 16, keys=keys)
    plain = Plain(format=0, plaintext=memoryview(bytes(1000)), packet_count=1, first_ts_ns=1, last_ts_ns=1)
    writer.try_seal(plain)
    with pytest.raises(BoxError, match="a write failed"):
        for _ in range(500):
            time.sleep(0.01)
            writer.written()
    writer.close()
    assert keys.destroyed == keys.created == 1


@pytest.mark.root
def test_a_full_disk_is_met_before_the_start(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "bunker-faults", str(disk)], check=True)
    try:
        one = study(tmp_path / "s", spool="64MB")
        text = one.file.read_text().replace("[spool]", f'[spool]\ndirectory = "{disk}"')
        one.file.write_text(text)
        done = one.run(tmp_path / "out", "--read", str(TRAFFIC))
        assert done.returncode == 2
        assert b"cannot be claimed" in done.stderr
    finally:
        subprocess.run(["umount", str(disk)], check=True)
