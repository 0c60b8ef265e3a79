//! The table of living flows: a slab, an index by key, and a list by time-out class, oldest first.
//!
//! The index has eight bytes a place, hash and slot; keys stand in the flows alone. The slab grows by chunks, so that a million flows
//! are never moved, nor need twice their room while it grows.
//!
//! Rules of this file:
//! 1. Every living flow is in the index once and in exactly one list, the one of its class.
//! 2. A full table gives up the oldest flow of the least valuable class (`CLASSES` has the order).
use core::hash::{BuildHasher as _, Hasher as _};

use hashbrown::HashTable;

use crate::flowhash::Seed;
use crate::tracker::flow::{CLASSES, Class, Entry, Key};

/// No slot.
pub const NONE: u32 = u32::MAX;

/// Flows of one chunk of the slab.
const CHUNK: u32 = 1 << 10;

/// The index wants 64 bits, of which it takes the upper ones for tags.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[derive(Clone, Copy)]
struct List {
    oldest: u32,
    newest: u32,
}

/// Living flows.
pub struct Table {
    chunks: Vec<Vec<Option<Entry>>>,
    used: u32,
    free: Vec<u32>,
    seed: Seed,
    /// (hash, slot)
    index: HashTable<(u32, u32)>,
    lists: [List; 6],
}

impl Table {
    /// Empty.
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        Self {
            chunks: Vec::new(),
            used: 0,
            free: Vec::new(),
            seed,
            index: HashTable::new(),
            lists: [List { oldest: NONE, newest: NONE }; 6],
        }
    }

    /// Living flows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// The hash of a key.
    #[must_use]
    pub fn hash(&self, key: &Key) -> u32 {
        let mut hasher = self.seed.build_hasher();
        hasher.write(&key.low.address.0);
        hasher.write(&key.high.address.0);
        let (low, high) = (u64::from(key.low.port), u64::from(key.high.port));
        hasher.write_u64((low << 32) | (high << 8) | u64::from(key.protocol));
        u32::try_from(hasher.finish() >> 32).unwrap_or(0)
    }

    /// The slot of a key.
    #[must_use]
    pub fn find(&self, key: &Key) -> Option<u32> {
        let hash = self.hash(key);
        let is_it =
            |(known, slot): &(u32, u32)| *known == hash && self.entry(*slot).is_some_and(|entry| entry.has_key(key));
        self.index.find(spread(hash), is_it).map(|(_, slot)| *slot)
    }

    /// The flow in a slot.
    #[must_use]
    pub fn entry(&self, slot: u32) -> Option<&Entry> {
        self.chunks.get((slot / CHUNK) as usize)?.get((slot % CHUNK) as usize)?.as_ref()
    }

    /// The flow in a slot.
    pub fn entry_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        self.place_mut(slot)?.as_mut()
    }

    fn place_mut(&mut self, slot: u32) -> Option<&mut Option<Entry>> {
        self.chunks.get_mut((slot / CHUNK) as usize)?.get_mut((slot % CHUNK) as usize)
    }

    /// Look at what a packet of this flow will change, so that it is in the caches when the packet comes. Looking at several flows in
    /// turn lets the processor wait for their memory at the same time; one after another it waits for each.
    pub fn glance(&self, slot: u32) {
        let Some(entry) = self.entry(slot) else { return };
        let seen = entry.flow.uid ^ entry.idle_since_ns ^ entry.counts.last_ts_ns;
        let seen = entry.counts.packets.iter().chain(&entry.counts.ip_bytes).fold(seen, |seen, count| seen ^ count);
        let halves =
            entry.tcp.iter().flat_map(|tcp| &tcp.halves).fold(seen, |seen, half| seen ^ half.next ^ half.acked);
        let neighbours = [entry.maybe_older, entry.maybe_newer];
        let beside =
            neighbours.iter().filter_map(|slot| self.entry(*slot)).fold(0, |seen, entry| seen ^ entry.maybe_older);
        core::hint::black_box((halves, beside));
    }

    /// Slots in use, in order.
    pub fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.chunks.iter_mut().flatten().flatten()
    }

    /// The slot that the next `insert` will take.
    #[must_use]
    pub fn next_slot(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.used)
    }

    /// Add a flow (its `flow.slot` is `next_slot()`); the newest of its class.
    pub fn insert(&mut self, key: &Key, entry: Entry) -> u32 {
        let slot = self.next_slot();
        let class = entry.class;
        let hash = self.hash(key);
        if self.free.pop().is_some() {
            if let Some(place) = self.place_mut(slot) {
                *place = Some(entry);
            }
        } else {
            if slot % CHUNK == 0 {
                self.chunks.push(Vec::with_capacity(CHUNK as usize));
            }
            if let Some(chunk) = self.chunks.last_mut() {
                chunk.push(Some(entry));
            }
            self.used = self.used.saturating_add(1);
        }
        self.index.insert_unique(spread(hash), (hash, slot), |(hash, _)| spread(*hash));
        self.link(slot, class);
        slot
    }

    /// Take a flow out.
    pub fn remove(&mut self, slot: u32, listed_as: Class) -> Option<Entry> {
        self.unlink(slot, listed_as);
        let entry = self.place_mut(slot)?.take()?;
        let hash = self.hash(&entry.key());
        if let Ok(place) = self.index.find_entry(spread(hash), |(known, of)| *known == hash && *of == slot) {
            place.remove();
        }
        self.free.push(slot);
        Some(entry)
    }

    /// A packet came: the flow is the newest of its (perhaps new) class, unless it stays in one whose time runs on.
    pub fn touch(&mut self, slot: u32, listed_as: Class, class: Class, now_ns: u64) {
        if listed_as == class && class.is_frozen() {
            return;
        }
        if let Some(entry) = self.entry_mut(slot) {
            entry.idle_since_ns = entry.idle_since_ns.max(now_ns);
        }
        if listed_as == class && self.list(class).newest == slot {
            return;
        }
        self.unlink(slot, listed_as);
        self.link(slot, class);
    }

    /// Oldest flow of a class.
    #[must_use]
    pub fn oldest(&self, class: Class) -> Option<u32> {
        Some(self.list(class).oldest).filter(|slot| *slot != NONE)
    }

    /// The flow to give up when the table is full.
    #[must_use]
    pub fn victim(&self) -> Option<u32> {
        CLASSES.iter().find_map(|class| self.oldest(*class))
    }

    fn list(&self, class: Class) -> List {
        self.lists.get(class as usize).copied().unwrap_or(List { oldest: NONE, newest: NONE })
    }

    fn list_mut(&mut self, class: Class) -> &mut List {
        let [closed, attempt, handshake, other, udp, idle] = &mut self.lists;
        match class {
            Class::TcpClosed => closed,
            Class::TcpAttempt => attempt,
            Class::TcpHandshake => handshake,
            Class::Other => other,
            Class::Udp => udp,
            Class::TcpIdle => idle,
        }
    }

    fn link(&mut self, slot: u32, class: Class) {
        let newest = self.list(class).newest;
        if let Some(entry) = self.entry_mut(slot) {
            entry.maybe_older = newest;
            entry.maybe_newer = NONE;
        }
        if let Some(before) = self.entry_mut(newest) {
            before.maybe_newer = slot;
        }
        let list = self.list_mut(class);
        list.newest = slot;
        if list.oldest == NONE {
            list.oldest = slot;
        }
    }

    fn unlink(&mut self, slot: u32, class: Class) {
        let Some((older, newer)) = self.entry_mut(slot).map(|entry| (entry.maybe_older, entry.maybe_newer)) else {
            return;
        };
        if let Some(entry) = self.entry_mut(older) {
            entry.maybe_newer = newer;
        }
        if let Some(entry) = self.entry_mut(newer) {
            entry.maybe_older = older;
        }
        let list = self.list_mut(class);
        if list.oldest == slot {
            list.oldest = newer;
        }
        if list.newest == slot {
            list.newest = older;
        }
    }
}
