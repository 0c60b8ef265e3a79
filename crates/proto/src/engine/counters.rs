//! What the engine counts: every name here is one of a closed set.
use crate::parser::Service;

/// Flows and messages by what became of them.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Flows closed, by outcome.
    pub flows_completed: u64,
    /// See above.
    pub flows_timed_out: u64,
    /// See above.
    pub flows_ended: u64,
    /// See above.
    pub flows_evicted: u64,
    /// See above.
    pub flows_erroneous: u64,
    /// Panics of parsers that were caught; each condemned one flow.
    pub panics: u64,
    /// Parsers that gave up because the bytes were not their protocol's.
    pub violations: u64,
    /// Parsers that gave up because all parsers together held more than their limit.
    pub parsers_evicted: u64,
    /// Flows whose protocol was not recognised in their first bytes.
    pub unrecognised: u64,
    /// Blocks whose lengths did not add up.
    pub damaged_blocks: u64,
    /// Packets that a damaged block's header claimed and that could not be read.
    pub damaged_packets: u64,
    /// Blocks read.
    pub blocks: u64,
    /// Rows made.
    pub rows: u64,
    /// Closed flows in which a protocol was confirmed, by [`Service`].
    pub services: [u64; Service::ALL.len()],
}

impl Counters {
    /// (name, count) of each.
    #[must_use]
    pub fn named(&self) -> Vec<(String, u64)> {
        let mut named: Vec<(String, u64)> = [
            ("flows_completed", self.flows_completed),
            ("flows_timed_out", self.flows_timed_out),
            ("flows_ended", self.flows_ended),
            ("flows_evicted", self.flows_evicted),
            ("flows_erroneous", self.flows_erroneous),
            ("panics", self.panics),
            ("violations", self.violations),
            ("parsers_evicted", self.parsers_evicted),
            ("unrecognised", self.unrecognised),
            ("damaged_blocks", self.damaged_blocks),
            ("damaged_packets", self.damaged_packets),
            ("blocks", self.blocks),
            ("rows", self.rows),
        ]
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect();
        for (service, count) in Service::ALL.iter().zip(self.services) {
            named.push((format!("service_{}", service.name()), count));
        }
        named
    }
}
