"""Message: one NTP message.

The class is for annotations and editors; what an analyzer gets is a view into the core's columns whose attributes
are made when they are read. Columns: `bunker.model.messages.message_record("ntp")`.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from bunker.model.record import Address


class Message(Protocol):
    """One NTP message. Times and durations in nanoseconds."""

    MESSAGE_KIND: ClassVar[str] = "ntp"

    ts: int
    uid: int
    orig_h: Address
    orig_p: int
    resp_h: Address
    resp_p: int
    client: Address
    server: Address
    version: int
    mode: int
    stratum: int
    poll: int | None
    precision: int | None
    root_delay: int | None
    root_disp: int | None
    ref_id: str | None
    ref_time: int | None
    org_time: int | None
    rec_time: int | None
    xmt_time: int | None
    num_exts: int
    is_orig: bool
