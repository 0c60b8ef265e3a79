//! Streams and datagrams to messages in columns.
//!
//! Place in the flow: `wire ▶ proto ▶ analyze`. Everything here is fed and answers; it does no I/O, reads no clock (time is the
//! packets'), draws no randomness and bounds all that grows.
#![forbid(unsafe_code)]

pub mod body;
pub mod columns;
pub mod detect;
pub mod dns;
pub mod engine;
pub mod http;
pub mod http2;
pub mod parser;
pub mod tls;
