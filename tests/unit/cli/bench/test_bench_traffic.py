"""Generated traces are valid, hold what their truth says, and are the same each time."""

from __future__ import annotations

import collections
import json
import struct
from pathlib import Path

import packets
import pcapfile
import pytest

from bunker.cli.bench import traffic
from bunker.cli.bench.traffic import SHAPES, trace, write_trace

REQUESTS = {"keepalive": 257, "close": 65, "bodies": 12, "mix": 41, "flows": 70, "crowd": 300}


def _segments(path: Path) -> list[tuple[tuple[bytes, bytes, int, int], int, int, bytes]]:
    found = []
    for captured in pcapfile.read_packets(path):
        packet = captured.packet
        total, protocol = struct.unpack_from("!H", packet, 16)[0], packet[23]
        transport = packet[34 : 14 + total]
        assert packets.checksum(packet[14:34]) == 0
        pseudo = packet[26:34] + struct.pack("!BBH", 0, protocol, len(transport))
        assert packets.checksum(pseudo + transport) == 0
        if protocol == 6:
            sport, dport, seq, _, offset, flags = struct.unpack_from("!HHIIBB", transport)
            found.append(((packet[26:30], packet[30:34], sport, dport), seq, flags, transport[(offset >> 4) * 4 :]))
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_trace_holds_what_its_truth_says(shape: str, tmp_path: Path) -> None:
    path = tmp_path / "t.pcap"
    truth = write_trace(path, shape, REQUESTS[shape])
    assert truth.bytes == path.stat().st_size
    assert truth.packets == sum(1 for _ in pcapfile.read_packets(path))
    segments = _segments(path)
    assert truth.connections == len({key for key, _, flags, _ in segments if flags == 2})
    streams: dict[tuple[bytes, bytes, int, int], bytes] = collections.defaultdict(bytes)
    expected: dict[tuple[bytes, bytes, int, int], int] = {}
    for key, seq, flags, payload in segments:
        assert expected.setdefault(key, seq) == seq, "each segment follows the one before"
        expected[key] = (seq + len(payload) + bool(flags & 3)) % 2**32
        streams[key] += payload
    assert truth.requests == REQUESTS[shape] == sum(s.count(b"GET ") for k, s in streams.items() if k[3] == 80)
    assert truth.requests == sum(s.count(b"HTTP/1.1 ") for k, s in streams.items() if k[2] == 80)
    assert {key for key, _, flags, _ in segments if flags & 1} == set(streams), "both sides say goodbye"


@pytest.mark.parametrize("shape", SHAPES)
def test_bodies_add_up_to_the_truth(shape: str, tmp_path: Path) -> None:
    truth = write_trace(tmp_path / "t.pcap", shape, REQUESTS[shape])
    replies = b"".join(p for k, _, _, p in _segments(tmp_path / "t.pcap") if k[2] == 80)
    declared = [int(part.split(b"\r\n")[0]) for part in replies.split(b"Content-Length: ")[1:]]
    assert sum(declared) == truth.response_bodies


def test_same_arguments_give_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abc"]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        write_trace(path, "keepalive", 300, seed=seed)
    contents = [path.read_bytes() for path in paths]
    assert contents[0] == contents[1] != contents[2]


def test_all_flows_live_at_the_same_time(tmp_path: Path) -> None:
    write_trace(tmp_path / "t.pcap", "flows", 50)
    flags = [flags for _, _, flags, _ in _segments(tmp_path / "t.pcap")]
    assert flags.index(17) > max(n for n, flag in enumerate(flags) if flag == 2)


def test_bytes_do_not_depend_on_how_often_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_trace(tmp_path / "whole.pcap", "close", 40)
    monkeypatch.setattr(traffic, "_FLUSH_BYTES", 1)
    write_trace(tmp_path / "pieces.pcap", "close", 40)
    assert (tmp_path / "whole.pcap").read_bytes() == (tmp_path / "pieces.pcap").read_bytes()


def test_trace_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = trace(tmp_path, "close", 5)
    monkeypatch.setitem(SHAPES, "close", lambda _out, _count: pytest.fail("made again"))
    assert trace(tmp_path, "close", 5) == first
    assert json.loads(first.path.with_suffix(".json").read_text())["requests"] == 5


def test_interrupted_trace_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_out: object, _count: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(SHAPES, "close", fail)
    with pytest.raises(KeyboardInterrupt):
        write_trace(tmp_path / "t.pcap", "close", 5)
    assert not (tmp_path / "t.pcap").exists()
