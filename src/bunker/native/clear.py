"""Clearing: the gate and what it lets out."""

from bunker._core import ClearedBatch, Gate, blake3_hex, transform_output

__all__ = ["ClearedBatch", "Gate", "blake3_hex", "transform_output"]
