"""Clearing: the gate and what it lets out."""

from bunker._core import ClearedBatch, Gate, transform_output

__all__ = ["ClearedBatch", "Gate", "transform_output"]
