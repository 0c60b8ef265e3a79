"""What an analyzer emits: a `Record` class declares typed fields, its schema is what the gate later insists on.

Rules of this file:
1. A field's annotation is one of the markers below, `Literal["one", "other"]` (an Enum whose words the gate knows), or
   one of these `| None`; anything else is an error at import time.
2. A record prints its name and nothing else: its values are raw until a policy has cleared them.
"""

from __future__ import annotations

import re
import types
import typing
from typing import Annotated, Any, ClassVar

import msgspec

from bunker import limits
from bunker.errors import ConfigurationError
from bunker.model.fields import Field, FieldType, RecordSchema

Address = Annotated[Any, FieldType.ADDRESS]
AddressList = Annotated[list[Any], FieldType.ADDRESS_LIST]
Mac = Annotated[bytes, FieldType.MAC]
Port = Annotated[int, FieldType.PORT]
Code = Annotated[int, FieldType.CODE]
Vlan = Annotated[int, FieldType.VLAN]
FlowId = Annotated[int, FieldType.FLOW_ID]
Host = Annotated[str, FieldType.HOST]
Url = Annotated[str, FieldType.URL]
MailAddress = Annotated[str, FieldType.MAIL_ADDRESS]
UserAgent = Annotated[str, FieldType.USER_AGENT]
Enum = Annotated[str, FieldType.ENUM]
Mime = Annotated[str, FieldType.MIME]
Fingerprint = Annotated[str, FieldType.FINGERPRINT]
Digest = Annotated[str, FieldType.DIGEST]
Text = Annotated[str, FieldType.TEXT]
TextList = Annotated[list[str], FieldType.TEXT_LIST]
Content = Annotated[bytes, FieldType.CONTENT]
Time = Annotated[int, FieldType.TIME]
Duration = Annotated[int, FieldType.DURATION]
Bytes = Annotated[int, FieldType.BYTES]
Count = Annotated[int, FieldType.COUNT]
Score = Annotated[float, FieldType.SCORE]
Flag = Annotated[bool, FieldType.FLAG]
Flags = Annotated[int, FieldType.FLAGS]


class Record(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """Base of what an analyzer emits; a subclass is one kind of record.

    The record's name is the class's in snake case: `class PhishingForm(Record)` is released under
    `[out.phishing_form]`.
    Times are nanoseconds since the epoch, UTC; durations nanoseconds; addresses what messages carry, or text, or
    packed bytes.
    """

    _schemas: ClassVar[dict[type, RecordSchema]] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def record_name(cls: type[Record]) -> str:
    """The snake-case name under which records of this class are released."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", cls.__name__).lower()


def _field_of(owner: str, name: str, hint: Any) -> Field:
    nullable = False
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        nullable = len(options) < len(typing.get_args(hint))
        if len(options) == 1:
            hint = options[0]
    if typing.get_origin(hint) is typing.Literal:
        return Field(name=name, type=FieldType.ENUM, nullable=nullable, words=_words(owner, name, hint))
    for mark in getattr(hint, "__metadata__", ()):
        if isinstance(mark, FieldType):
            return Field(name=name, type=mark, nullable=nullable)
    raise ConfigurationError(
        f"record {owner}, field {name}",
        "its annotation is no field type",
        "Use a type of bunker.api (Address, Host, Count, ...), Literal[...] of words, or one of them | None",
    )


def _words(owner: str, name: str, hint: Any) -> tuple[str, ...]:
    """The words of `Literal[...]`; they are public, so they are bounded."""
    words = typing.get_args(hint)
    most, longest = limits.ENUM_WORDS.default, limits.ENUM_WORD_BYTES.default
    if all(isinstance(word, str) and 0 < len(word.encode()) <= longest for word in words) and len(words) <= most:
        return words
    raise ConfigurationError(
        f"record {owner}, field {name}",
        "its words are not words",
        f"Give at most {most} texts of 1 to {longest} bytes",
    )


def schema_of(cls: type[Record]) -> RecordSchema:
    """The schema that `cls` declares.

    Raises:
        ConfigurationError: a field's annotation is not a field type, or there are no fields.
    """
    known = Record._schemas.get(cls)
    if known is not None:
        return known
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = tuple(_field_of(cls.__name__, name, hints[name]) for name in cls.__struct_fields__)
    if not fields:
        raise ConfigurationError(f"record {cls.__name__}", "it has no fields", "Declare at least one")
    schema = RecordSchema(name=record_name(cls), fields=fields)
    Record._schemas[cls] = schema
    return schema
