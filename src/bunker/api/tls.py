"""Handshake: one TLS handshake, as far as it is readable.

The class is for annotations and editors; what an analyzer gets is a view into the core's columns whose attributes
are made when they are read. Columns: `bunker.model.messages.message_record("tls")`.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from bunker.model.record import Address


class Handshake(Protocol):
    """One TLS handshake, as far as it is readable. Times and durations in nanoseconds."""

    MESSAGE_KIND: ClassVar[str] = "tls"

    ts: int
    uid: int
    orig_h: Address
    orig_p: int
    resp_h: Address
    resp_p: int
    client: Address
    server: Address
    version: str | None
    cipher: str | None
    server_name: str | None
    resumed: bool
    next_protocol: str | None
    established: bool
    ja3: str | None
    ja4: str | None
