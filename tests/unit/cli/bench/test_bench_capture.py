"""Load, injection and sealed capture over a veth pair; ratios and losses of the table."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import packets
import pytest

from bunker.cli.bench import capture, inject, sender
from bunker.cli.bench.link import RECEIVING, Pair, check_work, pair
from bunker.cli.bench.peers import Peer
from bunker.errors import ConfigurationError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


def _received(link: Pair) -> int:
    counter = f"/sys/class/net/{RECEIVING}/statistics/rx_packets"
    return int(subprocess.run(link.receiving(["cat", counter]), capture_output=True, check=True).stdout)


@pytest.mark.parametrize("size", [60, 61, 300, 1514])
def test_offered_packets_are_valid(size: int) -> None:
    made = sender.packet(3, size)
    assert len(made) == size and packets.checksum(made[14:34]) == 0
    assert packets.checksum(made[26:34] + struct.pack("!BBH", 0, 17, size - 34) + made[34:]) == 0


@pytest.mark.parametrize("size", [59, 1515])
def test_sizes_no_link_has_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="not within"):
        sender.Sender("lo", size)


def test_only_what_is_not_installed_is_noted_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Peer, "maybe_version", lambda peer: "1.0" if peer.name == "dumpcap" else None)
    here, missing = capture.installed(capture.peers())
    assert [tool.name for tool in here] == ["dumpcap"]
    assert [note.partition(" ")[0] for note in missing] == ["tcpdump", "netsniff-ng"]


@pytest.mark.root
@needs_root
def test_sender_sends_all_at_the_rate_that_was_asked_for() -> None:
    with pair() as link:
        sent = link.send(size=100, packets=3_000, rate=6_000)
        assert _received(link) == 3_000
    assert sent.way == "sendmmsg" and 0.45 < sent.seconds < 5


@pytest.mark.root
@needs_root
def test_namespaces_are_gone_after_an_error() -> None:
    with pytest.raises(KeyError), pair():
        raise KeyError
    left = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    assert f"bunker-bench-{os.getpid()}" not in left


@pytest.mark.root
@needs_root
@pytest.mark.parametrize("rate", [0, 20_000])
def test_sealed_capture_counts_every_packet_and_leaves_no_name(rate: int, tmp_path: Path) -> None:
    with pair() as link:
        argv = [sys.executable, "-m", "bunker.closed.process.capture_bench", "--interface", RECEIVING]
        argv += ["--block-bytes", str(1 << 20), "--ring-bytes", str(16 << 20), "--spool", str(tmp_path / "spool")]
        argv += ["--spool-bytes", str(64 << 20), "--seconds", "60"]
        process = subprocess.Popen(link.receiving(argv), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while link.listeners(process.pid) < 1:
            assert process.poll() is None, process.stderr and process.stderr.read()
        sent = link.send(size=300, packets=5_001, rate=rate)
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=30)
    told = json.loads(printed)
    assert told["packets"] == sent.packets == told["received"] and told["dropped"] == 0
    assert list((tmp_path / "spool").iterdir()) == []


@pytest.mark.root
@needs_root
def test_injection_that_is_not_possible_says_so() -> None:
    command = [sys.executable, "-m", "bunker.cli.bench.inject", "no-such-if", "100", "10"]
    result = subprocess.run(command, capture_output=True, check=False)
    assert result.returncode == inject.UNSUPPORTED and result.stdout == b""


def _sample(cost: float, lost: float, paced: dict[int, float]) -> object:
    return capture.Sample(drain_ns_per_packet=cost, top_offered=1e6, top_lost=lost, paced=paced)


def test_table_takes_ratios_round_by_round_and_the_highest_lossless_rate() -> None:
    ours = [_sample(100, 0, {1: 0, 2: 0}), _sample(200, 0, {1: 0, 2: 0.1}), _sample(150, 0.5, {1: 0, 2: 0})]
    base = [_sample(400, 0.1, {1: 0, 2: 0}), _sample(400, 0.1, {1: 0.1, 2: 0}), _sample(400, 0.1, {1: 0.1, 2: 0.1})]
    table = capture.table_of(300, {"ours": ours, "tcpdump": base})
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert rows["ours"]["CPU s/M packets"] == 0.15 and rows["ours"]["CPU s/GB"] == 0.5
    assert rows["ours"]["x tcpdump"] == pytest.approx(400 / 150) and rows["tcpdump"]["x tcpdump"] == 1
    assert rows["ours"]["lossless up to/s"] == 1 and rows["tcpdump"]["lossless up to/s"] is None
    assert rows["ours"]["lost at top"] == "0.00%" and rows["tcpdump"]["lost at top"] == "10.00%"


def test_packets_in_a_pcap_are_counted_by_its_size(tmp_path: Path) -> None:
    (tmp_path / "capture.pcap").write_bytes(bytes(24 + 7 * (16 + 300)))
    assert capture._stored_in_pcap(tmp_path, 300, "") == 7


def test_a_full_disk_is_met_before_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="MiB are free"):
        check_work(tmp_path, 1 << 60)
