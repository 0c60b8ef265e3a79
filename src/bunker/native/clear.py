"""Clearing: the gate and what it lets out."""

from bunker._core import ClearedBatch, Gate, blake3_hex, registrable_domain, transform_output

__all__ = ["ClearedBatch", "Gate", "blake3_hex", "registrable_domain", "transform_output"]
