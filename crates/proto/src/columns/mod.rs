//! Messages in columns: field types, tables, builders.
//!
//! The one source of what a message table is; Python reads it through the binding (`bunker.model.messages`).
pub mod build;
mod dynamic;
mod field;
pub mod kind;
mod tables;
mod text;

pub use dynamic::{AnyColumn, AnyTable, OwnedField};
pub use field::{FieldSpec, FieldType};
#[allow(clippy::wildcard_imports)]
pub use tables::*;
pub use text::{TextItems, push_decimal, push_escape, push_hex, push_text};
