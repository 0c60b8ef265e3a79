"""Chunk: one piece of a TCP stream in order, or a gap in it.

The class is for annotations and editors; what an analyzer gets is a view into the core's columns whose attributes
are made when they are read. Columns: `bunker.model.messages.message_record("chunk")`.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from bunker.model.record import Address


class Chunk(Protocol):
    """One piece of a TCP stream in order, or a gap in it. Times and durations in nanoseconds."""

    MESSAGE_KIND: ClassVar[str] = "chunk"

    ts: int
    uid: int
    orig_h: Address
    orig_p: int
    resp_h: Address
    resp_p: int
    client: Address
    server: Address
    is_orig: bool
    offset: int
    length: int
    is_gap: bool
    payload: bytes | None
