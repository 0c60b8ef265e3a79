"""The allocator of a process that makes batch after batch."""

from bunker._core import keep_heap

__all__ = ["keep_heap"]
