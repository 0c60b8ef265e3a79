"""The core's tables of messages as records: what the built-in analyzers emit.

The core is the one source of the columns (`crates/proto/src/columns/tables.rs`).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from bunker.model.fields import Field, FieldType, RecordSchema
from bunker.model.record import Record
from bunker.native.wire import message_kinds, message_schema

_STATES = ("S0", "S1", "SF", "REJ", "S2", "S3", "RSTO", "RSTR", "RSTOS0", "RSTRH", "SH", "SHR", "OTH")
_MECHANISMS = (
    "PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "NTLM", "GSSAPI", "XOAUTH2", "OAUTHBEARER", "EXTERNAL", "ANONYMOUS",
    "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS", "KERBEROS_V4", "SPNEGO",
)  # fmt: skip
_DHCP = (
    "DISCOVER", "OFFER", "REQUEST", "DECLINE", "ACK", "NAK", "RELEASE", "INFORM", "FORCERENEW", "LEASEQUERY",
    "LEASEUNASSIGNED", "LEASEUNKNOWN", "LEASEACTIVE",
)  # fmt: skip
_WEBMAIL = ("PAGE", "SOURCE", "SEND")  # bunker.analyzers.webmail: a mail read in a page, its source, one that was sent
# Vocabularies that the core's code closes. The gate refuses any other word, so what is open (a method, a service) is
# not here.
_WORDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("flow", "proto"): ("tcp", "udp", "icmp", "unknown_transport"),
    ("flow", "conn_state"): _STATES,
    ("flow", "outcome"): ("completed", "timed_out", "ended", "evicted", "erroneous"),
    ("dns", "proto"): ("udp", "tcp"),
    ("tls", "proto"): ("tcp", "udp"),
    ("tls", "transport"): ("tls", "dtls", "quic"),
    ("tls", "cert_key_type"): ("rsa", "ecdsa", "dsa", "ed25519", "ed448", "unknown"),
    ("tls", "cert_policy"): ("dv", "ov", "iv", "ev", "self-signed", "none"),
    ("mail", "proto"): ("smtp", "pop3", "imap", "webmail"),
    ("mail", "command"): ("DATA", "BDAT", "MAIL", "STARTTLS", "RETR", "TOP", "FETCH", "APPEND", *_WEBMAIL),
    ("mail", "auth"): (*_MECHANISMS, "USER", "APOP", "other"),
    ("dhcp", "msg_type"): (*_DHCP, "BOOTP", "unknown"),
}


@cache
def message_record(kind: str) -> RecordSchema:
    """The record of this kind of message: every column but raw content, which no policy could release anyway.

    Raises:
        ConfigurationError: the core makes no such message.
    """
    fields = (
        Field(name=name, type=FieldType(word), nullable=nullable, words=_WORDS.get((kind, name), ()))
        for name, word, nullable in message_schema(kind)
    )
    return RecordSchema(name=kind, fields=tuple(field for field in fields if field.type is not FieldType.CONTENT))


@cache
def message_class(kind: str) -> type[Record]:
    """A class whose instances are messages of this kind, for analyzers that find some inside others: every column, raw
    content too; what may be empty is None by default.

    Raises:
        ConfigurationError: the core makes no such message.
    """
    fields = tuple(
        Field(name=name, type=FieldType(word), nullable=nullable) for name, word, nullable in message_schema(kind)
    )
    made = msgspec.defstruct(
        f"Found{kind.capitalize()}",
        [(field.name, Any, None) if field.nullable else (field.name, Any) for field in fields],
        bases=(Record,),
        module=__name__,
        kw_only=True,
        frozen=True,
    )
    assert issubclass(made, Record)
    Record._schemas[made] = RecordSchema(name=kind, fields=fields)
    return made


def message_records() -> dict[str, RecordSchema]:
    """All of them by kind."""
    return {kind: message_record(kind) for kind in message_kinds()}
