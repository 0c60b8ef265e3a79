//! A cleared column before it has an order: values as 64-bit words, texts as numbers in a table.
//!
//! Rules of this file:
//! 1. Nothing of the input's buffers is in here: words are copied, texts come out of the transform's own table.
//! 2. Rows are ordered by what leaves: the first column, then a keyed hash of the whole row. The order depends on the rows alone, not on how
//!    they came, and whoever chose the rows does not know the key.
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, DurationNanosecondArray, Float64Array, ListArray, StringArray, TimestampNanosecondArray,
    UInt16Array, UInt64Array,
};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field};

/// A null in a column of texts.
pub const NULL: u32 = u32::MAX;

/// Texts of a transform, each once, with its hash.
#[derive(Default)]
pub struct Texts {
    bytes: Vec<u8>,
    ends: Vec<(u32, u32)>,
    hashes: Vec<u64>,
}

impl Texts {
    /// Put a text in; None if 4 GiB are full.
    pub fn push(&mut self, text: &str, hash: u64) -> Option<u32> {
        let start = u32::try_from(self.bytes.len()).ok()?;
        self.bytes.extend_from_slice(text.as_bytes());
        let end = u32::try_from(self.bytes.len()).ok()?;
        let number = u32::try_from(self.ends.len()).ok().filter(|number| *number != NULL)?;
        self.ends.push((start, end));
        self.hashes.push(hash);
        Some(number)
    }

    /// The text of a number.
    #[must_use]
    pub fn text(&self, number: u32) -> &[u8] {
        let Some((start, end)) = self.ends.get(number as usize) else { return &[] };
        self.bytes.get(*start as usize..*end as usize).unwrap_or(&[])
    }

    fn hash(&self, number: u32) -> u64 {
        self.hashes.get(number as usize).copied().unwrap_or(0x9E37_79B9_7F4A_7C15)
    }

    /// Bytes held.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len().saturating_add(self.ends.len().saturating_mul(16))
    }

    /// Forget all.
    pub fn clear(&mut self) {
        self.bytes.fill(0);
        self.bytes.clear();
        self.ends.clear();
        self.hashes.clear();
    }
}

/// A column of cleared cells.
pub enum Cells {
    /// Numbers, times, flags: a word each, and whether it is there.
    Words(Vec<u64>, Vec<bool>),
    /// Texts: numbers in the table.
    Texts(Vec<u32>),
    /// Lists of texts: where each row's items end, whether it is there, the items.
    Lists(Vec<u32>, Vec<bool>, Vec<u32>),
}

/// One step of a keyed hash: multiply and fold, as wyhash does.
#[must_use]
pub const fn mix(hash: u64, word: u64, key: u64) -> u64 {
    #[allow(clippy::cast_possible_truncation)] // the two halves are what is meant
    {
        let wide = ((hash ^ word) as u128).wrapping_mul((key | 1) as u128);
        (wide as u64) ^ ((wide >> 64) as u64)
    }
}

impl Cells {
    /// Rows.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Words(words, _) => words.len(),
            Self::Texts(numbers) => numbers.len(),
            Self::Lists(ends, ..) => ends.len(),
        }
    }

    /// Whether there are no rows.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Work this column into the hash of each row.
    pub fn hash_into(&self, hashes: &mut [u64], texts: &Texts, key: u64) {
        const ABSENT: u64 = 0xD6E8_FEB8_6659_FD93;
        match self {
            Self::Words(words, there) => {
                for ((hash, word), there) in hashes.iter_mut().zip(words).zip(there) {
                    *hash = mix(*hash, if *there { *word } else { ABSENT }, key);
                }
            }
            Self::Texts(numbers) => {
                for (hash, number) in hashes.iter_mut().zip(numbers) {
                    *hash = mix(*hash, texts.hash(*number), key);
                }
            }
            Self::Lists(ends, there, items) => {
                let mut start = 0_usize;
                for ((hash, end), there) in hashes.iter_mut().zip(ends).zip(there) {
                    let end = *end as usize;
                    for item in items.get(start..end).unwrap_or(&[]) {
                        *hash = mix(*hash, texts.hash(*item), key);
                    }
                    *hash = mix(*hash, if *there { 1 } else { ABSENT }, key);
                    start = end;
                }
            }
        }
    }

    /// What the rows are sorted by before their hash: the word with the sign turned, so that times grow.
    #[must_use]
    pub fn leading(&self) -> Vec<u64> {
        match self {
            Self::Words(words, there) => {
                words.iter().zip(there).map(|(word, there)| if *there { (*word ^ (1 << 63)) | 1 } else { 0 }).collect()
            }
            _ => vec![0; self.len()],
        }
    }

    /// The Arrow column, in this order.
    #[must_use]
    pub fn arrow(&self, data_type: &DataType, order: &[u32], texts: &Texts) -> Option<ArrayRef> {
        match self {
            Self::Words(words, there) => words_arrow(words, there, data_type, order),
            Self::Texts(numbers) => {
                let mut bytes = 0_usize;
                let mut any_null = false;
                for number in numbers {
                    any_null |= *number == NULL;
                    bytes = bytes.saturating_add(texts.text(*number).len());
                }
                let mut values = Vec::with_capacity(bytes);
                let mut offsets: Vec<i32> = Vec::with_capacity(order.len().saturating_add(1));
                offsets.push(0);
                for row in order {
                    values.extend_from_slice(texts.text(*numbers.get(*row as usize)?));
                    offsets.push(i32::try_from(values.len()).ok()?);
                }
                let nulls = any_null.then(|| {
                    order.iter().map(|row| numbers.get(*row as usize).is_some_and(|number| *number != NULL)).collect()
                });
                strings(offsets, values, nulls).map(|array| Arc::new(array) as ArrayRef)
            }
            Self::Lists(ends, there, items) => {
                let (mut values, mut offsets, mut lists, mut valid) =
                    (Vec::new(), vec![0_i32], vec![0_i32], Vec::new());
                for row in order {
                    let row = *row as usize;
                    let start = row.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
                    for item in items.get(start as usize..*ends.get(row)? as usize)? {
                        values.extend_from_slice(texts.text(*item));
                        offsets.push(i32::try_from(values.len()).ok()?);
                    }
                    lists.push(i32::try_from(offsets.len().checked_sub(1)?).ok()?);
                    valid.push(*there.get(row)?);
                }
                let field = Arc::new(Field::new("item", DataType::Utf8, true));
                let nulls = valid.iter().any(|valid| !valid).then(|| NullBuffer::from(valid));
                let values = Arc::new(strings(offsets, values, None)?);
                let lists = OffsetBuffer::new(ScalarBuffer::from(lists));
                Some(Arc::new(ListArray::try_new(field, lists, values, nulls).ok()?))
            }
        }
    }
}

fn strings(offsets: Vec<i32>, values: Vec<u8>, nulls: Option<Vec<bool>>) -> Option<StringArray> {
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    StringArray::try_new(offsets, Buffer::from_vec(values), nulls.map(NullBuffer::from)).ok()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // words were made of these types
fn words_arrow(words: &[u64], there: &[bool], data_type: &DataType, order: &[u32]) -> Option<ArrayRef> {
    let nulls = there.iter().any(|there| !there).then(|| {
        NullBuffer::from(
            order.iter().map(|row| there.get(*row as usize).copied().unwrap_or(false)).collect::<Vec<bool>>(),
        )
    });
    let at = |row: &u32| words.get(*row as usize).copied().unwrap_or(0);
    Some(match data_type {
        DataType::UInt16 => {
            Arc::new(UInt16Array::new(order.iter().map(|row| at(row) as u16).collect::<Vec<_>>().into(), nulls))
        }
        DataType::UInt64 => Arc::new(UInt64Array::new(order.iter().map(at).collect::<Vec<_>>().into(), nulls)),
        DataType::Float64 => {
            let values = order.iter().map(|row| f64::from_bits(at(row))).collect::<Vec<_>>();
            Arc::new(Float64Array::new(values.into(), nulls))
        }
        DataType::Boolean => {
            let values = order.iter().map(|row| at(row) != 0).collect::<Vec<bool>>();
            Arc::new(BooleanArray::new(values.into(), nulls))
        }
        DataType::Timestamp(_, _) => {
            let values = order.iter().map(|row| at(row) as i64).collect::<Vec<_>>();
            Arc::new(TimestampNanosecondArray::new(values.into(), nulls).with_timezone("UTC"))
        }
        DataType::Duration(_) => {
            let values = order.iter().map(|row| at(row) as i64).collect::<Vec<_>>();
            Arc::new(DurationNanosecondArray::new(values.into(), nulls))
        }
        _ => return None,
    })
}

/// The order in which rows leave.
#[must_use]
pub fn order_of(leading: &[u64], hashes: &[u64]) -> Option<Vec<u32>> {
    let mut keyed: Vec<(u64, u64, u32)> = Vec::with_capacity(hashes.len());
    for (row, (leading, hash)) in leading.iter().zip(hashes).enumerate() {
        keyed.push((*leading, *hash, u32::try_from(row).ok()?));
    }
    keyed.sort_unstable();
    Some(keyed.into_iter().map(|(_, _, row)| row).collect())
}
