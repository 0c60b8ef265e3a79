//! Packets into blocks of a file, a burst at a time.
//!
//! A packet of a flow among thousands waits for memory: the index, the flow, its ranks. One after another these waits were a third of
//! clearing. So packets are decoded into facts first, what they will ask for is read for all of them, waits beside each other, and then
//! they are cleared in their order.
use bunker_wire::packet::Packet;

use super::Trace;
use super::decode::decode;
use super::facts::Facts;
use super::file::Format;

/// Packets of a burst.
pub const BURST: usize = 16;

/// Decoded packets that wait for the rest of their burst.
pub struct Burst {
    format: Format,
    times: Vec<u64>,
    /// The first of them, one for each of `times`, are those that wait; the others keep their memory.
    facts: Vec<Facts>,
}

impl Burst {
    /// None waits.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self { format, times: Vec::with_capacity(BURST), facts: vec![Facts::default(); BURST] }
    }

    /// Take a packet; when it is the burst's last, the blocks of all are appended to `out`.
    pub fn take(&mut self, packet: &Packet<'_>, trace: &mut Trace, out: &mut Vec<u8>) {
        if let Some(facts) = self.facts.get_mut(self.times.len()) {
            decode(packet, facts);
            self.times.push(packet.ts_ns);
        }
        if self.times.len() >= BURST {
            self.flush(trace, out);
        }
    }

    /// Clear those that wait; the block of each that leaves is appended to `out`.
    pub fn flush(&mut self, trace: &mut Trace, out: &mut Vec<u8>) {
        trace.expect(self.facts.iter().take(self.times.len()));
        for (ts_ns, facts) in self.times.drain(..).zip(&self.facts) {
            let start = self.format.open(out);
            match trace.clear(ts_ns, facts, out, &mut ()) {
                Some(cleared) => self.format.close(out, start, cleared.ts_ns, cleared.wire_len),
                None => out.truncate(start),
            }
        }
    }
}
