//! Column builders: appended to row by row, finished into Arrow arrays without a copy.
//!
//! Rules of this file:
//! 1. A builder never fails: a cell that would not fit Arrow's 32-bit offsets is left empty (tables are cut far below that).
//! 2. `truncate` undoes the rows of a parser that panicked in the middle of one.
use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, DurationNanosecondType, Float64Type, TimestampNanosecondType, UInt16Type, UInt64Type,
};
use arrow_array::{ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, ListArray, PrimitiveArray, StringArray};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field};

use super::field::FieldType;
use super::text::{TextItems, push_text};

/// Bytes set aside for a column of the next table when one is finished: as much as this one had, but no more than this, so that all
/// columns of a table together stay far below a batch's size.
const AGAIN: usize = 32 << 10;

/// The elements; the vector starts over with room for as many.
fn taken<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = values.len().min(AGAIN / size_of::<T>().max(1));
    core::mem::replace(values, Vec::with_capacity(room))
}

/// A column under construction.
pub trait Column: Default {
    /// Rows so far.
    fn len(&self) -> usize;
    /// True without rows.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Bytes held.
    fn live_bytes(&self) -> usize;
    /// Forget the rows from `rows` on.
    fn truncate(&mut self, rows: usize);
    /// The array; the builder starts over.
    ///
    /// # Errors
    /// Arrow refuses the buffers: a bug of this file.
    fn finish(&mut self, kind: FieldType) -> Result<ArrayRef, ArrowError>;
}

/// A column of a table, unless nobody asks for it: then nothing is ever pushed to it.
#[derive(Default)]
pub struct Chosen<C> {
    /// The column.
    pub column: C,
    /// Nobody asks for it.
    pub left_out: bool,
}

/// Validity bits, nothing allocated until the first null.
struct Nulls(NullBufferBuilder);

impl Default for Nulls {
    fn default() -> Self {
        Self(NullBufferBuilder::new(1024))
    }
}

/// Numbers of one Arrow primitive type.
pub struct Numbers<T: ArrowPrimitiveType> {
    values: Vec<T::Native>,
    nulls: Nulls,
}

/// 16-bit numbers.
pub type U16s = Numbers<UInt16Type>;
/// 64-bit numbers.
pub type U64s = Numbers<UInt64Type>;
/// Floating point.
pub type F64s = Numbers<Float64Type>;
/// Points in time.
pub type Times = Numbers<TimestampNanosecondType>;
/// Lengths of time.
pub type Durations = Numbers<DurationNanosecondType>;

impl<T: ArrowPrimitiveType> Default for Numbers<T> {
    fn default() -> Self {
        Self { values: Vec::new(), nulls: Nulls::default() }
    }
}

impl<T: ArrowPrimitiveType> Numbers<T> {
    /// Add a value.
    pub fn push(&mut self, value: T::Native) {
        self.values.push(value);
        self.nulls.0.append_non_null();
    }

    /// Add a value or an empty cell.
    pub fn push_maybe(&mut self, value: Option<T::Native>) {
        self.values.push(value.unwrap_or_default());
        self.nulls.0.append(value.is_some());
    }
}

impl<T: ArrowPrimitiveType> Column for Numbers<T> {
    fn len(&self) -> usize {
        self.values.len()
    }
    fn live_bytes(&self) -> usize {
        self.values.capacity().saturating_mul(size_of::<T::Native>()).saturating_add(self.nulls.0.allocated_size())
    }
    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        self.nulls.0.truncate(rows);
    }
    fn finish(&mut self, kind: FieldType) -> Result<ArrayRef, ArrowError> {
        let values = ScalarBuffer::from(taken(&mut self.values));
        let array = PrimitiveArray::<T>::try_new(values, self.nulls.0.finish())?;
        Ok(Arc::new(array.with_data_type(kind.arrow())))
    }
}

/// Booleans.
pub struct Bools {
    values: BooleanBufferBuilder,
    nulls: Nulls,
}

impl Default for Bools {
    fn default() -> Self {
        Self { values: BooleanBufferBuilder::new(0), nulls: Nulls::default() }
    }
}

impl Bools {
    /// Add a value.
    pub fn push(&mut self, value: bool) {
        self.values.append(value);
        self.nulls.0.append_non_null();
    }

    /// Add a value or an empty cell.
    pub fn push_maybe(&mut self, value: Option<bool>) {
        self.values.append(value.unwrap_or_default());
        self.nulls.0.append(value.is_some());
    }
}

impl Column for Bools {
    fn len(&self) -> usize {
        self.values.len()
    }
    fn live_bytes(&self) -> usize {
        (self.values.capacity() / 8).saturating_add(self.nulls.0.allocated_size())
    }
    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        self.nulls.0.truncate(rows);
    }
    fn finish(&mut self, _kind: FieldType) -> Result<ArrayRef, ArrowError> {
        Ok(Arc::new(BooleanArray::new(self.values.finish(), self.nulls.0.finish())))
    }
}

/// Cells of `N` bytes: addresses.
#[derive(Default)]
pub struct Arrays<const N: usize> {
    bytes: Vec<u8>,
    nulls: Nulls,
    rows: usize,
}

impl<const N: usize> Arrays<N> {
    /// Add a value.
    pub fn push(&mut self, value: [u8; N]) {
        self.push_maybe(Some(value));
    }

    /// Add a value or an empty cell.
    pub fn push_maybe(&mut self, value: Option<[u8; N]>) {
        self.bytes.extend_from_slice(&value.unwrap_or([0; N]));
        self.nulls.0.append(value.is_some());
        self.rows = self.rows.saturating_add(1);
    }
}

impl<const N: usize> Column for Arrays<N> {
    fn len(&self) -> usize {
        self.rows
    }
    fn live_bytes(&self) -> usize {
        self.bytes.capacity().saturating_add(self.nulls.0.allocated_size())
    }
    fn truncate(&mut self, rows: usize) {
        self.bytes.truncate(rows.saturating_mul(N));
        self.nulls.0.truncate(rows);
        self.rows = self.rows.min(rows);
    }
    fn finish(&mut self, _kind: FieldType) -> Result<ArrayRef, ArrowError> {
        self.rows = 0;
        let bytes = Buffer::from_vec(taken(&mut self.bytes));
        Ok(Arc::new(FixedSizeBinaryArray::try_new(i32::try_from(N).unwrap_or(0), bytes, self.nulls.0.finish())?))
    }
}

/// Offsets of variable-size cells.
struct Offsets(Vec<i32>);

impl Default for Offsets {
    fn default() -> Self {
        Self(vec![0])
    }
}

impl Offsets {
    fn rows(&self) -> usize {
        self.0.len().saturating_sub(1)
    }
    /// Close a cell that ends at `end`; false (and an empty cell) when that is beyond Arrow's offsets.
    fn close(&mut self, end: usize) -> bool {
        let fits = i32::try_from(end);
        let last = self.0.last().copied().unwrap_or_default();
        self.0.push(fits.unwrap_or(last));
        fits.is_ok()
    }
    /// Close `cells` empty cells.
    fn repeat(&mut self, cells: usize) {
        let last = self.0.last().copied().unwrap_or_default();
        self.0.resize(self.0.len().saturating_add(cells), last);
    }
    fn last(&self) -> usize {
        self.0.last().copied().and_then(|end| usize::try_from(end).ok()).unwrap_or_default()
    }
    fn truncate(&mut self, rows: usize) {
        self.0.truncate(rows.saturating_add(1));
    }
    fn finish(&mut self) -> OffsetBuffer<i32> {
        let offsets = taken(&mut self.0);
        self.0.push(0);
        OffsetBuffer::new(ScalarBuffer::from(offsets))
    }
    fn live_bytes(&self) -> usize {
        self.0.capacity().saturating_mul(size_of::<i32>())
    }
}

/// Cells of bytes: text (escaped when pushed) or content.
#[derive(Default)]
pub struct Blobs {
    offsets: Offsets,
    bytes: Vec<u8>,
    nulls: Nulls,
    /// Empty cells at the end that are not written yet: a column nobody fills costs an addition a row.
    empty: usize,
}

impl Blobs {
    fn close(&mut self) {
        if !self.offsets.close(self.bytes.len()) {
            self.bytes.truncate(self.offsets.last());
        }
        self.nulls.0.append_non_null();
    }

    /// Write the empty cells that wait.
    fn settle(&mut self) {
        if self.empty > 0 {
            self.offsets.repeat(self.empty);
            self.nulls.0.append_n_nulls(core::mem::take(&mut self.empty));
        }
    }

    /// Add bytes as they are.
    pub fn push_bytes(&mut self, value: Option<&[u8]>) {
        let Some(value) = value else {
            self.empty = self.empty.saturating_add(1);
            return;
        };
        self.settle();
        self.bytes.extend_from_slice(value);
        self.close();
    }

    /// Add bytes of the traffic as text.
    pub fn push_text(&mut self, value: Option<&[u8]>) {
        let Some(value) = value else {
            self.empty = self.empty.saturating_add(1);
            return;
        };
        self.settle();
        push_text(&mut self.bytes, value);
        self.close();
    }
}

impl Column for Blobs {
    fn len(&self) -> usize {
        self.offsets.rows().saturating_add(self.empty)
    }
    fn live_bytes(&self) -> usize {
        self.bytes.capacity().saturating_add(self.offsets.live_bytes()).saturating_add(self.nulls.0.allocated_size())
    }
    fn truncate(&mut self, rows: usize) {
        self.empty = self.empty.min(rows.saturating_sub(self.offsets.rows()));
        self.offsets.truncate(rows);
        self.bytes.truncate(self.offsets.last());
        if self.nulls.0.len() > rows {
            self.nulls.0.truncate(rows);
        }
    }
    fn finish(&mut self, kind: FieldType) -> Result<ArrayRef, ArrowError> {
        self.settle();
        let offsets = self.offsets.finish();
        let bytes = Buffer::from_vec(taken(&mut self.bytes));
        let nulls = self.nulls.0.finish();
        Ok(match kind.arrow() {
            DataType::Binary => Arc::new(BinaryArray::try_new(offsets, bytes, nulls)?),
            _ => Arc::new(StringArray::try_new(offsets, bytes, nulls)?),
        })
    }
}

/// Lists of texts.
#[derive(Default)]
pub struct TextLists {
    offsets: Offsets,
    items: Blobs,
    nulls: Nulls,
}

impl TextLists {
    /// Add a list or an empty cell.
    pub fn push(&mut self, value: Option<&TextItems>) {
        for item in value.into_iter().flat_map(TextItems::iter) {
            self.items.push_text(Some(item));
        }
        self.offsets.close(self.items.len());
        self.nulls.0.append(value.is_some());
    }
}

impl Column for TextLists {
    fn len(&self) -> usize {
        self.offsets.rows()
    }
    fn live_bytes(&self) -> usize {
        self.items.live_bytes().saturating_add(self.offsets.live_bytes())
    }
    fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows);
        self.items.truncate(self.offsets.last());
        self.nulls.0.truncate(rows);
    }
    fn finish(&mut self, _kind: FieldType) -> Result<ArrayRef, ArrowError> {
        let items = self.items.finish(FieldType::Text)?;
        let field = Arc::new(Field::new("item", DataType::Utf8, true));
        Ok(Arc::new(ListArray::try_new(field, self.offsets.finish(), items, self.nulls.0.finish())?))
    }
}

/// Lists of addresses.
#[derive(Default)]
pub struct AddressLists {
    offsets: Offsets,
    items: Arrays<16>,
    nulls: Nulls,
}

impl AddressLists {
    /// Add a list or an empty cell.
    pub fn push(&mut self, value: Option<&[[u8; 16]]>) {
        for item in value.unwrap_or_default() {
            self.items.push(*item);
        }
        self.offsets.close(self.items.len());
        self.nulls.0.append(value.is_some());
    }
}

impl Column for AddressLists {
    fn len(&self) -> usize {
        self.offsets.rows()
    }
    fn live_bytes(&self) -> usize {
        self.items.live_bytes().saturating_add(self.offsets.live_bytes())
    }
    fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows);
        self.items.truncate(self.offsets.last());
        self.nulls.0.truncate(rows);
    }
    fn finish(&mut self, _kind: FieldType) -> Result<ArrayRef, ArrowError> {
        let items = self.items.finish(FieldType::Address)?;
        let field = Arc::new(Field::new("item", DataType::FixedSizeBinary(16), true));
        Ok(Arc::new(ListArray::try_new(field, self.offsets.finish(), items, self.nulls.0.finish())?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow_array::cast::AsArray as _;

    use super::*;

    fn cells(column: &mut Blobs) -> Vec<Option<String>> {
        let array = column.finish(FieldType::Text).unwrap();
        array.as_string::<i32>().iter().map(|cell| cell.map(str::to_owned)).collect()
    }

    #[test]
    fn empty_cells_stand_where_they_were_pushed() {
        let mut column = Blobs::default();
        for value in [None, Some(&b"a"[..]), None, None, Some(b""), Some(b"\xff"), None] {
            column.push_text(value);
        }
        assert_eq!(column.len(), 7);
        let text = |cell: &str| Some(cell.to_owned());
        assert_eq!(cells(&mut column), [None, text("a"), None, None, text(""), text("\\xff"), None]);
        assert_eq!(column.len(), 0);
        column.push_text(None);
        assert_eq!(cells(&mut column), [None]);
    }

    #[test]
    fn a_finished_column_keeps_room_and_no_cells_and_not_too_much_of_it() {
        let mut column = Blobs::default();
        let mut numbers = U64s::default();
        for _ in 0..100_000 {
            column.push_bytes(Some(b"ten bytes!"));
            numbers.push(7);
        }
        assert_eq!(column.finish(FieldType::Text).unwrap().len(), 100_000);
        assert_eq!(numbers.finish(FieldType::Count).unwrap().len(), 100_000);
        assert_eq!((column.len(), numbers.len()), (0, 0));
        assert!((1..=3 * AGAIN).contains(&column.live_bytes()), "{}", column.live_bytes());
        assert!((1..=2 * AGAIN).contains(&numbers.live_bytes()), "{}", numbers.live_bytes());
    }

    #[test]
    fn truncating_undoes_cells_written_and_waiting() {
        for keep in 0..=5 {
            let mut column = Blobs::default();
            let all = [Some(&b"a"[..]), None, Some(b"b"), None, None];
            for value in all {
                column.push_bytes(value);
            }
            column.truncate(keep);
            assert_eq!(column.len(), keep);
            column.push_bytes(Some(b"new"));
            let mut wanted: Vec<Option<String>> = all
                .iter()
                .take(keep)
                .map(|cell| cell.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()))
                .collect();
            wanted.push(Some("new".to_owned()));
            assert_eq!(cells(&mut column), wanted);
        }
    }
}
