"""The types a field may have, and the schema of a record: what may cross from a worker to the gate.

`docs/formats/records.md` is the table in prose; `bunker_proto::columns::FieldType` is the Rust twin, kept equal by a
test.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FieldType(StrEnum):
    """What a field means. The value is the name used in schemas, policies and the core."""

    ADDRESS = "Address"
    ADDRESS_LIST = "AddressList"
    MAC = "Mac"
    PORT = "Port"
    CODE = "Code"
    VLAN = "Vlan"
    FLOW_ID = "FlowId"
    HOST = "Host"
    URL = "Url"
    MAIL_ADDRESS = "MailAddress"
    USER_AGENT = "UserAgent"
    ENUM = "Enum"
    MIME = "Mime"
    FINGERPRINT = "Fingerprint"
    DIGEST = "Digest"
    TEXT = "Text"
    TEXT_LIST = "TextList"
    CONTENT = "Content"
    TIME = "Time"
    DURATION = "Duration"
    BYTES = "Bytes"
    COUNT = "Count"
    SCORE = "Score"
    FLAG = "Flag"
    FLAGS = "Flags"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One column: its name, its type, whether a cell may be empty, and the words that an Enum may have (empty: any)."""

    name: str
    type: FieldType
    nullable: bool = False
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSchema:
    """A record's name and its columns, in order. Two schemas are the same only if all of that is."""

    name: str
    fields: tuple[Field, ...]

    def field(self, name: str) -> Field | None:
        """The column of this name, or None."""
        return next((field for field in self.fields if field.name == name), None)

    def described(self) -> list[tuple[str, str, bool]]:
        """(name, type, nullable) for the core."""
        return [(field.name, field.type.value, field.nullable) for field in self.fields]

    def words(self) -> dict[str, list[str]]:
        """The words of each Enum that declares them."""
        return {field.name: list(field.words) for field in self.fields if field.words}
