"""Exchange: one DNS query with its reply.

The class is for annotations and editors; what an analyzer gets is a view into the core's columns whose attributes
are made when they are read. Columns: `bunker.model.messages.message_record("dns")`.
"""

from __future__ import annotations

from enum import IntFlag
from typing import ClassVar, Protocol

from bunker.model.record import Address


class Anomaly(IntFlag):
    """Bits of `Exchange.flags`: what is odd. Twin of the core's list (`crates/proto/src/dns/mod.rs`)."""

    CUT = 1
    """A message ends before its records do."""
    FORWARD_POINTER = 2
    """A compression pointer points forward."""
    LONG_NAME = 4
    """A name longer than names may be, or with too many pointers."""
    MANY = 8
    """More questions, records or text than are read."""
    BAD_RECORD = 16
    """A record whose data cannot be read."""
    REPLY_TRUNCATED = 32
    """The reply says that it is truncated."""
    OTHER_QUESTION = 64
    """Query and reply do not ask for the same name."""


class Exchange(Protocol):
    """One DNS query with its reply. Times and durations in nanoseconds."""

    MESSAGE_KIND: ClassVar[str] = "dns"

    ts: int
    uid: int
    orig_h: Address
    orig_p: int
    resp_h: Address
    resp_p: int
    client: Address
    server: Address
    proto: str
    trans_id: int
    rtt: int | None
    query: str | None
    qclass: int | None
    qclass_name: str | None
    qtype: int | None
    qtype_name: str | None
    rcode: int | None
    rcode_name: str | None
    AA: bool
    TC: bool
    RD: bool
    RA: bool
    Z: int
    answers: list[str] | None
    TTLs: list[str] | None
    rejected: bool
    opcode: int
    opcode_name: str
    auth: list[str] | None
    addl: list[str] | None
    addresses: list[Address] | None
    ttl_min: int | None
    answer_count: int | None
    edns_size: int | None
    edns_do: bool
    query_bytes: int | None
    reply_bytes: int | None
    flags: int
