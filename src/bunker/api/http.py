"""Transaction: one HTTP request with its response, as far as either was seen.

The class is for annotations and editors; what an analyzer gets is a view into the core's columns whose attributes
are made when they are read. Columns: `bunker.model.messages.message_record("http")`.
"""

from __future__ import annotations

from enum import IntFlag
from typing import ClassVar, Protocol

from bunker.model.record import Address


class Anomaly(IntFlag):
    """Bits of `Transaction.flags`: what is odd about a transaction, and facts of its capture.

    Twin of the core's list (`crates/proto/src/http/head.rs`).
    """

    LENGTH_AND_CODING = 1
    """Both Content-Length and Transfer-Encoding."""
    DIFFERENT_LENGTHS = 1 << 1
    """Content-Length twice with different values."""
    BAD_LENGTH = 1 << 2
    """Content-Length that is no number."""
    BAD_CHUNK = 1 << 3
    """Chunk size that is no number or too large."""
    FOLDED_HEADER = 1 << 4
    """A header folded over lines."""
    STRAY_SPACE = 1 << 5
    """Space before the first header's name or before a colon."""
    NUL = 1 << 6
    """NUL in a head."""
    NO_HOST = 1 << 7
    """HTTP/1.1 request without Host."""
    AMBIGUOUS_HOST = 1 << 8
    """Host twice, or different from the request line's."""
    VERSION_09 = 1 << 9
    """HTTP/0.9."""
    GAP_IN_HEAD = 1 << 10
    """Bytes missing in a head."""
    GAP_IN_BODY = 1 << 11
    """Bytes missing in a body."""
    TRUNCATED = 1 << 12
    """The stream ended inside a message."""
    NO_RESPONSE = 1 << 13
    """No response was seen."""
    NO_REQUEST = 1 << 14
    """No request was seen."""
    BAD_CODING = 1 << 15
    """A body's coding is damaged."""
    OVER_LIMIT = 1 << 16
    """A limit was reached (decoded size, ratio, headers, pending)."""
    PIPELINED = 1 << 17
    """The request came before the response to the one before."""
    ODD_TRANSFER_CODING = 1 << 18
    """A transfer coding that is not "chunked"."""
    NO_COLON = 1 << 19
    """A header line without a colon."""
    BARE_LF = 1 << 20
    """Lines that end without CR."""
    ODD_METHOD = 1 << 21
    """Method in lower case or not a token."""
    ODD_VERSION = 1 << 22
    """A version other than 1.0 and 1.1."""
    TRAILING_BYTES = 1 << 23
    """Bytes after the message that are none."""
    UNKNOWN_CODING = 1 << 24
    """A content coding that is not known."""
    UPGRADED = 1 << 25
    """The connection went on in another protocol."""
    NO_TARGET = 1 << 26
    """The request line has no target."""
    BAD_HOST = 1 << 27
    """A Host that is no host name, address and port."""
    BAD_HEADER_NAME = 1 << 28
    """A header's name that is no token."""
    REPEATED_LENGTH = 1 << 29
    """Content-Length more than once, with one value."""
    AFTER_CLOSE = 1 << 30
    """A message followed one that said it was the last (Connection: close)."""
    BARE_CR = 1 << 31
    """A CR without LF in a head."""
    CONTROL = 1 << 32
    """A control character in a head, or a DEL."""
    BAD_TARGET = 1 << 33
    """A target that is none for its method: a space, a byte that is not ASCII, an authority without CONNECT."""
    BAD_AUTHORIZATION = 1 << 34
    """Basic authentication that cannot be read."""
    OVERLONG_UTF8 = 1 << 35
    """UTF-8 in the target that is longer than it need be: a way to hide a slash."""
    BAD_STATUS = 1 << 36
    """A status that is not three digits."""
    PREAMBLE = 1 << 37
    """A PROXY protocol header stood before the first request."""
    ODD_CHUNK = 1 << 38
    """Chunk framing that servers read differently: spaces, a sign, an odd extension, a line end missing."""
    BAD_TRAILER = 1 << 39
    """A trailer that may not be one: framing, routing, or without a colon."""
    CODING_BEFORE_1_1 = 1 << 40
    """A transfer coding in HTTP/1.0."""
    WRONG_CODING = 1 << 41
    """A body that is not coded as declared, read as it is."""
    FIELD_LIMIT = 1 << 42
    """A line longer than common servers take (8 KiB)."""
    BAD_FRAME = 1 << 43
    """HTTP/2 frames or header blocks that cannot be read."""


FACTS = (
    Anomaly.GAP_IN_HEAD
    | Anomaly.GAP_IN_BODY
    | Anomaly.TRUNCATED
    | Anomaly.NO_RESPONSE
    | Anomaly.NO_REQUEST
    | Anomaly.PIPELINED
    | Anomaly.UPGRADED
    | Anomaly.PREAMBLE
)
"""Bits that say what was seen of a transaction, not that something is odd about it."""


class Transaction(Protocol):
    """One HTTP request with its response, as far as either was seen. Times and durations in nanoseconds."""

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
    info_code: int | None
    info_msg: str | None
    username: str | None
    orig_mime_type: str | None
    resp_mime_type: str | None
    orig_content_type: str | None
    resp_content_type: str | None
    orig_content_encoding: str | None
    resp_content_encoding: str | None
    location: str | None
    cookie: bool
    set_cookie: bool
    forwarded: list[Address] | None
    response_ts: int | None
    orig_sha256: str | None
    resp_sha256: str | None
    orig_md5: str | None
    resp_md5: str | None
    orig_sha1: str | None
    resp_sha1: str | None
    flags: int
    gap: bool
    req_head: bytes | None
    resp_head: bytes | None
    req_body: bytes | None
    resp_body: bytes | None
