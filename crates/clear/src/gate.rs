//! The gate: bytes of a worker in, [`ClearedBatch`]es or a [`Refusal`] out.
//!
//! Rules of this file:
//! 1. One bad cell refuses the batch; nothing of it leaves.
//! 2. Decoding runs behind `catch_unwind`: a decoder that panics on hostile bytes is a refusal, not an end.
//! 3. A record with a threshold waits, sealed, until its window closes; if the run is aborted before, it never leaves.
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampNanosecondType;
use arrow_ipc::writer::StreamWriter;

use crate::address_map::{Method, Sites};
use crate::aggregate::{Noise, Tally};
use crate::check::{check, decode};
use crate::keys::{Clock, Keys, Rotation};
use crate::lists::List;
use crate::memory::Memory;
use crate::record::{Company, Record};
use crate::sample::sampled;
use crate::schema::RecordSchema;
use crate::trace::rules::Rules;
use crate::trace::{Trace, columns};
use crate::transform::Output;
use crate::window::{Waiting, Window};
use crate::work::Surroundings;

pub use crate::check::{Limits, Refusal};
pub use crate::policy::{Policy, RuleFault};
pub use crate::schema::type_name;

/// Key domain of what is split off.
const SPLIT_DOMAIN: &str = "scanner";

/// Records that a policy has cleared. There is one maker: [`Gate`].
pub struct ClearedBatch {
    record: String,
    ipc: Vec<u8>,
    rows: usize,
}

impl ClearedBatch {
    /// The record's name.
    #[must_use]
    pub fn record(&self) -> &str {
        &self.record
    }

    /// Rows.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// The batch as an Arrow IPC stream.
    #[must_use]
    pub fn ipc(&self) -> &[u8] {
        &self.ipc
    }
}

/// A policy with its keys.
pub struct Gate {
    records: Vec<Record>,
    by_name: HashMap<String, usize>,
    limits: Limits,
    maybe_keys: Option<Keys>,
    clock: Clock,
    window: Window,
    waiting: Waiting,
    tally: Tally,
    memory: Memory,
    sampled_out: u64,
    /// Rows that this window's aggregates have counted, of records that leave in no other way.
    tallied_rows: u64,
    sites: Sites,
    lists: Vec<Arc<List>>,
    literals: Option<Method>,
    order_key: u64,
    maybe_trace: Option<Trace>,
}

impl Gate {
    /// A gate for these records and this policy.
    ///
    /// # Errors
    /// [`RuleFault`]: a rule names no column of its record, does not fit its type, or comes twice; a threshold without a unit; epochs
    /// without a time.
    pub fn new(schemas: Vec<RecordSchema>, policy: Policy, keys: Keys, limits: Limits) -> Result<Self, RuleFault> {
        let clock = keys.clock(policy.rotation);
        let mut records = Vec::new();
        for (number, schema) in schemas.into_iter().enumerate() {
            records.push(Record::new(number, schema, &policy, &keys)?);
        }
        let by_name: HashMap<String, usize> =
            records.iter().enumerate().map(|(number, record)| (record.schema.name.clone(), number)).collect();
        let window = Window::new(keys.clock(policy.window), &keys, policy.scanners);
        let tally = Tally::new(policy.aggregates, policy.epsilon, &keys, &|record, field| {
            let record = by_name.get(record).and_then(|number| records.get(*number))?;
            let place = record.schema.position(field)?;
            Some((place, *record.kinds.get(place)?))
        })
        .map_err(|rule| RuleFault { record: String::new(), rule })?;
        Ok(Self {
            by_name,
            limits,
            clock,
            window,
            waiting: Waiting::new(&keys),
            tally,
            memory: Memory::default(),
            sampled_out: 0,
            tallied_rows: 0,
            sites: policy.sites,
            lists: policy.lists.into_iter().map(Arc::new).collect(),
            literals: policy.literals,
            order_key: keys.seed(),
            maybe_trace: None,
            maybe_keys: Some(keys),
            records,
        })
    }

    /// Clear packets too: the record of [`columns`], under the same keys as all others.
    ///
    /// # Errors
    /// [`RuleFault`]: no analyzer emits packets, or another schema has their name.
    pub fn trace_packets(&mut self, rules: Rules) -> Result<(), RuleFault> {
        let fault = || RuleFault { record: columns::RECORD.to_owned(), rule: "headers".to_owned() };
        let keys = self.maybe_keys.as_ref().map(Keys::shared).ok_or_else(fault)?;
        let number = *self.by_name.get(columns::RECORD).ok_or_else(fault)?;
        let record = self.records.get_mut(number).ok_or_else(fault)?;
        if record.schema != columns::schema() || !record.rules.is_empty() {
            return Err(fault());
        }
        record.out = columns::output();
        self.maybe_trace = Some(Trace::new(rules, keys, None));
        Ok(())
    }

    /// Packets by what became of them; empty if none are cleared here.
    #[must_use]
    pub fn packet_counts(&self) -> Vec<(&'static str, u64)> {
        self.maybe_trace.as_ref().map_or_else(Vec::new, |trace| trace.counts().0)
    }

    /// Where noise for aggregates comes from: a whole number of the discrete Laplace distribution of this scale.
    pub fn set_noise(&mut self, noise: Noise) {
        self.tally.set_noise(noise);
    }

    /// The columns that leave of a record; empty if it does not leave.
    #[must_use]
    pub fn outputs(&self, record: &str) -> Vec<Output> {
        let fields = match self.by_name.get(record).and_then(|number| self.records.get(*number)) {
            Some(record) => record.out.fields().clone(),
            None => match self.tally.schema(record) {
                Some(schema) => schema.fields().clone(),
                None => return Vec::new(),
            },
        };
        fields.iter().map(|field| Output { name: field.name().clone(), data_type: field.data_type().clone() }).collect()
    }

    /// Bytes of records that wait for their window.
    #[must_use]
    pub const fn waiting_bytes(&self) -> usize {
        self.waiting.bytes()
    }

    /// Rows that wait for their window, or have been counted for its aggregates and for nothing else: what an abort destroys.
    #[must_use]
    pub const fn waiting_rows(&self) -> u64 {
        self.waiting.rows().saturating_add(self.tallied_rows)
    }

    /// Rows (packets of a header trace) that are not in the sample: they do not leave.
    #[must_use]
    pub fn sampled_out(&self) -> u64 {
        self.sampled_out.saturating_add(self.maybe_trace.as_ref().map_or(0, Trace::sampled_out))
    }

    /// Cells that had a value and got no number, because there were too many.
    #[must_use]
    pub fn unnumbered(&self) -> u64 {
        self.memory.hold().unnumbered()
    }

    /// Windows of aggregates that were not released, for want of budget or noise.
    #[must_use]
    pub const fn aggregates_refused(&self) -> u64 {
        self.tally.refused()
    }

    /// Check and clear a worker's batch. What comes back may be more (a window has closed) or less (it waits, or the policy lets nothing
    /// of this record out) than what went in.
    ///
    /// # Errors
    /// [`Refusal`]: nothing of the batch leaves, now or later.
    pub fn clear(&mut self, record: &str, ipc: &[u8]) -> Result<Vec<ClearedBatch>, Refusal> {
        if self.maybe_keys.is_none() {
            return Err(Refusal::Forgotten);
        }
        if ipc.len() > self.limits.frame_bytes {
            return Err(Refusal::TooLarge);
        }
        let limits = self.limits;
        let number = *self.by_name.get(record).ok_or(Refusal::UnknownRecord)?;
        let record = self.records.get(number).ok_or(Refusal::UnknownRecord)?;
        let arrow = &record.arrow;
        let batch = catch_unwind(AssertUnwindSafe(|| decode(ipc, arrow))).map_err(|_| Refusal::Malformed)??;
        check(&batch, &record.schema, limits)?;
        if batch.num_rows() == 0 {
            return Ok(Vec::new());
        }
        if let Some(trace) = self.maybe_trace.as_mut().filter(|_| record.schema.name == columns::RECORD) {
            let rows = columns::clear(trace, &batch, &record.out).ok_or(Refusal::BadValue)?;
            return Ok(cleared(columns::RECORD, &rows)?.into_iter().collect());
        }
        let mut out = Vec::new();
        // Rows count for the window they arrive in: a flow is reported when it ends, and what has been shown cannot be taken back.
        let latest = record.maybe_time.and_then(|place| latest_of(&batch, place));
        if latest.is_some_and(|latest| self.window.moves_on(latest)) || self.waiting.is_full(ipc.len()) {
            out = self.close()?;
        }
        if let Some(latest) = latest {
            self.window.reach(latest);
        }
        let record = self.records.get(number).ok_or(Refusal::UnknownRecord)?;
        // What everybody does is counted over everybody: noise is an aggregate's own protection, and scans are seen in whole.
        self.tally.observe(&record.schema.name, &batch, self.clock);
        self.window.observe_scans(&record.schema, &batch);
        if record.rules.is_empty() {
            if self.tally.counts(&record.schema.name) {
                self.tallied_rows = self.tallied_rows.saturating_add(batch.num_rows() as u64);
            }
            return Ok(out);
        }
        let (batch, ipc) = match self.sample(number, batch, ipc)? {
            Some(sampled) => sampled,
            None => return Ok(out),
        };
        let record = self.records.get(number).ok_or(Refusal::UnknownRecord)?;
        if record.waits {
            self.window.observe(number, &record.rules, &record.places, record.maybe_unit, &batch, &self.lists);
            self.waiting.put(number, &ipc, batch.num_rows()).ok_or(Refusal::Malformed)?;
            return Ok(out);
        }
        out.extend(self.release(number, &batch, None)?);
        Ok(out)
    }

    /// The rows of a batch that are in the sample, and their bytes. None: none is.
    fn sample<'a>(
        &mut self,
        number: usize,
        batch: RecordBatch,
        ipc: &'a [u8],
    ) -> Result<Option<(RecordBatch, Cow<'a, [u8]>)>, Refusal> {
        let record = self.records.get(number).ok_or(Refusal::UnknownRecord)?;
        let Some((unit, kind, below)) = record.maybe_sample else { return Ok(Some((batch, Cow::Borrowed(ipc)))) };
        let Some(keys) = &self.maybe_keys else { return Err(Refusal::Forgotten) };
        let maybe_time = record.maybe_time.filter(|_| self.clock.rotation != Rotation::Run);
        let rows = sampled(&batch, (unit, kind, maybe_time), below, (keys, self.clock)).ok_or(Refusal::Schema)?;
        self.sampled_out = self.sampled_out.saturating_add(batch.num_rows().saturating_sub(rows.num_rows()) as u64);
        if rows.num_rows() == 0 {
            return Ok(None);
        }
        let ipc = encode(&rows).ok_or(Refusal::Malformed)?;
        Ok(Some((rows, Cow::Owned(ipc))))
    }

    /// The run ends in order: what waits is decided now.
    ///
    /// # Errors
    /// [`Refusal::Forgotten`]; others would be a fault of ours.
    pub fn finish(&mut self) -> Result<Vec<ClearedBatch>, Refusal> {
        if self.maybe_keys.is_none() {
            return Err(Refusal::Forgotten);
        }
        self.close()
    }

    /// The run is over: keys and everything derived from them are overwritten; nothing is cleared after this.
    pub fn forget(&mut self) {
        if let Some(mut keys) = self.maybe_keys.take() {
            keys.forget();
        }
        for record in &mut self.records {
            record.end();
        }
        self.memory.hold().forget();
        if let Some(trace) = &mut self.maybe_trace {
            trace.forget();
        }
        self.waiting.forget();
        self.tallied_rows = 0;
        self.window.forget();
    }

    /// Close the window: decide thresholds, clear what waited, draw the aggregates.
    fn close(&mut self) -> Result<Vec<ClearedBatch>, Refusal> {
        let decision = self.window.decide(&self.lists);
        for record in &mut self.records {
            record.show(&decision.shown);
        }
        let frames = self.waiting.take().ok_or(Refusal::Malformed)?;
        self.memory.hold().put_times(self.ordered_times(&frames)?);
        // Groups first, over the whole window; then the rows.
        let mut groups: HashMap<(usize, u64), HashSet<u64>> = HashMap::new();
        for pass in 0..2 {
            let mut out = Vec::new();
            for (number, ipc) in &frames {
                let Some(record) = self.records.get(*number) else { continue };
                if pass == 0 && record.maybe_min_k.is_none() {
                    continue;
                }
                let batch = decode(ipc, &record.arrow)?;
                let company = Company { groups: &mut groups, count: pass == 0 };
                out.extend(self.release_with(*number, &batch, Some(&decision.scanners), company)?);
            }
            if pass == 1 {
                let start = self.window.start_shifted_ns();
                self.tallied_rows = 0;
                for (record, batch) in self.tally.close(start) {
                    out.extend(cleared(&record, &batch)?);
                }
                return Ok(out);
            }
        }
        Ok(Vec::new())
    }

    /// The times of the window of which only the order leaves.
    fn ordered_times(&self, frames: &[(usize, Vec<u8>)]) -> Result<Vec<i64>, Refusal> {
        let mut times = Vec::new();
        for (number, ipc) in frames {
            let Some(record) = self.records.get(*number).filter(|record| !record.ordered.is_empty()) else { continue };
            let batch = decode(ipc, &record.arrow)?;
            for place in &record.ordered {
                let column = batch.columns().get(*place).ok_or(Refusal::Schema)?;
                let column = column.as_primitive_opt::<TimestampNanosecondType>().ok_or(Refusal::Schema)?;
                times.extend(column.iter().flatten());
            }
        }
        Ok(times)
    }

    fn release(
        &mut self,
        number: usize,
        batch: &RecordBatch,
        scanners: Option<&HashSet<[u8; 16]>>,
    ) -> Result<Vec<ClearedBatch>, Refusal> {
        self.release_with(number, batch, scanners, Company { groups: &mut HashMap::new(), count: false })
    }

    fn release_with(
        &mut self,
        number: usize,
        batch: &RecordBatch,
        scanners: Option<&HashSet<[u8; 16]>>,
        mut company: Company<'_>,
    ) -> Result<Vec<ClearedBatch>, Refusal> {
        let record = self.records.get_mut(number).ok_or(Refusal::UnknownRecord)?;
        let split = self.window.scanners();
        let mut out = Vec::new();
        for ((epoch, is_split), part) in record.parts(batch, self.clock, scanners).ok_or(Refusal::Schema)? {
            if is_split && split.is_some_and(|split| split.drop) {
                continue;
            }
            let Some(keys) = &self.maybe_keys else { return Err(Refusal::Forgotten) };
            let name = self.clock.name(epoch);
            let around = Surroundings {
                keys,
                clock: self.clock,
                sites: &self.sites,
                lists: &self.lists,
                literals: self.literals,
                domain: if is_split { SPLIT_DOMAIN } else { "address" },
                epoch: &name,
                number: epoch,
                memory: &self.memory,
            };
            let rows = record.clear(&part, (epoch, is_split), &around, self.order_key, &mut company)?;
            if let Some(rows) = rows {
                out.extend(cleared(&record.schema.name, &rows)?);
            }
        }
        Ok(out)
    }
}

fn cleared(record: &str, rows: &RecordBatch) -> Result<Option<ClearedBatch>, Refusal> {
    if rows.num_rows() == 0 {
        return Ok(None);
    }
    let ipc = encode(rows).ok_or(Refusal::Malformed)?;
    Ok(Some(ClearedBatch { record: record.to_owned(), ipc, rows: rows.num_rows() }))
}

fn encode(batch: &RecordBatch) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(batch.get_array_memory_size());
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).ok()?;
    writer.write(batch).ok()?;
    writer.finish().ok()?;
    drop(writer);
    Some(bytes)
}

/// The latest time in a column, true clock.
fn latest_of(batch: &RecordBatch, place: usize) -> Option<i64> {
    let times = batch.columns().get(place)?.as_primitive_opt::<TimestampNanosecondType>()?;
    times.values().iter().copied().max()
}
