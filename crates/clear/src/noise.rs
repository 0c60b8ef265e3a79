//! Noise of single cells: whole numbers of the discrete Laplace distribution, exact, drawn from a key and a nonce.
//!
//! Rules of this file:
//! 1. Whole numbers only: a sampler that rounds floating-point numbers gives away what it hides (Mironov 2012).
//! 2. The nonce of a cell follows from its whole raw row (`row_nonces`), so that noise depends neither on order nor on batches, a row that
//!    is cleared twice gets one noise, and who knows one row's noise knows nothing of another's.
//!
//! Source: Canonne, Kamath, Steinke 2020, "The Discrete Gaussian for Differential Privacy", algorithms 1 and 2; for whole scales.
use std::sync::Arc;

use arrow_array::builder::FixedSizeBinaryBuilder;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};

use crate::cells::Cells;
use crate::draw::Draw;

/// Uniform draws that a cell's noise may take; then the cell leaves as null. Five are usual; so many are never needed before the sun dies.
pub const NOISE_DRAWS: u32 = 1 << 12;
/// Largest scale.
pub const NOISE_SCALE: u64 = 1 << 40;

/// A whole number x with probability proportional to exp(-|x| / scale).
///
/// `next` gives uniform 128-bit numbers; None from it, or more than [`NOISE_DRAWS`] of them asked: None.
pub fn discrete_laplace(scale: u64, mut next: impl FnMut() -> u128) -> Option<i64> {
    let scale = u128::from(scale.clamp(1, NOISE_SCALE));
    let mut left = NOISE_DRAWS;
    let mut below = |bound: u128| -> Option<u128> {
        // The numbers above the last whole multiple of the bound would favour small remainders.
        let rest = u128::MAX.checked_rem(bound)?.checked_add(1)?.checked_rem(bound)?;
        loop {
            left = left.checked_sub(1)?;
            let drawn = next();
            if drawn <= u128::MAX.saturating_sub(rest) {
                return drawn.checked_rem(bound);
            }
        }
    };
    loop {
        let low = below(scale)?;
        if !bernoulli_exp(low, scale, &mut below)? {
            continue;
        }
        let mut high = 0_u128;
        while bernoulli_exp(1, 1, &mut below)? {
            high = high.saturating_add(1);
        }
        let size = i64::try_from(low.saturating_add(scale.saturating_mul(high))).ok()?;
        let is_negative = below(2)? == 1;
        if !(is_negative && size == 0) {
            return Some(if is_negative { size.saturating_neg() } else { size });
        }
    }
}

/// True with probability exp(-above / under), for fractions from 0 to 1.
fn bernoulli_exp(above: u128, under: u128, below: &mut impl FnMut(u128) -> Option<u128>) -> Option<bool> {
    let mut count = 1_u128;
    while below(under.checked_mul(count)?)? < above {
        count = count.saturating_add(1);
    }
    Some(count & 1 == 1)
}

/// Each number with noise of its own, not below 0. `nonces` are what `field_nonces` made of the same rows.
pub fn noisy(draw: &Draw, scale: u64, words: Cells, nonces: &ArrayRef) -> Option<Cells> {
    let Cells::Words(mut words, mut there) = words else { return None };
    let nonces = nonces.as_fixed_size_binary_opt()?;
    for (row, (word, there)) in words.iter_mut().zip(there.iter_mut()).enumerate().filter(|(_, (_, there))| **there) {
        let start = draw.of(0, nonces.value(row));
        let mut number = 0_u32;
        let noise = discrete_laplace(scale, || {
            number = number.saturating_add(1);
            u128::from_le_bytes(draw.next(start, number.to_le_bytes()))
        });
        let most = i64::MAX.cast_unsigned();
        match noise {
            Some(noise) => *word = (*word).min(most).saturating_add_signed(noise).min(most),
            None => (*word, *there) = (0, false),
        }
    }
    Some(Cells::Words(words, there))
}

/// A nonce for each row: a keyed hash of the record's name and of all its raw cells.
#[must_use]
pub fn row_nonces(key: &[u8; 32], record: &str, batch: &RecordBatch) -> Vec<[u8; 16]> {
    let mut raw = Vec::new();
    (0..batch.num_rows())
        .map(|row| {
            raw.clear();
            put(&mut raw, record.as_bytes());
            batch.columns().iter().for_each(|column| put_cell(&mut raw, column, row));
            let hash = *blake3::keyed_hash(key, &raw).as_bytes();
            hash.first_chunk().copied().unwrap_or([0; 16])
        })
        .collect()
}

/// The nonces of one field's cells.
#[must_use]
pub fn field_nonces(draw: &Draw, rows: &[[u8; 16]], place: usize) -> ArrayRef {
    let mut out = FixedSizeBinaryBuilder::with_capacity(rows.len(), 16);
    let place = (place as u64).to_le_bytes();
    for row in rows {
        let [a, b, c, d, ..] = place;
        // The width is right by the types.
        let _ = out.append_value(draw.next(draw.of(1, row), [a, b, c, d]));
    }
    Arc::new(out.finish())
}

fn put(raw: &mut Vec<u8>, value: &[u8]) {
    raw.extend_from_slice(&(value.len() as u64).to_le_bytes());
    raw.extend_from_slice(value);
}

/// A raw cell of any field type, so that no two different cells are the same bytes.
fn put_cell(raw: &mut Vec<u8>, column: &ArrayRef, row: usize) {
    raw.push(u8::from(column.is_null(row)));
    if column.is_null(row) {
        return;
    }
    if let Some(column) = column.as_string_opt::<i32>() {
        put(raw, column.value(row).as_bytes());
    } else if let Some(column) = column.as_binary_opt::<i32>() {
        put(raw, column.value(row));
    } else if let Some(column) = column.as_fixed_size_binary_opt() {
        put(raw, column.value(row));
    } else if let Some(column) = column.as_boolean_opt() {
        raw.push(u8::from(column.value(row)));
    } else if let Some(column) = column.as_list_opt::<i32>() {
        let items = column.value(row);
        raw.extend_from_slice(&(items.len() as u64).to_le_bytes());
        (0..items.len()).for_each(|item| put_cell(raw, &items, item));
    } else {
        let data = column.to_data();
        let width = data.data_type().primitive_width().unwrap_or(0);
        let start = data.offset().saturating_add(row).saturating_mul(width);
        let end = start.saturating_add(width);
        raw.extend_from_slice(data.buffers().first().and_then(|buffer| buffer.get(start..end)).unwrap_or(&[]));
    }
}
