//! What a worker sends, checked: one Arrow stream of one batch with exactly the declared schema, each cell a value of its type.
//!
//! Lengths are read from the offsets of a column, those of null cells too: what is too long for a cell is too long for hiding in one.
use arrow_array::cast::AsArray;
use arrow_array::types::{DurationNanosecondType, Float64Type, TimestampNanosecondType, UInt16Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_ipc::reader::StreamDecoder;
use arrow_schema::Schema;

use crate::schema::{Field, FieldType, RecordSchema};

/// Longest digest: 64 bytes in hex.
pub const DIGEST_BYTES: usize = 128;
/// Longest fingerprint: JA4 has 36 letters, JA3 32.
pub const FINGERPRINT_BYTES: usize = 64;

/// Bounds of a batch. Python twin: `bunker.limits` RECORD_*.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a frame.
    pub frame_bytes: usize,
    /// Rows of a batch.
    pub rows: usize,
    /// Bytes of a text cell.
    pub text_bytes: usize,
    /// Items of a list cell.
    pub list_items: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { frame_bytes: 64 << 20, rows: 1 << 20, text_bytes: 64 << 10, list_items: 4_096 }
    }
}

/// Why a batch was refused. A closed vocabulary; each is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No such record in the bundle.
    UnknownRecord,
    /// More bytes than a frame may have.
    TooLarge,
    /// Not an Arrow IPC stream of one batch.
    Malformed,
    /// Names, order, types or nullability differ from the declared, or there is metadata.
    Schema,
    /// More rows than a batch may have.
    TooManyRows,
    /// A cell is longer than its type allows.
    CellTooLong,
    /// A cell is not a value of its type (NaN, a time before 1970 or after 2200, a null inside a list, a null where there must be none).
    BadValue,
    /// Bytes behind the batch.
    TrailingBytes,
    /// The keys are gone: the run is over.
    Forgotten,
}

impl Refusal {
    /// One word, for counters.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::UnknownRecord => "unknown_record",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Schema => "schema",
            Self::TooManyRows => "too_many_rows",
            Self::CellTooLong => "cell_too_long",
            Self::BadValue => "bad_value",
            Self::TrailingBytes => "trailing_bytes",
            Self::Forgotten => "forgotten",
        }
    }
}

/// One batch of exactly this schema, and nothing behind it.
///
/// # Errors
/// [`Refusal`].
pub fn decode(ipc: &[u8], expected: &Schema) -> Result<RecordBatch, Refusal> {
    // One copy, in which all columns then lie: a reader of a stream would clear memory first, and copy into it.
    let mut rest = Buffer::from(ipc);
    let mut decoder = StreamDecoder::new();
    let maybe_batch = decoder.decode(&mut rest).map_err(|_| Refusal::Malformed)?;
    if decoder.schema().ok_or(Refusal::Malformed)?.as_ref() != expected {
        return Err(Refusal::Schema);
    }
    let batch = maybe_batch.ok_or(Refusal::Malformed)?;
    // The end of the stream is eight bytes; the decoder has no word for bytes behind it but an error.
    let end: [u8; 8] = [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0];
    if !rest.is_empty() && rest.as_slice() != end {
        return Err(Refusal::TrailingBytes);
    }
    Ok(batch)
}

/// Every cell against its type.
///
/// # Errors
/// [`Refusal`].
pub fn check(batch: &RecordBatch, schema: &RecordSchema, limits: Limits) -> Result<(), Refusal> {
    if batch.num_rows() > limits.rows {
        return Err(Refusal::TooManyRows);
    }
    for (column, field) in batch.columns().iter().zip(&schema.fields) {
        if !field.nullable && column.null_count() > 0 {
            return Err(Refusal::BadValue);
        }
        check_column(column, field, limits)?;
    }
    Ok(())
}

fn check_column(column: &ArrayRef, field: &Field, limits: Limits) -> Result<(), Refusal> {
    const LATEST_NS: i64 = 7_258_118_400_000_000_000; // the year 2200
    match field.kind {
        FieldType::Score => {
            let column = column.as_primitive_opt::<Float64Type>().ok_or(Refusal::Schema)?;
            if column.iter().flatten().any(|value| !value.is_finite()) {
                return Err(Refusal::BadValue);
            }
        }
        FieldType::Time => {
            let column = column.as_primitive_opt::<TimestampNanosecondType>().ok_or(Refusal::Schema)?;
            if column.iter().flatten().any(|value| !(0..=LATEST_NS).contains(&value)) {
                return Err(Refusal::BadValue);
            }
        }
        FieldType::Duration => {
            let column = column.as_primitive_opt::<DurationNanosecondType>().ok_or(Refusal::Schema)?;
            if column.iter().flatten().any(|value| value < 0) {
                return Err(Refusal::BadValue);
            }
        }
        FieldType::Vlan => {
            let column = column.as_primitive_opt::<UInt16Type>().ok_or(Refusal::Schema)?;
            if column.iter().flatten().any(|value| value > 4_095) {
                return Err(Refusal::BadValue);
            }
        }
        FieldType::Enum if !field.words.is_empty() => {
            let column = column.as_string_opt::<i32>().ok_or(Refusal::Schema)?;
            if column.iter().flatten().any(|value| !field.words.iter().any(|word| word == value)) {
                return Err(Refusal::BadValue);
            }
        }
        FieldType::Digest | FieldType::Fingerprint => {
            let column = column.as_string_opt::<i32>().ok_or(Refusal::Schema)?;
            let fits = |value: &str| match field.kind {
                FieldType::Digest => value.len() <= DIGEST_BYTES && value.bytes().all(|b| b.is_ascii_hexdigit()),
                _ => value.len() <= FINGERPRINT_BYTES && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'),
            };
            if !column.iter().flatten().all(fits) {
                return Err(Refusal::BadValue);
            }
        }
        FieldType::AddressList | FieldType::TextList => {
            let column = column.as_list_opt::<i32>().ok_or(Refusal::Schema)?;
            if column.values().null_count() > 0 {
                return Err(Refusal::BadValue);
            }
            if longest(column.offsets()) > limits.list_items {
                return Err(Refusal::CellTooLong);
            }
            if let Some(texts) = column.values().as_string_opt::<i32>()
                && longest(texts.offsets()) > limits.text_bytes
            {
                return Err(Refusal::CellTooLong);
            }
        }
        _ => {
            if let Some(column) = column.as_string_opt::<i32>()
                && longest(column.offsets()) > limits.text_bytes
            {
                return Err(Refusal::CellTooLong);
            }
        }
    }
    Ok(())
}

/// The longest cell.
fn longest(offsets: &OffsetBuffer<i32>) -> usize {
    offsets.lengths().fold(0, usize::max)
}
