//! Blocks in, batches of messages out.
//!
//! Rules of this file:
//! 1. Fed in other blocks, the same packets give the same rows.
//! 2. What is held is bounded: the tables by [`TAKE_BYTES`] (then `feed` stops until they are taken), flows and streams by the
//!    tracker's limits, parsers by [`PARSER_BYTES`].
//! 3. A panic costs one flow: it is caught, counted, the flow condemned, and the next packet follows.
mod counters;
mod sink;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use bunker_wire::block::{BlockFormat, packets};
use bunker_wire::limits::Limits;
use bunker_wire::tracker::{Checksums, Tracker};

use crate::columns::{MessageKind, Origin, PacketRow};
use crate::detect::{ByContent, Detect};
use crate::parser::Wanted;

pub use counters::Counters;
pub use sink::{Messages, PARSER_BYTES, SWITCHES, outcome_word};

/// Rows of one batch at most.
pub const BATCH_ROWS: usize = 65_536;
/// Bytes of one batch at which it is closed.
pub const BATCH_BYTES: usize = 16 << 20;
/// Bytes in batches and tables at which `feed` stops until they are taken. A block of 8 MiB becomes at most a few times that, unless
/// compressed bodies are unpacked.
pub const TAKE_BYTES: usize = 64 << 20;
/// Packets between two looks at the tables' sizes, and the unit in which panics are caught.
const BURST: usize = 64;

/// How an engine is set up.
#[derive(Clone, Copy)]
pub struct EngineConfig {
    /// Number of the lane: upper 16 bits of flow numbers.
    pub lane: u16,
    /// Kinds of messages that somebody subscribes to.
    pub want: Wanted,
    /// Bounds of flows and streams.
    pub limits: Limits,
    /// Key of the flow table's hash.
    pub seed: [u8; 16],
    /// What to do with wrong checksums.
    pub checksums: Checksums,
}

/// Whether a block is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fed {
    /// All of it.
    Whole,
    /// The tables are full: take them, then feed the same block again.
    TakeFirst,
}

/// Something was fed out of order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockUnfinished {
    /// The block that must be fed again first.
    pub number: u64,
}

/// One lane's analysis.
pub struct Engine<D = ByContent> {
    tracker: Tracker,
    messages: Messages<D>,
    want: Wanted,
    ready: Vec<(MessageKind, RecordBatch)>,
    ready_rows: usize,
    ready_bytes: usize,
    /// Block that was not fed to its end, and how many of its packets were.
    unfinished: Option<(u64, usize)>,
    fault: Option<ArrowError>,
}

impl Engine<ByContent> {
    /// An engine without flows.
    #[must_use]
    pub fn new(config: EngineConfig) -> Self {
        Self::with_detection(config, ByContent)
    }
}

impl<D: Detect> Engine<D> {
    /// The same with another choice of parsers.
    pub fn with_detection(config: EngineConfig, detect: D) -> Self {
        Self {
            tracker: Tracker::new(config.limits, config.lane, config.seed, config.checksums),
            messages: Messages::new(detect, config.want),
            want: config.want,
            ready: Vec::new(),
            ready_rows: 0,
            ready_bytes: 0,
            unfinished: None,
            fault: None,
        }
    }

    /// Another bound than [`PARSER_BYTES`].
    pub fn limit_parsers(&mut self, bytes: usize) {
        self.messages.limit_parsers(bytes);
    }

    /// Take a block. Blocks come in the order of their numbers.
    ///
    /// # Errors
    /// Another block has not been fed to its end.
    pub fn feed(&mut self, format: BlockFormat, block: &[u8], number: u64) -> Result<Fed, BlockUnfinished> {
        let mut done = match self.unfinished.take() {
            Some((unfinished, done)) if unfinished == number => done,
            Some(other) => {
                self.unfinished = Some(other);
                return Err(BlockUnfinished { number: other.0 });
            }
            None => {
                self.messages.counters.blocks = self.messages.counters.blocks.saturating_add(1);
                0
            }
        };
        self.messages.block = number;
        loop {
            match self.burst(format, block, done) {
                Burst::More(now) => done = now,
                Burst::End => return Ok(Fed::Whole),
            }
            self.close_full_tables();
            if self.pending_bytes() >= TAKE_BYTES {
                self.unfinished = Some((number, done));
                return Ok(Fed::TakeFirst);
            }
        }
    }

    /// Feed up to [`BURST`] packets behind the first `done`.
    fn burst(&mut self, format: BlockFormat, block: &[u8], done: usize) -> Burst {
        let mut at = done;
        let (tracker, messages, want) = (&mut self.tracker, &mut self.messages, self.want);
        let position = &mut at;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut left = 0u32;
            let mut iterator = packets(format, block);
            if done > 0 && iterator.nth(done.saturating_sub(1)).is_none() {
                return true;
            }
            for _ in 0..BURST.saturating_mul(64) {
                let Some(next) = iterator.next() else { return true };
                *position = position.saturating_add(1);
                match next {
                    Ok(packet) => {
                        tracker.feed(&packet, messages);
                        if want.has(MessageKind::Packet) {
                            let origin = tracker
                                .last_flow()
                                .map_or(Origin::none(packet.ts_ns), |flow| Origin::of(&flow, packet.ts_ns));
                            if !messages.is_condemned(origin.uid) {
                                let row = PacketRow {
                                    caplen: packet.captured.len() as u64,
                                    wirelen: u64::from(packet.wire_len),
                                    linktype: packet.linktype,
                                    payload: packet.captured,
                                };
                                messages.tables.Packet.push(origin, row);
                            }
                        }
                    }
                    Err(_) => {
                        left = left.saturating_add(1);
                    }
                }
            }
            false
        }));
        let _ = position;
        match outcome {
            Ok(true) => Burst::End,
            Ok(false) => Burst::More(at),
            Err(_) => {
                self.recover();
                Burst::More(at)
            }
        }
    }
}

enum Burst {
    More(usize),
    End,
}
