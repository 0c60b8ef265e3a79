//! The first pass over a trace: ranks of TCP time stamps, and who scans.
//!
//! Rules of this file:
//! 1. A scanner is a source that goes through many destinations in order, or through very many most of which do not answer
//!    (the marks of tcpmkpub: 16 of 20 in order; ours add fan-out with failures).
//! 2. Bounded: sources beyond [`SOURCES`] and pairs beyond the fan-out are not looked at (counted); such a source is treated as others.
use std::collections::{HashMap, HashSet};

use bunker_wire::event::Address;
use bunker_wire::flowhash::Seed;
use bunker_wire::packet::Packet;

use super::decode::decode;
use super::facts::{Facts, Layer};
use super::flows::FlowKey;
use super::maps::wide;
use super::ranks::Ranking;
use super::rules::{Rules, ScannerMarks, Scanners, Stamps};

/// Sources looked at. At up to 8 KiB each (256 destinations) 512 MB at the very worst; ordinary ones have a handful.
pub const SOURCES: usize = 1 << 16;

struct Source {
    reached: HashSet<[u8; 16], Seed>,
    answered: u32,
    attempts: u32,
    steps: std::collections::VecDeque<i8>,
    last: [u8; 16],
    scans: bool,
}

/// What the first pass found.
pub struct Survey {
    /// Ranks of time stamps.
    pub ranking: Ranking,
    sources: HashMap<[u8; 16], Source, Seed>,
    scanners: HashSet<[u8; 16], Seed>,
    marks: ScannerMarks,
    wants_ranks: bool,
    wants_scanners: bool,
    seed: Seed,
    facts: Facts,
    /// Sources that found no room.
    pub omitted: u64,
}

impl Survey {
    /// Whether these rules need a first pass.
    #[must_use]
    pub fn needed(rules: &Rules) -> bool {
        rules.tcp_stamps == Stamps::Rank || rules.scanners != Scanners::Same
    }

    /// Nothing seen yet.
    #[must_use]
    pub fn new(rules: &Rules, seed: Seed) -> Self {
        Self {
            ranking: Ranking::default(),
            sources: HashMap::with_hasher(seed),
            scanners: HashSet::with_hasher(seed),
            marks: rules.marks,
            wants_ranks: rules.tcp_stamps == Stamps::Rank,
            wants_scanners: rules.scanners != Scanners::Same,
            seed,
            facts: Facts::default(),
            omitted: 0,
        }
    }

    /// Look at a packet.
    pub fn feed(&mut self, packet: &Packet<'_>) {
        let mut facts = core::mem::take(&mut self.facts);
        // What a checksum says is of no interest here, and most of a decoder's cost.
        decode(&Packet { checksum_not_ready: true, ..*packet }, &mut facts);
        self.facts(&facts);
        self.facts = facts;
    }

    fn facts(&mut self, facts: &Facts) {
        let mut maybe_ends: Option<[[u8; 16]; 2]> = None;
        let mut quoted = false;
        for layer in &facts.layers {
            match layer {
                Layer::Quote => quoted = true,
                Layer::V4 { source, destination, .. } => maybe_ends = Some([wide(*source), wide(*destination)]),
                Layer::V6 { source, destination, .. } => maybe_ends = Some([*source, *destination]),
                Layer::Arp { operation: 1, sender_ip, target_ip, .. } if self.wants_scanners => {
                    self.reaches(wide(*sender_ip), wide(*target_ip));
                }
                Layer::Arp { operation: 2, sender_ip, target_ip, .. } if self.wants_scanners => {
                    self.answers(wide(*target_ip));
                }
                _ => {}
            }
            let Some([source, destination]) = maybe_ends else { continue };
            if let Layer::Tcp { ports, options, flags, .. } = layer {
                if self.wants_ranks {
                    self.stamps(options.bytes(), FlowKey::of(source, destination, *ports, 6));
                }
                if self.wants_scanners && !quoted {
                    match flags & 0x12 {
                        0x02 => self.reaches(source, destination),
                        0x12 => self.answers(destination),
                        _ => {}
                    }
                }
            }
            if !self.wants_scanners || quoted {
                continue;
            }
            match layer {
                Layer::Icmp { kind: 8, .. } | Layer::Icmp6 { kind: 128, .. } => self.reaches(source, destination),
                Layer::Icmp { kind: 0, .. } | Layer::Icmp6 { kind: 129, .. } => self.answers(destination),
                Layer::Udp { ports: [from, to], .. } if from > to => self.reaches(source, destination),
                Layer::Udp { ports: [from, to], .. } if from < to => self.answers(destination),
                _ => {}
            }
        }
    }

    fn stamps(&mut self, options: &[u8], found: (FlowKey, bool)) {
        let mut rest = options;
        while let Some((kind, behind)) = rest.split_first() {
            match (kind, behind.first()) {
                (0, _) => return,
                (1, _) => rest = behind,
                (8, Some(10)) => {
                    if let Some(value) = super::facts::word(rest, 2) {
                        self.ranking.note(found.0, found.1, value);
                    }
                    return;
                }
                (_, Some(length)) if *length >= 2 => rest = rest.get(usize::from(*length)..).unwrap_or(&[]),
                _ => return,
            }
        }
    }

    fn reaches(&mut self, source: [u8; 16], destination: [u8; 16]) {
        if !self.sources.contains_key(&source) && self.sources.len() >= SOURCES {
            self.omitted = self.omitted.saturating_add(1);
            return;
        }
        let (marks, seed) = (self.marks, self.seed);
        let seen = self.sources.entry(source).or_insert_with(|| Source {
            reached: HashSet::with_hasher(seed),
            answered: 0,
            attempts: 0,
            steps: std::collections::VecDeque::new(),
            last: destination,
            scans: false,
        });
        if seen.scans || seen.reached.len() > marks.fanout as usize || !seen.reached.insert(destination) {
            return;
        }
        seen.attempts = seen.attempts.saturating_add(1);
        if seen.attempts > 1 {
            seen.steps.push_back(if destination > seen.last { 1 } else { -1 });
            if seen.steps.len() >= marks.window as usize {
                seen.steps.pop_front();
            }
        }
        seen.last = destination;
        let count = |way: i8| seen.steps.iter().filter(|step| **step == way).count();
        let enough = seen.attempts >= marks.window;
        seen.scans = enough && count(1).max(count(-1)) >= marks.monotone as usize;
    }

    fn answers(&mut self, destination: [u8; 16]) {
        if let Some(seen) = self.sources.get_mut(&destination) {
            seen.answered = seen.answered.saturating_add(1);
        }
    }

    /// The pass is over.
    pub fn settle(&mut self) {
        self.ranking.settle();
        let marks = self.marks;
        for (address, source) in self.sources.drain() {
            let failed = source.attempts.saturating_sub(source.answered.min(source.attempts));
            let wide_and_dead = source.attempts > marks.fanout
                && u64::from(failed).saturating_mul(1000)
                    >= u64::from(source.attempts).saturating_mul(u64::from(marks.failed));
            if source.scans || wide_and_dead {
                self.scanners.insert(address);
            }
        }
    }

    /// How many scan.
    #[must_use]
    pub fn scanners(&self) -> usize {
        self.scanners.len()
    }

    /// Whether this source scans.
    #[must_use]
    pub fn is_scanner(&self, address: [u8; 16]) -> bool {
        !self.scanners.is_empty() && self.scanners.contains(&Address(address).0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_possible_truncation, clippy::arithmetic_side_effects)]
    use super::{SOURCES, Survey};
    use crate::trace::maps::wide;
    use crate::trace::rules::Rules;
    use bunker_wire::flowhash::Seed;

    #[test]
    fn sources_beyond_the_bound_are_counted_and_not_watched() {
        let mut survey = Survey::new(&Rules::default(), Seed::new([1; 16]));
        let source = |number: usize| wide((number as u32).to_be_bytes());
        for number in 0..SOURCES {
            survey.reaches(source(number), wide([10, 0, 0, 1]));
        }
        assert_eq!((survey.sources.len(), survey.omitted), (SOURCES, 0));
        survey.reaches(source(SOURCES), wide([10, 0, 0, 1]));
        assert_eq!((survey.sources.len(), survey.omitted), (SOURCES, 1));
        survey.reaches(source(0), wide([10, 0, 0, 2]));
        assert_eq!(survey.omitted, 1, "those that are watched still are");
    }
}
