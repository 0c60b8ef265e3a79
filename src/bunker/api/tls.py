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
    proto: str
    version: str | None
    cipher: str | None
    curve: str | None
    server_name: str | None
    resumed: bool
    last_alert: str | None
    next_protocol: str | None
    established: bool
    ssl_history: str | None
    cert_chain_fps: list[str] | None
    client_cert_chain_fps: list[str] | None
    sni_matches_cert: bool | None
    client_version: str | None
    client_versions: list[str] | None
    client_alpn: list[str] | None
    client_ciphers: int | None
    ech: bool
    ja3: str | None
    ja4: str | None
    subject: str | None
    issuer: str | None
    cert_serial: str | None
    cert_not_before: int | None
    cert_not_after: int | None
    cert_self_signed: bool | None
    cert_key_type: str | None
    cert_key_length: int | None
    cert_sig_alg: str | None
    san_dns: list[str] | None
    san_count: int | None
    cert_sha256: str | None
    cert_sha1: str | None
    cert_count: int | None
    flags: int
    transport: str
    quic_version: str | None
    ja3s: str | None
    cert_policy: str | None
