//! One record of the run: which rules it has, and how a batch of it becomes rows that leave.
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampNanosecondType, UInt64Type};
use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow_schema::{Field as ArrowField, Schema, SchemaRef};
use arrow_select::take::take_record_batch;
use foldhash::fast::FixedState;

use crate::cells::{Cells, mix, order_of};
use crate::check::Refusal;
use crate::draw::Draw;
use crate::keys::{Clock, Keys, Rotation};
use crate::noise::{field_nonces, row_nonces};
use crate::policy::{Policy, RuleFault};
use crate::schema::{FieldType, RecordSchema};
use crate::transform::{Rule, Shown, Transform};
use crate::work::{Surroundings, Worker};
use zeroize::Zeroizing;

/// Types of fields that say whose a row is.
pub const UNITS: [FieldType; 4] = [FieldType::Address, FieldType::MailAddress, FieldType::FlowId, FieldType::Mac];
/// Epochs whose keys are at hand at a time; those of another are derived again.
const EPOCHS_AT_HAND: usize = 4;

/// A record of the run: its rules, and its transforms at work.
pub struct Record {
    number: usize,
    pub schema: RecordSchema,
    pub arrow: Schema,
    pub out: SchemaRef,
    pub rules: Vec<Rule>,
    /// Input column of each rule, and the column it is read together with.
    pub places: Vec<(usize, Option<usize>)>,
    pub kinds: Vec<FieldType>,
    /// Column of the time.
    pub maybe_time: Option<usize>,
    /// Column that says whose a row is.
    pub maybe_unit: Option<usize>,
    /// Output columns that make a group, and how many units it takes.
    pub maybe_min_k: Option<(usize, Vec<usize>)>,
    pub waits: bool,
    /// Columns of times of which only the order in their window leaves.
    pub ordered: Vec<usize>,
    /// Column of the unit that is drawn or not, and below what a draw must be.
    pub maybe_sample: Option<(usize, FieldType, u64)>,
    /// Keys of the cells' own noise, if a rule adds any.
    maybe_noise: Option<(Zeroizing<[u8; 32]>, Draw)>,
    /// Column of the address whose rows are split off if it scans.
    maybe_origin: Option<usize>,
    /// Workers by (epoch, split off), the latest used last.
    at_hand: Vec<((i64, bool), Vec<Worker>)>,
    /// What thresholds let through in this window, by rule.
    shown: Vec<(usize, Arc<HashSet<String>>)>,
}

/// How many units each group has; in the first pass it is counted, in the second it is asked.
pub struct Company<'a> {
    pub groups: &'a mut HashMap<(usize, u64), HashSet<u64>>,
    pub count: bool,
}

impl Record {
    pub fn new(number: usize, schema: RecordSchema, policy: &Policy, keys: &Keys) -> Result<Self, RuleFault> {
        let rules = policy.rules.get(&schema.name).cloned().unwrap_or_default();
        let fault = |rule: &str| RuleFault { record: schema.name.clone(), rule: rule.to_owned() };
        let mut fields: Vec<ArrowField> = Vec::new();
        let mut places = Vec::new();
        let mut noisy = Vec::new();
        for rule in &rules {
            let fault = || fault(&rule.name);
            let place = schema.position(&rule.from).ok_or_else(fault)?;
            let field = schema.fields.get(place).ok_or_else(fault)?;
            let data_type = rule.transform.output_type(field.kind).ok_or_else(fault)?;
            let wordless = rule.transform == Transform::Keep && field.kind == FieldType::Enum && field.words.is_empty();
            if wordless || fields.iter().any(|field| field.name() == &rule.name) {
                return Err(fault());
            }
            let with = match &rule.transform {
                Transform::Chain { with: Some(with), .. } => {
                    let place = schema.position(with).ok_or_else(fault)?;
                    if schema.fields.get(place).map(|field| field.kind) != Some(FieldType::Host) {
                        return Err(fault());
                    }
                    Some(place)
                }
                Transform::Class { list, .. } | Transform::TopK { list: Some(list), .. } => {
                    policy.lists.get(*list).ok_or_else(fault)?;
                    None
                }
                Transform::TopK { shown: Shown::Network, .. } => return Err(fault()),
                // Two noises of one number would be averaged.
                Transform::Noise { .. } if noisy.contains(&place) => return Err(fault()),
                Transform::Noise { .. } => {
                    noisy.push(place);
                    None
                }
                _ => None,
            };
            fields.push(ArrowField::new(&rule.name, data_type, true));
            places.push((place, with));
        }
        let maybe_time = schema.fields.iter().position(|field| field.kind == FieldType::Time && !field.nullable);
        if policy.rotation != Rotation::Run && maybe_time.is_none() && !rules.is_empty() {
            return Err(fault("epoch"));
        }
        let maybe_unit = policy.units.get(&schema.name).and_then(|unit| schema.position(unit));
        let maybe_min_k = match policy.min_k.get(&schema.name) {
            Some(min_k) => {
                let by = min_k
                    .by
                    .iter()
                    .map(|name| rules.iter().position(|rule| &rule.name == name).ok_or_else(|| fault(name)))
                    .collect::<Result<Vec<_>, _>>()?;
                Some((min_k.k, by))
            }
            None => None,
        };
        let thresholds = maybe_min_k.is_some() || rules.iter().any(|rule| rule.transform.counts());
        if thresholds && maybe_unit.is_none() {
            return Err(fault("unit"));
        }
        let address = |place: &usize| schema.fields.get(*place).is_some_and(|field| field.kind == FieldType::Address);
        let maybe_origin = policy.scanners.and(schema.position("orig_h")).filter(address);
        let splits = maybe_origin.is_some();
        let kinds: Vec<FieldType> = schema.fields.iter().map(|field| field.kind).collect();
        let ordered: Vec<usize> = rules
            .iter()
            .zip(&places)
            .filter(|(rule, (place, _))| {
                rule.transform == Transform::Enumerate && kinds.get(*place) == Some(&FieldType::Time)
            })
            .map(|(_, (place, _))| *place)
            .collect();
        let maybe_sample = match policy.sample.get(&schema.name) {
            Some(share) => {
                let place = schema.position(&share.by).ok_or_else(|| fault("sample"))?;
                let kind = kinds.get(place).copied().filter(|kind| UNITS.contains(kind));
                Some((place, kind.ok_or_else(|| fault("sample"))?, share.below))
            }
            None => None,
        };
        let maybe_noise = (!noisy.is_empty())
            .then(|| (keys.derive("noise", "row", "run"), Draw::new(&keys.derive("noise", "field", "run"))));
        Ok(Self {
            number,
            arrow: schema.arrow(),
            out: Arc::new(Schema::new(fields)),
            kinds,
            waits: !rules.is_empty() && (thresholds || splits || policy.delay || !ordered.is_empty()),
            ordered,
            maybe_sample,
            maybe_noise,
            rules,
            places,
            maybe_time,
            maybe_unit,
            maybe_min_k,
            maybe_origin,
            at_hand: Vec::new(),
            shown: Vec::new(),
            schema,
        })
    }

    /// What thresholds let through in this window.
    pub fn show(&mut self, shown: &HashMap<(usize, usize), Arc<HashSet<String>>>) {
        if !self.rules.iter().any(|rule| rule.transform.counts()) {
            return;
        }
        self.shown = shown
            .iter()
            .filter(|((record, _), _)| *record == self.number)
            .map(|((_, rule), set)| (*rule, Arc::clone(set)))
            .collect();
        // Workers of the window before hold its decisions.
        self.forget();
    }

    /// Overwrite what the transforms remember.
    pub fn forget(&mut self) {
        for (_, workers) in &mut self.at_hand {
            workers.iter_mut().for_each(Worker::forget);
        }
        self.at_hand.clear();
    }

    /// The run is over: also the keys that are kept here are gone.
    pub fn end(&mut self) {
        self.forget();
        self.maybe_noise = None;
    }

    fn workers(&mut self, key: (i64, bool), around: &Surroundings<'_>) -> Vec<Worker> {
        if let Some(at) = self.at_hand.iter().position(|(known, _)| *known == key) {
            return self.at_hand.remove(at).1;
        }
        let mut workers: Vec<Worker> = self
            .rules
            .iter()
            .zip(&self.places)
            .map(|(rule, (place, _))| {
                let kind = self.kinds.get(*place).copied().unwrap_or(FieldType::Text);
                Worker::new(&rule.transform, kind, around)
            })
            .collect();
        for (rule, shown) in &self.shown {
            if let Some(worker) = workers.get_mut(*rule) {
                worker.show(Arc::clone(shown));
            }
        }
        workers
    }

    /// The rows by epoch, and by whether they are split off; nearly always one part, which is then not copied.
    pub fn parts(
        &self,
        batch: &RecordBatch,
        clock: Clock,
        scanners: Option<&HashSet<[u8; 16]>>,
    ) -> Option<Vec<((i64, bool), RecordBatch)>> {
        let times = match self.maybe_time {
            Some(place) if clock.rotation != Rotation::Run => {
                Some(batch.columns().get(place)?.as_primitive_opt::<TimestampNanosecondType>()?)
            }
            _ => None,
        };
        let origins = match (scanners, self.maybe_origin) {
            (Some(scanners), Some(place)) if !scanners.is_empty() => {
                Some((scanners, batch.columns().get(place)?.as_fixed_size_binary_opt()?))
            }
            _ => None,
        };
        if times.is_none() && origins.is_none() {
            return Some(vec![((0, false), batch.clone())]);
        }
        let mut rows: HashMap<(i64, bool), Vec<u32>> = HashMap::new();
        for row in 0..batch.num_rows() {
            let epoch = times.map_or(0, |times| clock.epoch(times.value(row)));
            let split = origins.is_some_and(|(scanners, origins)| {
                <[u8; 16]>::try_from(origins.value(row)).is_ok_and(|origin| scanners.contains(&origin))
            });
            rows.entry((epoch, split)).or_default().push(u32::try_from(row).ok()?);
        }
        if rows.len() == 1 {
            return Some(vec![(*rows.keys().next()?, batch.clone())]);
        }
        let mut parts = Vec::new();
        for (key, rows) in rows {
            parts.push((key, take_record_batch(batch, &UInt32Array::from(rows)).ok()?));
        }
        parts.sort_by_key(|(key, _)| *key);
        Some(parts)
    }

    /// Clear rows of one epoch. None: nothing of them leaves.
    ///
    /// # Errors
    /// [`Refusal::Schema`], [`Refusal::Malformed`]: cannot be after the checks.
    pub fn clear(
        &mut self,
        batch: &RecordBatch,
        key: (i64, bool),
        around: &Surroundings<'_>,
        order_key: u64,
        company: &mut Company<'_>,
    ) -> Result<Option<RecordBatch>, Refusal> {
        let mut workers = self.workers(key, around);
        let rows = self.clear_with(&mut workers, batch, order_key, company);
        if self.at_hand.len() >= EPOCHS_AT_HAND {
            self.at_hand.remove(0);
        }
        self.at_hand.push((key, workers));
        rows
    }

    fn clear_with(
        &self,
        workers: &mut [Worker],
        batch: &RecordBatch,
        order_key: u64,
        company: &mut Company<'_>,
    ) -> Result<Option<RecordBatch>, Refusal> {
        let mut columns: Vec<Cells> = Vec::with_capacity(workers.len());
        let mut hashes = vec![order_key; batch.num_rows()];
        let noise = self.maybe_noise.as_ref().map(|(key, draw)| (row_nonces(key, &self.schema.name, batch), draw));
        for (number, (worker, (place, with))) in workers.iter_mut().zip(&self.places).enumerate() {
            let column = batch.columns().get(*place).ok_or(Refusal::Schema)?;
            let nonces = match (&noise, self.rules.get(number).map(|rule| &rule.transform)) {
                (Some((rows, draw)), Some(Transform::Noise { .. })) => Some(field_nonces(draw, rows, *place)),
                _ => None,
            };
            let with = with.and_then(|with| batch.columns().get(with)).or(nonces.as_ref());
            let cells = worker.cells(column, with).ok_or(Refusal::Schema)?;
            cells.hash_into(&mut hashes, worker.texts(), column_key(order_key, number));
            columns.push(cells);
        }
        let leading = columns.first().map(Cells::leading).unwrap_or_default();
        let mut order = order_of(&leading, &hashes).ok_or(Refusal::Malformed)?;
        if let Some((k, by)) = &self.maybe_min_k {
            let mut groups = vec![order_key; batch.num_rows()];
            for number in by {
                if let (Some(cells), Some(worker)) = (columns.get(*number), workers.get(*number)) {
                    cells.hash_into(&mut groups, worker.texts(), column_key(order_key, *number));
                }
            }
            if company.count {
                let unit = self.maybe_unit.and_then(|place| batch.columns().get(place)).ok_or(Refusal::Schema)?;
                for (row, group) in groups.iter().enumerate() {
                    let units = company.groups.entry((self.number, *group)).or_default();
                    if units.len() < *k
                        && let Some(unit) = unit_hash(unit, row, order_key)
                    {
                        units.insert(unit);
                    }
                }
                return Ok(None);
            }
            order.retain(|row| {
                groups
                    .get(*row as usize)
                    .and_then(|group| company.groups.get(&(self.number, *group)))
                    .is_some_and(|units| units.len() >= *k)
            });
        }
        if order.is_empty() {
            return Ok(None);
        }
        let mut out = Vec::with_capacity(columns.len());
        for ((cells, worker), field) in columns.iter().zip(workers.iter()).zip(self.out.fields()) {
            out.push(cells.arrow(field.data_type(), &order, worker.texts()).ok_or(Refusal::Malformed)?);
        }
        RecordBatch::try_new(Arc::clone(&self.out), out).map(Some).map_err(|_| Refusal::Malformed)
    }
}

const fn column_key(order_key: u64, number: usize) -> u64 {
    mix(order_key, number as u64, 0xA076_1D64_78BD_642F)
}

/// Whose a row is, as a number that means nothing outside; None if the cell is empty.
#[must_use]
pub fn unit_hash(column: &ArrayRef, row: usize, key: u64) -> Option<u64> {
    if column.is_null(row) {
        return None;
    }
    let of = |bytes: &[u8]| std::hash::BuildHasher::hash_one(&FixedState::with_seed(key), bytes);
    if let Some(column) = column.as_fixed_size_binary_opt() {
        return Some(of(column.value(row)));
    }
    if let Some(column) = column.as_string_opt::<i32>() {
        return Some(of(column.value(row).as_bytes()));
    }
    column.as_primitive_opt::<UInt64Type>().map(|column| of(&column.value(row).to_le_bytes()))
}
