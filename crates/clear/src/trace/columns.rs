//! Header traces in a box: facts as a column, and cleared packets as columns.
//!
//! The worker's batch has three columns: `ts`, `wirelen`, `headers` (one packed [`Facts`] a row, `docs/formats/headers.md`). The gate reads
//! each cell by the grammar, where a payload has no place, and clears it here. One bad cell refuses the batch.
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, TimestampNanosecondBuilder, UInt64Builder};
use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampNanosecondType, UInt64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field as ArrowField, Schema, SchemaRef};

use super::Trace;
use super::burst::BURST;
use super::facts::Facts;
use super::file::Format;
use crate::schema::{Field, FieldType, RecordSchema, time};

/// The record's name.
pub const RECORD: &str = "pcap";

/// What a worker sends.
#[must_use]
pub fn schema() -> RecordSchema {
    let field = |name: &str, kind| Field { name: name.to_owned(), kind, nullable: false, words: Vec::new() };
    RecordSchema {
        name: RECORD.to_owned(),
        fields: vec![
            field("ts", FieldType::Time),
            field("wirelen", FieldType::Bytes),
            field("headers", FieldType::Content),
        ],
    }
}

/// What leaves.
#[must_use]
pub fn output() -> SchemaRef {
    Arc::new(Schema::new(vec![
        ArrowField::new("ts", time(), true),
        ArrowField::new("wirelen", DataType::UInt64, true),
        ArrowField::new("packet", DataType::Binary, true),
    ]))
}

/// Clear a batch that has the declared schema; its packets in order of their released times. None: a cell breaks the grammar.
///
/// Within one grain of time packets stay in the order they came in, which a reader of TCP needs: a hijacked worker can say
/// log2(k!) bits by the order of k packets of a grain, less than each of them can say in its fields.
#[must_use]
pub fn clear(trace: &mut Trace, batch: &RecordBatch, out: &SchemaRef) -> Option<RecordBatch> {
    let times = batch.column_by_name("ts")?.as_primitive_opt::<TimestampNanosecondType>()?;
    let lengths = batch.column_by_name("wirelen")?.as_primitive_opt::<UInt64Type>()?;
    let headers = batch.column_by_name("headers")?.as_binary_opt::<i32>()?;
    if times.null_count() + lengths.null_count() + headers.null_count() > 0 {
        return None;
    }
    let (mut bytes, mut burst) = (Vec::new(), vec![Facts::default(); BURST]);
    let mut packets: Vec<(u64, u32, usize, usize)> = Vec::with_capacity(batch.num_rows());
    let rows = (0..batch.num_rows()).collect::<Vec<_>>();
    for rows in rows.chunks(BURST) {
        for (row, facts) in rows.iter().zip(&mut burst) {
            facts.unpack(headers.value(*row), u32::try_from(lengths.value(*row)).ok()?).ok()?;
        }
        trace.expect(burst.iter().take(rows.len()));
        for (row, facts) in rows.iter().zip(&burst) {
            let start = bytes.len();
            if let Some(cleared) = trace.clear(u64::try_from(times.value(*row)).ok()?, facts, &mut bytes, &mut ()) {
                packets.push((cleared.ts_ns, cleared.wire_len, start, bytes.len()));
            }
        }
    }
    packets.sort_by_key(|(ts_ns, ..)| *ts_ns);
    let mut times = TimestampNanosecondBuilder::with_capacity(packets.len()).with_timezone("UTC");
    let mut lengths = UInt64Builder::with_capacity(packets.len());
    let mut contents = BinaryBuilder::with_capacity(packets.len(), bytes.len());
    for (ts_ns, wire_len, start, end) in packets {
        times.append_value(i64::try_from(ts_ns).unwrap_or(i64::MAX));
        lengths.append_value(u64::from(wire_len));
        contents.append_value(bytes.get(start..end)?);
    }
    let columns: Vec<ArrayRef> =
        vec![Arc::new(times.finish()), Arc::new(lengths.finish()), Arc::new(contents.finish())];
    RecordBatch::try_new(Arc::clone(out), columns).ok()
}

/// Cleared packets as blocks of a pcapng file. None: the batch has other columns.
#[must_use]
pub fn blocks(batch: &RecordBatch) -> Option<Vec<u8>> {
    let times = batch.column_by_name("ts")?.as_primitive_opt::<TimestampNanosecondType>()?;
    let lengths = batch.column_by_name("wirelen")?.as_primitive_opt::<UInt64Type>()?;
    let packets = batch.column_by_name("packet")?.as_binary_opt::<i32>()?;
    let mut out = Vec::new();
    for row in 0..batch.num_rows() {
        let start = Format::Pcapng.open(&mut out);
        out.extend_from_slice(packets.value(row));
        let ts_ns = u64::try_from(times.value(row)).ok()?;
        Format::Pcapng.close(&mut out, start, ts_ns, u32::try_from(lengths.value(row)).ok()?);
    }
    Some(out)
}
