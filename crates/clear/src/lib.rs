//! A policy applied to columns: the only maker of a [`ClearedBatch`].
//!
//! Place in the flow: `analyze ▶ clear ▶ egress`. Pure: no I/O, no clock; randomness (the run's keys) is handed in.
//!
//! Rules of this crate:
//! 1. What comes in is hostile: it is decoded within limits, must have exactly the declared schema, and is checked cell by cell where
//!    a type allows less than its bits.
//! 2. What goes out is built anew, column by column, from rules of the policy; a column without a rule does not exist.
//! 3. Row order is canonical, so that order carries nothing.
//!
//! A `ClearedBatch` cannot be made elsewhere:
//! ```compile_fail
//! let batch = bunker_clear::ClearedBatch { record: String::new(), ipc: Vec::new(), rows: 0 };
//! ```
#![forbid(unsafe_code)]

pub mod address;
pub mod address_map;
pub mod address_special;
pub mod aggregate;
pub mod cells;
pub mod check;
pub mod cryptopan;
mod draw;
pub mod gate;
pub mod keys;
pub mod lists;
pub mod memory;
pub mod names;
pub mod noise;
pub mod number;
pub mod permute;
pub mod pfx;
pub mod policy;
mod record;
pub mod sample;
pub mod schema;
pub mod trace;
pub mod transform;
pub mod window;
pub mod work;

pub use address_map::{AddressMap, Method, Role, Sites};
pub use gate::{ClearedBatch, Gate, Limits, Refusal};
pub use keys::{Clock, Keys, Rotation};
pub use lists::List;
pub use policy::Policy;
pub use schema::{Field, FieldType, RecordSchema};
pub use transform::{Output, Rule, Transform};
