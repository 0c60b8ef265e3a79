//! Which units are in the sample: a keyed draw for each, the same in all records and for as long as an epoch lasts.
//!
//! Rules of this file:
//! 1. A row whose unit is not drawn, or has none, does not exist for rules and thresholds; it is counted.
//! 2. Whether a unit is drawn follows from the key, its type, its value and the epoch, from nothing else: runs cannot be linked by it, and
//!    a smaller share is a part of a larger one.
use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampNanosecondType, UInt64Type};
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;

use crate::draw::Draw;
use crate::keys::{Clock, Keys};
use crate::schema::FieldType;

/// A share of the units.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Share {
    /// The field that says whose a row is.
    pub by: String,
    /// A draw of 64 bits must be below: the share, times 2^64.
    pub below: u64,
}

/// The draws of an epoch.
pub struct Sampler {
    epoch: i64,
    draw: Draw,
}

impl Sampler {
    /// The draws for units of this type.
    #[must_use]
    pub fn new(keys: &Keys, clock: Clock, kind: FieldType, epoch: i64) -> Self {
        Self { epoch, draw: Draw::new(&keys.derive("sample", kind.name(), &clock.name(epoch))) }
    }

    /// Whether a unit is in.
    #[must_use]
    pub fn takes(&self, unit: &[u8], below: u64) -> bool {
        let [drawn @ .., _, _, _, _, _, _, _, _] = self.draw.of(0, unit);
        u64::from_le_bytes(drawn) < below
    }
}

/// The rows whose unit is in the sample. None: the columns are not of these types, which was checked.
///
/// `places` are the columns of the unit, of type `kind`, and of the time, if the epoch changes with it.
pub fn sampled(
    batch: &RecordBatch,
    (unit, kind, maybe_time): (usize, FieldType, Option<usize>),
    below: u64,
    (keys, clock): (&Keys, Clock),
) -> Option<RecordBatch> {
    let units = batch.columns().get(unit)?;
    let times = match maybe_time {
        Some(place) => Some(batch.columns().get(place)?.as_primitive_opt::<TimestampNanosecondType>()?),
        None => None,
    };
    let mut sampler = Sampler::new(keys, clock, kind, 0);
    let mut rows = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let epoch = times.map_or(0, |times| clock.epoch(times.value(row)));
        if epoch != sampler.epoch {
            sampler = Sampler::new(keys, clock, kind, epoch);
        }
        rows.push(takes(&sampler, units, row, below)?);
    }
    filter_record_batch(batch, &BooleanArray::from(rows)).ok()
}

fn takes(sampler: &Sampler, units: &ArrayRef, row: usize, below: u64) -> Option<bool> {
    if units.is_null(row) {
        return Some(false);
    }
    if let Some(units) = units.as_fixed_size_binary_opt() {
        return Some(sampler.takes(units.value(row), below));
    }
    if let Some(units) = units.as_string_opt::<i32>() {
        return Some(sampler.takes(units.value(row).as_bytes(), below));
    }
    Some(sampler.takes(&units.as_primitive_opt::<UInt64Type>()?.value(row).to_le_bytes(), below))
}
