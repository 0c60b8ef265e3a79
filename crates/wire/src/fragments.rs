//! Reassembly of IPv4 and IPv6 fragments.
//!
//! Rules of this file:
//! 1. Overlaps: the bytes that came first win, as Zeek has it; the overlap is counted. (RFC 5722 drops such IPv6 datagrams at hosts; a
//!    tracer that did so would show less than an attacker's target may have seen.)
//! 2. Bounded: bytes held, fragments a datagram, time. The oldest datagram pays.
//! 3. A datagram is complete when the last fragment is there and no byte is missing; it is handed out once.
use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::event::Address;
use crate::flowhash::Seed;
use crate::ip::{Fragment, Ip};
use crate::limits::{Limits, PLACE_BYTES};

/// What a datagram costs before its first byte: its place in the table, in the order, and its tree.
const DATAGRAM_BYTES: usize = 4 * PLACE_BYTES;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    source: Address,
    destination: Address,
    identification: u32,
    protocol: u8,
}

struct Datagram {
    pieces: BTreeMap<u32, Vec<u8>>,
    held: usize,
    maybe_end: Option<u32>,
    first_protocol: u8,
    header_bytes: usize,
    packets: u32,
    first_ts_ns: u64,
    number: u64,
    block: u64,
}

/// A reassembled datagram.
pub struct Whole {
    /// The payload.
    pub payload: Vec<u8>,
    /// Protocol of the payload (IPv6: as the first fragment has it).
    pub protocol: u8,
    /// Bytes of the IP packets that it came in.
    pub total_len: usize,
}

/// What became of a fragment.
pub enum Progress {
    /// Held until the rest is there.
    Waiting,
    /// It completed its datagram.
    Complete(Whole),
}

/// Counts of this stage.
#[derive(Clone, Copy, Default, Debug)]
pub struct FragmentCounters {
    /// Datagrams put together.
    pub reassembled: u64,
    /// Fragments given up: time, a limit, or nonsense.
    pub dropped: u64,
    /// Fragments that overlapped earlier ones.
    pub overlaps: u64,
}

/// All incomplete datagrams.
pub struct Fragments {
    datagrams: HashMap<Key, Datagram, Seed>,
    order: VecDeque<(Key, u64)>,
    held: u64,
    next_number: u64,
    limits: Limits,
    /// Counts.
    pub counters: FragmentCounters,
    /// The block in hand.
    pub block: u64,
}

impl Fragments {
    /// Nothing held.
    #[must_use]
    pub fn new(limits: Limits, seed: Seed) -> Self {
        Self {
            datagrams: HashMap::with_hasher(seed),
            order: VecDeque::new(),
            held: 0,
            next_number: 0,
            limits,
            counters: FragmentCounters::default(),
            block: 0,
        }
    }

    /// Bytes held, with what their places cost.
    #[must_use]
    pub const fn held(&self) -> u64 {
        self.held
    }

    /// Datagrams remembered in the order of their arrival, those that are complete since included.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.order.len()
    }

    /// The block that holds the first fragment of the oldest datagram that waits.
    #[must_use]
    pub fn oldest_block(&self) -> Option<u64> {
        let waits = |(key, number): &(Key, u64)| self.datagrams.get(key).filter(|held| held.number == *number);
        self.order.iter().find_map(waits).map(|datagram| datagram.block)
    }

    /// Take a fragment.
    pub fn feed(&mut self, ip: &Ip<'_>, fragment: Fragment, ts_ns: u64) -> Progress {
        self.expire(ts_ns);
        // IPv6 fragments other than the first may name another protocol; the identification is 32 bits wide there.
        let protocol = if ip.source.maybe_v4().is_some() { ip.protocol } else { 0 };
        let key =
            Key { source: ip.source, destination: ip.destination, identification: fragment.identification, protocol };
        let end = u64::from(fragment.offset).saturating_add(ip.payload.len() as u64);
        let cut = ip.payload.len() < ip.payload_len;
        if ip.payload.is_empty() || end > 65_535 + 8 || cut {
            self.counters.dropped = self.counters.dropped.saturating_add(1);
            return Progress::Waiting;
        }
        let (number, block) = (self.next_number, self.block);
        let datagram = self.datagrams.entry(key).or_insert_with(|| Datagram {
            pieces: BTreeMap::new(),
            held: DATAGRAM_BYTES,
            maybe_end: None,
            first_protocol: ip.protocol,
            header_bytes: 0,
            packets: 0,
            first_ts_ns: ts_ns,
            number,
            block,
        });
        if datagram.number == number {
            self.next_number = self.next_number.saturating_add(1);
            self.order.push_back((key, number));
            self.held = self.held.saturating_add(DATAGRAM_BYTES as u64);
        }
        datagram.packets = datagram.packets.saturating_add(1);
        datagram.header_bytes = datagram.header_bytes.saturating_add(ip.header_len);
        if fragment.offset == 0 {
            datagram.first_protocol = ip.protocol;
        }
        if !fragment.more && datagram.maybe_end.is_none() {
            datagram.maybe_end = u32::try_from(end).ok();
        }
        let before = datagram.held;
        if insert_first_wins(&mut datagram.pieces, fragment.offset, ip.payload, &mut datagram.held) {
            self.counters.overlaps = self.counters.overlaps.saturating_add(1);
        }
        self.held = self.held.saturating_add((datagram.held.saturating_sub(before)) as u64);
        let complete = datagram.maybe_end.is_some_and(|end| covers(&datagram.pieces, end));
        let too_many = datagram.packets > self.limits.fragments;
        if complete && let Some(whole) = self.remove(&key) {
            self.counters.reassembled = self.counters.reassembled.saturating_add(1);
            return Progress::Complete(whole);
        }
        if too_many {
            self.drop_datagram(&key);
        }
        while self.held > self.limits.fragment_bytes {
            if !self.drop_oldest() {
                break;
            }
        }
        self.forget_finished();
        Progress::Waiting
    }

    /// Datagrams that are complete stay in the order until they come to its front; no more of them than of those that wait.
    fn forget_finished(&mut self) {
        if self.order.len() > self.datagrams.len().saturating_mul(2).saturating_add(64) {
            let datagrams = &self.datagrams;
            self.order.retain(|(key, number)| datagrams.get(key).is_some_and(|datagram| datagram.number == *number));
        }
    }

    /// Give up what has waited too long.
    pub fn expire(&mut self, now_ns: u64) {
        while let Some((key, number)) = self.order.front().copied() {
            match self.datagrams.get(&key) {
                Some(datagram) if datagram.number == number => {
                    if datagram.first_ts_ns.saturating_add(self.limits.fragment_ns) > now_ns {
                        return;
                    }
                    self.drop_datagram(&key);
                }
                _ => {}
            }
            self.order.pop_front();
        }
    }

    fn drop_oldest(&mut self) -> bool {
        while let Some((key, number)) = self.order.pop_front() {
            if self.datagrams.get(&key).is_some_and(|datagram| datagram.number == number) {
                self.drop_datagram(&key);
                return true;
            }
        }
        false
    }

    fn drop_datagram(&mut self, key: &Key) {
        if let Some(datagram) = self.datagrams.remove(key) {
            self.held = self.held.saturating_sub(datagram.held as u64);
            self.counters.dropped = self.counters.dropped.saturating_add(u64::from(datagram.packets));
        }
    }

    fn remove(&mut self, key: &Key) -> Option<Whole> {
        let datagram = self.datagrams.remove(key)?;
        self.held = self.held.saturating_sub(datagram.held as u64);
        let end = datagram.maybe_end? as usize;
        let mut payload = Vec::with_capacity(end);
        for piece in datagram.pieces.values() {
            payload.extend_from_slice(piece);
        }
        payload.truncate(end);
        let total_len = payload.len().saturating_add(datagram.header_bytes);
        Some(Whole { payload, protocol: datagram.first_protocol, total_len })
    }
}

/// Insert `bytes` at `offset` where nothing is yet; true if something was.
fn insert_first_wins(pieces: &mut BTreeMap<u32, Vec<u8>>, offset: u32, bytes: &[u8], held: &mut usize) -> bool {
    let mut overlapped = false;
    let mut start = u64::from(offset);
    let mut rest = bytes;
    if let Some((at, piece)) = pieces.range(..=offset).next_back() {
        let end = u64::from(*at).saturating_add(piece.len() as u64);
        if end > start {
            overlapped = true;
            let covered = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
            start = end;
            rest = rest.get(covered..).unwrap_or(&[]);
        }
    }
    while !rest.is_empty() {
        let Ok(at) = u32::try_from(start) else { break };
        let following = pieces.range(at..).next().map(|(next, piece)| (u64::from(*next), piece.len()));
        let room = following.map_or(rest.len(), |(next, _)| {
            usize::try_from(next.saturating_sub(start)).unwrap_or(usize::MAX).min(rest.len())
        });
        if room > 0
            && let Some(part) = rest.get(..room)
        {
            *held = held.saturating_add(part.len()).saturating_add(PLACE_BYTES);
            pieces.insert(at, part.to_vec());
        }
        rest = rest.get(room..).unwrap_or(&[]);
        start = start.saturating_add(room as u64);
        if let (false, Some((next, length))) = (rest.is_empty(), following) {
            overlapped = true;
            rest = rest.get(length..).unwrap_or(&[]);
            start = next.saturating_add(length as u64);
        }
    }
    overlapped
}

fn covers(pieces: &BTreeMap<u32, Vec<u8>>, end: u32) -> bool {
    let mut at = 0_u64;
    for (offset, piece) in pieces {
        if u64::from(*offset) != at {
            return false;
        }
        at = at.saturating_add(piece.len() as u64);
        if at >= u64::from(end) {
            return true;
        }
    }
    false
}
