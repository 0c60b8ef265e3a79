//! What a header trace remembers of flows: moved sequence numbers, shuffled ports, ranks of time stamps.
//!
//! Rules of this file:
//! 1. The table is bounded ([`FLOWS`]): when it is full it starts over. Ports, echo identifiers and sequence offsets are derived from
//!    the key and stay the same; relative numbers and ranks begin anew (counted).
//! 2. Both directions of a flow, and quotes of either, find the same entry.
use core::hash::{Hash, Hasher};
use std::collections::{HashMap, VecDeque};

use bunker_wire::flowhash::Seed;

use super::maps::Maps;
use super::rules::{PortSet, Ports, Sequence, Stamps};

/// Flows remembered. At ~130 bytes each 130 MB.
pub const FLOWS: usize = 1 << 20;
/// Time stamps remembered of one direction, newest last; older ones that come again get the rank of the oldest that is known.
pub const STAMPS: usize = 64;
/// Time stamps that the first pass keeps, all flows together. 4 bytes each.
pub const RANKED: usize = 16 << 20;

/// Which flow: the lower end first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FlowKey {
    low: ([u8; 16], u16),
    high: ([u8; 16], u16),
    protocol: u8,
}

impl Hash for FlowKey {
    /// In five words: a derived hash takes eleven, since it also says how long each array is.
    fn hash<H: Hasher>(&self, state: &mut H) {
        for end in [&self.low.0, &self.high.0] {
            let [high, low] = halves(u128::from_le_bytes(*end));
            state.write_u64(high);
            state.write_u64(low);
        }
        let ports = u64::from(self.low.1) << 24 | u64::from(self.high.1) << 8;
        state.write_u64(ports | u64::from(self.protocol));
    }
}

#[allow(clippy::cast_possible_truncation)] // both halves are taken
const fn halves(value: u128) -> [u64; 2] {
    [(value >> 64) as u64, value as u64]
}

impl FlowKey {
    /// The key of a packet, and whether its source is the higher end.
    #[must_use]
    pub fn of(source: [u8; 16], destination: [u8; 16], ports: [u16; 2], protocol: u8) -> (Self, bool) {
        let [from, to] = ports;
        let (one, other) = ((source, from), (destination, to));
        if one <= other {
            (Self { low: one, high: other, protocol }, false)
        } else {
            (Self { low: other, high: one, protocol }, true)
        }
    }

    fn bytes(&self) -> [u8; 37] {
        let mut bytes = [0; 37];
        let mut place = bytes.iter_mut();
        let parts =
            [&self.low.0[..], &self.low.1.to_be_bytes(), &self.high.0, &self.high.1.to_be_bytes(), &[self.protocol]];
        for byte in parts.into_iter().flatten() {
            if let Some(place) = place.next() {
                *place = *byte;
            }
        }
        bytes
    }
}

/// Time stamps of one direction and their ranks, the newest last.
#[derive(Default)]
struct Ranks {
    known: VecDeque<(u32, u32)>,
}

impl Ranks {
    /// The rank of a value, first seen or known.
    fn of(&mut self, value: u32) -> u32 {
        let Some((newest, rank)) = self.known.back().copied() else {
            self.known.push_back((value, 1));
            return 1;
        };
        let ahead = value.wrapping_sub(newest);
        if ahead == 0 {
            return rank;
        }
        // Newer than the newest is none of those that are known: no search, which is nearly always.
        if ahead < 1 << 31 {
            let rank = rank.wrapping_add(1);
            if self.known.len() >= STAMPS {
                self.known.pop_front();
            }
            self.known.push_back((value, rank));
            return rank;
        }
        if let Some((_, rank)) = self.known.iter().rev().find(|(known, _)| *known == value) {
            return *rank;
        }
        // Older than what is known, and late: between two ranks there is no room, so it gets that of its successor.
        self.known.iter().find(|(known, _)| known.wrapping_sub(value) < 1 << 31).map_or(rank, |(_, rank)| *rank)
    }

    fn known(&self, value: u32) -> u32 {
        self.known.iter().rev().find(|(known, _)| *known == value).map_or(0, |(_, rank)| *rank)
    }
}

struct Flow {
    /// As they leave: of the lower end, of the higher.
    ports: [u16; 2],
    offsets: [u32; 2],
    started: [bool; 2],
    isn: [Option<u32>; 2],
    generation: u16,
    tag: u16,
    echo_base: Option<u16>,
    ranks: Option<Box<[Ranks; 2]>>,
}

/// Values of the first pass: the time stamps of each direction, sorted.
#[derive(Default)]
pub struct Ranking {
    values: HashMap<(FlowKey, bool), Vec<u32>>,
    held: usize,
    /// Values that found no room: their options become NOPs.
    pub omitted: u64,
}

impl Ranking {
    /// Take note of a value.
    pub fn note(&mut self, key: FlowKey, high: bool, value: u32) {
        let values = self.values.entry((key, high)).or_default();
        if values.last() == Some(&value) {
            return;
        }
        if self.held >= RANKED {
            self.omitted = self.omitted.saturating_add(1);
            return;
        }
        self.held = self.held.saturating_add(1);
        values.push(value);
    }

    /// The pass is over.
    pub fn settle(&mut self) {
        for values in self.values.values_mut() {
            let first = values.first().copied().unwrap_or(0);
            // Time stamps wrap: order is by distance from the first, back or forth.
            values.sort_unstable_by_key(|value| value.wrapping_sub(first).wrapping_add(1 << 31));
            values.dedup();
        }
    }

    fn rank(&self, key: FlowKey, high: bool, value: u32) -> Option<u32> {
        let values = self.values.get(&(key, high))?;
        let least = values.first().copied().unwrap_or(0);
        let at = values.binary_search_by_key(&value.wrapping_sub(least), |known| known.wrapping_sub(least)).ok()?;
        u32::try_from(at).ok()?.checked_add(1)
    }
}

/// What leaves of a TCP header's numbers.
#[derive(Clone, Copy, Default)]
#[allow(missing_docs)]
pub struct TcpOut {
    pub ports: [u16; 2],
    pub sequence: u32,
    pub acknowledgement: u32,
    /// Added to SACK edges.
    pub sack: u32,
    /// Place of the flow in the table, for its time stamps.
    pub place: usize,
}

/// How TCP is treated: the rules that concern flows.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct TcpRules {
    pub sport: Ports,
    pub dport: Ports,
    pub sequence: Sequence,
    pub acknowledgement: Sequence,
    pub sack: Sequence,
}

/// The table.
pub struct Flows {
    /// Place of each flow: the index stays small, and grows without moving what flows remember.
    places: HashMap<FlowKey, u32, Seed>,
    flows: Vec<Flow>,
    /// How often it started over.
    pub resets: u64,
}

impl Flows {
    /// An empty table.
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        Self { places: HashMap::with_hasher(seed), flows: Vec::new(), resets: 0 }
    }

    /// An epoch is over: what was derived from its keys goes.
    pub fn clear(&mut self) {
        self.places.clear();
        self.flows.clear();
    }

    /// The entry of a flow, and its place. There always is one: an answer without is what the compiler cannot know.
    fn entry(&mut self, key: FlowKey, maps: &Maps, maybe_services: Option<&PortSet>) -> (usize, Option<&mut Flow>) {
        if self.flows.len() >= FLOWS && !self.places.contains_key(&key) {
            self.clear();
            self.resets = self.resets.saturating_add(1);
        }
        let place = *self.places.entry(key).or_insert_with(|| {
            let place = u32::try_from(self.flows.len()).unwrap_or(0);
            let drawn = maps.draw(1, &key.bytes());
            let [a, b, c, d, e, f, g, h, i, j, ..] = drawn;
            let ports = maybe_services.map_or([0; 2], |services| {
                let pair = maps.draw(2, &[&key.low.0[..], &key.high.0[..]].concat());
                [shuffled(key.low.1, maps, pair, 0, services), shuffled(key.high.1, maps, pair, 1, services)]
            });
            self.flows.push(Flow {
                ports,
                offsets: [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])],
                started: [false; 2],
                isn: [None; 2],
                generation: 0,
                tag: u16::from_be_bytes([i, j]),
                echo_base: None,
                ranks: None,
            });
            place
        }) as usize;
        (place, self.flows.get_mut(place))
    }

    /// The numbers of a TCP header that leave. `syn`: a SYN without ACK; `acks`: the acknowledgement number counts.
    #[allow(clippy::too_many_arguments)] // the header's own fields
    pub fn tcp(
        &mut self,
        found: (FlowKey, bool),
        ports: [u16; 2],
        numbers: [u32; 2],
        syn: bool,
        acks: bool,
        rules: TcpRules,
        services: &PortSet,
        maps: &Maps,
    ) -> TcpOut {
        let (key, high) = found;
        let shuffles = rules.sport == Ports::Shuffle || rules.dport == Ports::Shuffle;
        let (place, Some(flow)) = self.entry(key, maps, shuffles.then_some(services)) else { return TcpOut::default() };
        let [sequence, acknowledgement] = numbers;
        let (own, other) = if high { (1_usize, 0_usize) } else { (0, 1) };
        if syn {
            // The same ports again: another connection, which must not show how far its numbers lie from the last one's.
            if flow.isn.get(own).copied().flatten().is_some_and(|isn| isn != sequence) {
                flow.generation = flow.generation.wrapping_add(1);
                let mut value = key.bytes().to_vec();
                value.extend_from_slice(&flow.generation.to_be_bytes());
                let [a, b, c, d, e, f, g, h, ..] = maps.draw(1, &value);
                flow.offsets = [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])];
                flow.started = [false; 2];
                flow.isn = [None; 2];
                flow.ranks = None;
            }
            if let Some(isn) = flow.isn.get_mut(own) {
                *isn = Some(sequence);
            }
        }
        if [rules.sequence, rules.acknowledgement, rules.sack].contains(&Sequence::Relative) {
            start(flow, own, sequence);
            if acks {
                // What the other side acknowledges first is one behind where it began: the SYN counts as one.
                start(flow, other, acknowledgement.wrapping_sub(1));
            }
        }
        let offset = |rule: Sequence, side: usize| match rule {
            Sequence::Drop | Sequence::Keep => 0,
            Sequence::FlowOffset | Sequence::Relative => flow.offsets.get(side).copied().unwrap_or(0),
        };
        let moved = |rule: Sequence, side: usize, value: u32| match rule {
            Sequence::Drop => 0,
            _ => value.wrapping_add(offset(rule, side)),
        };
        let own_ports = if high { [flow.ports[1], flow.ports[0]] } else { flow.ports };
        TcpOut {
            ports: both(ports, own_ports, [rules.sport, rules.dport], services),
            sequence: moved(rules.sequence, own, sequence),
            acknowledgement: if acks { moved(rules.acknowledgement, other, acknowledgement) } else { 0 },
            // By its own rule: were the acknowledgement dropped, its edges must be moved all the same.
            sack: offset(rules.sack, other),
            place,
        }
    }

    /// The ports of a UDP header that leave.
    pub fn udp(
        &mut self,
        found: (FlowKey, bool),
        ports: [u16; 2],
        rules: [Ports; 2],
        services: &PortSet,
        maps: &Maps,
    ) -> [u16; 2] {
        if !rules.contains(&Ports::Shuffle) {
            return both(ports, ports, rules, services);
        }
        let (key, high) = found;
        let (_, Some(flow)) = self.entry(key, maps, Some(services)) else { return [0; 2] };
        let own = if high { [flow.ports[1], flow.ports[0]] } else { flow.ports };
        both(ports, own, rules, services)
    }

    /// Tag of an echo exchange, and its sequence number since the first.
    pub fn echo(&mut self, key: FlowKey, sequence: u16, maps: &Maps) -> (u16, u16) {
        let (_, Some(flow)) = self.entry(key, maps, None) else { return (0, 0) };
        let base = *flow.echo_base.get_or_insert(sequence);
        (flow.tag, sequence.wrapping_sub(base))
    }

    /// Time stamps that leave; None: the option becomes NOPs. `place` is where `tcp` found the flow.
    pub fn stamps(
        &mut self,
        found: (FlowKey, bool),
        place: usize,
        values: [u32; 2],
        rule: Stamps,
        ranking: Option<&Ranking>,
    ) -> Option<[u32; 2]> {
        let (key, high) = found;
        let [value, echo] = values;
        match rule {
            Stamps::Nop => None,
            Stamps::Rank => {
                let ranking = ranking?;
                let echo = if echo == 0 { 0 } else { ranking.rank(key, !high, echo).unwrap_or(0) };
                Some([ranking.rank(key, high, value)?, echo])
            }
            Stamps::FlowRank => {
                let flow = self.flows.get_mut(place)?;
                let ranks = flow.ranks.get_or_insert_default();
                let (own, other) = if high { (1_usize, 0_usize) } else { (0, 1) };
                let rank = ranks.get_mut(own)?.of(value);
                Some([rank, ranks.get(other).map_or(0, |ranks| ranks.known(echo))])
            }
        }
    }
}

fn start(flow: &mut Flow, side: usize, first: u32) {
    if let (Some(started), Some(offset)) = (flow.started.get_mut(side), flow.offsets.get_mut(side))
        && !*started
    {
        *started = true;
        *offset = first.wrapping_neg();
    }
}

fn both(raw: [u16; 2], shuffled: [u16; 2], rules: [Ports; 2], services: &PortSet) -> [u16; 2] {
    let one = |raw: u16, shuffled: u16, rule: Ports| match rule {
        Ports::Drop => 0,
        Ports::Keep => raw,
        Ports::Shuffle => shuffled,
        Ports::Service => {
            if services.has(raw) {
                raw
            } else {
                49_152
            }
        }
    };
    [one(raw[0], shuffled[0], rules[0]), one(raw[1], shuffled[1], rules[1])]
}

/// A permutation of the ports outside of the list, keyed by the draw of the pair and the side: a Feistel network of six rounds on
/// sixteen bits, walked until it is outside of the list again (so it stays a permutation).
fn shuffled(port: u16, maps: &Maps, pair: [u8; 16], side: u8, services: &PortSet) -> u16 {
    if services.has(port) {
        return port;
    }
    let mut value = port;
    loop {
        let [mut left, mut right] = value.to_be_bytes();
        for round in 0..6_u8 {
            let [drawn, ..] = maps.draw_next(pair, [1, side, round, right]);
            (left, right) = (right, left ^ drawn);
        }
        value = u16::from_be_bytes([left, right]);
        if !services.has(value) {
            return value;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_possible_truncation, clippy::arithmetic_side_effects)]
    use super::{FLOWS, FlowKey, Flows, RANKED, Ranking, Ranks, STAMPS};
    use crate::keys::Keys;
    use crate::trace::maps::{Maps, wide};
    use crate::trace::rules::Rules;
    use bunker_wire::flowhash::Seed;

    fn key(number: usize) -> FlowKey {
        FlowKey::of(wide((number as u32).to_be_bytes()), wide([198, 51, 100, 1]), [1, 2], 6).0
    }

    #[test]
    fn the_table_of_flows_starts_over_when_it_is_full_and_offsets_stay() {
        let seed = Seed::new([1; 16]);
        let maps = Maps::new(&Rules::default(), &Keys::new(&mut [7; 32]), "run", seed);
        let mut flows = Flows::new(seed);
        let offsets = |flows: &mut Flows, number| flows.entry(key(number), &maps, None).1.map(|flow| flow.offsets);
        let first = offsets(&mut flows, 0);
        for number in 1..FLOWS {
            flows.entry(key(number), &maps, None);
        }
        assert_eq!((flows.flows.len(), flows.resets), (FLOWS, 0));
        flows.entry(key(FLOWS - 1), &maps, None);
        assert_eq!(flows.resets, 0, "a known flow needs no room");
        flows.entry(key(FLOWS), &maps, None);
        assert_eq!((flows.flows.len(), flows.resets), (1, 1));
        assert_eq!(offsets(&mut flows, 0), first);
    }

    #[test]
    fn ranks_are_remembered_of_the_newest_stamps() {
        let mut ranks = Ranks::default();
        let stamps = STAMPS as u32;
        for value in 0..stamps {
            assert_eq!(ranks.of(value * 10), value + 1);
        }
        assert_eq!(ranks.of(0), 1, "the oldest is known");
        assert_eq!(ranks.of(stamps * 10), stamps + 1);
        assert_eq!(ranks.known.len(), STAMPS);
        assert_eq!(ranks.of(0), 2, "forgotten: the rank of the oldest that is known");
    }

    #[test]
    fn stamps_beyond_the_bound_are_omitted_and_counted() {
        let mut ranking = Ranking { held: RANKED - 1, ..Ranking::default() };
        ranking.note(key(0), false, 1);
        assert_eq!((ranking.held, ranking.omitted), (RANKED, 0));
        ranking.note(key(0), false, 2);
        assert_eq!((ranking.held, ranking.omitted), (RANKED, 1));
        ranking.settle();
        assert_eq!([ranking.rank(key(0), false, 1), ranking.rank(key(0), false, 2)], [Some(1), None]);
    }
}
