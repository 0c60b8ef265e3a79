"""Capture files into blocks."""

from bunker._core import FileSource, PackedBlock, block_packets

__all__ = ["FileSource", "PackedBlock", "block_packets"]
