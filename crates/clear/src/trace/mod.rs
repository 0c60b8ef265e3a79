//! Header traces: packets cleared field by field, and written as a new capture file.
//!
//! Place in the flow: `packet ▶ decode ▶ Facts ▶ Trace::clear ▶ bytes of a cleared packet ▶ pcapng`. In a box the worker decodes and the
//! releaser clears (`docs/adr/0013`): what crosses the pipe is facts, for which no payload has a place.
//!
//! Rules of this folder:
//! 1. Default drop at every level: packet, layer, field, option, message type. A field that no rule names is zeros.
//! 2. Nothing is copied from a packet as bytes: `encode` builds every header from values, into nothing.
//! 3. All that is remembered is bounded, and the bound has a name.
pub mod burst;
pub mod columns;
pub mod decode;
pub mod encode;
pub mod facts;
pub mod file;
pub mod flows;
pub mod maps;
pub mod ranks;
pub mod rules;
pub mod survey;

use bunker_wire::flowhash::Seed;

use crate::address_map::{Role, Sites};
use crate::keys::{Clock, Keys, Rotation};
use crate::sample::Sampler;
use crate::schema::FieldType;
use burst::BURST;
use encode::{Encoder, Trail};
use facts::{Facts, Layer};
use flows::{FlowKey, Flows};
use maps::{Maps, wide};
use rules::{Rules, Scanners};
use survey::Survey;

/// What became of a packet. A closed vocabulary; each is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It left.
    Released,
    /// Not IP and not ARP.
    Unread,
    /// Its headers cannot be right.
    Malformed,
    /// Its headers were cut by the capture.
    Cut,
    /// A fragment that no rule lets out.
    Fragment,
    /// A kind of packet that no rule lets out.
    Unwanted,
    /// A scanner's.
    Scanner,
    /// Of a host that is not in the sample.
    SampledOut,
}

impl Fate {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Released,
        Self::Unread,
        Self::Malformed,
        Self::Cut,
        Self::Fragment,
        Self::Unwanted,
        Self::Scanner,
        Self::SampledOut,
    ];

    /// One word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Unread => "unread",
            Self::Malformed => "malformed",
            Self::Cut => "cut",
            Self::Fragment => "fragment",
            Self::Unwanted => "unwanted",
            Self::Scanner => "scanner",
            Self::SampledOut => "sampled_out",
        }
    }
}

/// Whose address map holds, and the keys to make another.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub maybe_scanner: Option<[u8; 16]>,
    pub keys: &'a Keys,
    pub epoch: &'a str,
}

/// A cleared packet; its bytes are in the buffer that was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cleared {
    /// Time as released, ns.
    pub ts_ns: u64,
    /// Length on the wire as released; never below the bytes that are there.
    pub wire_len: u32,
}

/// A header trace being made: rules with their keys, and what they remember.
pub struct Trace {
    rules: Rules,
    keys: Option<Keys>,
    seed: Seed,
    maps: Maps,
    flows: Flows,
    survey: Option<Survey>,
    clock: Clock,
    first_ts_ns: Option<u64>,
    epoch: i64,
    epoch_name: String,
    counts: [u64; 8],
    maybe_sampler: Option<Sampler>,
}

impl Trace {
    /// Rules at work. `survey` is what a first pass found; without one, ranks of time stamps and scanners are not known.
    #[must_use]
    pub fn new(rules: Rules, keys: Keys, survey: Option<Survey>) -> Self {
        let [seed @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *keys.derive("trace", "table", "run");
        let seed = Seed::new(seed);
        let clock = keys.clock(rules.epoch);
        let epoch = i64::MIN;
        let epoch_name = clock.name(epoch);
        let maps = Maps::new(&rules, &keys, &epoch_name, seed);
        let maybe_sampler = rules.sample.map(|_| Sampler::new(&keys, clock, FieldType::Address, epoch));
        Self {
            rules,
            keys: Some(keys),
            seed,
            maps,
            flows: Flows::new(seed),
            survey,
            clock,
            first_ts_ns: None,
            epoch,
            epoch_name,
            counts: [0; 8],
            maybe_sampler,
        }
    }

    /// Read what packets that come next will ask for, so that they do not each wait for it. No answer depends on it.
    pub(crate) fn expect<'a>(&self, packets: impl Iterator<Item = &'a Facts> + Clone) {
        self.flows.expect(packets.clone().filter_map(flow_of));
        let mut ends = [[0; 16]; 2 * BURST];
        let found = packets.filter_map(|facts| facts.layers.iter().find_map(ip_ends)).flatten();
        for (place, end) in ends.iter_mut().zip(found) {
            *place = end;
        }
        self.maps.expect(&ends);
    }

    /// Clear a packet's facts: its bytes are appended to `out`, each accounted to a rule in `trail`. None: it does not leave.
    pub fn clear<T: Trail>(&mut self, ts_ns: u64, facts: &Facts, out: &mut Vec<u8>, trail: &mut T) -> Option<Cleared> {
        let start = out.len();
        let cleared = self.attempt(ts_ns, facts, out, trail);
        let fate = cleared.err().unwrap_or(Fate::Released);
        if let Some(count) = self.counts.get_mut(fate as usize) {
            *count = count.saturating_add(1);
        }
        if fate != Fate::Released {
            out.truncate(start);
        }
        cleared.ok()
    }

    fn attempt<T: Trail>(
        &mut self,
        ts_ns: u64,
        facts: &Facts,
        out: &mut Vec<u8>,
        trail: &mut T,
    ) -> Result<Cleared, Fate> {
        self.turn_epoch(ts_ns);
        let Some(keys) = &self.keys else { return Err(Fate::Unwanted) };
        if let (Some(below), Some(sampler)) = (self.rules.sample, &self.maybe_sampler)
            && let Some(ends) = ends_of(facts)
            && !sampler.takes(&drawn_of(ends, &self.rules.sites), below)
        {
            return Err(Fate::SampledOut);
        }
        let maybe_scanner = self.survey.as_ref().and_then(|survey| scanner_of(facts, survey));
        if maybe_scanner.is_some() && self.rules.scanners == Scanners::Drop {
            return Err(Fate::Scanner);
        }
        let scope = Scope { maybe_scanner, keys, epoch: &self.epoch_name };
        let encoder = Encoder {
            rules: &self.rules,
            maps: &mut self.maps,
            flows: &mut self.flows,
            ranking: self.survey.as_ref().map(|survey| &survey.ranking),
            scope,
            bytes: out,
            trail,
        };
        let wire_len = encoder.packet(facts)?;
        Ok(Cleared { ts_ns: self.time(ts_ns), wire_len: u32::try_from(wire_len).unwrap_or(u32::MAX) })
    }

    fn time(&mut self, ts_ns: u64) -> u64 {
        let Some(grain) = self.rules.grain_ns else { return 0 };
        let moved = if self.rules.relative_time {
            let first = *self.first_ts_ns.get_or_insert(ts_ns);
            ts_ns.saturating_sub(first)
        } else {
            ts_ns.saturating_add_signed(self.clock.shift_ns)
        };
        moved.saturating_sub(moved.checked_rem(grain).unwrap_or(0))
    }

    /// A new day or hour has new keys. Packets that come late are cleared under the keys that hold.
    fn turn_epoch(&mut self, ts_ns: u64) {
        if self.rules.epoch == Rotation::Run {
            return;
        }
        let number = self.clock.epoch(i64::try_from(ts_ns).unwrap_or(i64::MAX));
        let Some(keys) = &self.keys else { return };
        if number > self.epoch {
            self.epoch = number;
            self.epoch_name = self.clock.name(number);
            self.maps = Maps::new(&self.rules, keys, &self.epoch_name, self.seed);
            self.maybe_sampler = self.rules.sample.map(|_| Sampler::new(keys, self.clock, FieldType::Address, number));
            self.flows.clear();
        }
    }

    /// Packets that are not in the sample.
    #[must_use]
    pub fn sampled_out(&self) -> u64 {
        self.counts.get(Fate::SampledOut as usize).copied().unwrap_or(0)
    }

    /// Packets by what became of them, and how often the flow table started over.
    #[must_use]
    pub fn counts(&self) -> (Vec<(&'static str, u64)>, u64) {
        let counts = Fate::ALL.iter().zip(self.counts).map(|(fate, count)| (fate.word(), count)).collect();
        (counts, self.flows.resets)
    }

    /// The trace is over: keys and what was derived from them are gone; nothing is cleared after this.
    pub fn forget(&mut self) {
        if let Some(mut keys) = self.keys.take() {
            let mut nothing = [0; 32];
            self.maps = Maps::new(&self.rules, &Keys::new(&mut nothing), "over", self.seed);
            self.flows.clear();
            self.maybe_sampler = None;
            keys.forget();
        }
    }
}

/// The outermost flow of a packet with ports.
fn flow_of(facts: &Facts) -> Option<FlowKey> {
    let mut ends = None;
    facts.layers.iter().find_map(|layer| {
        ends = ip_ends(layer).or(ends);
        let (ports, protocol) = match layer {
            Layer::Tcp { ports, .. } => (ports, 6),
            Layer::Udp { ports, .. } => (ports, 17),
            _ => return None,
        };
        ends.map(|[source, destination]| FlowKey::of(source, destination, *ports, protocol).0)
    })
}

/// The two ends that a header of IP names.
const fn ip_ends(layer: &Layer) -> Option<[[u8; 16]; 2]> {
    match layer {
        Layer::V4 { source, destination, .. } => Some([wide(*source), wide(*destination)]),
        Layer::V6 { source, destination, .. } => Some([*source, *destination]),
        _ => None,
    }
}

/// The scanner among the ends of a packet's outermost addresses.
fn scanner_of(facts: &Facts, survey: &Survey) -> Option<[u8; 16]> {
    ends_of(facts)?.into_iter().find(|address| survey.is_scanner(*address))
}

/// The outermost addresses of a packet.
fn ends_of(facts: &Facts) -> Option<[[u8; 16]; 2]> {
    facts.layers.iter().find_map(|layer| match layer {
        Layer::Arp { sender_ip, target_ip, .. } => Some([wide(*sender_ip), wide(*target_ip)]),
        other => ip_ends(other),
    })
}

/// The host that a packet is in the sample with: the operator's, or of two that are alike in that the one with the smaller address, so
/// that both directions have the same.
fn drawn_of([one, other]: [[u8; 16]; 2], sites: &Sites) -> [u8; 16] {
    let is_internal = |address: &[u8; 16]| sites.role(address) == Role::Internal;
    match (is_internal(&one), is_internal(&other)) {
        (true, false) => one,
        (false, true) => other,
        _ => one.min(other),
    }
}
