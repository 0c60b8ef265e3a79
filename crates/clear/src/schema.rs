//! Field types and record schemas. Table: `docs/formats/records.md`; Python twin: `bunker.model.fields`.
use std::sync::Arc;

use arrow_schema::{DataType, Field as ArrowField, Schema, TimeUnit};

macro_rules! field_types {
    ($($variant:ident),+ $(,)?) => {
        /// What a field means.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[allow(missing_docs)] // the table of formats/records.md
        pub enum FieldType { $($variant),+ }

        impl FieldType {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Name, as in policies and schemas.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),+ }
            }

            /// The type of this name.
            #[must_use]
            pub fn named(name: &str) -> Option<Self> {
                match name { $(stringify!($variant) => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

field_types!(
    Address,
    AddressList,
    Mac,
    Port,
    Code,
    Vlan,
    FlowId,
    Host,
    Url,
    MailAddress,
    UserAgent,
    Enum,
    Mime,
    Fingerprint,
    Digest,
    Text,
    TextList,
    Content,
    Time,
    Duration,
    Bytes,
    Count,
    Score,
    Flag,
    Flags,
);

impl FieldType {
    /// The Arrow type of a raw column.
    #[must_use]
    pub fn arrow(self) -> DataType {
        match self {
            Self::Address => DataType::FixedSizeBinary(16),
            Self::AddressList => list(DataType::FixedSizeBinary(16)),
            Self::Mac => DataType::FixedSizeBinary(6),
            Self::Port | Self::Code | Self::Vlan => DataType::UInt16,
            Self::FlowId | Self::Bytes | Self::Count | Self::Flags => DataType::UInt64,
            Self::Host
            | Self::Url
            | Self::MailAddress
            | Self::UserAgent
            | Self::Enum
            | Self::Mime
            | Self::Fingerprint
            | Self::Digest
            | Self::Text => DataType::Utf8,
            Self::TextList => list(DataType::Utf8),
            Self::Content => DataType::Binary,
            Self::Time => time(),
            Self::Duration => DataType::Duration(TimeUnit::Nanosecond),
            Self::Score => DataType::Float64,
            Self::Flag => DataType::Boolean,
        }
    }
}

/// Nanoseconds since the epoch, UTC.
#[must_use]
pub fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

/// A list; its items may be null as far as Arrow is told, and are refused if they are.
#[must_use]
pub fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(ArrowField::new("item", item, true)))
}

/// One column of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    /// Name.
    pub name: String,
    /// Type.
    pub kind: FieldType,
    /// Whether a cell may be empty.
    pub nullable: bool,
    /// The words that an Enum may have; empty: not declared, then no cell can be kept.
    pub words: Vec<String>,
}

/// A record's columns, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordSchema {
    /// The record's name.
    pub name: String,
    /// Its columns.
    pub fields: Vec<Field>,
}

impl RecordSchema {
    /// The Arrow schema that a raw batch must have, exactly.
    #[must_use]
    pub fn arrow(&self) -> Schema {
        Schema::new(
            self.fields
                .iter()
                .map(|field| ArrowField::new(&field.name, field.kind.arrow(), field.nullable))
                .collect::<Vec<_>>(),
        )
    }

    /// Position of a column.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }
}

/// The name of an output type, for statements and tables.
#[must_use]
pub fn type_name(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Utf8 => "text",
        DataType::UInt16 => "u16",
        DataType::UInt64 => "u64",
        DataType::Float64 => "f64",
        DataType::Boolean => "bool",
        DataType::Binary => "binary",
        DataType::Timestamp(_, _) => "timestamp_ns",
        DataType::Duration(_) => "duration_ns",
        DataType::List(_) => "list<text>",
        _ => "other",
    }
}
