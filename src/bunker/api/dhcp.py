"""Message: one DHCP message.

The class is for annotations and editors; what an analyzer gets is a view into the core's columns whose attributes
are made when they are read. Columns: `bunker.model.messages.message_record("dhcp")`.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from bunker.model.record import Address


class Message(Protocol):
    """One DHCP message. Times and durations in nanoseconds."""

    MESSAGE_KIND: ClassVar[str] = "dhcp"

    ts: int
    uid: int
    orig_h: Address
    orig_p: int
    resp_h: Address
    resp_p: int
    client: Address
    server: Address
    trans_id: int
    msg_type: str
    client_addr: Address | None
    assigned_addr: Address | None
    requested_addr: Address | None
    server_addr: Address | None
    mac: bytes | None
    host_name: str | None
    client_fqdn: str | None
    domain: str | None
    lease_time: int | None
    client_message: str | None
    server_message: str | None
    params: str | None
    vendor_class: str | None
    is_orig: bool
