"""`bunker anonymize`: what it writes, what it refuses, what it says."""

from __future__ import annotations

from pathlib import Path

import pcapfile
import pytest
from boxes import EXAMPLE, bunker

from bunker.cli.anonymize import make_trace
from bunker.policy.trace_file import read_trace

POLICY = Path(__file__).parents[2] / "examples" / "header-trace" / "release.toml"
TRAFFIC = EXAMPLE / "traffic.pcapng"


def test_a_trace_has_the_packets_in_order_and_new_addresses_each_time(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        done = bunker("anonymize", str(TRAFFIC), "-o", str(tmp_path / name), "--policy", str(POLICY))
        assert done.returncode == 0, done.stderr
        assert b"accepted risk seq-shows-sizes" in done.stderr
        made.append(list(pcapfile.read_packets(tmp_path / name)))
    raw = list(pcapfile.read_packets(TRAFFIC))
    one, two = made
    assert len(one) == len(two) <= len(raw)
    assert [packet.ts_ns for packet in one] == sorted(packet.ts_ns for packet in one)
    assert all(packet.wire_len >= len(packet.packet) for packet in one)
    assert {packet.packet[26:34] for packet in one}.isdisjoint(packet.packet[26:34] for packet in two)
    assert {packet.packet[26:34] for packet in one}.isdisjoint(packet.packet[26:34] for packet in raw)


def test_an_output_that_is_there_is_not_touched(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_bytes(b"mine")
    done = bunker("anonymize", str(TRAFFIC), "-o", str(out), "--policy", str(POLICY))
    assert done.returncode == 2 and out.read_bytes() == b"mine"


@pytest.mark.parametrize("cut", [1000, 100_001])
def test_a_damaged_file_is_told_and_what_stands_before_is_there(cut: int, tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.write_bytes(TRAFFIC.read_bytes()[:cut])
    done = bunker("anonymize", str(raw), "-o", str(out), "--policy", str(POLICY))
    assert done.returncode == 1 and b"damaged at byte" in done.stderr
    assert len(list(pcapfile.read_packets(out))) > 0
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_is_no_capture_or_no_policy_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no capture")
    done = bunker("anonymize", str(text), "-o", str(tmp_path / "out"), "--policy", str(POLICY))
    assert done.returncode == 1 and b"not_a_capture" in done.stderr
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY.read_text().replace('src = "tag48"', 'src = "keep"'))
    done = bunker("anonymize", str(TRAFFIC), "-o", str(tmp_path / "two"), "--policy", str(policy))
    assert done.returncode == 2 and b"unknown transform 'keep'" in done.stderr


def test_a_sample_leaves_packets_of_some_hosts_out_and_counts_them(tmp_path: Path) -> None:
    text = POLICY.read_text()
    counts = {}
    for name, share in (("whole", ""), ("tenth", "\n[gate]\nsample = { pcap = { share = 0.1 } }\n")):
        out = tmp_path / name
        _, counts[name] = make_trace((TRAFFIC,), out, read_trace(text + share, name=name))
        assert len(list(pcapfile.read_packets(out))) == counts[name]["released"]
    whole, tenth = counts["whole"], counts["tenth"]
    assert whole["sampled_out"] == 0 and 0 < tenth["sampled_out"] <= tenth["released"] + tenth["sampled_out"]
    assert sum(tenth.values()) - tenth["flow_table_resets"] == sum(whole.values()) - whole["flow_table_resets"]
    assert tenth["released"] + tenth["sampled_out"] >= whole["released"] > tenth["released"]
