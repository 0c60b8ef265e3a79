//! The tracker's listener: gives each flow its parser, and rows their place.
//!
//! Rules of this file:
//! 1. A parser that panics costs its flow: the flow is condemned, its parser dropped, half a row undone; the rest goes on.
//! 2. Of a condemned flow nothing is delivered any more but its flow record, which says `erroneous`.
//! 3. A flow record's outcome can still become `erroneous` until the flow table is taken.
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bunker_wire::{Direction, Flow, FlowSummary, Outcome, Sink};

use super::counters::Counters;
use super::fault::Fault;
use crate::columns::{ChunkRow, DatagramRow, FlowRow, MessageKind, Origin, Tables};
use crate::detect::{DETECT_BYTES, Detect, Found};
use crate::parser::{Context, DatagramParser, Services, Step, StreamParser, Wanted};

/// Bytes that all parsers of a lane may hold. Suricata's reassembly memcap is 256 MiB; the flow that asks for more pays.
pub const PARSER_BYTES: usize = 256 << 20;
/// Turns of a conversation that are held while its protocol is unknown.
const PIECES: usize = 64;
/// Protocol switches followed in one flow (CONNECT, then STARTTLS, then ...).
pub const SWITCHES: u8 = 4;

enum State {
    /// Nothing was delivered yet.
    Fresh,
    /// First bytes are held until they say what it is.
    Undecided(Box<Undecided>),
    Stream(Box<dyn StreamParser>),
    Datagrams(Box<dyn DatagramParser>),
    /// Nothing more is parsed.
    Done,
}

impl State {
    fn live_bytes(&self) -> usize {
        match self {
            Self::Fresh | Self::Done => 0,
            Self::Undecided(held) => held.live_bytes(),
            Self::Stream(parser) => parser.live_bytes(),
            Self::Datagrams(parser) => parser.live_bytes(),
        }
    }
}

#[derive(Default)]
struct Undecided {
    heads: [Vec<u8>; 2],
    pieces: Vec<Piece>,
}

struct Piece {
    direction: Direction,
    length: usize,
    ts_ns: u64,
}

/// Where a flow stands.
#[derive(Clone, Copy)]
enum Stands {
    /// It lives, in this slot.
    Open(usize),
    /// It has ended in this turn: its place in `closed`.
    Closed(usize),
}

struct Slot {
    uid: u64,
    block: u64,
    state: State,
    services: Services,
    switches: u8,
    held: u32,
    offsets: [u64; 2],
}

impl Slot {
    fn new(uid: u64, block: u64, state: State) -> Self {
        Self { uid, block, state, services: Services::default(), switches: 0, held: 0, offsets: [0; 2] }
    }
}

/// Listens to the tracker.
pub struct Messages<D> {
    /// Chooses parsers.
    detect: D,
    /// Kinds that somebody subscribes to.
    wanted: Wanted,
    http: crate::http::Config,
    /// Rows.
    pub tables: Tables,
    /// Counts.
    pub counters: Counters,
    /// The block in hand.
    pub block: u64,
    slots: Vec<Slot>,
    blocks: BTreeMap<u64, u32>,
    condemned: HashMap<u64, Fault>,
    /// Condemned since the journal was taken.
    newly: Vec<(u64, Fault)>,
    /// To be condemned as soon as they open.
    left_out: HashMap<u64, Fault>,
    closed: Vec<(u64, Outcome, Option<Fault>)>,
    changed: bool,
    /// Where flows stand in `slots` and `closed`, for as long as that is up to date: see [`Messages::find`].
    places: HashMap<u64, Stands>,
    words: Vec<u8>,
    now_ns: u64,
    held: usize,
    parser_bytes: usize,
}

impl<D: Detect> Messages<D> {
    /// Nothing seen yet.
    pub fn new(detect: D, wanted: Wanted, http: crate::http::Config) -> Self {
        Self {
            detect,
            wanted,
            http,
            tables: Tables::default(),
            counters: Counters::default(),
            block: 0,
            slots: Vec::new(),
            blocks: BTreeMap::new(),
            condemned: HashMap::new(),
            newly: Vec::new(),
            left_out: HashMap::new(),
            closed: Vec::new(),
            changed: false,
            places: HashMap::new(),
            words: Vec::new(),
            now_ns: 0,
            held: 0,
            parser_bytes: PARSER_BYTES,
        }
    }

    /// Packets of the flows in these slots come soon: look at what they will change, as [`bunker_wire::tracker::table::Table::glance`].
    pub fn glance(&self, slots: &[Option<u32>]) {
        let slots = || slots.iter().flatten().filter_map(|slot| self.slots.get(*slot as usize));
        core::hint::black_box(slots().fold(0, |seen, slot| seen ^ slot.uid));
        core::hint::black_box(slots().fold(0, |seen, slot| seen ^ slot.state.live_bytes()));
    }

    /// Another bound than [`PARSER_BYTES`].
    pub fn limit_parsers(&mut self, bytes: usize) {
        self.parser_bytes = bytes;
    }

    /// The oldest block that holds the first packet of a living flow.
    #[must_use]
    pub fn oldest_needed_block(&self) -> Option<u64> {
        self.blocks.first_key_value().map(|(block, _)| *block)
    }

    /// Bytes that parsers and tables hold.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        self.tables.live_bytes().saturating_add(self.held)
    }

    /// Whether anything may still be delivered of this flow.
    #[must_use]
    pub fn is_condemned(&self, uid: u64) -> bool {
        !self.condemned.is_empty() && self.condemned.contains_key(&uid)
    }

    /// A fault hit this flow: it ends `erroneous`, nothing else of it follows. False: no such flow, or its record is gone.
    pub fn condemn(&mut self, uid: u64, fault: Fault) -> bool {
        match self.find(uid) {
            None => return false,
            Some(Stands::Open(slot)) => {
                if let Some(slot) = self.slots.get_mut(slot) {
                    slot.state = State::Done;
                }
                self.mark(uid, fault);
            }
            Some(Stands::Closed(place)) => {
                if let Some((_, outcome, maybe_fault)) = self.closed.get_mut(place)
                    && *outcome != Outcome::Erroneous
                {
                    let counter = outcome_counter(&mut self.counters, *outcome);
                    *counter = counter.saturating_sub(1);
                    *outcome = Outcome::Erroneous;
                    *maybe_fault = Some(fault);
                    self.changed = true;
                    self.counters.flows_erroneous = self.counters.flows_erroneous.saturating_add(1);
                }
            }
        }
        true
    }

    /// The same for the flow in this slot of the tracker's, living or just being closed.
    pub fn condemn_in(&mut self, slot: u32, uid: u64, fault: Fault) {
        match self.slots.get_mut(slot as usize).filter(|slot| slot.uid == uid) {
            Some(slot) => {
                slot.state = State::Done;
                self.mark(uid, fault);
            }
            None => {
                self.condemn(uid, fault);
            }
        }
    }

    /// Where a flow stands. The first search after flows have begun or ended looks at all of them, and the others of the turn at none:
    /// an analyzer that fails on every message does not cost a look at every flow each time.
    fn find(&mut self, uid: u64) -> Option<Stands> {
        if self.places.is_empty() {
            let open = self.slots.iter().enumerate().map(|(place, slot)| (slot.uid, Stands::Open(place)));
            let closed = self.closed.iter().enumerate().map(|(place, closed)| (closed.0, Stands::Closed(place)));
            self.places = open.filter(|(uid, _)| *uid != 0).chain(closed).collect();
        }
        self.places.get(&uid).copied()
    }

    /// Flows begin or end: what was known of where they stand is not true any more.
    fn moved(&mut self) {
        if !self.places.is_empty() {
            self.places = HashMap::new();
        }
    }

    /// The first fault counts.
    fn mark(&mut self, uid: u64, fault: Fault) {
        if let std::collections::hash_map::Entry::Vacant(place) = self.condemned.entry(uid) {
            place.insert(fault);
            self.newly.push((uid, fault));
        }
    }

    /// Condemn this flow as soon as it opens.
    pub fn leave_out(&mut self, uid: u64, fault: Fault) {
        self.left_out.insert(uid, fault);
    }

    /// The same, unless that was said already with another fault: false.
    pub fn leave_out_if_new(&mut self, uid: u64, fault: Fault) -> bool {
        let is_new = !self.left_out.contains_key(&uid);
        if is_new {
            self.leave_out(uid, fault);
        }
        is_new
    }

    /// Living flows that were condemned since the last call.
    pub fn take_newly(&mut self) -> Vec<(u64, Fault)> {
        let mut newly = core::mem::take(&mut self.newly);
        newly.retain(|(uid, _)| self.condemned.contains_key(uid));
        newly
    }

    /// All living flows that are condemned.
    pub fn all_condemned(&self) -> Vec<(u64, Fault)> {
        self.condemned.iter().map(|(uid, fault)| (*uid, *fault)).collect()
    }

    /// The outcomes of the flow table's rows, in order, and whether one of them has changed since its row was written; the list
    /// starts over.
    pub fn take_outcomes(&mut self) -> (Vec<(Outcome, Option<Fault>)>, bool) {
        self.moved();
        let outcomes =
            core::mem::take(&mut self.closed).into_iter().map(|(_, outcome, fault)| (outcome, fault)).collect();
        (outcomes, core::mem::take(&mut self.changed))
    }

    fn panicked(&mut self, flow: &Flow) {
        self.counters.panics = self.counters.panics.saturating_add(1);
        self.tables.repair();
        self.mark(flow.uid, Fault::Panic);
        if let Some(slot) = self.slots.get_mut(flow.slot as usize) {
            slot.state = State::Done;
        }
    }

    /// Bring the account of held bytes up to date; a flow that makes it exceed its bound loses its parser.
    fn account(&mut self, flow: &Flow) {
        let Some(slot) = self.slots.get_mut(flow.slot as usize) else { return };
        let now = slot.state.live_bytes();
        let before = core::mem::replace(&mut slot.held, u32::try_from(now).unwrap_or(u32::MAX)) as usize;
        self.held = self.held.saturating_sub(before).saturating_add(slot.held as usize);
        if self.held > self.parser_bytes && now > before {
            self.counters.parsers_evicted = self.counters.parsers_evicted.saturating_add(1);
            self.retire(flow);
        }
    }

    /// Call `act` with the flow's state and a context; catch what panics.
    fn guarded(&mut self, flow: &Flow, act: impl FnOnce(&mut State, &mut Context<'_>) -> Step) -> Step {
        let Some(slot) = self.slots.get_mut(flow.slot as usize) else { return Step::Finished };
        let mut context = Context {
            flow,
            tables: &mut self.tables,
            wanted: self.wanted,
            services: &mut slot.services,
            http: &self.http,
            now_ns: self.now_ns,
        };
        let state = &mut slot.state;
        // The state and the rows of this flow are dropped and undone when this unwinds: nothing half done is seen again.
        match catch_unwind(AssertUnwindSafe(|| act(state, &mut context))) {
            Ok(step) => step,
            Err(_) => {
                self.panicked(flow);
                Step::Finished
            }
        }
    }

    fn set(&mut self, flow: &Flow, state: State) {
        if let Some(slot) = self.slots.get_mut(flow.slot as usize) {
            slot.state = state;
        }
    }

    /// Deliver stream bytes, over as many protocols as they switch.
    fn stream(&mut self, flow: &Flow, direction: Direction, bytes: &[u8], ts_ns: u64) {
        let mut rest = bytes;
        loop {
            let Some(slot) = self.slots.get_mut(flow.slot as usize) else { return };
            match &mut slot.state {
                State::Done | State::Datagrams(_) => return,
                State::Fresh | State::Undecided(_) => {
                    if !self.undecided(flow, direction, rest, ts_ns) {
                        return;
                    }
                    rest = &[];
                }
                State::Stream(_) => {
                    let step = self.guarded(flow, |state, context| match state {
                        State::Stream(parser) => parser.data(context, direction, rest, ts_ns),
                        _ => Step::Finished,
                    });
                    let Step::Switched { used } = step else {
                        self.after(flow, step);
                        return;
                    };
                    if !self.switch(flow) {
                        return;
                    }
                    rest = rest.get(used..).unwrap_or_default();
                }
            }
            if rest.is_empty() {
                return;
            }
        }
    }

    /// The next bytes begin another protocol. False: that was one too many.
    fn switch(&mut self, flow: &Flow) -> bool {
        let Some(slot) = self.slots.get_mut(flow.slot as usize) else { return false };
        slot.switches = slot.switches.saturating_add(1);
        let goes_on = slot.switches <= SWITCHES;
        let state = core::mem::replace(&mut slot.state, State::Done);
        // What the old parser still has to say, it says now.
        self.close_parser(flow, state);
        if goes_on && !self.is_condemned(flow.uid) {
            self.set(flow, State::Fresh);
        }
        goes_on
    }

    fn close_parser(&mut self, flow: &Flow, state: State) {
        let mut state = state;
        self.guarded(flow, |_, context| {
            match &mut state {
                State::Stream(parser) => parser.closed(context),
                State::Datagrams(parser) => parser.closed(context),
                State::Fresh | State::Undecided(_) | State::Done => {}
            }
            Step::Finished
        });
    }

    /// Look at first bytes. True: a parser is in place and the bytes have been given to it.
    fn undecided(&mut self, flow: &Flow, direction: Direction, bytes: &[u8], ts_ns: u64) -> bool {
        let Some(slot) = self.slots.get_mut(flow.slot as usize) else { return false };
        let held = match core::mem::replace(&mut slot.state, State::Fresh) {
            State::Undecided(mut held) => {
                held.add(direction, bytes, ts_ns);
                Some(held)
            }
            _ => None,
        };
        let empty: &[u8] = &[];
        let (orig, resp) = match (&held, direction) {
            (Some(held), _) => {
                let [orig, resp] = &held.heads;
                (orig.as_slice(), resp.as_slice())
            }
            (None, Direction::Orig) => (bytes, empty),
            (None, Direction::Resp) => (empty, bytes),
        };
        let full = orig.len() > DETECT_BYTES
            || resp.len() > DETECT_BYTES
            || held.as_ref().is_some_and(|held| held.pieces.len() > PIECES);
        match self.detect.stream(flow, orig, resp) {
            Found::Parser(parser) => {
                self.set(flow, State::Stream(parser));
                match held {
                    None => self.stream(flow, direction, bytes, ts_ns),
                    Some(held) => self.replay(flow, &held),
                }
                true
            }
            Found::Wait if !full => {
                let held = held.unwrap_or_else(|| {
                    let mut held = Box::<Undecided>::default();
                    held.add(direction, bytes, ts_ns);
                    held
                });
                self.set(flow, State::Undecided(held));
                false
            }
            Found::Wait | Found::Nothing => {
                self.counters.unrecognised = self.counters.unrecognised.saturating_add(1);
                self.set(flow, State::Done);
                false
            }
        }
    }

    fn replay(&mut self, flow: &Flow, held: &Undecided) {
        let mut used = [0usize; 2];
        for piece in &held.pieces {
            let index = piece.direction.index();
            let (Some(head), Some(start)) = (held.heads.get(index), used.get_mut(index)) else { return };
            let end = start.saturating_add(piece.length);
            let bytes = head.get(*start..end).unwrap_or_default();
            *start = end;
            self.stream(flow, piece.direction, bytes, piece.ts_ns);
        }
    }

    fn after(&mut self, flow: &Flow, step: Step) {
        match step {
            Step::More => {}
            Step::Finished | Step::Switched { .. } => self.retire(flow),
            Step::Violated => {
                self.counters.violations = self.counters.violations.saturating_add(1);
                self.retire(flow);
            }
        }
    }

    /// The parser has had enough: it writes what it holds and goes.
    fn retire(&mut self, flow: &Flow) {
        let Some(slot) = self.slots.get_mut(flow.slot as usize) else { return };
        let state = core::mem::replace(&mut slot.state, State::Done);
        self.close_parser(flow, state);
    }

    fn offset(&mut self, flow: &Flow, direction: Direction, length: u64) -> u64 {
        let offset = self.slots.get_mut(flow.slot as usize).and_then(|slot| slot.offsets.get_mut(direction.index()));
        let Some(offset) = offset else { return 0 };
        let before = *offset;
        *offset = offset.saturating_add(length);
        before
    }
}

impl Undecided {
    fn add(&mut self, direction: Direction, bytes: &[u8], ts_ns: u64) {
        if let Some(head) = self.heads.get_mut(direction.index()) {
            head.extend_from_slice(bytes);
        }
        match self.pieces.last_mut() {
            Some(last) if last.direction == direction => last.length = last.length.saturating_add(bytes.len()),
            _ => self.pieces.push(Piece { direction, length: bytes.len(), ts_ns }),
        }
    }

    fn live_bytes(&self) -> usize {
        self.heads
            .iter()
            .fold(self.pieces.capacity().saturating_mul(size_of::<Piece>()), |sum, head| {
                sum.saturating_add(head.capacity())
            })
            .saturating_add(size_of::<Self>())
    }
}

impl<D: Detect> Sink for Messages<D> {
    fn flow_opened(&mut self, flow: &Flow) {
        self.moved();
        let index = flow.slot as usize;
        let slot = Slot::new(flow.uid, self.block, State::Fresh);
        let open = self.blocks.entry(self.block).or_insert(0);
        *open = open.saturating_add(1);
        match self.slots.get_mut(index) {
            Some(place) => *place = slot,
            None => {
                // Slots are dense: the next one is the one behind the last.
                while self.slots.len() < index {
                    self.slots.push(Slot::new(0, 0, State::Done));
                }
                self.slots.push(slot);
            }
        }
        if !self.left_out.is_empty()
            && let Some(fault) = self.left_out.remove(&flow.uid)
        {
            self.set(flow, State::Done);
            self.mark(flow.uid, fault);
        }
    }

    fn roles_flipped(&mut self, _flow: &Flow) {}

    fn chunk(&mut self, flow: &Flow, direction: Direction, payload: &[u8], ts_ns: u64) {
        if self.is_condemned(flow.uid) {
            return;
        }
        if self.wanted.has(MessageKind::Chunk) {
            let offset = self.offset(flow, direction, payload.len() as u64);
            let row = ChunkRow {
                is_orig: direction == Direction::Orig,
                offset,
                length: payload.len() as u64,
                is_gap: false,
                payload: Some(payload),
            };
            self.tables.Chunk.push(Origin::of(flow, ts_ns), row);
        }
        self.now_ns = ts_ns;
        self.stream(flow, direction, payload, ts_ns);
        self.account(flow);
    }

    fn gap(&mut self, flow: &Flow, direction: Direction, length: u64, ts_ns: u64) {
        if self.is_condemned(flow.uid) {
            return;
        }
        if self.wanted.has(MessageKind::Chunk) {
            let offset = self.offset(flow, direction, length);
            let row = ChunkRow { is_orig: direction == Direction::Orig, offset, length, is_gap: true, payload: None };
            self.tables.Chunk.push(Origin::of(flow, ts_ns), row);
        }
        self.now_ns = ts_ns;
        let step = self.guarded(flow, |state, context| match state {
            State::Stream(parser) => parser.gap(context, direction, length, ts_ns),
            // What was held does not go on where the next bytes are: detection starts over behind the hole.
            State::Undecided(_) => {
                *state = State::Fresh;
                Step::More
            }
            State::Fresh | State::Datagrams(_) | State::Done => Step::More,
        });
        if let Step::Switched { .. } = step {
            self.switch(flow);
        } else {
            self.after(flow, step);
        }
        self.account(flow);
    }

    fn direction_ended(&mut self, flow: &Flow, direction: Direction, ts_ns: u64) {
        if self.is_condemned(flow.uid) {
            return;
        }
        self.now_ns = ts_ns;
        self.guarded(flow, |state, context| {
            if let State::Stream(parser) = state {
                parser.ended(context, direction, ts_ns);
            }
            Step::More
        });
        self.account(flow);
    }

    fn datagram(&mut self, flow: &Flow, direction: Direction, payload: &[u8], wire_len: usize, ts_ns: u64) {
        if self.is_condemned(flow.uid) {
            return;
        }
        if self.wanted.has(MessageKind::Datagram) {
            let row = DatagramRow { is_orig: direction == Direction::Orig, length: wire_len as u64, payload };
            self.tables.Datagram.push(Origin::of(flow, ts_ns), row);
        }
        let Some(slot) = self.slots.get_mut(flow.slot as usize) else { return };
        if matches!(slot.state, State::Fresh) {
            slot.state = match self.detect.datagram(flow, direction, payload) {
                Found::Parser(parser) => State::Datagrams(parser),
                Found::Wait => State::Fresh,
                Found::Nothing => State::Done,
            };
        }
        if !matches!(slot.state, State::Datagrams(_)) {
            return;
        }
        self.now_ns = ts_ns;
        let step = self.guarded(flow, |state, context| match state {
            State::Datagrams(parser) => parser.datagram(context, direction, payload, wire_len, ts_ns),
            _ => Step::More,
        });
        self.after(flow, step);
        self.account(flow);
    }

    fn flow_closed(&mut self, flow: &Flow, summary: &FlowSummary, outcome: Outcome) {
        let Some(slot) = self.slots.get_mut(flow.slot as usize) else { return };
        let state = core::mem::replace(&mut slot.state, State::Done);
        let block = slot.block;
        self.held = self.held.saturating_sub(core::mem::take(&mut slot.held) as usize);
        self.now_ns = summary.last_ts_ns;
        if !self.is_condemned(flow.uid) {
            self.close_parser(flow, state);
        }
        self.moved();
        let maybe_fault = if self.condemned.is_empty() { None } else { self.condemned.remove(&flow.uid) };
        let outcome = if maybe_fault.is_some() { Outcome::Erroneous } else { outcome };
        let maybe_fault = maybe_fault.or((outcome == Outcome::Erroneous).then_some(Fault::Panic));
        if let Some(open) = self.blocks.get_mut(&block) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                self.blocks.remove(&block);
            }
        }
        let counter = outcome_counter(&mut self.counters, outcome);
        *counter = counter.saturating_add(1);
        let services = self.slots.get_mut(flow.slot as usize).map_or_else(Services::default, |slot| {
            slot.uid = 0;
            slot.services
        });
        for service in services.iter() {
            if let Some(count) = self.counters.services.get_mut((service as usize).saturating_sub(1)) {
                *count = count.saturating_add(1);
            }
        }
        // Also without its row: until the turn is over, it can still be said of the flow that it ended `erroneous`.
        self.closed.push((flow.uid, outcome, maybe_fault));
        if self.wanted.has(MessageKind::Flow) {
            self.write_flow(flow, summary, services, outcome, maybe_fault);
        }
    }
}

impl<D: Detect> Messages<D> {
    fn write_flow(
        &mut self,
        flow: &Flow,
        summary: &FlowSummary,
        services: Services,
        outcome: Outcome,
        maybe_fault: Option<Fault>,
    ) {
        self.words.clear();
        services.write(&mut self.words);
        let duration = summary.last_ts_ns.saturating_sub(flow.first_ts_ns);
        let [orig_bytes, resp_bytes] = summary.payload_bytes;
        let [orig_pkts, resp_pkts] = summary.packets;
        let [orig_ip_bytes, resp_ip_bytes] = summary.ip_bytes;
        let [vlan, inner_vlan] = summary.vlan;
        let [orig, resp] = &summary.measures;
        let [orig_scale, resp_scale] = summary.window_scale;
        let is_tcp = flow.protocol == 6 && summary.has_statistics;
        let (orig_lengths, resp_lengths) = (orig.lengths(orig_ip_bytes), resp.lengths(resp_ip_bytes));
        let (orig_gaps, resp_gaps) = (orig.gaps(), resp.gaps());
        let [orig_mss, resp_mss] = summary.mss;
        self.tables.Flow.push(
            Origin::of(flow, flow.first_ts_ns),
            FlowRow {
                proto: match flow.protocol {
                    6 => b"tcp",
                    17 => b"udp",
                    1 | 58 => b"icmp",
                    _ => b"unknown_transport",
                },
                ip_proto: u16::from(flow.protocol),
                service: (!self.words.is_empty()).then_some(self.words.as_slice()),
                duration: (duration > 0).then_some(duration),
                orig_bytes: Some(orig_bytes),
                resp_bytes: Some(resp_bytes),
                conn_state: summary.conn_state.as_bytes(),
                history: summary.history.as_bytes(),
                missed_bytes: summary.missed_bytes,
                orig_pkts,
                orig_ip_bytes,
                resp_pkts,
                resp_ip_bytes,
                vlan,
                inner_vlan,
                outer_uid: flow.maybe_outer,
                orig_retrans: u64::from(orig.retransmissions),
                resp_retrans: u64::from(resp.retransmissions),
                orig_out_of_order: u64::from(orig.out_of_order),
                resp_out_of_order: u64::from(resp.out_of_order),
                inconsistencies: u64::from(summary.inconsistencies),
                bad_checksums: u64::from(summary.bad_checksums),
                handshake_rtt: summary.maybe_handshake_rtt_ns,
                orig_mss: orig_mss.map(u64::from),
                resp_mss: resp_mss.map(u64::from),
                orig_retrans_bytes: orig.retransmitted_bytes,
                orig_dup_acks: is_tcp.then_some(u64::from(orig.duplicate_acks)),
                orig_zero_windows: is_tcp.then_some(u64::from(orig.zero_windows)),
                orig_window_scale: orig_scale.map(u64::from),
                orig_window_max: is_tcp.then_some(u64::from(orig.window_max)),
                orig_in_flight_max: is_tcp.then_some(u64::from(orig.in_flight_max)),
                orig_rtt_samples: is_tcp.then_some(u64::from(orig.rtt_samples)),
                orig_rtt_min: orig.rtt().map(|[min, _, _]| min),
                orig_rtt_mean: orig.rtt().map(|[_, mean, _]| mean),
                orig_rtt_max: orig.rtt().map(|[_, _, max]| max),
                orig_tcp_flags: is_tcp.then_some(u16::from(orig.flags)),
                orig_ttl_min: (!orig.is_empty()).then_some(u16::from(orig.ttl_min)),
                orig_ttl_max: (!orig.is_empty()).then_some(u16::from(orig.ttl_max)),
                orig_length_min: orig_lengths.map(|of| of.min),
                orig_length_mean: orig_lengths.map(|of| of.mean),
                orig_length_max: orig_lengths.map(|of| of.max),
                orig_length_sd: orig_lengths.map(|of| of.deviation),
                orig_gap_min: orig_gaps.map(|of| of.min),
                orig_gap_mean: orig_gaps.map(|of| of.mean),
                orig_gap_max: orig_gaps.map(|of| of.max),
                orig_gap_sd: orig_gaps.map(|of| of.deviation),
                resp_retrans_bytes: resp.retransmitted_bytes,
                resp_dup_acks: is_tcp.then_some(u64::from(resp.duplicate_acks)),
                resp_zero_windows: is_tcp.then_some(u64::from(resp.zero_windows)),
                resp_window_scale: resp_scale.map(u64::from),
                resp_window_max: is_tcp.then_some(u64::from(resp.window_max)),
                resp_in_flight_max: is_tcp.then_some(u64::from(resp.in_flight_max)),
                resp_rtt_samples: is_tcp.then_some(u64::from(resp.rtt_samples)),
                resp_rtt_min: resp.rtt().map(|[min, _, _]| min),
                resp_rtt_mean: resp.rtt().map(|[_, mean, _]| mean),
                resp_rtt_max: resp.rtt().map(|[_, _, max]| max),
                resp_tcp_flags: is_tcp.then_some(u16::from(resp.flags)),
                resp_ttl_min: (!resp.is_empty()).then_some(u16::from(resp.ttl_min)),
                resp_ttl_max: (!resp.is_empty()).then_some(u16::from(resp.ttl_max)),
                resp_length_min: resp_lengths.map(|of| of.min),
                resp_length_mean: resp_lengths.map(|of| of.mean),
                resp_length_max: resp_lengths.map(|of| of.max),
                resp_length_sd: resp_lengths.map(|of| of.deviation),
                resp_gap_min: resp_gaps.map(|of| of.min),
                resp_gap_mean: resp_gaps.map(|of| of.mean),
                resp_gap_max: resp_gaps.map(|of| of.max),
                resp_gap_sd: resp_gaps.map(|of| of.deviation),
                fault: maybe_fault.map(|fault| fault.word().as_bytes()),
                outcome: outcome_word(outcome).as_bytes(),
            },
        );
    }
}

/// The word of an outcome in flow records.
#[must_use]
pub const fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => "completed",
        Outcome::TimedOut => "timed_out",
        Outcome::Ended => "ended",
        Outcome::Evicted => "evicted",
        Outcome::Erroneous => "erroneous",
    }
}

const fn outcome_counter(counters: &mut Counters, outcome: Outcome) -> &mut u64 {
    match outcome {
        Outcome::Completed => &mut counters.flows_completed,
        Outcome::TimedOut => &mut counters.flows_timed_out,
        Outcome::Ended => &mut counters.flows_ended,
        Outcome::Evicted => &mut counters.flows_evicted,
        Outcome::Erroneous => &mut counters.flows_erroneous,
    }
}
