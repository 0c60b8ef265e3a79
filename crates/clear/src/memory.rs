//! What transforms of all records share: numbers in the order of first appearance, the time that counts as zero, the order of a window's
//! times.
//!
//! Rules of this file:
//! 1. A number stands for one value for as long as an epoch lasts: what was forgotten is never numbered anew, it leaves as null (counted).
//! 2. What is remembered is bounded; the oldest epoch pays.
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Values that `enum` numbers, over all fields and epochs at hand; later ones leave as null.
pub const NUMBERED_VALUES: usize = 1 << 18;

/// Whose numbers: epoch, whether split off, domain.
type Scope = (i64, bool, &'static str);

/// One holder for all workers of a run.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Held>>);

/// See the file's head.
#[derive(Default)]
pub struct Held {
    numbers: BTreeMap<Scope, HashMap<Box<[u8]>, u64>>,
    count: usize,
    /// Epochs up to this one have been forgotten.
    maybe_gone: Option<i64>,
    unnumbered: u64,
    maybe_zero_ns: Option<i64>,
    times: Vec<i64>,
}

impl Memory {
    /// The one holder; a thread that died with it in hand left whole values.
    pub(crate) fn hold(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// The number of a value, from 1 on in the order in which values came. None: there is no room, or its epoch has been forgotten.
    pub fn number(&mut self, scope: Scope, value: &[u8]) -> Option<u64> {
        if let Some(number) = self.numbers.get(&scope).and_then(|known| known.get(value)) {
            return Some(*number);
        }
        while self.count >= NUMBERED_VALUES && self.forget_before(scope.0) {}
        let is_gone = self.maybe_gone.is_some_and(|gone| scope.0 <= gone);
        if is_gone || self.count >= NUMBERED_VALUES {
            self.unnumbered = self.unnumbered.saturating_add(1);
            return None;
        }
        let known = self.numbers.entry(scope).or_default();
        let number = (known.len() as u64).saturating_add(1);
        known.insert(value.into(), number);
        self.count = self.count.saturating_add(1);
        Some(number)
    }

    /// Forget the oldest epoch if it lies before this one; whether there was one.
    fn forget_before(&mut self, epoch: i64) -> bool {
        let Some(oldest) = self.numbers.keys().next().map(|scope| scope.0).filter(|oldest| *oldest < epoch) else {
            return false;
        };
        self.numbers.retain(|scope, _| scope.0 != oldest);
        self.count = self.numbers.values().map(HashMap::len).sum();
        self.maybe_gone = self.maybe_gone.max(Some(oldest));
        true
    }

    /// Cells that had a value and got no number.
    #[must_use]
    pub const fn unnumbered(&self) -> u64 {
        self.unnumbered
    }

    /// The time that counts as zero: the first that is asked about.
    pub fn zero_ns(&mut self, ts_ns: i64) -> i64 {
        *self.maybe_zero_ns.get_or_insert(ts_ns)
    }

    /// The times of the window whose rows come next, in any order.
    pub fn put_times(&mut self, mut times: Vec<i64>) {
        times.sort_unstable();
        times.dedup();
        self.times = times;
    }

    /// The place of a time in the window's order, from 1 on; equal times have one place. None: it is not of the window.
    #[must_use]
    pub fn place(&self, ts_ns: i64) -> Option<u64> {
        self.times.binary_search(&ts_ns).ok().map(|before| (before as u64).saturating_add(1))
    }

    /// The run is over.
    pub fn forget(&mut self) {
        let unnumbered = self.unnumbered;
        *self = Self { unnumbered, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::{Held, NUMBERED_VALUES};

    #[test]
    fn values_are_numbered_up_to_the_bound_and_the_oldest_epoch_makes_room() {
        let mut held = Held::default();
        for value in 0..NUMBERED_VALUES as u64 {
            assert_eq!(held.number((1, false, "Address"), &value.to_le_bytes()), Some(value + 1));
        }
        assert_eq!(held.number((1, false, "Address"), b"one more"), None, "an epoch has no room beyond the bound");
        assert_eq!(held.number((1, false, "Address"), &0_u64.to_le_bytes()), Some(1), "known ones keep their number");
        assert_eq!((held.count, held.unnumbered()), (NUMBERED_VALUES, 1));
        assert_eq!(held.number((2, false, "Address"), b"one more"), Some(1), "a new epoch begins anew");
        assert_eq!(
            held.number((1, false, "Address"), &0_u64.to_le_bytes()),
            None,
            "and nothing of the old one is numbered twice"
        );
        assert_eq!(held.unnumbered(), 2);
    }

    #[test]
    fn a_number_is_of_its_scope() {
        let mut held = Held::default();
        assert_eq!(held.number((0, false, "Mac"), b"a"), Some(1));
        assert_eq!(held.number((0, false, "Mac"), b"b"), Some(2));
        assert_eq!(held.number((0, true, "Mac"), b"b"), Some(1), "who is split off has numbers of his own");
        assert_eq!(held.number((0, false, "Vlan"), b"b"), Some(1));
    }

    #[test]
    fn times_have_places_and_others_have_none() {
        let mut held = Held::default();
        held.put_times(vec![30, 10, 30, 20]);
        assert_eq!([10, 20, 30, 25].map(|ts| held.place(ts)), [Some(1), Some(2), Some(3), None]);
        assert_eq!([held.zero_ns(7), held.zero_ns(9)], [7, 7]);
        held.forget();
        assert_eq!(held.place(10), None);
    }
}
