"""Exchange: one DNS query with its reply.

The class is for annotations and editors; what an analyzer gets is a view into the core's columns whose attributes
are made when they are read. Columns: `bunker.model.messages.message_record("dns")`.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from bunker.model.record import Address


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
    qtype_name: str | None
    rcode_name: str | None
    answers: list[str] | None
    rejected: bool
