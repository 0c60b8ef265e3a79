//! Field types as Rust types: what a table's row must give for each column, checked by the compiler.
use super::build::{AddressLists, Arrays, Blobs, Bools, Column, Durations, F64s, TextLists, Times, U16s, U64s};
use super::field::FieldType;
use super::text::TextItems;

/// A field type, nullable or not, with its builder and the value that a row gives.
pub trait Kind {
    /// The field type.
    const TYPE: FieldType;
    /// Whether a cell may be empty.
    const NULLABLE: bool;
    /// The builder.
    type Column: Column;
    /// One cell.
    type Value<'a>;
    /// Append a cell.
    fn push(column: &mut Self::Column, value: Self::Value<'_>);
}

macro_rules! kinds {
    ($($name:ident: $column:ty, $value:ty, |$c:ident, $v:ident| $push:expr;)*) => {$(
        /// Marker of the field type of this name.
        pub struct $name;
        impl Kind for $name {
            const TYPE: FieldType = FieldType::$name;
            const NULLABLE: bool = false;
            type Column = $column;
            type Value<'a> = $value;
            fn push($c: &mut Self::Column, value: Self::Value<'_>) {
                let $v = Some(value);
                $push;
            }
        }
        impl Kind for Option<$name> {
            const TYPE: FieldType = FieldType::$name;
            const NULLABLE: bool = true;
            type Column = $column;
            type Value<'a> = Option<$value>;
            fn push($c: &mut Self::Column, $v: Self::Value<'_>) {
                $push;
            }
        }
    )*};
}

kinds! {
    Address: Arrays<16>, [u8; 16], |c, v| c.push_maybe(v);
    AddressList: AddressLists, &'a [[u8; 16]], |c, v| c.push(v);
    Mac: Arrays<6>, [u8; 6], |c, v| c.push_maybe(v);
    Port: U16s, u16, |c, v| c.push_maybe(v);
    Code: U16s, u16, |c, v| c.push_maybe(v);
    Vlan: U16s, u16, |c, v| c.push_maybe(v);
    FlowId: U64s, u64, |c, v| c.push_maybe(v);
    Host: Blobs, &'a [u8], |c, v| c.push_text(v);
    Url: Blobs, &'a [u8], |c, v| c.push_text(v);
    MailAddress: Blobs, &'a [u8], |c, v| c.push_text(v);
    UserAgent: Blobs, &'a [u8], |c, v| c.push_text(v);
    Enum: Blobs, &'a [u8], |c, v| c.push_text(v);
    Mime: Blobs, &'a [u8], |c, v| c.push_text(v);
    Fingerprint: Blobs, &'a [u8], |c, v| c.push_text(v);
    Digest: Blobs, &'a [u8], |c, v| c.push_text(v);
    Text: Blobs, &'a [u8], |c, v| c.push_text(v);
    TextList: TextLists, &'a TextItems, |c, v| c.push(v);
    Content: Blobs, &'a [u8], |c, v| c.push_bytes(v);
    Time: Times, u64, |c, v| c.push_maybe(v.map(nanoseconds));
    Duration: Durations, u64, |c, v| c.push_maybe(v.map(nanoseconds));
    Bytes: U64s, u64, |c, v| c.push_maybe(v);
    Count: U64s, u64, |c, v| c.push_maybe(v);
    Score: F64s, f64, |c, v| c.push_maybe(v.map(|score| if score.is_nan() { 0.0 } else { score }));
    Flag: Bools, bool, |c, v| c.push_maybe(v);
    Flags: U64s, u64, |c, v| c.push_maybe(v);
}

/// Nanoseconds as Arrow has them; the year 2262 is the end of time.
fn nanoseconds(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
