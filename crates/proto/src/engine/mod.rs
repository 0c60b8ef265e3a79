//! Blocks in, batches of messages out.
//!
//! Rules of this file:
//! 1. Fed in other blocks, the same packets give the same rows.
//! 2. What is held is bounded: the tables by [`TAKE_BYTES`] (then `feed` stops until they are taken), flows and streams by the
//!    tracker's limits, parsers by [`PARSER_BYTES`].
//! 3. A panic costs one flow: it is caught, counted, the flow condemned, and the next packet follows.
mod counters;
mod fault;
mod http;
mod sink;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::{RecordBatch, StringArray};
use arrow_schema::ArrowError;
use bunker_wire::Packet;
use bunker_wire::block::{BlockFormat, Packets, packets};
use bunker_wire::limits::Limits;
use bunker_wire::tracker::overlap::Overlap;
use bunker_wire::tracker::restart::{Again, Born, Hand, Stranded};
use bunker_wire::tracker::{AHEAD, COLD_FLOWS, Checksums, Tracker};

use crate::columns::{MessageKind, Origin, PacketRow};
use crate::detect::{ByContent, Detect};
use crate::parser::Wanted;

pub use counters::Counters;
pub use fault::Fault;
pub use http::HttpStream;
pub(crate) use http::base64;
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
    /// What HTTP is asked for beyond the facts.
    pub http: crate::http::Config,
}

/// Flows that began, ended, were condemned, encoded: what a worker that starts over must know.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Journalled {
    /// As [`bunker_wire::tracker::restart::Born`] writes them.
    pub opened: Vec<u8>,
    /// Numbers, little endian.
    pub ended: Vec<u8>,
    /// Pairs: number, place of the fault in [`Fault::ALL`].
    pub condemned: Vec<u8>,
    /// As [`bunker_wire::tracker::restart::Stranded`] writes them. These alone hold something of the traffic: addresses and ports.
    pub stranded: Vec<u8>,
}

fn encode(condemned: &[(u64, Fault)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (uid, fault) in condemned {
        bytes.extend_from_slice(&uid.to_le_bytes());
        bytes.extend_from_slice(&(*fault as u64).to_le_bytes());
    }
    bytes
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(8).filter_map(|word| word.try_into().ok().map(u64::from_le_bytes))
}

fn decode(bytes: &[u8]) -> Vec<(u64, Fault)> {
    let fault = |place: u64| Fault::ALL.get(usize::try_from(place).ok()?).copied();
    bytes
        .chunks_exact(16)
        .filter_map(|pair| {
            let mut words = words(pair);
            Some((words.next()?, fault(words.next()?)?))
        })
        .collect()
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
    /// Packets that are passed over, by block and place in it: a fault that belongs to no flow.
    passed_over: HashSet<(u64, u32)>,
    /// Flows whose first blocks may be gone, until it is known where reading begins again.
    maybe_stranded: Option<Vec<Stranded>>,
    newly_stranded: usize,
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
            messages: Messages::new(detect, config.want, config.http),
            want: config.want,
            ready: Vec::new(),
            ready_rows: 0,
            ready_bytes: 0,
            unfinished: None,
            passed_over: HashSet::new(),
            maybe_stranded: None,
            newly_stranded: 0,
            fault: None,
        }
    }

    /// The same with other overlap policies than "first" for all: before the first block.
    #[must_use]
    pub fn with_overlap(mut self, overlap: Overlap) -> Self {
        self.tracker = self.tracker.with_overlap(overlap);
        self
    }

    /// The same, with the statistics of flows measured: before the first block.
    #[must_use]
    pub fn with_statistics(mut self, statistics: bool) -> Self {
        self.tracker = self.tracker.with_statistics(statistics);
        self
    }

    /// The same, making of this kind's messages only the columns that are wanted, and the six of every table: before the first
    /// block. How a flow ended, and by which fault, is always told, because it may change until the flows are taken.
    #[must_use]
    pub fn with_columns(mut self, kind: MessageKind, is_wanted: &dyn Fn(&str) -> bool) -> Self {
        let ends = |name: &str| kind == MessageKind::Flow && matches!(name, "fault" | "outcome");
        self.messages.tables.choose(kind, &|name| is_wanted(name) || ends(name));
        self
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
        self.feed_up_to(format, block, number, usize::MAX)
    }

    /// The same up to a packet: what stands before it is fed, then the answer is [`Fed::TakeFirst`].
    ///
    /// # Errors
    /// Another block has not been fed to its end.
    pub fn feed_up_to(
        &mut self,
        format: BlockFormat,
        block: &[u8],
        number: u64,
        end: usize,
    ) -> Result<Fed, BlockUnfinished> {
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
        self.restore(number);
        let mut iterator = packets(format, block);
        for _ in 0..done {
            if iterator.next().is_none() {
                break;
            }
        }
        loop {
            let before = iterator.left();
            let whole = self.burst(&mut iterator, done, end.saturating_sub(done).min(BURST));
            done = done.saturating_add(before.saturating_sub(iterator.left()) as usize);
            self.close_full_tables();
            if whole {
                return Ok(Fed::Whole);
            }
            if self.pending_bytes() >= TAKE_BYTES || done >= end {
                self.unfinished = Some((number, done));
                return Ok(Fed::TakeFirst);
            }
        }
    }

    /// Feed up to `left` packets, of which the first has the number `first`; true when the block has no more.
    fn burst(&mut self, iterator: &mut Packets<'_>, first: usize, mut left: usize) -> bool {
        let block = self.messages.block;
        let mut place = u32::try_from(first).unwrap_or(u32::MAX);
        loop {
            let passed_over = &self.passed_over;
            let place = &mut place;
            let (tracker, messages, want) = (&mut self.tracker, &mut self.messages, self.want);
            let (iterator, left) = (&mut *iterator, &mut left);
            // What a panic leaves half done is put right by `recover`, before anything looks at it.
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                while *left > 0 && messages.tables.content_bytes < BATCH_BYTES {
                    if left.is_multiple_of(AHEAD) && tracker.flows() >= COLD_FLOWS {
                        let mut slots = [None; AHEAD];
                        for (slot, packet) in slots.iter_mut().zip(iterator.clone().take(AHEAD).flatten()) {
                            *slot = tracker.expect(&packet);
                        }
                        tracker.glance(&slots);
                        messages.glance(&slots);
                    }
                    *left = left.saturating_sub(1);
                    let claimed = iterator.left();
                    match iterator.next() {
                        None => return true,
                        Some(Ok(packet)) => {
                            // Before it is fed: a packet that panics is not fed again.
                            let here = core::mem::replace(place, place.saturating_add(1));
                            tracker.at(block, here);
                            if !passed_over.is_empty() && passed_over.contains(&(block, here)) {
                                tracker.pass_over();
                            } else {
                                feed_one(tracker, messages, want, &packet);
                            }
                        }
                        Some(Err(_)) => {
                            let counters = &mut messages.counters;
                            counters.damaged_blocks = counters.damaged_blocks.saturating_add(1);
                            counters.damaged_packets = counters.damaged_packets.saturating_add(u64::from(claimed));
                        }
                    }
                }
                false
            }));
            match outcome {
                Ok(whole) => return whole,
                Err(_) => self.recover(),
            }
        }
    }

    /// A panic escaped while a packet was in hand: its flow is condemned, the packet counted.
    fn recover(&mut self) {
        self.messages.tables.repair();
        self.messages.counters.panics = self.messages.counters.panics.saturating_add(1);
        self.tracker.count_lost();
        if let Some((uid, slot)) = self.tracker.recover_after_panic() {
            self.messages.condemn_in(slot, uid, Fault::Panic);
        }
    }

    /// Let time pass: flows time out.
    pub fn expire(&mut self, now_ns: u64) {
        self.over_tracker(|tracker, messages| tracker.expire(now_ns, messages));
    }

    /// The clock that stamps packets was set by so many ns.
    pub const fn clock_stepped(&mut self, by_ns: i64) {
        self.tracker.clock_stepped(by_ns);
    }

    /// The lane has ended: every flow ends.
    pub fn finish(&mut self) {
        self.over_tracker(|tracker, messages| tracker.finish(messages));
    }

    fn over_tracker(&mut self, mut act: impl FnMut(&mut Tracker, &mut Messages<D>)) {
        loop {
            let (tracker, messages) = (&mut self.tracker, &mut self.messages);
            let outcome = catch_unwind(AssertUnwindSafe(|| act(tracker, messages)));
            if outcome.is_ok() {
                break;
            }
            // Each turn that panics has removed at least one flow: this ends.
            self.recover();
        }
        self.close_full_tables();
    }

    /// A flow on which an analyzer failed: nothing of it follows, its record says `erroneous`, unless that is gone already.
    pub fn condemn(&mut self, uid: u64, fault: Fault) -> bool {
        self.messages.condemn(uid, fault)
    }

    /// This flow is condemned as soon as it opens.
    pub fn leave_out(&mut self, uid: u64, fault: Fault) {
        self.messages.leave_out(uid, fault);
    }

    /// This packet is counted and not looked at.
    pub fn pass_over(&mut self, block: u64, packet: u32) {
        self.passed_over.insert((block, packet));
    }

    /// Show what is in hand on this page.
    pub fn show(&mut self, hand: Hand) {
        self.tracker.show(hand);
    }

    /// Keep a journal for a worker that may have to start over.
    pub const fn keep_journal(&mut self) {
        self.tracker.keep_journal();
    }

    /// What has changed since the last call; call it when all messages are taken.
    pub fn take_journal(&mut self) -> Journalled {
        let (opened, ended) = self.tracker.take_journal();
        Journalled { opened, ended, condemned: encode(&self.messages.take_newly()), stranded: Vec::new() }
    }

    /// The same for everything that lives, as if it had begun just now.
    pub fn whole_journal(&mut self) -> Journalled {
        Journalled {
            opened: self.tracker.born(),
            ended: Vec::new(),
            condemned: encode(&self.messages.all_condemned()),
            stranded: self.tracker.stranded(),
        }
    }

    /// Blocks before this one are about to be given back: what must be journalled first.
    pub fn strand(&mut self, before: u64) -> Vec<u8> {
        self.tracker.strand(before)
    }

    /// (number of the next flow, packet time).
    #[must_use]
    pub const fn clock(&self) -> (u64, u64) {
        (self.tracker.next_uid(), self.tracker.now_ns())
    }

    /// Packets of the block in hand that are fed; 0: no block is in hand.
    #[must_use]
    pub fn fed(&self) -> usize {
        self.unfinished.map_or(0, |(_, done)| done)
    }

    /// Before the first block: from now on blocks are read again, which another engine had read before. Only flows that were open
    /// when it stopped are opened, under the numbers they had.
    ///
    /// Args: journals in any order, and what `clock` said at the end.
    pub fn read_again(&mut self, journals: &[Journalled], clock: (u64, u64)) {
        let ended: HashSet<u64> = journals.iter().flat_map(|one| words(&one.ended)).collect();
        let flows = journals.iter().flat_map(|one| Born::read_all(&one.opened));
        let open = flows.filter(|born| !ended.contains(&born.uid));
        self.tracker.read_again(Again::new(open, clock.0, clock.1));
        for (uid, fault) in journals.iter().flat_map(|one| decode(&one.condemned)) {
            if !ended.contains(&uid) {
                self.messages.leave_out(uid, fault);
            }
        }
        let stranded = journals.iter().flat_map(|one| Stranded::read_all(&one.stranded));
        // The last word on each counts: when its time began to run.
        let living: HashMap<u64, Stranded> =
            stranded.filter(|one| !ended.contains(&one.flow.uid)).map(|one| (one.flow.uid, one)).collect();
        self.maybe_stranded = Some(living.into_values().collect());
    }

    /// The first block that is read again is known: what began before it lives on, and ends `erroneous`.
    fn restore(&mut self, first: u64) {
        let Some(mut flows) = self.maybe_stranded.take() else { return };
        flows.retain(|one| one.block < first);
        flows.sort_unstable_by_key(|one| (one.idle_since_ns, one.flow.uid));
        for one in &flows {
            if self.messages.leave_out_if_new(one.flow.uid, Fault::Killed) {
                self.newly_stranded = self.newly_stranded.saturating_add(1);
            }
        }
        self.tracker.restore(&flows, first, &mut self.messages);
    }

    /// Everything has been read again. (Flows that go on without their past, because their first blocks are gone and which ended
    /// `erroneous` for no other reason; flows of which not even that is known.)
    pub fn caught_up(&mut self) -> (usize, usize) {
        self.restore(u64::MAX);
        (self.newly_stranded, self.tracker.caught_up())
    }

    /// Close tables that have a batch's size. The flow table waits: outcomes may still change.
    fn close_full_tables(&mut self) {
        for kind in MessageKind::ALL {
            if *kind != MessageKind::Flow
                && (self.messages.tables.rows_of(*kind) >= BATCH_ROWS
                    || self.messages.tables.bytes_of(*kind) >= BATCH_BYTES)
            {
                self.close_table(*kind);
            }
        }
    }

    fn close_table(&mut self, kind: MessageKind) {
        match self.messages.tables.finish(kind) {
            Ok(Some(batch)) => {
                self.messages.counters.rows = self.messages.counters.rows.saturating_add(batch.num_rows() as u64);
                self.ready_rows = self.ready_rows.saturating_add(batch.num_rows());
                self.ready_bytes = self.ready_bytes.saturating_add(batch.get_array_memory_size());
                self.push_cut(kind, &batch);
            }
            Ok(None) => {}
            Err(fault) => self.fault = Some(fault),
        }
    }

    /// A burst may overshoot: cut what is longer than a batch.
    fn push_cut(&mut self, kind: MessageKind, batch: &RecordBatch) {
        for start in (0..batch.num_rows()).step_by(BATCH_ROWS) {
            let rows = batch.num_rows().saturating_sub(start).min(BATCH_ROWS);
            self.ready.push((kind, batch.slice(start, rows)));
        }
    }

    /// Rows that wait to be taken.
    #[must_use]
    pub fn pending_rows(&self) -> usize {
        self.ready_rows.saturating_add(self.messages.tables.rows())
    }

    /// Bytes in tables and batches that wait to be taken.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.ready_bytes.saturating_add(self.messages.tables.live_bytes())
    }

    /// All messages but flows, in batches of one kind each.
    ///
    /// # Errors
    /// A table could not be made: a bug of ours; its rows are lost.
    pub fn take(&mut self) -> Result<Vec<(MessageKind, RecordBatch)>, ArrowError> {
        for kind in MessageKind::ALL {
            if *kind != MessageKind::Flow {
                self.close_table(*kind);
            }
        }
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        self.ready_rows = 0;
        self.ready_bytes = 0;
        Ok(core::mem::take(&mut self.ready))
    }

    /// Flows that have ended, in batches; their outcomes are final now.
    ///
    /// # Errors
    /// A table could not be made: a bug of ours; its rows are lost.
    pub fn take_flows(&mut self) -> Result<Vec<RecordBatch>, ArrowError> {
        let (outcomes, changed) = self.messages.take_outcomes();
        let Some(mut batch) = self.messages.tables.finish(MessageKind::Flow)? else { return Ok(Vec::new()) };
        self.messages.counters.rows = self.messages.counters.rows.saturating_add(batch.num_rows() as u64);
        if changed {
            let faults: StringArray = outcomes.iter().map(|(_, fault)| fault.map(Fault::word)).collect();
            let words = StringArray::from_iter_values(outcomes.iter().map(|(outcome, _)| outcome_word(*outcome)));
            let mut columns = batch.columns().to_vec();
            if let [.., fault, outcome] = columns.as_mut_slice() {
                *fault = Arc::new(faults);
                *outcome = Arc::new(words);
            }
            batch = RecordBatch::try_new(batch.schema(), columns)?;
        }
        let starts = (0..batch.num_rows()).step_by(BATCH_ROWS);
        Ok(starts.map(|start| batch.slice(start, batch.num_rows().saturating_sub(start).min(BATCH_ROWS))).collect())
    }

    /// The oldest block that holds the first packet of a flow that has not ended: a worker that starts over reads from there.
    #[must_use]
    pub fn oldest_needed_block(&self) -> Option<u64> {
        [self.messages.oldest_needed_block(), self.tracker.oldest_fragment_block()].into_iter().flatten().min()
    }

    /// Bytes of traffic held: streams, parsers, tables, batches.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        let held = self.messages.live_bytes().saturating_add(self.ready_bytes);
        self.tracker.held_bytes().saturating_add(held as u64)
    }

    /// Every count by its name. `packets_analysed` is the sum of the `packets_...` by kind, `packets_unparsed` a part of it.
    #[must_use]
    pub fn counters(&self) -> Vec<(String, u64)> {
        let wire = self.tracker.counters();
        let own = &self.messages.counters;
        let fragments = self.tracker.fragment_counters();
        let unparsed = [wire.truncated, wire.malformed, wire.too_deep, wire.unknown_link]
            .iter()
            .fold(0u64, |sum, count| sum.saturating_add(*count));
        let mut named: Vec<(String, u64)> = [
            ("packets_analysed", wire.by_fate()),
            ("packets_unparsed", unparsed),
            ("packets_tcp", wire.tcp),
            ("packets_udp", wire.udp),
            ("packets_icmp", wire.icmp),
            ("packets_other_ip", wire.other_ip),
            ("packets_fragments", wire.fragments),
            ("fragments_reassembled", fragments.reassembled),
            ("fragments_dropped", fragments.dropped),
            ("fragments_overlapping", fragments.overlaps),
            ("packets_arp", wire.arp),
            ("packets_non_ip", wire.non_ip),
            ("packets_truncated", wire.truncated),
            ("packets_malformed", wire.malformed),
            ("packets_bad_checksum", wire.bad_checksum),
            ("packets_too_deep", wire.too_deep),
            ("packets_unknown_link", wire.unknown_link),
            ("flows_opened", wire.flows_opened),
            ("flows_open", self.tracker.flows() as u64),
            ("stream_bytes_missed", wire.missed_bytes),
            ("limits_reached", own.flows_evicted.saturating_add(own.parsers_evicted)),
            ("messages", own.rows),
            ("live_bytes", self.live_bytes()),
        ]
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect();
        named.extend(own.named());
        named
    }
}

/// One packet, and its row if packets are wanted.
fn feed_one<D: Detect>(tracker: &mut Tracker, messages: &mut Messages<D>, want: Wanted, packet: &Packet<'_>) {
    tracker.feed(packet, messages);
    if !want.has(MessageKind::Packet) {
        return;
    }
    let origin = tracker.last_flow().map_or(Origin::none(packet.ts_ns), |flow| Origin::of(&flow, packet.ts_ns));
    if messages.is_condemned(origin.uid) {
        return;
    }
    let row = PacketRow {
        caplen: packet.captured.len() as u64,
        wirelen: u64::from(packet.wire_len),
        linktype: packet.linktype,
        vlan_tci: packet.vlan.map(|(tci, _)| tci),
        vlan_tpid: packet.vlan.map(|(_, tpid)| tpid),
        checksum_unready: packet.checksum_not_ready,
        payload: packet.captured,
    };
    messages.tables.Packet.push(origin, row);
}
