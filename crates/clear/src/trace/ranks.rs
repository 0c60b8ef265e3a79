//! Time stamps of TCP as ranks: of one direction while it is read, or of whole flows after a first pass.
//!
//! Rules of this file:
//! 1. What is remembered is bounded ([`NEAR`], [`STAMPS`], [`FAR`], [`RANKED`]); a value that is no longer known has no rank of its own.
//! 2. Ranks of one direction follow each other, so a value's place among those that are held says its rank.
use std::collections::HashMap;

use super::flows::FlowKey;

/// Time stamps remembered of a direction before it needs memory of its own.
pub const NEAR: usize = 8;
/// Time stamps remembered of one direction; older ones that come again get the rank of the oldest that is known.
pub const STAMPS: usize = 64;
/// Directions that may remember more than [`NEAR`] of them. At 256 bytes each 64 MB.
pub const FAR: usize = 1 << 18;
/// Time stamps that the first pass keeps, all flows together. 4 bytes each.
pub const RANKED: usize = 16 << 20;

/// Time stamps of one direction, the newest last.
#[derive(Default)]
pub struct Ranks {
    near: [u32; NEAR],
    far: Option<Box<[u32; STAMPS]>>,
    /// Rank of the newest; 0 while there is none.
    newest: u32,
    /// Values held, and where the newest is.
    held: u8,
    at: u8,
}

impl Ranks {
    /// The rank of a value, first seen or known. `room`: directions that may still become far ones.
    pub fn of(&mut self, value: u32, room: &mut usize) -> u32 {
        let Some(newest) = self.back(0) else {
            self.push(value, room);
            return self.newest;
        };
        let ahead = value.wrapping_sub(newest);
        // Newer than the newest is none of those that are known: no search, which is nearly always.
        if ahead != 0 && ahead < 1 << 31 {
            self.push(value, room);
            return self.newest;
        }
        let known = self.known(value);
        if known != 0 {
            return known;
        }
        // Older than what is known, and late: between two ranks there is no room, so it gets that of its successor.
        let later = |ago: &u32| self.back(*ago).is_some_and(|known| known.wrapping_sub(value) < 1 << 31);
        (0..u32::from(self.held)).rev().find(later).map_or(self.newest, |ago| self.newest.saturating_sub(ago))
    }

    /// The rank of a value that was seen; 0 if it is not known.
    #[must_use]
    pub fn known(&self, value: u32) -> u32 {
        let seen = |ago: &u32| self.back(*ago) == Some(value);
        (0..u32::from(self.held)).find(seen).map_or(0, |ago| self.newest.saturating_sub(ago))
    }

    /// Something of what the next value will be compared with: the read brings it near.
    #[must_use]
    pub fn touch(&self) -> u32 {
        self.back(0).unwrap_or(0)
    }

    /// Begin anew; whether memory was given back.
    pub fn forget(&mut self) -> bool {
        core::mem::take(self).far.is_some()
    }

    /// The value so many before the newest.
    fn back(&self, ago: u32) -> Option<u32> {
        let values = self.far.as_deref().map_or(self.near.as_slice(), |far| far.as_slice());
        if ago >= u32::from(self.held) {
            return None;
        }
        let place = u32::from(self.at).wrapping_sub(ago) as usize & values.len().wrapping_sub(1);
        values.get(place).copied()
    }

    #[allow(clippy::cast_possible_truncation)] // below STAMPS, which is 64
    fn push(&mut self, value: u32, room: &mut usize) {
        if usize::from(self.held) == NEAR && self.far.is_none() && *room > 0 {
            *room = room.wrapping_sub(1);
            let mut far = Box::new([0; STAMPS]);
            for (ago, place) in (0..NEAR as u32).rev().zip(far.iter_mut()) {
                *place = self.back(ago).unwrap_or(0);
            }
            (self.far, self.at) = (Some(far), NEAR as u8 - 1);
        }
        let values = self.far.as_deref_mut().map_or(self.near.as_mut_slice(), |far| far.as_mut_slice());
        let last = values.len().wrapping_sub(1);
        let place = usize::from(self.at).wrapping_add(1) & last;
        if let Some(place) = values.get_mut(place) {
            *place = value;
        }
        self.at = place as u8;
        self.held = self.held.saturating_add(1).min(values.len() as u8);
        self.newest = self.newest.wrapping_add(1);
    }
}

/// Values of the first pass: the time stamps of each direction, sorted.
#[derive(Default)]
pub struct Ranking {
    values: HashMap<(FlowKey, bool), Vec<u32>>,
    held: usize,
    /// Values that found no room: their options become NOPs.
    pub omitted: u64,
}

impl Ranking {
    /// Take note of a value.
    pub fn note(&mut self, key: FlowKey, high: bool, value: u32) {
        let values = self.values.entry((key, high)).or_default();
        if values.last() == Some(&value) {
            return;
        }
        if self.held >= RANKED {
            self.omitted = self.omitted.saturating_add(1);
            return;
        }
        self.held = self.held.saturating_add(1);
        values.push(value);
    }

    /// The pass is over.
    pub fn settle(&mut self) {
        for values in self.values.values_mut() {
            let first = values.first().copied().unwrap_or(0);
            // Time stamps wrap: order is by distance from the first, back or forth.
            values.sort_unstable_by_key(|value| value.wrapping_sub(first).wrapping_add(1 << 31));
            values.dedup();
        }
    }

    /// The rank of a value among those of its direction.
    #[must_use]
    pub fn rank(&self, key: FlowKey, high: bool, value: u32) -> Option<u32> {
        let values = self.values.get(&(key, high))?;
        let least = values.first().copied().unwrap_or(0);
        let at = values.binary_search_by_key(&value.wrapping_sub(least), |known| known.wrapping_sub(least)).ok()?;
        u32::try_from(at).ok()?.checked_add(1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_possible_truncation, clippy::arithmetic_side_effects)]
    use super::{FAR, NEAR, RANKED, Ranking, Ranks, STAMPS};
    use crate::trace::flows::FlowKey;

    #[test]
    fn ranks_are_remembered_of_the_newest_stamps() {
        for (mut room, most) in [(FAR, STAMPS as u32), (0, NEAR as u32)] {
            let mut ranks = Ranks::default();
            for value in 0..most {
                assert_eq!(ranks.of(value * 10, &mut room), value + 1);
            }
            assert_eq!(ranks.of(0, &mut room), 1, "the oldest is known");
            assert_eq!(ranks.of(most * 10, &mut room), most + 1);
            assert_eq!(ranks.of(0, &mut room), 2, "forgotten: the rank of the oldest that is known");
            assert_eq!(ranks.known(0), 0);
        }
    }

    #[test]
    fn memory_for_many_stamps_is_taken_from_the_room_and_given_back() {
        let (mut ranks, mut room) = (Ranks::default(), FAR);
        for value in 0..NEAR as u32 {
            ranks.of(value, &mut room);
        }
        assert_eq!(room, FAR, "few need none");
        ranks.of(NEAR as u32, &mut room);
        assert_eq!((room, ranks.forget()), (FAR - 1, true));
        assert!(!ranks.forget());
    }

    #[test]
    fn stamps_beyond_the_bound_are_omitted_and_counted() {
        let key = FlowKey::of([1; 16], [2; 16], [1, 2], 6).0;
        let mut ranking = Ranking { held: RANKED - 1, ..Ranking::default() };
        ranking.note(key, false, 1);
        assert_eq!((ranking.held, ranking.omitted), (RANKED, 0));
        ranking.note(key, false, 2);
        assert_eq!((ranking.held, ranking.omitted), (RANKED, 1));
        ranking.settle();
        assert_eq!([ranking.rank(key, false, 1), ranking.rank(key, false, 2)], [Some(1), None]);
    }
}
