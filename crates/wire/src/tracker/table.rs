//! The table of living flows: a slab, an index by key, and a list by time-out class, oldest first.
//!
//! Rules of this file:
//! 1. Every living flow is in the index once and in exactly one list, the one of its class.
//! 2. A full table gives up the oldest flow of the least valuable class (`CLASSES` has the order).
use std::collections::HashMap;
use std::collections::hash_map;

use crate::flowhash::Seed;
use crate::tracker::flow::{CLASSES, Class, Entry, Key};

/// No slot.
pub const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct List {
    oldest: u32,
    newest: u32,
}

/// Living flows.
pub struct Table {
    slots: Vec<Option<Entry>>,
    free: Vec<u32>,
    index: HashMap<Key, u32, Seed>,
    lists: [List; 6],
}

impl Table {
    /// Empty.
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: HashMap::with_hasher(seed),
            lists: [List { oldest: NONE, newest: NONE }; 6],
        }
    }

    /// Living flows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// The slot of a key.
    #[must_use]
    pub fn find(&self, key: &Key) -> Option<u32> {
        self.index.get(key).copied()
    }

    /// The flow in a slot.
    pub fn entry_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// Slots in use, in order.
    pub fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.slots.iter_mut().flatten()
    }

    /// The slot that the next `insert` will take.
    #[must_use]
    pub fn next_slot(&self) -> u32 {
        self.free.last().copied().unwrap_or_else(|| u32::try_from(self.slots.len()).unwrap_or(NONE))
    }

    /// Add a flow (its `flow.slot` is `next_slot()`); the newest of its class.
    pub fn insert(&mut self, entry: Entry) -> u32 {
        let slot = self.next_slot();
        let (key, class) = (entry.key, entry.class);
        if self.free.pop().is_some() {
            if let Some(place) = self.slots.get_mut(slot as usize) {
                *place = Some(entry);
            }
        } else {
            self.slots.push(Some(entry));
        }
        self.index.insert(key, slot);
        self.link(slot, class);
        slot
    }

    /// Take a flow out.
    pub fn remove(&mut self, slot: u32, listed_as: Class) -> Option<Entry> {
        self.unlink(slot, listed_as);
        let entry = self.slots.get_mut(slot as usize)?.take()?;
        if let hash_map::Entry::Occupied(place) = self.index.entry(entry.key)
            && *place.get() == slot
        {
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
