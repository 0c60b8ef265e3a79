//! Numbers instead of rows: counts and sums of a window with noise that hides any single unit (differential privacy).
//!
//! Rules of this file:
//! 1. A unit contributes at most `rows_per_unit` rows to an aggregate of a window, whatever it did: that, and the bounds of a sum, are the
//!    sensitivity. Noise is discrete Laplace of scale sensitivity / epsilon; who draws it is handed in (`set_noise`).
//! 2. The keys of a group are declared; that a key has no rows is not told by its absence.
//! 3. Each window of each aggregate spends its epsilon from one budget of the run; what the budget does not cover is not released.
//! 4. The exact number never leaves this file. Group sizes below `min_size` are withheld on the noisy number, which tells no more.
use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{Array, ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::keys::{Clock, Keys};
use crate::record::unit_hash;
use crate::schema::{FieldType, time};

/// Units whose contributions are counted in a window; rows of others are left out.
pub const AGGREGATE_UNITS: usize = 1 << 20;

/// A whole number of the discrete Laplace distribution of this scale; None: there is none to be had, nothing is released.
pub type Noise = Box<dyn FnMut(f64) -> Option<i64> + Send + Sync>;

/// Where a field (second) of a record (first) stands, and its type.
pub type Find<'a> = dyn Fn(&str, &str) -> Option<(usize, FieldType)> + 'a;

/// What is added up.
#[derive(Clone, PartialEq, Debug)]
pub enum Measure {
    /// Rows.
    Count,
    /// A field, cut to these bounds.
    Sum {
        /// Its name.
        field: String,
        /// Lowest.
        low: u64,
        /// Highest.
        high: u64,
    },
}

/// One aggregate.
#[derive(Clone, PartialEq, Debug)]
pub struct Aggregate {
    /// Name of the record that leaves.
    pub name: String,
    /// Record whose rows are counted.
    pub of: String,
    /// What is added up.
    pub measure: Measure,
    /// Field whose values make the groups, and the values; none: one group.
    pub by: Option<(String, Vec<String>)>,
    /// Rows that count: field, and the values it must have.
    pub filter: Vec<(String, Vec<String>)>,
    /// The field that says whose a row is.
    pub unit: String,
    /// Most rows of a unit.
    pub rows_per_unit: u32,
    /// Spent in each window.
    pub epsilon: f64,
    /// Noisy numbers below become null.
    pub min_size: u64,
}

impl Aggregate {
    /// How much one unit can change all groups together.
    #[must_use]
    pub fn sensitivity(&self) -> u64 {
        let most = match &self.measure {
            Measure::Count => 1,
            Measure::Sum { high, .. } => *high,
        };
        u64::from(self.rows_per_unit).saturating_mul(most)
    }
}

struct Place {
    unit: usize,
    measure: Option<usize>,
    by: Option<usize>,
    filter: Vec<usize>,
}

struct Running {
    aggregate: Aggregate,
    place: Place,
    units: HashMap<u64, u32>,
    totals: Vec<u64>,
}

/// All aggregates of a run.
pub struct Tally {
    running: Vec<Running>,
    left: f64,
    maybe_noise: Option<Noise>,
    key: u64,
    refused: u64,
}

impl Tally {
    /// Nothing counted, nothing spent.
    ///
    /// # Errors
    /// The name of an aggregate whose fields its record does not have, or not of a fitting type.
    pub fn new(aggregates: Vec<Aggregate>, epsilon: f64, keys: &Keys, find: &Find<'_>) -> Result<Self, String> {
        let mut running = Vec::new();
        for aggregate in aggregates {
            let Some(place) = place_of(&aggregate, find) else { return Err(aggregate.name) };
            let groups = aggregate.by.as_ref().map_or(1, |(_, keys)| keys.len());
            running.push(Running { place, units: HashMap::new(), totals: vec![0; groups], aggregate });
        }
        Ok(Self { running, left: epsilon, maybe_noise: None, key: keys.seed(), refused: 0 })
    }

    /// Where noise comes from.
    pub fn set_noise(&mut self, noise: Noise) {
        self.maybe_noise = Some(noise);
    }

    /// Windows of aggregates that were not released, for want of budget or noise.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether an aggregate counts rows of this record.
    #[must_use]
    pub fn counts(&self, record: &str) -> bool {
        self.running.iter().any(|running| running.aggregate.of == record)
    }

    /// The columns of an aggregate.
    #[must_use]
    pub fn schema(&self, name: &str) -> Option<SchemaRef> {
        self.running.iter().find(|running| running.aggregate.name == name).map(|_| schema())
    }

    /// Count a checked batch.
    pub fn observe(&mut self, record: &str, batch: &RecordBatch, _clock: Clock) {
        let key = self.key;
        for running in self.running.iter_mut().filter(|running| running.aggregate.of == record) {
            running.observe(batch, key);
        }
    }

    /// End the window: noisy numbers, by name.
    pub fn close(&mut self, maybe_start_ns: Option<i64>) -> Vec<(String, RecordBatch)> {
        let mut out = Vec::new();
        for running in &mut self.running {
            running.units.clear();
            let groups = running.totals.len();
            let totals = std::mem::replace(&mut running.totals, vec![0; groups]);
            let aggregate = &running.aggregate;
            // Spent whether or not there were rows: that there were none is not told either.
            let covered = aggregate.epsilon <= self.left * (1.0 + 1e-12);
            let noise = self.maybe_noise.as_mut().filter(|_| covered);
            let Some(noise) = noise else {
                self.refused = self.refused.saturating_add(1);
                continue;
            };
            self.left -= aggregate.epsilon;
            #[allow(clippy::cast_precision_loss)]
            let scale = aggregate.sensitivity() as f64 / aggregate.epsilon;
            match noisy(aggregate, &totals, scale, maybe_start_ns, noise) {
                Some(batch) => out.push((aggregate.name.clone(), batch)),
                None => self.refused = self.refused.saturating_add(1),
            }
        }
        out
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", time(), true),
        Field::new("key", DataType::Utf8, true),
        Field::new("value", DataType::Float64, true),
        Field::new("noise_scale", DataType::Float64, true),
    ]))
}

#[allow(clippy::cast_precision_loss)]
fn noisy(
    aggregate: &Aggregate,
    totals: &[u64],
    scale: f64,
    maybe_start_ns: Option<i64>,
    noise: &mut Noise,
) -> Option<RecordBatch> {
    let mut values = Vec::with_capacity(totals.len());
    for total in totals {
        let value = i64::try_from(*total).unwrap_or(i64::MAX).saturating_add(noise(scale)?);
        let withheld = aggregate.min_size > 0 && value < i64::try_from(aggregate.min_size).unwrap_or(i64::MAX);
        values.push((!withheld).then_some(value as f64));
    }
    let keys: Vec<Option<&str>> = match &aggregate.by {
        Some((_, keys)) => keys.iter().map(|key| Some(key.as_str())).collect(),
        None => vec![None],
    };
    let rows = totals.len();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampNanosecondArray::from(vec![maybe_start_ns; rows]).with_timezone("UTC")),
        Arc::new(StringArray::from(keys)),
        Arc::new(Float64Array::from(values)),
        Arc::new(Float64Array::from(vec![scale; rows])),
    ];
    RecordBatch::try_new(schema(), columns).ok()
}

fn place_of(aggregate: &Aggregate, find: &Find<'_>) -> Option<Place> {
    let field = |name: &str, kinds: &[FieldType]| {
        find(&aggregate.of, name).filter(|(_, kind)| kinds.contains(kind)).map(|(place, _)| place)
    };
    let words = [FieldType::Enum, FieldType::Mime, FieldType::Code, FieldType::Port, FieldType::Flag, FieldType::Vlan];
    let measure = match &aggregate.measure {
        Measure::Count => None,
        Measure::Sum { field: name, .. } => Some(field(name, &[FieldType::Bytes, FieldType::Count])?),
    };
    let by = match &aggregate.by {
        Some((name, _)) => Some(field(name, &words)?),
        None => None,
    };
    let filter = aggregate.filter.iter().map(|(name, _)| field(name, &words)).collect::<Option<Vec<_>>>()?;
    let unit =
        field(&aggregate.unit, &[FieldType::Address, FieldType::MailAddress, FieldType::FlowId, FieldType::Mac])?;
    Some(Place { unit, measure, by, filter })
}

impl Running {
    fn observe(&mut self, batch: &RecordBatch, key: u64) {
        let column = |place: usize| batch.columns().get(place);
        let Some(units) = column(self.place.unit) else { return };
        for row in 0..batch.num_rows() {
            let passes = self.place.filter.iter().zip(&self.aggregate.filter).all(|(place, (_, values))| {
                column(*place).and_then(|column| word_of(column, row)).is_some_and(|word| values.contains(&word))
            });
            if !passes {
                continue;
            }
            let group = match (&self.aggregate.by, self.place.by) {
                (Some((_, keys)), Some(place)) => {
                    let word = column(place).and_then(|column| word_of(column, row));
                    word.and_then(|word| keys.iter().position(|key| *key == word))
                }
                _ => Some(0),
            };
            let (Some(group), Some(unit)) = (group, unit_hash(units, row, key)) else { continue };
            if !self.units.contains_key(&unit) && self.units.len() >= AGGREGATE_UNITS {
                continue;
            }
            let used = self.units.entry(unit).or_insert(0);
            if *used >= self.aggregate.rows_per_unit {
                continue;
            }
            *used = used.saturating_add(1);
            let amount = match (&self.aggregate.measure, self.place.measure.and_then(column)) {
                (Measure::Sum { low, high, .. }, Some(column)) => {
                    let Some(column) = column.as_primitive_opt::<UInt64Type>() else { continue };
                    if column.is_null(row) { *low } else { column.value(row).clamp(*low, *high) }
                }
                _ => 1,
            };
            if let Some(total) = self.totals.get_mut(group) {
                *total = total.saturating_add(amount);
            }
        }
    }
}

/// A cell as the word that a policy writes for it.
fn word_of(column: &ArrayRef, row: usize) -> Option<String> {
    if column.is_null(row) {
        return None;
    }
    if let Some(column) = column.as_string_opt::<i32>() {
        return Some(column.value(row).to_owned());
    }
    if let Some(column) = column.as_boolean_opt() {
        return Some(column.value(row).to_string());
    }
    column.as_primitive_opt::<arrow_array::types::UInt16Type>().map(|column| column.value(row).to_string())
}
