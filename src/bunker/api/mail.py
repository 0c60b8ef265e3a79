"""Message: one mail that SMTP, POP3 or IMAP moved.

The class is for annotations and editors; what an analyzer gets is a view into the core's columns whose attributes
are made when they are read. Columns: `bunker.model.messages.message_record("mail")`.
"""

from __future__ import annotations

from enum import IntFlag
from typing import ClassVar, Protocol

from bunker.model.record import Address


class Anomaly(IntFlag):
    """Bits of `Message.flags`: what is odd. Twin of the core's list (`crates/proto/src/mail/mod.rs`)."""

    HEAD_CUT = 1
    """The header of the message, or of a part, was longer than is read."""
    BODY_CUT = 1 << 1
    """The message was longer than is kept."""
    GAP = 1 << 2
    """Bytes of it were never captured."""
    NESTED = 1 << 3
    """Parts inside parts beyond the limit."""
    MANY_PARTS = 1 << 4
    """More parts than are described."""
    UNFINISHED = 1 << 5
    """Its end was not seen."""
    BARE_END = 1 << 6
    """It ended with a dot whose line ends are not CRLF: what smuggling of mails uses."""
    MANY_RECIPIENTS = 1 << 7
    """More recipients than are kept."""
    LONG_LINE = 1 << 8
    """A line of the dialogue was longer than is kept."""
    OVER_LIMIT = 1 << 9
    """The literal was larger, or compressed more, than is followed."""


class Message(Protocol):
    """One mail, as far as it was seen. Times and durations in nanoseconds."""

    MESSAGE_KIND: ClassVar[str] = "mail"

    ts: int
    uid: int
    orig_h: Address
    orig_p: int
    resp_h: Address
    resp_p: int
    client: Address
    server: Address
    proto: str
    trans_depth: int
    helo: str | None
    mailfrom: str | None
    rcptto: list[str] | None
    date: str | None
    from_: str | None
    to: list[str] | None
    cc: list[str] | None
    reply_to: str | None
    msg_id: str | None
    in_reply_to: str | None
    subject: str | None
    x_originating_ip: Address | None
    first_received: str | None
    second_received: str | None
    last_reply: str | None
    path: list[Address] | None
    user_agent: str | None
    tls: bool
    from_addr: str | None
    reply_code: int | None
    auth: str | None
    command: str
    size: int
    content_type: str | None
    parts: int
    part_types: list[str] | None
    part_mimes: list[str] | None
    part_sizes: list[str] | None
    part_sha256: list[str] | None
    file_names: list[str] | None
    partial: bool
    flags: int
    gap: bool
    head: bytes | None
    body: bytes | None
