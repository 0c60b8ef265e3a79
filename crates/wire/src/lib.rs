//! Bytes to packets, flows and streams.
//!
//! Place in the flow: `spool ▶ wire ▶ proto`. Everything here is fed and answers; it does no I/O, reads no clock (time is the
//! packets'), draws no randomness and bounds all that grows (`limits`).
#![forbid(unsafe_code)]

pub mod block;
pub mod bpf;
pub mod bytes;
pub mod capfile;
pub mod event;
pub mod flowhash;
pub mod fragments;
pub mod ip;
pub mod limits;
pub mod link;
pub mod packer;
pub mod packet;
pub mod tracker;
pub mod tunnel;
pub mod zstd;

pub use event::{Address, Direction, Endpoint, Flow, FlowSummary, Outcome, Sink};
pub use packet::Packet;
