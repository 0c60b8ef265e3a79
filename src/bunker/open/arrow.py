"""Bodies of records as Arrow batches: checked against the schema that the start statement declares.

Place in the flow: an attested envelope of records ▶ here ▶ Parquet parts, comparison with them.

Rules of this file:
1. Called only with bodies that a signature covers; still bounded and validated, as an unpinned key vouches for nobody.
2. A batch has exactly the declared columns, types and nullability, no metadata, no dictionary, no compression (its
   size would be somebody else's claim).
"""

from __future__ import annotations

import struct
from typing import Final

import pyarrow as pa

from bunker.model.envelope import EnvelopeRefused, Refusal
from bunker.model.heartbeat import ARROW_TYPES, OutputSchema

_SCALARS: Final[dict[str, pa.DataType]] = {
    "Boolean": pa.bool_(),
    "Float64": pa.float64(),
    "Utf8": pa.string(),
    "Binary": pa.binary(),
    "Duration(ns)": pa.duration("ns"),
    'Timestamp(ns, "UTC")': pa.timestamp("ns", tz="UTC"),
    **{f"Int{bits}": getattr(pa, f"int{bits}")() for bits in (8, 16, 32, 64)},
    **{f"UInt{bits}": getattr(pa, f"uint{bits}")() for bits in (8, 16, 32, 64)},
    **{f"FixedSizeBinary({size})": pa.binary(size) for size in (4, 6, 8, 16, 32)},
}


def type_of(word: str) -> pa.DataType:
    """The Arrow type with this spelling; `word` is in ARROW_TYPES."""
    if word.startswith("List<"):
        return pa.list_(_SCALARS[word[5:-1]])
    return _SCALARS[word]


TYPES: Final[dict[str, pa.DataType]] = {word: type_of(word) for word in ARROW_TYPES}


def arrow_schema(schema: OutputSchema) -> pa.Schema:
    """The declared schema as Arrow has it."""
    return pa.schema([pa.field(field.name, TYPES[field.arrow], nullable=field.nullable) for field in schema.fields])


def _same_type(one: pa.DataType, other: pa.DataType) -> bool:
    if pa.types.is_list(one) and pa.types.is_list(other):
        return bool(one.value_type == other.value_type)  # the name of a list's child means nothing
    return bool(one == other)


def _same_schema(had: pa.Schema, declared: pa.Schema) -> bool:
    if len(had) != len(declared) or had.metadata:
        return False
    return all(
        one.name == other.name
        and one.nullable == other.nullable
        and not one.metadata
        and _same_type(one.type, other.type)
        for one, other in zip(had, declared, strict=True)
    )


def batches_of(body: memoryview, schema: OutputSchema, *, rows: int, number: int) -> list[pa.RecordBatch]:
    """The batches in an Arrow IPC stream.

    Args:
        rows: What the envelope says; all batches together have as many.
        number: The envelope's, for the error.
    Raises:
        EnvelopeRefused: BODY: not an Arrow stream, another schema, other rows, compressed, invalid, or bytes behind
            its end.
    """
    declared = arrow_schema(schema)
    try:
        stream = pa.BufferReader(pa.py_buffer(body))
        _refuse_compression(body)
        with pa.ipc.open_stream(stream) as reader:
            if not _same_schema(reader.schema, declared):
                raise EnvelopeRefused(Refusal.BODY, number=number)
            batches = [_checked(batch, declared) for batch in reader]
        if stream.tell() != len(body) or sum(batch.num_rows for batch in batches) != rows:
            raise EnvelopeRefused(Refusal.BODY, number=number)
    except (pa.ArrowException, ValueError, MemoryError, OSError, struct.error):
        raise EnvelopeRefused(Refusal.BODY, number=number) from None
    return batches


def _checked(batch: pa.RecordBatch, declared: pa.Schema) -> pa.RecordBatch:
    batch.validate(full=True)
    columns = []
    for column, field in zip(batch.columns, declared, strict=True):
        if column.null_count and not field.nullable:
            raise ValueError("an empty cell in a column that has none")
        columns.append(column if column.type == field.type else column.cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=declared)


_CONTINUATION = 0xFFFF_FFFF
_RECORD_BATCH = 3
_HEADER_TYPE, _HEADER, _BODY_LENGTH = 1, 2, 3
_COMPRESSION = 3


def _refuse_compression(body: memoryview) -> None:
    """Walk the messages of a stream and look into each record batch for a compression table.

    Arrow allocates what a compressed buffer claims to hold; nothing else in a stream can claim more than is there.

    Raises:
        ValueError, struct.error: a message is compressed, or lengths do not fit.
    Source: Arrow columnar format, "Encapsulated message format"; Message.fbs.
    """
    at = 0
    while at < len(body):
        mark, length = struct.unpack_from("<Ii", body, at)
        if mark != _CONTINUATION or length < 0:
            raise ValueError("not a message")
        at += 8
        if length == 0:
            return
        message = body[at : at + length]
        if len(message) != length:
            raise ValueError("a message is cut")
        root = struct.unpack_from("<I", message)[0]
        kind = _slot(message, root, _HEADER_TYPE)
        header = _slot(message, root, _HEADER)
        if kind is not None and header is not None and message[kind] == _RECORD_BATCH:
            batch = header + struct.unpack_from("<I", message, header)[0]
            if _slot(message, batch, _COMPRESSION) is not None:
                raise ValueError("compressed")
        place = _slot(message, root, _BODY_LENGTH)
        body_length = 0 if place is None else struct.unpack_from("<q", message, place)[0]
        if not 0 <= body_length <= len(body):
            raise ValueError("a body is cut")
        at += length + body_length


def _slot(table_bytes: memoryview, table: int, field: int) -> int | None:
    """Where a field of a flatbuffer table stands; None if it is absent."""
    vtable = table - struct.unpack_from("<i", table_bytes, table)[0]
    if vtable < 0:
        raise ValueError("a table out of bounds")
    size = struct.unpack_from("<H", table_bytes, vtable)[0]
    entry = 4 + 2 * field
    if entry + 2 > size:
        return None
    offset = struct.unpack_from("<H", table_bytes, vtable + entry)[0]
    if offset and table + offset >= len(table_bytes):
        raise ValueError("a field out of bounds")
    return table + offset if offset else None
