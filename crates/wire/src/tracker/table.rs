//! The table of living flows: a slab, an index by key, and a list by time-out class, oldest first.
//!
//! The index has eight bytes a place, hash and slot; keys stand in the flows alone. The slab grows by chunks, so that a million flows
//! are never moved, nor need twice their room while it grows. Neighbours in a list stand apart from the flows, close together: a packet
//! changes those of two other flows, whose memory would be fetched for nothing else.
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

/// The neighbours of a flow in the list of its class, or none.
#[derive(Clone, Copy)]
struct Link {
    older: u32,
    newer: u32,
}

#[derive(Default)]
struct Chunk {
    places: Vec<Option<Entry>>,
    links: Vec<Link>,
}

#[derive(Clone, Copy)]
struct List {
    oldest: u32,
    newest: u32,
}

/// Living flows.
pub struct Table {
    chunks: Vec<Chunk>,
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

    /// The slot of a flow that is likely to have this hash: other than `find`, it does not look at the flow.
    #[must_use]
    pub fn likely(&self, hash: u32) -> Option<u32> {
        self.index.find(spread(hash), |(known, _)| *known == hash).map(|(_, slot)| *slot)
    }

    /// The flow in a slot.
    #[must_use]
    pub fn entry(&self, slot: u32) -> Option<&Entry> {
        self.chunks.get((slot / CHUNK) as usize)?.places.get((slot % CHUNK) as usize)?.as_ref()
    }

    /// The flow in a slot.
    pub fn entry_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        self.place_mut(slot)?.as_mut()
    }

    fn place_mut(&mut self, slot: u32) -> Option<&mut Option<Entry>> {
        self.chunks.get_mut((slot / CHUNK) as usize)?.places.get_mut((slot % CHUNK) as usize)
    }

    fn link_of(&self, slot: u32) -> Option<Link> {
        self.chunks.get((slot / CHUNK) as usize)?.links.get((slot % CHUNK) as usize).copied()
    }

    fn link_mut(&mut self, slot: u32) -> Option<&mut Link> {
        self.chunks.get_mut((slot / CHUNK) as usize)?.links.get_mut((slot % CHUNK) as usize)
    }

    /// Look at what packets of these flows will change, so that it is in the caches when they come. What is looked at in one turn does
    /// not depend on each other: the processor waits for all of it at the same time; packet after packet it waits for each.
    pub fn glance(&self, slots: &[Option<u32>]) {
        let mut seen = 0;
        for entry in slots.iter().flatten().filter_map(|slot| self.entry(*slot)) {
            let counts = &entry.counts;
            let [packets, _] = counts.packets;
            let [_, ip_bytes] = counts.ip_bytes;
            seen ^= entry.flow.uid ^ entry.idle_since_ns ^ counts.last_ts_ns ^ packets ^ ip_bytes;
        }
        for slot in slots.iter().flatten() {
            let halves = self.entry(*slot).and_then(|entry| entry.tcp.as_deref()).map(|tcp| &tcp.halves);
            seen = halves.into_iter().flatten().fold(seen, |seen, half| seen ^ half.next ^ u64::from(half.mss));
            let Some(link) = self.link_of(*slot) else { continue };
            let beside = [link.older, link.newer].into_iter().filter_map(|slot| self.link_of(slot));
            seen = beside.fold(seen, |seen, link| seen ^ u64::from(link.older));
        }
        core::hint::black_box(seen);
    }

    /// Slots in use, in order.
    pub fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.chunks.iter_mut().flat_map(|chunk| &mut chunk.places).flatten()
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
                let (places, links) = (Vec::with_capacity(CHUNK as usize), Vec::with_capacity(CHUNK as usize));
                self.chunks.push(Chunk { places, links });
            }
            if let Some(chunk) = self.chunks.last_mut() {
                chunk.places.push(Some(entry));
                chunk.links.push(Link { older: NONE, newer: NONE });
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
        if let Some(link) = self.link_mut(slot) {
            *link = Link { older: newest, newer: NONE };
        }
        if let Some(before) = self.link_mut(newest) {
            before.newer = slot;
        }
        let list = self.list_mut(class);
        list.newest = slot;
        if list.oldest == NONE {
            list.oldest = slot;
        }
    }

    fn unlink(&mut self, slot: u32, class: Class) {
        let Some(Link { older, newer }) = self.link_of(slot) else { return };
        if let Some(link) = self.link_mut(older) {
            link.newer = newer;
        }
        if let Some(link) = self.link_mut(newer) {
            link.older = older;
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
