//! What a header trace remembers of flows: moved sequence numbers, shuffled ports, ranks of time stamps.
//!
//! Rules of this file:
//! 1. The table is bounded ([`FLOWS`]): when it is full it starts over. Ports, echo identifiers and sequence offsets are derived from
//!    the key and stay the same; relative numbers and ranks begin anew (counted).
//! 2. Both directions of a flow, and quotes of either, find the same entry.
//! 3. What a packet in the middle of a flow needs lies in few cache lines: an index of places alone, flows beside each other, ranks of
//!    time stamps apart from flows that have none. At ten thousand open flows most of the time was spent in waiting for memory.
use core::hash::{BuildHasher, Hash, Hasher};
use core::hint::black_box;

use bunker_wire::flowhash::Seed;
use hashbrown::HashTable;

use super::burst::BURST;
use super::maps::Maps;
use super::ranks::{FAR, Ranking, Ranks};
use super::rules::{PortSet, Ports, Sequence, Stamps};

/// Flows remembered. At 80 bytes each, 5 of the index and, where there are time stamps, 96 of them: 190 MB.
pub const FLOWS: usize = 1 << 20;

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

    const fn addresses(&self) -> [[u8; 16]; 2] {
        [self.low.0, self.high.0]
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

struct Flow {
    key: FlowKey,
    /// As they leave: of the lower end, of the higher.
    ports: [u16; 2],
    offsets: [u32; 2],
    isn: [u32; 2],
    /// Whether the first sequence number is known: from a SYN, and as the start of relative numbers.
    opened: [bool; 2],
    started: [bool; 2],
    generation: u16,
    tag: u16,
    echo_base: Option<u16>,
    /// Place among the ranks of time stamps, if it has any.
    ranks: Option<u32>,
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
    places: HashTable<u32>,
    flows: Vec<Flow>,
    ranks: Vec<[Ranks; 2]>,
    /// Directions that may still remember many time stamps.
    room: usize,
    seed: Seed,
    /// How often it started over.
    pub resets: u64,
}

impl Flows {
    /// An empty table.
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        Self { places: HashTable::new(), flows: Vec::new(), ranks: Vec::new(), room: FAR, seed, resets: 0 }
    }

    /// An epoch is over: what was derived from its keys goes.
    pub fn clear(&mut self) {
        self.places.clear();
        self.flows.clear();
        self.ranks.clear();
        self.room = FAR;
    }

    /// Where the flow is. There always is one.
    fn place(&mut self, key: FlowKey, maps: &Maps, maybe_services: Option<&PortSet>) -> usize {
        let hash = self.seed.hash_one(key);
        let flows = &self.flows;
        let known = self.places.find(hash, |place| flows.get(*place as usize).is_some_and(|flow| flow.key == key));
        match known {
            Some(place) => *place as usize,
            None => self.add(hash, key, maps, maybe_services),
        }
    }

    /// Read the entries of flows, whose packets come next, and their ranks: no read waits for another flow's.
    pub fn expect(&self, keys: impl Iterator<Item = FlowKey>) {
        // Loops so short that the processor begins the next turn's read before this one's has come. The first flow whose hash is alike is
        // nearly always the one: to compare keys here would be to wait.
        let (mut hashes, mut places) = ([None; BURST], [None; BURST]);
        for (hash, key) in hashes.iter_mut().zip(keys) {
            *hash = Some(self.seed.hash_one(key));
        }
        for (place, hash) in places.iter_mut().zip(hashes) {
            *place = hash.and_then(|hash| self.places.find(hash, |_| true)).copied();
        }
        let mut ranks = [None; BURST];
        for (at, place) in ranks.iter_mut().zip(places) {
            *at = place.and_then(|place| self.flows.get(place as usize)?.ranks);
        }
        let ranks = ranks.iter().filter_map(|at| self.ranks.get((*at)? as usize));
        // The sum is of no use, but that the compiler must read for it.
        black_box(ranks.flatten().map(Ranks::touch).fold(0, u32::wrapping_add));
    }

    #[cold] // as seldom as flows are among packets, and not to be laid between what every packet needs
    fn add(&mut self, hash: u64, key: FlowKey, maps: &Maps, maybe_services: Option<&PortSet>) -> usize {
        if self.flows.len() >= FLOWS {
            self.clear();
            self.resets = self.resets.saturating_add(1);
        }
        let (place, seed) = (self.flows.len(), self.seed);
        let drawn = maps.draw(1, &key.bytes());
        let [a, b, c, d, e, f, g, h, i, j, ..] = drawn;
        let ports = maybe_services.map_or([0; 2], |services| {
            let pair = maps.draw(2, key.addresses().as_flattened());
            [shuffled(key.low.1, maps, pair, 0, services), shuffled(key.high.1, maps, pair, 1, services)]
        });
        self.flows.push(Flow {
            key,
            ports,
            offsets: [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])],
            isn: [0; 2],
            opened: [false; 2],
            started: [false; 2],
            generation: 0,
            tag: u16::from_be_bytes([i, j]),
            echo_base: None,
            ranks: None,
        });
        let flows = &self.flows;
        self.places.insert_unique(hash, u32::try_from(place).unwrap_or(0), |place| {
            flows.get(*place as usize).map_or(0, |flow| seed.hash_one(flow.key))
        });
        place
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
        let place = self.place(key, maps, shuffles.then_some(services));
        let Some(flow) = self.flows.get_mut(place) else { return TcpOut::default() };
        let [sequence, acknowledgement] = numbers;
        let (own, other) = if high { (1_usize, 0_usize) } else { (0, 1) };
        if syn {
            // The same ports again: another connection, which must not show how far its numbers lie from the last one's.
            if flow.opened.get(own) == Some(&true) && flow.isn.get(own) != Some(&sequence) {
                flow.generation = flow.generation.wrapping_add(1);
                let mut value = key.bytes().to_vec();
                value.extend_from_slice(&flow.generation.to_be_bytes());
                let [a, b, c, d, e, f, g, h, ..] = maps.draw(1, &value);
                flow.offsets = [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])];
                flow.started = [false; 2];
                flow.opened = [false; 2];
                let maybe_ranks = flow.ranks.and_then(|at| self.ranks.get_mut(at as usize));
                for ranks in maybe_ranks.into_iter().flatten() {
                    self.room = self.room.saturating_add(usize::from(ranks.forget()));
                }
            }
            if let (Some(isn), Some(opened)) = (flow.isn.get_mut(own), flow.opened.get_mut(own)) {
                (*isn, *opened) = (sequence, true);
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
        let place = self.place(key, maps, Some(services));
        let Some(flow) = self.flows.get(place) else { return [0; 2] };
        let own = if high { [flow.ports[1], flow.ports[0]] } else { flow.ports };
        both(ports, own, rules, services)
    }

    /// Tag of an echo exchange, and its sequence number since the first.
    pub fn echo(&mut self, key: FlowKey, sequence: u16, maps: &Maps) -> (u16, u16) {
        let place = self.place(key, maps, None);
        let Some(flow) = self.flows.get_mut(place) else { return (0, 0) };
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
                let at = *flow.ranks.get_or_insert_with(|| {
                    self.ranks.push(Default::default());
                    u32::try_from(self.ranks.len()).unwrap_or(1).wrapping_sub(1)
                });
                let ranks = self.ranks.get_mut(at as usize)?;
                let (own, other) = if high { (1_usize, 0_usize) } else { (0, 1) };
                let rank = ranks.get_mut(own)?.of(value, &mut self.room);
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
    use super::{FLOWS, FlowKey, Flows};
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
        let offsets = |flows: &mut Flows, number| {
            let place = flows.place(key(number), &maps, None);
            flows.flows.get(place).map(|flow| flow.offsets)
        };
        let first = offsets(&mut flows, 0);
        for number in 1..FLOWS {
            flows.place(key(number), &maps, None);
        }
        assert_eq!((flows.flows.len(), flows.resets), (FLOWS, 0));
        flows.place(key(FLOWS - 1), &maps, None);
        assert_eq!(flows.resets, 0, "a known flow needs no room");
        flows.place(key(FLOWS), &maps, None);
        assert_eq!((flows.flows.len(), flows.resets), (1, 1));
        assert_eq!(offsets(&mut flows, 0), first);
    }
}
