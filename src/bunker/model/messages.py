"""The core's tables of messages as records: what the built-in analyzers emit.

The core is the one source of the columns (`crates/proto/src/columns/tables.rs`).
"""

from __future__ import annotations

from functools import cache

from bunker.model.fields import Field, FieldType, RecordSchema
from bunker.native.wire import message_kinds, message_schema

_STATES = ("S0", "S1", "SF", "REJ", "S2", "S3", "RSTO", "RSTR", "RSTOS0", "RSTRH", "SH", "SHR", "OTH")
# Vocabularies that the core's code closes. The gate refuses any other word, so what is open (a method, a service) is
# not here.
_WORDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("flow", "proto"): ("tcp", "udp", "icmp", "unknown_transport"),
    ("flow", "conn_state"): _STATES,
    ("flow", "outcome"): ("completed", "timed_out", "ended", "evicted", "erroneous"),
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


def message_records() -> dict[str, RecordSchema]:
    """All of them by kind."""
    return {kind: message_record(kind) for kind in message_kinds()}
