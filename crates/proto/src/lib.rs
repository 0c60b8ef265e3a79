//! Streams and datagrams to messages.
//!
//! Place in the flow: `wire ▶ proto ▶ analyze`. Parsers are fed and answer; no I/O, no clock, no randomness, a bound on all that
//! grows.
#![forbid(unsafe_code)]

pub mod body;
pub mod http;
