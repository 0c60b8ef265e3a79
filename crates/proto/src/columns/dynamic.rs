//! Columns whose type is known at run time only: records that an analyzer declares.
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, Field, Schema, SchemaRef};

use super::build::{AddressLists, Arrays, Blobs, Bools, Column, Durations, F64s, TextLists, Times, U16s, U64s};
use super::field::FieldType;

/// A builder of any field type.
pub enum AnyColumn {
    /// Addresses.
    Addresses(Arrays<16>),
    /// Link-layer addresses.
    Macs(Arrays<6>),
    /// Ports, codes, VLANs.
    U16s(U16s),
    /// Sizes, counts, flow numbers, sets of bits.
    U64s(U64s),
    /// Scores.
    F64s(F64s),
    /// Flags.
    Bools(Bools),
    /// All kinds of text.
    Texts(Blobs),
    /// Content.
    Contents(Blobs),
    /// Lists of text.
    TextLists(TextLists),
    /// Lists of addresses.
    AddressLists(AddressLists),
    /// Times.
    Times(Times),
    /// Durations.
    Durations(Durations),
}

macro_rules! each {
    ($column:expr, $name:ident => $act:expr) => {
        match $column {
            AnyColumn::Addresses($name) => $act,
            AnyColumn::Macs($name) => $act,
            AnyColumn::U16s($name) => $act,
            AnyColumn::U64s($name) => $act,
            AnyColumn::F64s($name) => $act,
            AnyColumn::Bools($name) => $act,
            AnyColumn::Texts($name) => $act,
            AnyColumn::Contents($name) => $act,
            AnyColumn::TextLists($name) => $act,
            AnyColumn::AddressLists($name) => $act,
            AnyColumn::Times($name) => $act,
            AnyColumn::Durations($name) => $act,
        }
    };
}

impl AnyColumn {
    /// An empty column of this type.
    #[must_use]
    pub fn new(kind: FieldType) -> Self {
        match kind {
            FieldType::Address => Self::Addresses(Arrays::default()),
            FieldType::Mac => Self::Macs(Arrays::default()),
            FieldType::Port | FieldType::Code | FieldType::Vlan => Self::U16s(U16s::default()),
            FieldType::FlowId | FieldType::Bytes | FieldType::Count | FieldType::Flags => Self::U64s(U64s::default()),
            FieldType::Score => Self::F64s(F64s::default()),
            FieldType::Flag => Self::Bools(Bools::default()),
            FieldType::Host
            | FieldType::Url
            | FieldType::MailAddress
            | FieldType::UserAgent
            | FieldType::Enum
            | FieldType::Mime
            | FieldType::Fingerprint
            | FieldType::Digest
            | FieldType::Text => Self::Texts(Blobs::default()),
            FieldType::Content => Self::Contents(Blobs::default()),
            FieldType::TextList => Self::TextLists(TextLists::default()),
            FieldType::AddressList => Self::AddressLists(AddressLists::default()),
            FieldType::Time => Self::Times(Times::default()),
            FieldType::Duration => Self::Durations(Durations::default()),
        }
    }

    /// Append an empty cell.
    pub fn push_null(&mut self) {
        match self {
            Self::Addresses(column) => column.push_maybe(None),
            Self::Macs(column) => column.push_maybe(None),
            Self::U16s(column) => column.push_maybe(None),
            Self::U64s(column) => column.push_maybe(None),
            Self::F64s(column) => column.push_maybe(None),
            Self::Bools(column) => column.push_maybe(None),
            Self::Texts(column) => column.push_text(None),
            Self::Contents(column) => column.push_bytes(None),
            Self::TextLists(column) => column.push(None),
            Self::AddressLists(column) => column.push(None),
            Self::Times(column) => column.push_maybe(None),
            Self::Durations(column) => column.push_maybe(None),
        }
    }

    /// Forget the rows from `rows` on.
    pub fn truncate(&mut self, rows: usize) {
        each!(self, column => column.truncate(rows));
    }
}

/// One column of a declared record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedField {
    /// Name.
    pub name: String,
    /// Type.
    pub kind: FieldType,
    /// Whether a cell may be empty.
    pub nullable: bool,
}

/// Records under construction.
pub struct AnyTable {
    fields: Vec<OwnedField>,
    columns: Vec<AnyColumn>,
    schema: SchemaRef,
    rows: usize,
}

impl AnyTable {
    /// Without rows.
    #[must_use]
    pub fn new(fields: Vec<OwnedField>) -> Self {
        let columns = fields.iter().map(|field| AnyColumn::new(field.kind)).collect();
        let schema = Arc::new(Schema::new(
            fields.iter().map(|field| Field::new(&field.name, field.kind.arrow(), field.nullable)).collect::<Vec<_>>(),
        ));
        Self { fields, columns, schema, rows: 0 }
    }

    /// Append a row: `fill` puts exactly one cell into each column. If it fails, the row is undone.
    ///
    /// # Errors
    /// What `fill` says.
    pub fn push<E>(
        &mut self,
        mut fill: impl FnMut(usize, &OwnedField, &mut AnyColumn) -> Result<(), E>,
    ) -> Result<(), E> {
        for (index, (field, column)) in self.fields.iter().zip(&mut self.columns).enumerate() {
            if let Err(error) = fill(index, field, column) {
                for column in &mut self.columns {
                    column.truncate(self.rows);
                }
                return Err(error);
            }
        }
        self.rows = self.rows.saturating_add(1);
        Ok(())
    }

    /// The columns, in order.
    #[must_use]
    pub fn fields(&self) -> &[OwnedField] {
        &self.fields
    }

    /// Rows so far.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// The rows as a batch; the table starts over.
    ///
    /// # Errors
    /// Arrow refuses the columns: `fill` did not put one cell into each.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        self.rows = 0;
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (field, column) in self.fields.iter().zip(&mut self.columns) {
            arrays.push(each!(column, column => column.finish(field.kind))?);
        }
        RecordBatch::try_new(Arc::clone(&self.schema), arrays)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn field(name: &str, kind: FieldType, nullable: bool) -> OwnedField {
        OwnedField { name: name.into(), kind, nullable }
    }

    #[test]
    fn every_type_takes_a_null_and_keeps_its_arrow_type() {
        let fields = FieldType::ALL.iter().map(|kind| field(kind.name(), *kind, true)).collect();
        let mut table = AnyTable::new(fields);
        table.push(|_, _, column| Ok::<(), ()>(column.push_null())).unwrap();
        let batch = table.finish().unwrap();
        assert_eq!(batch.num_rows(), 1);
        for (column, kind) in batch.columns().iter().zip(FieldType::ALL) {
            assert_eq!((column.null_count(), column.data_type()), (1, &kind.arrow()));
            assert_eq!(FieldType::from_name(kind.name()), Some(*kind));
        }
        assert!(FieldType::from_name("address").is_none());
    }

    #[test]
    fn failed_row_is_undone() {
        let mut table = AnyTable::new(vec![field("a", FieldType::Text, false), field("b", FieldType::Count, false)]);
        let mut fill = |good: bool| {
            table.push(|index, _, column| match column {
                AnyColumn::Texts(column) => {
                    column.push_text(Some(b"x"));
                    Ok(())
                }
                AnyColumn::U64s(column) if good => {
                    column.push(1);
                    Ok(())
                }
                _ => Err(index),
            })
        };
        assert_eq!(fill(true), Ok(()));
        assert_eq!(fill(false), Err(1));
        assert_eq!(fill(true), Ok(()));
        assert_eq!(table.finish().unwrap().num_rows(), 2);
    }
}
