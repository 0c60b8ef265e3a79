//! What a field means, and how Arrow stores it (`docs/formats/records.md`; Python twin: `bunker.model.fields.FieldType`).
use std::sync::Arc;

use arrow_schema::{DataType, Field, TimeUnit};

macro_rules! field_types {
    ($($(#[$doc:meta])* $name:ident => $arrow:expr;)*) => {
        /// The type of a field. It fixes the Arrow type and the transforms that fit.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum FieldType { $($(#[$doc])* $name,)* }

        impl FieldType {
            /// All types, in the order of the format's table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name used in schemas and policies.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The type of this name, if there is one.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $(stringify!($name) => Some(Self::$name),)* _ => None }
            }

            /// How Arrow stores it.
            #[must_use]
            pub fn arrow(self) -> DataType {
                match self { $(Self::$name => $arrow,)* }
            }
        }
    };
}

field_types! {
    /// IPv4 as `::ffff:a.b.c.d`, IPv6 as it is, network order.
    Address => DataType::FixedSizeBinary(16);
    /// Addresses in answers.
    AddressList => list_of(DataType::FixedSizeBinary(16));
    /// Link-layer address.
    Mac => DataType::FixedSizeBinary(6);
    /// TCP/UDP port.
    Port => DataType::UInt16;
    /// A number of a registry.
    Code => DataType::UInt16;
    /// VLAN identifier.
    Vlan => DataType::UInt16;
    /// Number of a flow in this run.
    FlowId => DataType::UInt64;
    /// Host or domain name.
    Host => DataType::Utf8;
    /// URL, absolute or path.
    Url => DataType::Utf8;
    /// Mail address.
    MailAddress => DataType::Utf8;
    /// Product tokens.
    UserAgent => DataType::Utf8;
    /// Word of a vocabulary.
    Enum => DataType::Utf8;
    /// Media type.
    Mime => DataType::Utf8;
    /// JA3, JA4 and the like.
    Fingerprint => DataType::Utf8;
    /// Hash of content, hex.
    Digest => DataType::Utf8;
    /// Free text of the traffic.
    Text => DataType::Utf8;
    /// Several of them.
    TextList => list_of(DataType::Utf8);
    /// Bytes of the traffic.
    Content => DataType::Binary;
    /// A point in time, ns since the epoch, UTC.
    Time => DataType::Timestamp(TimeUnit::Nanosecond, Some(Arc::from("UTC")));
    /// A length of time, ns.
    Duration => DataType::Duration(TimeUnit::Nanosecond);
    /// A size.
    Bytes => DataType::UInt64;
    /// A number of things.
    Count => DataType::UInt64;
    /// A result of an analyzer; never NaN.
    Score => DataType::Float64;
    /// Yes or no.
    Flag => DataType::Boolean;
    /// A set of named bits.
    Flags => DataType::UInt64;
}

/// A list, as other Arrow libraries make it by default: its item may be null as far as Arrow is told, and never is.
fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

/// One column of a message table: name, type, whether a cell may be empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FieldSpec {
    /// Name, as in Zeek's logs where Zeek has the field.
    pub name: &'static str,
    /// What it means.
    pub kind: FieldType,
    /// Whether a cell may be empty.
    pub nullable: bool,
}

impl FieldSpec {
    /// The Arrow field.
    #[must_use]
    pub fn arrow(&self) -> Field {
        Field::new(self.name, self.kind.arrow(), self.nullable)
    }
}
