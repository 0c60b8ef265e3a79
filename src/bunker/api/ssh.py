"""Greeting: the beginning of one SSH connection.

The class is for annotations and editors; what an analyzer gets is a view into the core's columns whose attributes
are made when they are read. Columns: `bunker.model.messages.message_record("ssh")`.
"""

from __future__ import annotations

from enum import IntFlag
from typing import ClassVar, Protocol

from bunker.model.record import Address


class Anomaly(IntFlag):
    """Bits of `Greeting.flags`: what is odd. Twin of the core's list (`crates/proto/src/ssh.rs`)."""

    GAP = 1
    """Bytes were never captured."""
    BAD_OFFER = 1 << 1
    """What followed the identification is no offer."""


class Greeting(Protocol):
    """What both sides of an SSH connection say in the clear. Times in nanoseconds."""

    MESSAGE_KIND: ClassVar[str] = "ssh"

    ts: int
    uid: int
    orig_h: Address
    orig_p: int
    resp_h: Address
    resp_p: int
    version: int | None
    client: str | None
    server: str | None
    cipher_alg: str | None
    mac_alg: str | None
    compression_alg: str | None
    kex_alg: str | None
    host_key_alg: str | None
    hassh: str | None
    hassh_server: str | None
    flags: int
