//! What a worker that starts over must know to go on where another has stopped, and what it must be told.
//!
//! Rules of this file:
//! 1. A flow is known by the place of the packet that opened it (block, packet, depth of tunnels): the same bytes read again open the
//!    same flows at the same places, whatever else is left out.
//! 2. While blocks are read again, a packet opens a flow only if the flow at its place had not ended when the last turn was
//!    committed; every other packet without a flow belongs to one whose records are out already, and is passed over.
//! 3. Nothing ends while blocks are read again: what had ended is not opened.
//! 4. A flow whose first block is given back while it is open is [`Stranded`]: of it only who talks is kept. It is in the table again
//!    before anything is read again, so that its packets stay its own and no other flow gets another number.
//!
//! Limits reached before the restart (bytes held by all flows) are not reached again at the same packet, because fewer flows are
//! there; such a flow may then deliver what it had given up. Fragments of a datagram that was complete before the first block that
//! is read again may wait for their time-out.
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Address;
use crate::event::{Endpoint, Flow};
use crate::tracker::flow::{CLASSES, Class};

/// Bytes of one flow in [`Stranded::write`].
pub const STRANDED_BYTES: usize = 80;
/// Bytes of one opened flow in [`Journal::take`] and [`Born::read_all`].
pub const BORN_BYTES: usize = 40;

/// Where in the lane a packet stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Place {
    /// Number of the block.
    pub block: u64,
    /// Packet within the block, from 0.
    pub packet: u32,
    /// Tunnels around the header that opened the flow.
    pub depth: u32,
}

/// A flow that had begun and not ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Born {
    /// Its number.
    pub uid: u64,
    /// The packet that opened it.
    pub place: Place,
    /// Number of the flow around it; 0: none.
    pub outer: u64,
}

impl Born {
    /// Little endian: uid, block, packet, depth, outer, zeros to 40 bytes.
    pub fn write(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.uid.to_le_bytes());
        into.extend_from_slice(&self.place.block.to_le_bytes());
        into.extend_from_slice(&self.place.packet.to_le_bytes());
        into.extend_from_slice(&self.place.depth.to_le_bytes());
        into.extend_from_slice(&self.outer.to_le_bytes());
        into.extend_from_slice(&[0; 8]);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?));
        let half = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?));
        let place = Place { block: word(8)?, packet: half(16)?, depth: half(20)? };
        Some(Self { uid: word(0)?, place, outer: word(24)? })
    }

    /// All of a buffer; what is shorter than one at its end is passed over.
    pub fn read_all(bytes: &[u8]) -> impl Iterator<Item = Self> {
        bytes.chunks_exact(BORN_BYTES).filter_map(Self::read)
    }
}

/// A living flow whose first block is given back: it cannot be read again from its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stranded {
    /// Who talks, and under which number; the slot means nothing.
    pub flow: Flow,
    /// Which time-out holds.
    pub class: Class,
    /// When its time began to run, ns.
    pub idle_since_ns: u64,
    /// The block it began in.
    pub block: u64,
}

impl Stranded {
    /// Little endian: uid, outer, first time, idle since, block, orig address, resp address, ports, protocol, class, zeros.
    pub fn write(&self, into: &mut Vec<u8>) {
        let flow = &self.flow;
        for word in [flow.uid, flow.maybe_outer.unwrap_or(0), flow.first_ts_ns, self.idle_since_ns, self.block] {
            into.extend_from_slice(&word.to_le_bytes());
        }
        into.extend_from_slice(&flow.orig.address.0);
        into.extend_from_slice(&flow.resp.address.0);
        into.extend_from_slice(&flow.orig.port.to_le_bytes());
        into.extend_from_slice(&flow.resp.port.to_le_bytes());
        into.extend_from_slice(&[flow.protocol, self.class as u8, 0, 0]);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?));
        let port = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?));
        let address = |at: usize| Some(Address(bytes.get(at..at.checked_add(16)?)?.try_into().ok()?));
        let flow = Flow {
            uid: word(0)?,
            slot: 0,
            orig: Endpoint { address: address(40)?, port: port(72)? },
            resp: Endpoint { address: address(56)?, port: port(74)? },
            protocol: *bytes.get(76)?,
            first_ts_ns: word(16)?,
            maybe_outer: Some(word(8)?).filter(|outer| *outer != 0),
        };
        let class = CLASSES.into_iter().find(|class| Some(&(*class as u8)) == bytes.get(77))?;
        Some(Self { flow, class, idle_since_ns: word(24)?, block: word(32)? })
    }

    /// All of a buffer; what is no flow is passed over.
    pub fn read_all(bytes: &[u8]) -> impl Iterator<Item = Self> {
        bytes.chunks_exact(STRANDED_BYTES).filter_map(Self::read)
    }
}

/// Flows opened and ended since the last turn.
#[derive(Default)]
pub struct Journal {
    opened: Vec<Born>,
    closed: Vec<u64>,
    /// Where each living flow began, by its slot.
    places: Vec<Place>,
    /// Off: nothing is kept (whoever never starts over).
    pub on: bool,
}

impl Journal {
    /// A flow began, in this slot.
    pub fn opened(&mut self, slot: u32, born: Born) {
        if !self.on {
            return;
        }
        self.opened.push(born);
        let index = slot as usize;
        if index >= self.places.len() {
            self.places.resize(index.saturating_add(1), Place::default());
        }
        if let Some(place) = self.places.get_mut(index) {
            *place = born.place;
        }
    }

    /// Where the flow in this slot began.
    #[must_use]
    pub fn place(&self, slot: u32) -> Place {
        self.places.get(slot as usize).copied().unwrap_or_default()
    }

    /// A flow ended.
    pub fn closed(&mut self, uid: u64) {
        if self.on {
            self.closed.push(uid);
        }
    }

    /// (opened, ended) since the last call, encoded; a flow that did both stands in neither.
    pub fn take(&mut self) -> (Vec<u8>, Vec<u8>) {
        let opened = core::mem::take(&mut self.opened);
        let mut closed = core::mem::take(&mut self.closed);
        closed.sort_unstable();
        // Numbers grow: what was opened since then is at or above the first.
        let first = opened.first().map_or(u64::MAX, |born| born.uid);
        let mut born = Vec::new();
        for one in &opened {
            if closed.binary_search(&one.uid).is_err() {
                one.write(&mut born);
            }
        }
        let mut ended = Vec::new();
        for uid in closed.iter().filter(|uid| **uid < first) {
            ended.extend_from_slice(&uid.to_le_bytes());
        }
        (born, ended)
    }
}

/// Blocks are read again.
pub struct Again {
    flows: HashMap<Place, Born>,
    next_uid: u64,
    now_ns: u64,
}

impl Again {
    /// These flows were open, this would have been the next number (without the lane), and this was the time.
    #[must_use]
    pub fn new(flows: impl Iterator<Item = Born>, next_uid: u64, now_ns: u64) -> Self {
        Self { flows: flows.map(|born| (born.place, born)).collect(), next_uid, now_ns }
    }

    /// The flow that the packet at this place opened, if it had not ended.
    pub fn open(&mut self, place: Place) -> Option<Born> {
        self.flows.remove(&place)
    }

    /// These are in the table already.
    pub fn forget(&mut self, uids: &HashSet<u64>) {
        self.flows.retain(|_, born| !uids.contains(&born.uid));
    }

    /// (next number, time) to go on with, and how many flows were not met again: their blocks are gone.
    #[must_use]
    pub fn finish(&self) -> (u64, u64, usize) {
        (self.next_uid, self.now_ns, self.flows.len())
    }
}

/// What is in hand, for whoever must know it when this process is dead: words of a shared page.
#[derive(Clone, Copy)]
pub struct Hand {
    /// Number of the flow; 0: none.
    pub uid: &'static AtomicU64,
    /// Packet within the block, from 1; 0: none.
    pub packet: &'static AtomicU64,
}

impl Hand {
    /// A packet is taken up; its flow is not known yet.
    pub fn packet(&self, number: u64) {
        self.uid.store(0, Ordering::Relaxed);
        self.packet.store(number, Ordering::Relaxed);
    }

    /// A flow is taken up.
    pub fn flow(&self, uid: u64) {
        self.uid.store(uid, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn born(uid: u64) -> Born {
        Born { uid, place: Place { block: uid + 7, packet: 3, depth: 1 }, outer: 2 }
    }

    #[test]
    fn a_flow_reads_back_as_it_was_written() {
        let mut bytes = Vec::new();
        born(5).write(&mut bytes);
        born(6).write(&mut bytes);
        assert_eq!(bytes.len(), 2 * BORN_BYTES);
        assert_eq!(Born::read_all(&bytes).collect::<Vec<_>>(), [born(5), born(6)]);
        assert_eq!(Born::read_all(bytes.get(..BORN_BYTES + 1).unwrap_or_default()).count(), 1);
    }

    fn stranded(uid: u64, outer: Option<u64>, class: Class) -> Stranded {
        let end = |last: u8, port: u16| {
            let mut address = [0; 16];
            address[15] = last;
            Endpoint { address: Address(address), port }
        };
        let flow = Flow {
            uid,
            slot: 0,
            orig: end(1, 40_000),
            resp: end(2, 443),
            protocol: 6,
            first_ts_ns: 5_000_000_000,
            maybe_outer: outer,
        };
        Stranded { flow, class, idle_since_ns: 7_000_000_001, block: 3 }
    }

    #[test]
    fn a_stranded_flow_reads_back_as_it_was_written() {
        let all: Vec<Stranded> = CLASSES
            .iter()
            .zip([None, Some(9)].iter().cycle())
            .map(|(class, outer)| stranded(4, *outer, *class))
            .collect();
        let mut bytes = Vec::new();
        for one in &all {
            one.write(&mut bytes);
        }
        assert_eq!(bytes.len(), all.len() * STRANDED_BYTES);
        assert_eq!(Stranded::read_all(&bytes).collect::<Vec<_>>(), all);
        if let Some(class) = bytes.get_mut(77) {
            *class = 6; // no class has this number
        }
        assert_eq!(Stranded::read_all(&bytes).count(), all.len() - 1);
    }

    #[test]
    fn what_is_in_the_table_already_is_not_opened() {
        let mut again = Again::new([born(5), born(6)].into_iter(), 9, 100);
        again.forget(&HashSet::from([5]));
        assert_eq!(again.open(born(5).place), None);
        assert_eq!(again.open(born(6).place), Some(born(6)));
        assert_eq!(again.finish(), (9, 100, 0));
    }

    #[test]
    fn a_flow_that_began_and_ended_in_one_turn_is_not_journalled() {
        let mut journal = Journal { on: true, ..Journal::default() };
        for uid in [5, 6, 7] {
            journal.opened(uid as u32, born(uid));
        }
        for uid in [6, 2] {
            journal.closed(uid);
        }
        let (opened, ended) = journal.take();
        assert_eq!(Born::read_all(&opened).map(|born| born.uid).collect::<Vec<_>>(), [5, 7]);
        assert_eq!(ended, 2u64.to_le_bytes());
        assert_eq!(journal.take(), (Vec::new(), Vec::new()));
        assert_eq!(journal.place(7), born(7).place);
        assert_eq!(journal.place(99), Place::default());
    }

    #[test]
    fn a_place_opens_its_flow_once() {
        let mut again = Again::new([born(5), born(6)].into_iter(), 9, 100);
        assert_eq!(again.open(born(5).place), Some(born(5)));
        assert_eq!(again.open(born(5).place), None);
        assert_eq!(again.open(Place::default()), None);
        assert_eq!(again.finish(), (9, 100, 1));
    }
}
