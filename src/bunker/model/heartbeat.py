"""Statements: what the box signs about itself at the start, at every heartbeat, and at the end.

Place in the flow: counters and set-up ▶ `Start`, `Heartbeat`, `End`, `Abort` ▶ bodies of signed envelopes ▶ open.*

Rules of this file:
1. The fields are fixed; a field too many or too few is refused, as is any encoding but the canonical one.
2. Words are enums or match a grammar, numbers are bounded: a statement has no room for text.
3. Times are the box's claims. What cannot be forged backwards is `monotonic_ns` and the chain.

Format: `docs/formats/envelope.md`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Final, TypeVar

import msgspec

from bunker import limits
from bunker.errors import VerificationError
from bunker.model.attestation import Attestation
from bunker.model.counters import BALANCE_IN, BALANCE_OUT

FORMATS: Final[dict[str, int]] = {"envelope": 1, "records": 1}

ARROW_TYPES: Final[frozenset[str]] = frozenset(
    {
        *("Boolean", "Float64", "Utf8", "Binary", "Duration(ns)", 'Timestamp(ns, "UTC")'),
        *(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)),
        *(f"FixedSizeBinary({size})" for size in (4, 6, 8, 16, 32)),
        *("List<Utf8>", "List<UInt64>", *(f"List<FixedSizeBinary({size})>" for size in (4, 8, 16, 32))),
    }
)
"""The Arrow types that a released field may have, spelt as in `docs/formats/records.md`."""

_NAME = r"^[a-z][a-z0-9_]{0,63}\Z"
_FIELD = r"^[A-Za-z_][A-Za-z0-9_.]{0,63}\Z"
_WORD = r"^[A-Za-z0-9_][A-Za-z0-9_.,:+/ -]{0,127}\Z"
_HEX64 = r"^[0-9a-f]{64}\Z"

Natural = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
TimeNs = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
RecordName = Annotated[str, msgspec.Meta(pattern=_NAME)]
FieldName = Annotated[str, msgspec.Meta(pattern=_FIELD)]
Word = Annotated[str, msgspec.Meta(pattern=_WORD)]
Digest = Annotated[str, msgspec.Meta(pattern=_HEX64)]
RunHex = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]


class Tier(StrEnum):
    """What stands between the raw traffic and the operator."""

    NONE = "none"
    PROCESS = "process"
    VM = "vm"
    APPLIANCE = "appliance"


class EndReason(StrEnum):
    """Why a run ended in order."""

    DONE = "done"
    DURATION = "duration"
    INTERRUPTED = "interrupted"


class AbortReason(StrEnum):
    """Why a run was destroyed."""

    OPERATOR = "operator"
    CHILD_FAILED = "child_failed"
    ANALYSIS_FAILS = "analysis_fails"
    JAIL = "jail"
    SELF_CHECK = "self_check"
    MAXIMUM_AGE = "maximum_age"
    EGRESS = "egress"
    POLICY = "policy"


class OutputField(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One column that leaves: `type` is what it means after clearing, `arrow` one of ARROW_TYPES."""

    name: FieldName
    type: FieldName
    arrow: str
    nullable: bool


class OutputSchema(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One record that may leave."""

    record: RecordName
    fields: list[OutputField]


class Start(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The birth certificate: the first envelope."""

    formats: dict[str, int]
    run: RunHex
    public_key: Digest
    started_ns: TimeNs
    tier: Tier
    bundle: Digest
    image: Digest | None
    policy: Digest
    schemas: list[OutputSchema]
    enforcement: dict[FieldName, Word]
    heartbeat_ns: Annotated[int, msgspec.Meta(ge=1_000_000, le=86_400 * 10**9)]
    attestation: Attestation | None = None
    """What the machine's TPM says; left out where there is none."""


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The signed sign of life."""

    started_ns: TimeNs
    now_ns: TimeNs
    monotonic_ns: TimeNs
    bundle: Digest
    image: Digest | None
    tier: Tier
    enforcement: Digest
    counters: dict[RecordName, Natural]
    live_raw_bytes: Natural
    oldest_raw_age_ns: Natural
    keys_created: Natural
    keys_destroyed: Natural
    chain: Digest
    rows: dict[RecordName, Natural]
    envelopes: dict[RecordName, Natural]


class End(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The run ended in order, everything captured was analysed."""

    reason: EndReason
    last: Heartbeat


class Abort(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The run was destroyed: what was captured and not analysed exists no more."""

    reason: AbortReason
    last: Heartbeat


S = TypeVar("S", Start, Heartbeat, End, Abort)


def canonical(value: object) -> bytes:
    """The one encoding: UTF-8 JSON, keys sorted, no white space."""
    return msgspec.json.encode(value, order="sorted")


def parse(body: bytes | memoryview, kind: type[S]) -> S:
    """A statement of this kind.

    Raises:
        VerificationError: not readable, a rule broken, or not the canonical encoding.
    """
    try:
        statement = msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise VerificationError(f"{kind.__name__.lower()} statement: not readable") from None
    if canonical(statement) != bytes(body):
        raise VerificationError(f"{kind.__name__.lower()} statement: not canonical")
    if isinstance(statement, Start):
        check_start(statement)
    return statement


def check_start(start: Start) -> None:
    """What the types of a start's fields do not say.

    Raises:
        VerificationError: other formats, a record or field twice or without columns, an unknown Arrow type,
            too many of them.
    """
    if start.formats != FORMATS:
        raise VerificationError("start statement: formats that this version does not read")
    names = [schema.record for schema in start.schemas]
    if len(set(names)) != len(names) or len(names) > limits.RELEASED_RECORDS.default:
        raise VerificationError("start statement: records repeat or are too many")
    for schema in start.schemas:
        fields = [field.name for field in schema.fields]
        if not 0 < len(fields) <= limits.RELEASED_FIELDS.default or len(set(fields)) != len(fields):
            raise VerificationError("start statement: fields repeat, are none or too many")
        if any(field.arrow not in ARROW_TYPES for field in schema.fields):
            raise VerificationError("start statement: an Arrow type that records cannot have")


def attested_hash(start: Start) -> bytes:
    """What a TPM is given to sign along: the hash of the start statement without its attestation."""
    return hashlib.sha256(canonical(msgspec.structs.replace(start, attestation=None))).digest()


def enforcement_digest(enforcement: dict[str, str]) -> str:
    """What heartbeats repeat of the start's `enforcement`."""
    return hashlib.sha256(canonical(enforcement)).hexdigest()


def fingerprint(public_key: bytes) -> str:
    """What the operator writes down: SHA-256 of the key, sixteen groups of four hex digits."""
    digest = hashlib.sha256(public_key).hexdigest()
    return " ".join(digest[at : at + 4] for at in range(0, 64, 4))


def same_fingerprint(one: str, other: str) -> bool:
    """Whether two fingerprints are the same, however they are grouped and cased."""
    return re.sub(r"[\s:-]", "", one).lower() == re.sub(r"[\s:-]", "", other).lower()


def is_fingerprint(text: str) -> bool:
    """Whether this is a fingerprint, grouped in any way."""
    return re.fullmatch(_HEX64, re.sub(r"[\s:-]", "", text).lower()) is not None


def imbalance(counters: dict[str, int]) -> int:
    """Packets received minus those accounted for; 0 at an end in order."""
    accounted: Iterable[int] = (counters.get(counter.value, 0) for counter in BALANCE_OUT)
    return counters.get(BALANCE_IN.value, 0) - sum(accounted)
