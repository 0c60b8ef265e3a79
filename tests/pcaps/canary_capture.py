"""The capture in which each canary stands: the product's own, see `canary.py`."""

from bunker.open.rehearsal.capture import canary_packets, write_canary_capture

__all__ = ["canary_packets", "write_canary_capture"]
