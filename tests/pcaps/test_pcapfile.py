"""What is written is read again, in both formats and both byte orders; lengths around the padding boundary."""

from __future__ import annotations

import struct
from pathlib import Path

import pcapfile
import pytest

PACKETS = [pcapfile.Captured(1_700_000_000_123_456_789 + n, bytes(range(n)), n + (n == 5)) for n in (1, 3, 4, 5)]


@pytest.mark.parametrize("write", [pcapfile.write_pcap, pcapfile.write_pcapng])
def test_packets_survive_writing_and_reading(write: object, tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert write(path, PACKETS) == len(PACKETS)  # type: ignore[operator]
    assert list(pcapfile.read_packets(path)) == PACKETS


def test_big_endian_microseconds_are_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(
        struct.pack(">IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + struct.pack(">IIII", 5, 7, 2, 9) + b"ab"
    )
    assert list(pcapfile.read_packets(path)) == [pcapfile.Captured(5_000_007_000, b"ab", 9)]


def test_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"not a capture file at all")
    with pytest.raises(ValueError, match="no pcap"):
        list(pcapfile.read_packets(path))
