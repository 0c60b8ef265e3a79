"""The traffic of `bunker bench clear` is what its marks and its title say."""

from __future__ import annotations

import struct
from pathlib import Path

import packets
import pcapfile
import pytest

from bunker.cli.bench.clear import canary_table
from bunker.cli.bench.mixed import write_mixed


def connections(path: Path) -> dict[tuple[bytes, ...], int]:
    """Packets of each TCP connection of IPv4."""
    found: dict[tuple[bytes, ...], int] = {}
    for _, packet, _ in pcapfile.read_packets(path):
        if packet[12:14] == b"\x08\x00" and packet[23] == 6:
            ends = sorted((packet[26:30] + packet[34:36], packet[30:34] + packet[36:38]))
            found[tuple(ends)] = found.get(tuple(ends), 0) + 1
    return found


@pytest.mark.parametrize("packets_a_flow", [1, 16])
def test_marks_stand_in_the_input_and_connections_have_their_length(packets_a_flow: int, tmp_path: Path) -> None:
    path = tmp_path / "mixed.pcap"
    marks = write_mixed(path, 6_000, packets_a_flow=packets_a_flow)
    assert all(count > 0 for count in marks.found(path.read_bytes()).values())
    lengths = list(connections(path).values())
    mean = sum(lengths) / len(lengths)
    # 6,000 packets are too few for connections of which 4,000 are open at a time to end.
    assert mean == 1 if packets_a_flow == 1 else 1 < mean <= 16


def test_checksums_of_the_mixed_traffic_are_right(tmp_path: Path) -> None:
    path = tmp_path / "mixed.pcap"
    write_mixed(path, 500)
    for _, packet, _ in pcapfile.read_packets(path):
        if packet[12:14] == b"\x08\x00" and packet[23] == 6:
            total = struct.unpack_from("!H", packet, 16)[0]
            segment = packet[34 : 14 + total]
            assert packets.checksum(packet[26:34] + struct.pack("!BBH", 0, 6, len(segment)) + segment) == 0


def test_the_canary_search_finds_all_in_the_input_and_none_in_ours(tmp_path: Path) -> None:
    rows = {str(row[0]): row for row in canary_table(tmp_path).rows}
    assert rows["(the input)"][2] == "all"
    assert rows["bunker anonymize"][1:] == (0, "none")
    assert list(tmp_path.iterdir()) == []
