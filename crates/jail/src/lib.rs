//! What locks a process of the box in: namespaces, a private root, Landlock, seccomp, limits.
//!
//! ```text
//! isolate ─▶ (fork: process 1 of a new pid namespace) ─▶ confine ─▶ the role's imports ─▶ lock_down ─▶ traffic
//! namespaces, root                                       ids, fds, limits, Landlock, first filter     strict filter
//! ```
//!
//! Rules of this crate:
//! 1. There is no exec between [`confine`] and the role: an exec would make the process dumpable again, and in a user namespace
//!    that an ordinary user owns it would give that user the right to attach.
//! 2. Every step says what it really reached in a [`Record`]; what a kernel lacks is reported, never assumed. The floor below
//!    which a box does not start is the caller's rule (`bunker.closed.process.jail`).
//! 3. A step that must not fail ends the launch with a [`JailError`]; a step that may be missing becomes an entry of the record.
//! 4. Unsafe code stands in `sys.rs` alone, one system call a function.

mod calls;
mod confine;
mod error;
mod files;
mod filter;
mod isolate;
mod probe;
mod record;
mod root;
mod spec;
mod sys;

pub use confine::confine;
pub use error::{Cause, JailError};
pub use filter::lock_down;
pub use isolate::isolate;
pub use probe::probe;
pub use record::{Entry, Record};
pub use spec::{Grants, PlacedFile, PrivateRoot, Role, Scratch, Spec, Surroundings, UID_COUNT};
pub use sys::adopt_orphans;
