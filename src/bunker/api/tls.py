"""Handshake: one TLS handshake, as far as it is readable.

The class is for annotations and editors; what an analyzer gets is a view into the core's columns whose attributes
are made when they are read. Columns: `bunker.model.messages.message_record("tls")`.
"""

from __future__ import annotations

from enum import IntFlag
from typing import ClassVar, Protocol

from bunker.model.record import Address


class Anomaly(IntFlag):
    """Bits of `Handshake.flags`: what is odd. Twin of the core's list (`crates/proto/src/tls/mod.rs`)."""

    TOO_LONG = 1
    """A handshake message was longer than `HANDSHAKE_BYTES`."""
    GAP = 1 << 1
    """Bytes of the handshake were never captured."""
    BAD_HELLO = 1 << 2
    """A hello broke its own lengths."""
    RETRY = 1 << 3
    """The server asked for another hello."""
    OLD_HELLO = 1 << 4
    """The client's hello has the form of SSL 2."""


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
    last_alert: str | None
    ssl_history: str | None
    client_alpn: list[str] | None
    ech: bool
    ja3: str | None
    ja3s: str | None
    ja4: str | None
    transport: str
    quic_version: str | None
    subject: str | None
    issuer: str | None
    cert_not_before: int | None
    cert_not_after: int | None
    cert_key_type: str | None
    cert_policy: str | None
    cert_sha256: str | None
    san_count: int | None
    flags: int
