//! Streams and datagrams to messages in columns.
//!
//! Place in the flow: `wire ▶ proto ▶ analyze`. Everything here is fed and answers; it does no I/O, reads no clock (time is the
//! packets'), draws no randomness and bounds all that grows.
#![forbid(unsafe_code)]

pub mod body;
pub mod columns;
pub mod detect;
pub mod dhcp;
pub mod dns;
pub mod dtls;
pub mod engine;
pub mod http;
pub mod http2;
pub mod mail;
pub mod ntp;
pub mod parser;
pub mod pieces;
pub mod quic;
pub mod ssh;
pub mod tls;
