//! Windows: what waits until enough units have been seen, and who scans.
//!
//! Rules of this file:
//! 1. What waits is sealed (AES-256-GCM under a key of the run, in memory, never written) and is forgotten, not released, when the run
//!    is aborted.
//! 2. Everything that grows has a bound. Reaching it never shows more: a value that is not counted is not shown, a window that is full
//!    closes early, an origin that is not watched is treated as a scanner.
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit};
use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use zeroize::Zeroize;

use crate::keys::{Clock, Keys};
use crate::lists::List;
use crate::names;
use crate::record::unit_hash;
use crate::schema::{FieldType, RecordSchema};
use crate::transform::{Rule, Shown, Transform};
use crate::work::{SHOWN_BYTES, counted};

/// Bytes of records that may wait; then the window closes early. Python twin: `bunker.limits` WAITING_BYTES.
pub const WAITING_BYTES: usize = 128 << 20;
/// Distinct values that a threshold counts in a window.
pub const COUNTED_VALUES: usize = 1 << 18;
/// Units that it remembers for all of them.
pub const COUNTED_UNITS: usize = 1 << 22;
/// Origins watched for scans.
pub const WATCHED_ORIGINS: usize = 1 << 16;

/// Rows leave only in company.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MinK {
    /// Distinct units that a group must have in a window.
    pub k: usize,
    /// Output columns whose values make a group.
    pub by: Vec<String>,
}

/// Who counts as a scanner, and what becomes of his rows.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Scanners {
    /// Leave out; else they get pseudonyms of their own.
    pub drop: bool,
    /// Responders from which on failed flows make a scanner.
    pub fanout: usize,
    /// Share of failed flows, 0 to 1.
    pub failed: f64,
    /// Latest responders that are looked at for an order.
    pub window: usize,
    /// How many of them must be in order.
    pub monotone: usize,
}

/// What a window decided.
#[derive(Default)]
pub struct Decision {
    /// Values that may be shown, by record and rule.
    pub shown: HashMap<(usize, usize), Arc<HashSet<String>>>,
    /// Origins that scanned.
    pub scanners: HashSet<[u8; 16]>,
}

/// Records that wait.
pub struct Waiting {
    cipher: Aes256Gcm,
    number: u64,
    frames: Vec<(usize, u64, Vec<u8>)>,
    bytes: usize,
    rows: u64,
}

impl Waiting {
    /// Nothing waits.
    #[must_use]
    pub fn new(keys: &Keys) -> Self {
        let key = keys.derive("waiting", "", "run");
        Self { cipher: Aes256Gcm::new((&*key).into()), number: 0, frames: Vec::new(), bytes: 0, rows: 0 }
    }

    /// Whether so many more bytes would be too many.
    #[must_use]
    pub const fn is_full(&self, more: usize) -> bool {
        self.bytes > 0 && self.bytes.saturating_add(more) > WAITING_BYTES
    }

    /// Bytes that wait.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Rows that wait.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Seal and keep a checked frame of so many rows.
    pub fn put(&mut self, record: usize, ipc: &[u8], rows: usize) -> Option<()> {
        self.number = self.number.checked_add(1)?; // a nonce is never used twice
        let sealed = self.cipher.encrypt((&nonce(self.number)).into(), ipc).ok()?;
        self.bytes = self.bytes.saturating_add(sealed.len());
        self.rows = self.rows.saturating_add(rows as u64);
        self.frames.push((record, self.number, sealed));
        Some(())
    }

    /// Everything, unsealed.
    pub fn take(&mut self) -> Option<Vec<(usize, Vec<u8>)>> {
        self.bytes = 0;
        self.rows = 0;
        let frames = std::mem::take(&mut self.frames);
        frames
            .into_iter()
            .map(|(record, number, sealed)| {
                Some((record, self.cipher.decrypt((&nonce(number)).into(), sealed.as_slice()).ok()?))
            })
            .collect()
    }

    /// Nothing of it leaves.
    pub fn forget(&mut self) {
        self.frames.iter_mut().for_each(|(_, _, sealed)| sealed.zeroize());
        self.frames.clear();
        self.bytes = 0;
        self.rows = 0;
    }
}

fn nonce(number: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    if let Some(place) = nonce.last_chunk_mut() {
        *place = number.to_be_bytes();
    }
    nonce
}

#[derive(Default)]
struct Value {
    units: HashSet<u64>,
    rows: u64,
}

struct Counter {
    k: usize,
    n: Option<usize>,
    /// The list that a value must stand in to be shown.
    maybe_list: Option<usize>,
    kind: FieldType,
    values: HashMap<String, Value>,
    /// What each raw value counts as, so that it is worked out once.
    memo: HashMap<Box<[u8]>, Option<String>>,
}

impl Counter {
    /// Count a row of a unit. `value` works out what its raw value counts as.
    fn count(&mut self, raw: &[u8], value: impl FnOnce() -> Option<String>, unit: u64, units: &mut usize) {
        let known = match self.memo.get(raw) {
            Some(known) => known.clone(),
            None => {
                let known = value();
                // A memo of long texts would be as large as whoever writes them likes.
                if self.memo.len() < COUNTED_VALUES && raw.len() <= SHOWN_BYTES.saturating_mul(2) {
                    self.memo.insert(raw.into(), known.clone());
                }
                known
            }
        };
        let Some(value) = known else { return };
        if !self.values.contains_key(&value) && self.values.len() >= COUNTED_VALUES {
            return;
        }
        let entry = self.values.entry(value).or_default();
        entry.rows = entry.rows.saturating_add(1);
        if entry.units.len() < self.k && *units < COUNTED_UNITS && entry.units.insert(unit) {
            *units = units.saturating_add(1);
        }
    }
}

struct Origin {
    responders: HashSet<u64>,
    flows: u64,
    failed: u64,
    latest: VecDeque<u128>,
    ordered: bool,
}

/// The open window.
pub struct Window {
    clock: Clock,
    key: u64,
    reached_ns: i64,
    counters: HashMap<(usize, usize), Counter>,
    units: usize,
    maybe_scanners: Option<Scanners>,
    origins: HashMap<[u8; 16], Origin>,
    unwatched: HashSet<[u8; 16]>,
}

impl Window {
    /// The first window of a run.
    #[must_use]
    pub fn new(clock: Clock, keys: &Keys, maybe_scanners: Option<Scanners>) -> Self {
        Self {
            clock,
            key: keys.seed(),
            reached_ns: i64::MIN,
            counters: HashMap::new(),
            units: 0,
            maybe_scanners,
            origins: HashMap::new(),
            unwatched: HashSet::new(),
        }
    }

    /// What is done with scanners.
    #[must_use]
    pub const fn scanners(&self) -> Option<Scanners> {
        self.maybe_scanners
    }

    /// Whether this time lies in a later window.
    #[must_use]
    pub const fn moves_on(&self, ts_ns: i64) -> bool {
        self.reached_ns != i64::MIN && self.clock.epoch(ts_ns) > self.clock.epoch(self.reached_ns)
    }

    /// Time goes on.
    pub fn reach(&mut self, ts_ns: i64) {
        self.reached_ns = self.reached_ns.max(ts_ns);
    }

    /// When the window began, on the shown clock; none if it is the run, or nothing came.
    #[must_use]
    pub const fn start_shifted_ns(&self) -> Option<i64> {
        match self.clock.rotation.length_ns() {
            Some(length) if self.reached_ns != i64::MIN => Some(self.clock.shifted(self.reached_ns, length)),
            _ => None,
        }
    }

    /// Count what thresholds ask for.
    pub fn observe(
        &mut self,
        record: usize,
        rules: &[Rule],
        places: &[(usize, Option<usize>)],
        maybe_unit: Option<usize>,
        batch: &RecordBatch,
        lists: &[Arc<List>],
    ) {
        let Some(unit) = maybe_unit.and_then(|unit| batch.columns().get(unit)) else { return };
        for (number, (rule, (place, _))) in rules.iter().zip(places).enumerate() {
            let Transform::TopK { shown, k, n, list, .. } = &rule.transform else { continue };
            let Some(column) = batch.columns().get(*place) else { continue };
            let kind = match shown {
                Shown::Domain => FieldType::Host,
                _ => FieldType::Enum,
            };
            let counter = self.counters.entry((record, number)).or_insert_with(|| Counter {
                k: *k,
                n: *n,
                maybe_list: list.filter(|_| *shown != Shown::Network),
                kind,
                values: HashMap::new(),
                memo: HashMap::new(),
            });
            if let Some(texts) = column.as_string_opt::<i32>() {
                for (row, text) in texts.iter().enumerate() {
                    if let (Some(text), Some(unit)) = (text, unit_hash(unit, row, self.key)) {
                        counter.count(text.as_bytes(), || counted(*shown, text), unit, &mut self.units);
                    }
                }
            } else if let Some(addresses) = column.as_fixed_size_binary_opt() {
                let maybe_list = list.and_then(|list| lists.get(list));
                for (row, raw) in addresses.iter().enumerate() {
                    if let (Some(raw), Some(unit)) = (raw, unit_hash(unit, row, self.key)) {
                        let class = || match shown {
                            Shown::Oui => names::oui(raw),
                            _ => maybe_list?.network(&raw.try_into().ok()?).cloned(),
                        };
                        counter.count(raw, class, unit, &mut self.units);
                    }
                }
            }
        }
    }

    /// Watch who asks whom, from flows.
    pub fn observe_scans(&mut self, schema: &RecordSchema, batch: &RecordBatch) {
        let Some(scanners) = self.maybe_scanners else { return };
        if schema.name != "flow" {
            return;
        }
        let column = |name: &str| schema.position(name).and_then(|place| batch.columns().get(place));
        let (Some(origins), Some(responders), Some(states)) = (
            column("orig_h").and_then(|column| column.as_fixed_size_binary_opt()),
            column("resp_h").and_then(|column| column.as_fixed_size_binary_opt()),
            column("conn_state").and_then(|column| column.as_string_opt::<i32>()),
        ) else {
            return;
        };
        for row in 0..batch.num_rows() {
            let (Ok(origin), Ok(responder)) =
                (<[u8; 16]>::try_from(origins.value(row)), <[u8; 16]>::try_from(responders.value(row)))
            else {
                continue;
            };
            let failed =
                matches!(if states.is_null(row) { "" } else { states.value(row) }, "S0" | "REJ" | "RSTOS0" | "SH");
            self.watch(scanners, origin, responder, failed);
        }
    }

    fn watch(&mut self, scanners: Scanners, origin: [u8; 16], responder: [u8; 16], failed: bool) {
        if !self.origins.contains_key(&origin) && self.origins.len() >= WATCHED_ORIGINS {
            if self.unwatched.len() < WATCHED_ORIGINS {
                self.unwatched.insert(origin);
            }
            return;
        }
        let seen = self.origins.entry(origin).or_insert_with(|| Origin {
            responders: HashSet::new(),
            flows: 0,
            failed: 0,
            latest: VecDeque::new(),
            ordered: false,
        });
        seen.flows = seen.flows.saturating_add(1);
        seen.failed = seen.failed.saturating_add(u64::from(failed));
        let value = u128::from_be_bytes(responder);
        if seen.responders.len() < scanners.fanout {
            let hash = std::hash::BuildHasher::hash_one(&foldhash::fast::FixedState::with_seed(self.key), responder);
            seen.responders.insert(hash);
        }
        if seen.latest.back() != Some(&value) && !seen.ordered {
            seen.latest.push_back(value);
            if seen.latest.len() > scanners.window {
                seen.latest.pop_front();
            }
            let steps = seen.latest.iter().zip(seen.latest.iter().skip(1));
            let (mut up, mut down) = (1_usize, 1_usize);
            for (one, other) in steps {
                up = up.saturating_add(usize::from(one < other));
                down = down.saturating_add(usize::from(one > other));
            }
            // A window that is not full says nothing yet, unless it is all in order and long enough.
            seen.ordered = seen.latest.len() >= scanners.monotone && up.max(down) >= scanners.monotone;
        }
    }

    /// Decide, and begin the next window.
    pub fn decide(&mut self, lists: &[Arc<List>]) -> Decision {
        let mut decision = Decision::default();
        for (key, counter) in self.counters.drain() {
            let list = counter.maybe_list.map(|list| lists.get(list).cloned().unwrap_or_default());
            let mut values: Vec<(u64, String)> = counter
                .values
                .into_iter()
                .filter(|(_, value)| value.units.len() >= counter.k)
                .filter(|(text, _)| list.as_ref().is_none_or(|list| list.listed(text, counter.kind).is_some()))
                .map(|(text, value)| (value.rows, text))
                .collect();
            // The most common first; the text breaks ties, so that the answer does not depend on a table's order.
            values.sort_unstable_by(|one, other| other.0.cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
            values.truncate(counter.n.unwrap_or(usize::MAX));
            decision.shown.insert(key, Arc::new(values.into_iter().map(|(_, text)| text).collect()));
        }
        self.units = 0;
        if let Some(scanners) = self.maybe_scanners {
            #[allow(clippy::cast_precision_loss)] // counts of flows
            let scans = |seen: &Origin| {
                seen.ordered
                    || (seen.responders.len() >= scanners.fanout
                        && seen.failed as f64 >= scanners.failed * seen.flows as f64)
            };
            decision.scanners =
                self.origins.drain().filter(|(_, seen)| scans(seen)).map(|(origin, _)| origin).collect();
            decision.scanners.extend(self.unwatched.drain());
        }
        decision
    }

    /// Nothing is decided any more.
    pub fn forget(&mut self) {
        self.counters.clear();
        self.origins.clear();
        self.unwatched.clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::{COUNTED_UNITS, COUNTED_VALUES, Counter, Scanners, WAITING_BYTES, WATCHED_ORIGINS, Waiting, Window};
    use crate::keys::{Keys, Rotation};
    use crate::schema::FieldType;
    use std::collections::HashMap;

    fn counter() -> Counter {
        Counter { k: 2, n: None, maybe_list: None, kind: FieldType::Enum, values: HashMap::new(), memo: HashMap::new() }
    }

    #[test]
    fn values_beyond_the_bound_are_not_counted() {
        let (mut counter, mut units) = (counter(), 0);
        let mut count = |value: usize, unit: u64| {
            counter.count(&value.to_le_bytes(), || Some(value.to_string()), unit, &mut units);
            (counter.values.len(), counter.values.get(&value.to_string()).map(|value| value.units.len()))
        };
        for value in 0..COUNTED_VALUES - 1 {
            count(value, 1);
        }
        assert_eq!(count(COUNTED_VALUES - 1, 1), (COUNTED_VALUES, Some(1)));
        assert_eq!(count(COUNTED_VALUES, 1), (COUNTED_VALUES, None));
        assert_eq!(count(0, 2), (COUNTED_VALUES, Some(2)), "known values go on");
    }

    #[test]
    fn units_beyond_the_bound_are_not_counted() {
        let (mut counter, mut units) = (counter(), COUNTED_UNITS - 1);
        for unit in 0..2 {
            counter.count(b"x", || Some("x".to_owned()), unit, &mut units);
        }
        assert_eq!(units, COUNTED_UNITS);
        assert_eq!(counter.values.get("x").map(|value| (value.units.len(), value.rows)), Some((1, 2)));
    }

    #[test]
    fn rows_wait_up_to_the_bound() {
        let mut waiting = Waiting::new(&Keys::new(&mut [7; 32]));
        assert!(!waiting.is_full(WAITING_BYTES + 1), "one frame may always wait");
        assert!(waiting.put(0, &vec![0; WAITING_BYTES / 2], 1).is_some());
        let room = WAITING_BYTES - waiting.bytes();
        assert!(!waiting.is_full(room) && waiting.is_full(room + 1));
    }

    #[test]
    fn an_origin_that_is_not_watched_is_treated_as_a_scanner() {
        let scanners = Scanners { drop: false, fanout: 9, failed: 0.5, window: 9, monotone: 9 };
        let keys = Keys::new(&mut [7; 32]);
        let mut window = Window::new(keys.clock(Rotation::Run), &keys, Some(scanners));
        let origin = |number: usize| (number as u128).to_be_bytes();
        for number in 0..=WATCHED_ORIGINS {
            window.watch(scanners, origin(number), [1; 16], false);
        }
        assert_eq!(window.origins.len(), WATCHED_ORIGINS);
        let found = window.decide(&[]).scanners;
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [origin(WATCHED_ORIGINS)]);
    }
}
