"""Packet: one captured packet.

The class is for annotations and editors; what an analyzer gets is a view into the core's columns whose attributes
are made when they are read. Columns: `bunker.model.messages.message_record("packet")`.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from bunker.model.record import Address


class Packet(Protocol):
    """One captured packet. Times and durations in nanoseconds."""

    MESSAGE_KIND: ClassVar[str] = "packet"

    ts: int
    uid: int
    orig_h: Address
    orig_p: int
    resp_h: Address
    resp_p: int
    client: Address
    server: Address
    caplen: int
    wirelen: int
    linktype: int
    payload: bytes
