"""Transaction: one HTTP/1 request with its response, as far as either was seen.

The class is for annotations and editors; what an analyzer gets is a view into the core's columns whose attributes
are made when they are read. Columns: `bunker.model.messages.message_record("http")`.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from bunker.model.record import Address


class Transaction(Protocol):
    """One HTTP/1 request with its response, as far as either was seen. Times and durations in nanoseconds."""

    MESSAGE_KIND: ClassVar[str] = "http"

    ts: int
    uid: int
    orig_h: Address
    orig_p: int
    resp_h: Address
    resp_p: int
    client: Address
    server: Address
    trans_depth: int
    method: str | None
    host: str | None
    uri: str | None
    referrer: str | None
    version: str | None
    user_agent: str | None
    origin: str | None
    request_body_len: int
    response_body_len: int
    status_code: int | None
    status_msg: str | None
    location: str | None
    cookie: bool
    set_cookie: bool
    orig_mime_type: str | None
    resp_mime_type: str | None
    flags: int
    gap: bool
    req_head: bytes | None
    resp_head: bytes | None
    req_body: bytes | None
    resp_body: bytes | None
