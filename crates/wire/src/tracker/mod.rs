//! Packets to flows: who talks to whom, in which order the bytes belong, and when it is over.
//!
//! Rules of this file:
//! 1. Every packet that is fed is counted in exactly one field of [`Counters`] but `received`.
//! 2. Time is the packets' own; it never goes backwards here, whatever the packets say, unless the clock that stamps them is known
//!    to have been set: then time-outs are set with it ([`Tracker::clock_stepped`]).
//! 3. `current_uid` names the flow in hand, so that a fault in a sink can be pinned to it.
pub mod flow;
pub mod history;
pub mod measures;
pub mod overlap;
pub mod restart;
pub mod table;
pub mod tcp;

use crate::bytes::be16;
use crate::event::{Direction, Endpoint, Flow, Outcome, Sink};
use crate::flowhash::Seed;
use crate::fragments::{FragmentCounters, Fragments, Progress};
use crate::ip::{self, Ip};
use crate::limits::Limits;
use crate::link::{self, Skip};
use crate::packet::Packet;
use crate::tunnel::{self, Inner};
use flow::{CLASSES, Class, Entry, Key};
use overlap::Overlap;
use restart::{Again, Born, Hand, Journal, Place, Stranded};
use table::Table;
use tcp::{ACK, SYN};

/// What to do with transport checksums.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checksums {
    /// A packet with a wrong one is counted and not delivered, as a host would not. (Not checked where the sender's kernel had left it
    /// to the card, or the packet was cut.)
    Verify,
    /// As `Verify`, but a checksum that a sender's kernel left for its card to complete is none: for captures taken on a host with
    /// offloading. Someone who knows of this can make packets that a host drops and we read.
    Auto,
    /// Never looked at.
    Ignore,
}

/// Packets by what became of them, and other counts. `received` is the sum of the fields up to `unknown_link`.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Packets fed.
    pub received: u64,
    /// TCP segments.
    pub tcp: u64,
    /// UDP datagrams.
    pub udp: u64,
    /// ICMP and ICMPv6.
    pub icmp: u64,
    /// IP with another protocol.
    pub other_ip: u64,
    /// IP fragments that wait for the rest, or were given up.
    pub fragments: u64,
    /// ARP.
    pub arp: u64,
    /// Not IP.
    pub non_ip: u64,
    /// A header cut short.
    pub truncated: u64,
    /// A header that cannot be right.
    pub malformed: u64,
    /// Wrong IP or transport checksum.
    pub bad_checksum: u64,
    /// More headers or tunnels than the limit.
    pub too_deep: u64,
    /// A link type that is not read.
    pub unknown_link: u64,
    /// Flows opened.
    pub flows_opened: u64,
    /// Flows by outcome.
    pub flows_completed: u64,
    /// Flows by outcome.
    pub flows_timed_out: u64,
    /// Flows by outcome.
    pub flows_ended: u64,
    /// Flows by outcome.
    pub flows_evicted: u64,
    /// Flows by outcome.
    pub flows_erroneous: u64,
    /// Stream bytes that were never captured.
    pub missed_bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Became {
    Tcp,
    Udp,
    Icmp,
    OtherIp,
    Fragment,
    BadChecksum,
    Skipped(Skip),
}

/// From so many flows on their memory is more than the caches near a core hold (400 bytes each: 1.6 MB), and looking ahead with
/// [`Tracker::expect`] pays.
pub const COLD_FLOWS: usize = 4_096;
/// Packets to look ahead at once: what a processor can wait for at the same time.
pub const AHEAD: usize = 16;

/// All flows of a lane.
pub struct Tracker {
    limits: Limits,
    lane: u16,
    checksums: Checksums,
    overlap: Overlap,
    statistics: bool,
    table: Table,
    fragments: Fragments,
    counters: Counters,
    next_uid: u64,
    now_ns: u64,
    /// No flow's time is over before this.
    due_ns: u64,
    held: i64,
    /// Number and slot of the flow in hand.
    maybe_current: Option<(u64, u32)>,
    /// What the flow in hand held when it was taken up and `held` still counts: lost if a sink panics.
    in_hand: i64,
    maybe_last: Option<Flow>,
    place: Place,
    journal: Journal,
    maybe_again: Option<Again>,
    maybe_hand: Option<Hand>,
    /// Flows that began before this block are stranded.
    stranded_before: u64,
    /// By how much the stamping clock was set, ns, until a packet shows it; 0: it was not.
    pending_step_ns: i64,
}

impl Tracker {
    /// No flows yet.
    #[must_use]
    pub fn new(limits: Limits, lane: u16, seed: [u8; 16], checksums: Checksums) -> Self {
        let seed = Seed::new(seed);
        Self {
            limits,
            lane,
            checksums,
            overlap: Overlap::default(),
            statistics: false,
            table: Table::new(seed),
            fragments: Fragments::new(limits, seed),
            counters: Counters::default(),
            // 0 stays free: in tables it says «no flow».
            next_uid: 1,
            now_ns: 0,
            due_ns: u64::MAX,
            held: 0,
            maybe_current: None,
            in_hand: 0,
            maybe_last: None,
            place: Place::default(),
            journal: Journal::default(),
            maybe_again: None,
            maybe_hand: None,
            stranded_before: 0,
            pending_step_ns: 0,
        }
    }

    /// The same with other overlap policies.
    #[must_use]
    pub fn with_overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }

    /// The same, measuring every packet: twice the memory a flow and some time a packet.
    #[must_use]
    pub const fn with_statistics(mut self, statistics: bool) -> Self {
        self.statistics = statistics;
        self
    }

    /// The flow in hand while a sink is being called.
    #[must_use]
    pub fn current_uid(&self) -> Option<u64> {
        self.maybe_current.map(|(uid, _)| uid)
    }

    /// The flow that the last packet belonged to (the innermost, if it was tunnelled), if it belonged to one.
    #[must_use]
    pub const fn last_flow(&self) -> Option<Flow> {
        self.maybe_last
    }

    /// Counts so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// Counts of IP reassembly.
    #[must_use]
    pub const fn fragment_counters(&self) -> FragmentCounters {
        self.fragments.counters
    }

    /// Living flows.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.table.len()
    }

    /// Bytes held for reassembly.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        u64::try_from(self.held).unwrap_or(0).saturating_add(self.fragments.held())
    }

    /// Packet time so far.
    #[must_use]
    pub const fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Tell this page which packet and flow are in hand.
    pub fn show(&mut self, hand: Hand) {
        self.maybe_hand = Some(hand);
    }

    /// Keep a journal of flows that begin and end.
    pub const fn keep_journal(&mut self) {
        self.journal.on = true;
    }

    /// (flows begun, flows ended) since the last call, encoded as in [`restart`].
    pub fn take_journal(&mut self) -> (Vec<u8>, Vec<u8>) {
        self.journal.take()
    }

    /// All living flows, encoded as in [`restart`].
    pub fn born(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in self.table.entries_mut() {
            let outer = entry.flow.maybe_outer.unwrap_or(0);
            let place = self.journal.place(entry.flow.slot);
            Born { uid: entry.flow.uid, place, outer }.write(&mut bytes);
        }
        bytes
    }

    /// Blocks before this one are about to be given back: the living flows that began there and not before the block of the last
    /// call, encoded as [`Stranded`].
    pub fn strand(&mut self, before: u64) -> Vec<u8> {
        let from = self.stranded_before;
        self.stranded_before = from.max(before);
        self.stranded_in(from..before)
    }

    /// All living flows that are stranded.
    pub fn stranded(&mut self) -> Vec<u8> {
        self.stranded_in(0..self.stranded_before)
    }

    fn stranded_in(&mut self, blocks: core::ops::Range<u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        if blocks.is_empty() {
            return bytes;
        }
        for entry in self.table.entries_mut() {
            let block = self.journal.place(entry.flow.slot).block;
            if blocks.contains(&block) {
                let (class, idle_since_ns) = (entry.class, entry.idle_since_ns);
                Stranded { flow: entry.flow, class, idle_since_ns, block }.write(&mut bytes);
            }
        }
        bytes
    }

    /// Before anything is read again, from block `first` on: these flows live on, under the numbers they had, although nothing else
    /// of them is known. Oldest first.
    pub fn restore(&mut self, flows: &[Stranded], first: u64, sink: &mut impl Sink) {
        self.stranded_before = self.stranded_before.max(first);
        for one in flows {
            let key = Key::new(one.flow.orig, one.flow.resp, one.flow.protocol);
            if self.table.find(&key).is_some() || self.table.len() >= self.limits.flows as usize {
                continue;
            }
            let flow = Flow { slot: self.table.next_slot(), ..one.flow };
            let place = Place { block: one.block, ..Place::default() };
            self.counters.flows_opened = self.counters.flows_opened.saturating_add(1);
            self.journal.opened(flow.slot, Born { uid: flow.uid, place, outer: flow.maybe_outer.unwrap_or(0) });
            let policies = [self.overlap.of(flow.resp.address), self.overlap.of(flow.orig.address)];
            let mut entry = Entry::new(flow, one.class, [None, None], policies, self.statistics);
            entry.idle_since_ns = one.idle_since_ns;
            self.due_ns = 0; // looked up anew
            self.table.insert(&key, entry);
            sink.flow_opened(&flow);
        }
        if let Some(again) = &mut self.maybe_again {
            again.forget(&flows.iter().map(|one| one.flow.uid).collect());
        }
    }

    /// Number (without the lane) of the next flow.
    #[must_use]
    pub const fn next_uid(&self) -> u64 {
        self.next_uid
    }

    /// From now on blocks are read again, until [`Tracker::caught_up`].
    pub fn read_again(&mut self, again: Again) {
        self.maybe_again = Some(again);
    }

    /// Everything that had been read has been read again; answers how many flows were not met.
    pub fn caught_up(&mut self) -> usize {
        let Some(again) = self.maybe_again.take() else { return 0 };
        let (next_uid, now_ns, missed) = again.finish();
        (self.next_uid, self.now_ns) = (next_uid, now_ns);
        missed
    }

    /// The block that holds the first fragment of the oldest datagram that waits for the rest.
    #[must_use]
    pub fn oldest_fragment_block(&self) -> Option<u64> {
        self.fragments.oldest_block()
    }

    /// The next packet stands here.
    pub fn at(&mut self, block: u64, packet: u32) {
        self.place = Place { block, packet, depth: 0 };
        self.fragments.block = block;
        if let Some(hand) = &self.maybe_hand {
            hand.packet(u64::from(packet).saturating_add(1));
        }
    }

    fn take_up(&mut self, uid: u64, slot: u32) {
        self.maybe_current = Some((uid, slot));
        if let Some(hand) = &self.maybe_hand {
            hand.flow(uid);
        }
    }

    /// A fault hit the flow in this slot: nothing more of it is delivered, it ends [`Outcome::Erroneous`]. Another flow in the slot is
    /// left alone.
    pub fn condemn(&mut self, uid: u64, slot: u32) {
        if let Some(entry) = self.table.entry_mut(slot)
            && entry.flow.uid == uid
        {
            entry.condemned = true;
        }
    }

    /// After a panic in a sink was caught: the flow in hand is condemned and what is half done is forgotten.
    /// Returns the flow's number and slot.
    pub fn recover_after_panic(&mut self) -> Option<(u64, u32)> {
        let (uid, slot) = self.maybe_current.take()?;
        self.condemn(uid, slot);
        // What the flow held went with its state, uncounted.
        let left = self.table.entry(slot).filter(|entry| entry.flow.uid == uid).map_or(0, Entry::held);
        self.held = self.held.saturating_sub(core::mem::take(&mut self.in_hand)).saturating_add(left);
        Some((uid, slot))
    }

    /// Count a packet that never reached [`Tracker::feed`] or whose handling was cut off by a panic.
    pub fn count_lost(&mut self) {
        let sum = self.counters.by_fate();
        if sum < self.counters.received {
            self.counters.malformed =
                self.counters.malformed.saturating_add(self.counters.received.saturating_sub(sum));
        }
    }

    /// Count a packet that is not looked at, because a fault that belongs to no flow hit it.
    pub fn pass_over(&mut self) {
        self.counters.received = self.counters.received.saturating_add(1);
        self.counters.malformed = self.counters.malformed.saturating_add(1);
        self.maybe_last = None;
    }

    /// This packet comes soon: the slot of its flow, most likely, if it is the packet of a flow that lives and not in a tunnel; for
    /// [`Tracker::glance`]. Changes nothing. Worth its time where flows are more than caches hold: see [`COLD_FLOWS`].
    #[must_use]
    pub fn expect(&self, packet: &Packet<'_>) -> Option<u32> {
        let link = link::link(packet, self.limits.headers).ok()?;
        let ip = ip::ip(link.ip, self.limits.headers).ok()?;
        let (6 | 17, Some(from), Some(to)) = (ip.protocol, be16(ip.payload, 0), be16(ip.payload, 2)) else {
            return None;
        };
        let source = Endpoint { address: ip.source, port: from };
        let destination = Endpoint { address: ip.destination, port: to };
        self.table.likely(self.table.hash(&Key::new(source, destination, ip.protocol)))
    }

    /// Have the memory of the flows in these slots ready. Changes nothing.
    pub fn glance(&self, slots: &[Option<u32>]) {
        self.table.glance(slots);
    }

    /// Take a packet.
    pub fn feed(&mut self, packet: &Packet<'_>, sink: &mut impl Sink) {
        self.counters.received = self.counters.received.saturating_add(1);
        self.maybe_last = None;
        if self.pending_step_ns != 0 {
            self.step_if_shown(packet.ts_ns);
        }
        if packet.ts_ns > self.now_ns {
            self.now_ns = packet.ts_ns;
            self.expire_due(sink);
        }
        let became = match link::link(packet, self.limits.headers) {
            Ok(link) => match ip::ip(link.ip, self.limits.headers) {
                Ok(ip) => self.network(&ip, link.vlan, packet, 0, None, sink),
                Err(skip) => Became::Skipped(skip),
            },
            Err(skip) => Became::Skipped(skip),
        };
        let counter = match became {
            Became::Tcp => &mut self.counters.tcp,
            Became::Udp => &mut self.counters.udp,
            Became::Icmp => &mut self.counters.icmp,
            Became::OtherIp => &mut self.counters.other_ip,
            Became::Fragment => &mut self.counters.fragments,
            Became::BadChecksum => &mut self.counters.bad_checksum,
            Became::Skipped(Skip::Arp) => &mut self.counters.arp,
            Became::Skipped(Skip::NonIp) => &mut self.counters.non_ip,
            Became::Skipped(Skip::Truncated) => &mut self.counters.truncated,
            Became::Skipped(Skip::Malformed) => &mut self.counters.malformed,
            Became::Skipped(Skip::TooDeep) => &mut self.counters.too_deep,
            Became::Skipped(Skip::UnknownLink) => &mut self.counters.unknown_link,
        };
        *counter = counter.saturating_add(1);
        self.maybe_current = None;
    }

    /// The clock that stamps packets was set by so many ns; packets stamped before may still come. From the first packet on that shows
    /// it time goes on from there, and what a flow had left of its time it has left.
    ///
    /// Durations of flows that live across the step are wrong by it, and fragments that wait may be given up early or late.
    pub const fn clock_stepped(&mut self, by_ns: i64) {
        self.pending_step_ns = self.pending_step_ns.saturating_add(by_ns);
    }

    fn step_if_shown(&mut self, ts_ns: u64) {
        let step = self.pending_step_ns;
        let jump = i128::from(ts_ns).saturating_sub(i128::from(self.now_ns));
        // Half of it is enough: some time has passed since the last packet, and nobody waits for so long that it is not seen.
        if jump.signum() != i128::from(step.signum()) || jump.unsigned_abs() < u128::from(step.unsigned_abs() / 2) {
            return;
        }
        self.pending_step_ns = 0;
        self.due_ns = 0; // looked up anew
        self.now_ns = self.now_ns.saturating_add_signed(step);
        for entry in self.table.entries_mut() {
            entry.idle_since_ns = entry.idle_since_ns.saturating_add_signed(step);
        }
    }

    /// Let time pass: timers fire.
    pub fn expire(&mut self, now_ns: u64, sink: &mut impl Sink) {
        self.now_ns = self.now_ns.max(now_ns);
        self.expire_due(sink);
        self.fragments.expire(self.now_ns);
        self.maybe_current = None;
    }

    /// The trace has ended: every flow ends.
    pub fn finish(&mut self, sink: &mut impl Sink) {
        for class in CLASSES {
            while let Some(slot) = self.table.oldest(class) {
                let outcome = if class == Class::TcpClosed { Outcome::Completed } else { Outcome::Ended };
                self.close(slot, class, outcome, sink);
            }
        }
        self.maybe_current = None;
    }

    fn expire_due(&mut self, sink: &mut impl Sink) {
        if self.maybe_again.is_some() || self.now_ns < self.due_ns {
            return;
        }
        self.due_ns = u64::MAX;
        for class in CLASSES {
            let idle = class.idle_ns(&self.limits);
            while let Some(slot) = self.table.oldest(class) {
                let Some(last) = self.table.entry_mut(slot).map(|entry| entry.idle_since_ns) else { break };
                let due_ns = last.saturating_add(idle);
                if due_ns > self.now_ns {
                    self.due_ns = self.due_ns.min(due_ns);
                    break;
                }
                let outcome = match class {
                    Class::TcpClosed | Class::Udp | Class::Other => Outcome::Completed,
                    Class::TcpAttempt | Class::TcpHandshake | Class::TcpIdle => Outcome::TimedOut,
                };
                self.close(slot, class, outcome, sink);
            }
        }
    }

    /// A flow has come into a class: its time may be over before any other's.
    fn note_due(&mut self, slot: u32, class: Class) {
        let since = self.table.entry(slot).map_or(0, |entry| entry.idle_since_ns);
        self.due_ns = self.due_ns.min(since.saturating_add(class.idle_ns(&self.limits)));
    }

    fn close(&mut self, slot: u32, class: Class, outcome: Outcome, sink: &mut impl Sink) {
        let Some(mut entry) = self.table.remove(slot, class) else { return };
        self.take_up(entry.flow.uid, slot);
        self.journal.closed(entry.flow.uid);
        let outcome = if entry.condemned { Outcome::Erroneous } else { outcome };
        let counter = match outcome {
            Outcome::Completed => &mut self.counters.flows_completed,
            Outcome::TimedOut => &mut self.counters.flows_timed_out,
            Outcome::Ended => &mut self.counters.flows_ended,
            Outcome::Evicted => &mut self.counters.flows_evicted,
            Outcome::Erroneous => &mut self.counters.flows_erroneous,
        };
        *counter = counter.saturating_add(1);
        self.in_hand = entry.held();
        let (summary, delta) = entry.close(sink);
        self.in_hand = 0;
        self.held = self.held.saturating_add(delta);
        self.counters.missed_bytes = self.counters.missed_bytes.saturating_add(summary.missed_bytes);
        sink.flow_closed(&entry.flow, &summary, outcome);
    }

    fn network(
        &mut self,
        ip: &Ip<'_>,
        vlan: [Option<u16>; 2],
        packet: &Packet<'_>,
        depth: u32,
        maybe_outer: Option<u64>,
        sink: &mut impl Sink,
    ) -> Became {
        if ip.bad_checksum && self.checksums != Checksums::Ignore && !packet.checksum_not_ready {
            return Became::BadChecksum;
        }
        let Some(fragment) = ip.maybe_fragment else {
            return self.transport(ip, vlan, packet, depth, maybe_outer, sink);
        };
        match self.fragments.feed(ip, fragment, packet.ts_ns) {
            Progress::Waiting => Became::Fragment,
            Progress::Complete(whole) => {
                let (protocol, payload) = match ip::behind_extensions(ip, &whole, self.limits.headers) {
                    Ok(found) => found,
                    Err(skip) => return Became::Skipped(skip),
                };
                let ip = Ip {
                    payload,
                    payload_len: payload.len(),
                    total_len: whole.total_len,
                    protocol,
                    maybe_fragment: None,
                    ..*ip
                };
                self.transport(&ip, vlan, packet, depth, maybe_outer, sink)
            }
        }
    }

    fn transport(
        &mut self,
        ip: &Ip<'_>,
        vlan: [Option<u16>; 2],
        packet: &Packet<'_>,
        depth: u32,
        maybe_outer: Option<u64>,
        sink: &mut impl Sink,
    ) -> Became {
        match ip.protocol {
            6 => self.tcp(ip, vlan, packet, maybe_outer, sink),
            17 => self.udp(ip, vlan, packet, depth, maybe_outer, sink),
            1 | 58 => self.icmp(ip, vlan, packet, maybe_outer, sink),
            4 | 41 | 47 | 97 | 137 => match tunnel::of_protocol(ip.protocol, ip.payload) {
                Some(inner) => {
                    let carrier = self.carrier(ip, vlan, packet, maybe_outer, sink);
                    self.tunnel(&inner, packet, depth, carrier, sink)
                }
                None => self.other(ip, vlan, packet, maybe_outer, sink),
            },
            _ => self.other(ip, vlan, packet, maybe_outer, sink),
        }
    }

    fn tunnel(
        &mut self,
        inner: &Inner<'_>,
        packet: &Packet<'_>,
        depth: u32,
        maybe_outer: Option<u64>,
        sink: &mut impl Sink,
    ) -> Became {
        if depth >= self.limits.tunnels {
            return Became::Skipped(Skip::TooDeep);
        }
        let found = match inner {
            Inner::Ip(bytes) => Ok(link::Link { ip: bytes, vlan: [None, None] }),
            Inner::Ethernet(bytes) => link::ethernet(bytes, self.limits.headers),
            Inner::Ethertype(kind, bytes) => link::ethertype(*kind, bytes, self.limits.headers),
            Inner::Ppp(bytes) => link::ppp(bytes, self.limits.headers),
            Inner::Wifi(bytes) => link::ieee80211(bytes, self.limits.headers),
        };
        match found.and_then(|link| ip::ip(link.ip, self.limits.headers).map(|ip| (ip, link.vlan))) {
            Ok((ip, vlan)) => {
                self.place.depth = depth.saturating_add(1);
                self.network(&ip, vlan, packet, depth.saturating_add(1), maybe_outer, sink)
            }
            Err(skip) => Became::Skipped(skip),
        }
    }

    fn tcp(
        &mut self,
        ip: &Ip<'_>,
        vlan: [Option<u16>; 2],
        packet: &Packet<'_>,
        maybe_outer: Option<u64>,
        sink: &mut impl Sink,
    ) -> Became {
        let Some(segment) = tcp::segment(ip.payload, ip.payload_len) else {
            return Became::Skipped(if ip.payload.len() < 20 { Skip::Truncated } else { Skip::Malformed });
        };
        let source = Endpoint { address: ip.source, port: segment.source_port };
        let destination = Endpoint { address: ip.destination, port: segment.destination_port };
        let key = Key::new(source, destination, 6);
        let bad = self.is_bad(ip, packet, ip.payload_len);
        let mut found = self.table.find(&key);
        if let Some(slot) = found
            && !bad
            && let Some(entry) = self.table.entry_mut(slot)
        {
            let (direction, class) = (entry.direction(source), entry.class);
            if entry.is_reused_by(direction, &segment, packet.ts_ns, &self.limits) {
                self.close(slot, class, Outcome::Completed, sink);
                found = None;
            }
        }
        let maybe_slot = found.or_else(|| {
            // A SYN tells who began; a SYN/ACK that it was the other; without either, a well-known port does.
            let flip = match segment.flags & (SYN | ACK) {
                SYN => false,
                flags if flags == SYN | ACK => true,
                _ => is_service(segment.source_port) && !is_service(segment.destination_port),
            };
            self.open(key, source, destination, flip, Class::TcpAttempt, vlan, packet.ts_ns, maybe_outer, sink)
        });
        let Some(slot) = maybe_slot else { return Became::Tcp };
        self.with_entry(
            slot,
            source,
            ip,
            packet,
            |entry, direction, tracker_limits, sink| {
                if bad {
                    entry.history.note(direction, b'C');
                    entry.counts.bad_checksums = entry.counts.bad_checksums.saturating_add(1);
                    return 0;
                }
                entry.segment(direction, &segment, packet.ts_ns, tracker_limits, sink)
            },
            sink,
        );
        if bad { Became::BadChecksum } else { Became::Tcp }
    }

    fn udp(
        &mut self,
        ip: &Ip<'_>,
        vlan: [Option<u16>; 2],
        packet: &Packet<'_>,
        depth: u32,
        maybe_outer: Option<u64>,
        sink: &mut impl Sink,
    ) -> Became {
        let (Some(source_port), Some(destination_port), Some(claimed), Some(captured)) =
            (be16(ip.payload, 0), be16(ip.payload, 2), be16(ip.payload, 4), ip.payload.get(8..))
        else {
            return Became::Skipped(Skip::Truncated);
        };
        let room = ip.payload_len.saturating_sub(8);
        // Length 0: a jumbogram (RFC 2675) or offloading; longer than the IP packet: cut or lying; the shorter one is real.
        let wire_len = if claimed == 0 { room } else { usize::from(claimed).saturating_sub(8).min(room) };
        let payload = captured.get(..wire_len).unwrap_or(captured);
        let source = Endpoint { address: ip.source, port: source_port };
        let destination = Endpoint { address: ip.destination, port: destination_port };
        let key = Key::new(source, destination, 17);
        let bad = be16(ip.payload, 6) != Some(0) && self.is_bad(ip, packet, wire_len.saturating_add(8));
        let maybe_slot = self.table.find(&key).or_else(|| {
            let flip = is_service(source_port) && !is_service(destination_port);
            self.open(key, source, destination, flip, Class::Udp, vlan, packet.ts_ns, maybe_outer, sink)
        });
        // Read again, a flow that has ended is not opened; what its tunnel carries may go on.
        let uid = maybe_slot.and_then(|slot| {
            self.with_entry(
                slot,
                source,
                ip,
                packet,
                |entry, direction, _, sink| {
                    if bad {
                        entry.history.note(direction, b'C');
                        entry.counts.bad_checksums = entry.counts.bad_checksums.saturating_add(1);
                    } else {
                        entry.datagram(direction, payload, wire_len, packet.ts_ns, sink);
                    }
                    0
                },
                sink,
            )
        });
        if bad {
            return Became::BadChecksum;
        }
        if let Some(inner) = tunnel::of_udp(source_port, destination_port, payload)
            && depth < self.limits.tunnels
        {
            // What is not a tunnel after all is a UDP datagram all the same: count it as one.
            return match self.tunnel(&inner, packet, depth, uid, sink) {
                Became::Skipped(_) => Became::Udp,
                became => became,
            };
        }
        Became::Udp
    }

    fn icmp(
        &mut self,
        ip: &Ip<'_>,
        vlan: [Option<u16>; 2],
        packet: &Packet<'_>,
        maybe_outer: Option<u64>,
        sink: &mut impl Sink,
    ) -> Became {
        let (Some(kind), Some(code)) = (ip.payload.first().copied(), ip.payload.get(1).copied()) else {
            return Became::Skipped(Skip::Truncated);
        };
        let whole = ip.payload.len() == ip.payload_len;
        if self.checksums != Checksums::Ignore && !packet.checksum_not_ready && whole {
            let good = if ip.protocol == 58 {
                ip::transport_checksum_ok(ip.source, ip.destination, 58, ip.payload)
            } else {
                ip::sum(ip.payload, 0) == 0xFFFF
            };
            if !good {
                return Became::BadChecksum;
            }
        }
        // Zeek's ports: type and the type that answers it; for one-way messages type and code.
        let (own, other) = counterpart(ip.protocol, kind)
            .map_or((u16::from(kind), u16::from(code)), |answer| (u16::from(kind), u16::from(answer)));
        let source = Endpoint { address: ip.source, port: own };
        let destination = Endpoint { address: ip.destination, port: other };
        let key = Key::new(source, destination, ip.protocol);
        let maybe_slot = self.table.find(&key).or_else(|| {
            self.open(key, source, destination, false, Class::Other, vlan, packet.ts_ns, maybe_outer, sink)
        });
        let Some(slot) = maybe_slot else { return Became::Icmp };
        let payload = ip.payload.get(8..).unwrap_or(&[]);
        let wire_len = ip.payload_len.saturating_sub(8);
        self.with_entry(
            slot,
            source,
            ip,
            packet,
            |entry, direction, _, sink| {
                entry.datagram(direction, payload, wire_len, packet.ts_ns, sink);
                0
            },
            sink,
        );
        Became::Icmp
    }

    /// Count a packet for the flow of a tunnel without ports. Its payload is not told: what is inside is.
    fn carrier(
        &mut self,
        ip: &Ip<'_>,
        vlan: [Option<u16>; 2],
        packet: &Packet<'_>,
        maybe_outer: Option<u64>,
        sink: &mut impl Sink,
    ) -> Option<u64> {
        let source = Endpoint { address: ip.source, port: 0 };
        let destination = Endpoint { address: ip.destination, port: 0 };
        let key = Key::new(source, destination, ip.protocol);
        let slot = self.table.find(&key).or_else(|| {
            self.open(key, source, destination, false, Class::Other, vlan, packet.ts_ns, maybe_outer, sink)
        })?;
        self.with_entry(
            slot,
            source,
            ip,
            packet,
            |entry, direction, _, _| {
                entry.note_payload(direction, ip.payload_len);
                0
            },
            sink,
        )
    }

    fn other(
        &mut self,
        ip: &Ip<'_>,
        vlan: [Option<u16>; 2],
        packet: &Packet<'_>,
        maybe_outer: Option<u64>,
        sink: &mut impl Sink,
    ) -> Became {
        // DCCP, SCTP and UDP-Lite have their ports where TCP has them.
        let ports =
            if matches!(ip.protocol, 33 | 132 | 136) { be16(ip.payload, 0).zip(be16(ip.payload, 2)) } else { None };
        let (own, other) = ports.unwrap_or((0, 0));
        let source = Endpoint { address: ip.source, port: own };
        let destination = Endpoint { address: ip.destination, port: other };
        let key = Key::new(source, destination, ip.protocol);
        let maybe_slot = self.table.find(&key).or_else(|| {
            self.open(key, source, destination, false, Class::Other, vlan, packet.ts_ns, maybe_outer, sink)
        });
        let Some(slot) = maybe_slot else { return Became::OtherIp };
        self.with_entry(
            slot,
            source,
            ip,
            packet,
            |entry, direction, _, sink| {
                entry.datagram(direction, ip.payload, ip.payload_len, packet.ts_ns, sink);
                0
            },
            sink,
        );
        Became::OtherIp
    }

    /// Whether the checksum over the payload's first `length` bytes is there, to be checked, and wrong.
    fn is_bad(&self, ip: &Ip<'_>, packet: &Packet<'_>, length: usize) -> bool {
        let covered = ip.payload.get(..length).unwrap_or(ip.payload);
        self.checksums != Checksums::Ignore
            && !packet.checksum_not_ready
            && ip.payload.len() == ip.payload_len
            && !ip::transport_checksum_ok(ip.source, ip.destination, ip.protocol, covered)
            && !(self.checksums == Checksums::Auto
                && ip::transport_checksum_left(ip.source, ip.destination, ip.protocol, covered))
    }

    /// Count the packet for its flow and let `act` handle it; returns the flow's number.
    fn with_entry<S: Sink>(
        &mut self,
        slot: u32,
        source: Endpoint,
        ip: &Ip<'_>,
        packet: &Packet<'_>,
        act: impl FnOnce(&mut Entry, Direction, &Limits, &mut S) -> flow::HeldDelta,
        sink: &mut S,
    ) -> Option<u64> {
        let entry = self.table.entry_mut(slot)?;
        let listed_as = entry.class;
        let uid = entry.flow.uid;
        self.maybe_current = Some((uid, slot));
        if let Some(hand) = &self.maybe_hand {
            hand.flow(uid);
        }
        self.maybe_last = Some(entry.flow);
        let direction = entry.direction(source);
        entry.count(direction, ip.total_len, ip.ttl, packet.ts_ns.max(entry.flow.first_ts_ns));
        self.in_hand = entry.held();
        let delta = act(entry, direction, &self.limits, sink);
        let class = entry.class;
        self.in_hand = 0;
        self.held = self.held.saturating_add(delta);
        self.table.touch(slot, listed_as, class, packet.ts_ns);
        if listed_as != class {
            self.note_due(slot, class);
        }
        if u64::try_from(self.held).is_ok_and(|held| held > self.limits.reassembly_bytes) {
            self.close(slot, class, Outcome::Evicted, sink);
        }
        Some(uid)
    }

    #[allow(clippy::too_many_arguments)] // each is one fact of the first packet
    fn open(
        &mut self,
        key: Key,
        source: Endpoint,
        destination: Endpoint,
        flip: bool,
        class: Class,
        vlan: [Option<u16>; 2],
        ts_ns: u64,
        maybe_outer: Option<u64>,
        sink: &mut impl Sink,
    ) -> Option<u32> {
        // What is read again: only what had not ended.
        let (count, maybe_outer) = match &mut self.maybe_again {
            None => (self.next_uid, maybe_outer),
            Some(again) => {
                let born = again.open(self.place)?;
                (born.uid & 0xFFFF_FFFF_FFFF, Some(born.outer).filter(|outer| *outer != 0))
            }
        };
        if self.table.len() >= self.limits.flows as usize
            && let Some(victim) = self.table.victim()
            && let Some(listed_as) = self.table.entry_mut(victim).map(|entry| entry.class)
        {
            self.close(victim, listed_as, Outcome::Evicted, sink);
        }
        let (orig, resp) = if flip { (destination, source) } else { (source, destination) };
        let uid = (u64::from(self.lane) << 48) | (count & 0xFFFF_FFFF_FFFF);
        self.next_uid = self.next_uid.max(count.saturating_add(1));
        self.counters.flows_opened = self.counters.flows_opened.saturating_add(1);
        let flow = Flow {
            uid,
            slot: self.table.next_slot(),
            orig,
            resp,
            protocol: key.protocol,
            first_ts_ns: ts_ns,
            maybe_outer,
        };
        self.take_up(uid, flow.slot);
        self.journal.opened(flow.slot, Born { uid, place: self.place, outer: maybe_outer.unwrap_or(0) });
        let policies = [self.overlap.of(resp.address), self.overlap.of(orig.address)];
        let mut entry = Entry::new(flow, class, vlan, policies, self.statistics);
        if flip {
            entry.history.flip();
        }
        let slot = self.table.insert(&key, entry);
        self.note_due(slot, class);
        sink.flow_opened(&flow);
        Some(slot)
    }
}

impl Counters {
    /// Sum over what became of packets; equals `received`.
    #[must_use]
    pub fn by_fate(&self) -> u64 {
        [
            self.tcp,
            self.udp,
            self.icmp,
            self.other_ip,
            self.fragments,
            self.arp,
            self.non_ip,
            self.truncated,
            self.malformed,
            self.bad_checksum,
            self.too_deep,
            self.unknown_link,
        ]
        .iter()
        .fold(0, |sum: u64, part| sum.saturating_add(*part))
    }
}

/// The ICMP type that answers a type, for types that come in pairs (Zeek's `ICMP4_counterpart`, `ICMP6_counterpart`).
const fn counterpart(protocol: u8, kind: u8) -> Option<u8> {
    match (protocol, kind) {
        (1, 0) => Some(8),
        (1, 8) => Some(0),
        (1, 9) => Some(10),
        (1, 10) => Some(9),
        (1, 13) => Some(14),
        (1, 14) => Some(13),
        (1, 15) => Some(16),
        (1, 16) => Some(15),
        (1, 17) => Some(18),
        (1, 18) => Some(17),
        (58, 128) => Some(129),
        (58, 129) => Some(128),
        (58, 130) => Some(131),
        (58, 131) => Some(130),
        (58, 133) => Some(134),
        (58, 134) => Some(133),
        (58, 135) => Some(136),
        (58, 136) => Some(135),
        (58, 139) => Some(140),
        (58, 140) => Some(139),
        (58, 144) => Some(145),
        (58, 145) => Some(144),
        _ => None,
    }
}

/// Ports on which servers listen: tells the responder when no handshake was seen (Zeek: `likely_server_ports`).
const fn is_service(port: u16) -> bool {
    matches!(
        port,
        20 | 21
            | 22
            | 23
            | 25
            | 53
            | 67
            | 69
            | 80
            | 81
            | 88
            | 110
            | 111
            | 123
            | 135
            | 137
            | 139
            | 143
            | 161
            | 389
            | 443
            | 445
            | 465
            | 502
            | 514
            | 563
            | 585
            | 587
            | 614
            | 631
            | 636
            | 853
            | 989
            | 990
            | 992
            | 993
            | 995
            | 1080
            | 1433
            | 1434
            | 2152
            | 3128
            | 3306
            | 3389
            | 3544
            | 4754
            | 4789
            | 4790
            | 5060
            | 5061
            | 5072
            | 5223
            | 5353
            | 5355
            | 5432
            | 6081
            | 6379
            | 6635
            | 6666..=6669 | 8000 | 8080 | 8443 | 8888 | 9092 | 20000
    )
}
