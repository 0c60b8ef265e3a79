//! What `wire` promises: bytes in, packets, flows and streams out, whatever the cut of the input.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    missing_docs
)]

mod block;
mod capfile;
mod exhaustion;
mod flows;
mod fragments;
mod make;
mod network;
mod overlap;
mod packer;
mod stream;
