//! The gate: bytes of a worker in, a [`ClearedBatch`] or a [`Refusal`] out.
//!
//! Rules of this file:
//! 1. One bad cell refuses the batch; nothing of it leaves.
//! 2. Decoding runs behind `catch_unwind`: a decoder that panics on hostile bytes is a refusal, not an end.
use std::collections::HashMap;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, TimestampNanosecondType, UInt32Type};
use arrow_array::{Array, ArrayRef, PrimitiveArray, RecordBatch};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_row::{RowConverter, SortField};
use arrow_schema::{DataType, Field as ArrowField, Schema, SchemaRef};
use arrow_select::take::take;

use crate::keys::Keys;
use crate::schema::{FieldType, RecordSchema};
use crate::trace::rules::Rules;
use crate::trace::{Trace, columns};
use crate::transform::{Output, Rule, Worker};

/// Bounds of a batch. Python twin: `bunker.limits` RECORD_*.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a frame.
    pub frame_bytes: usize,
    /// Rows of a batch.
    pub rows: usize,
    /// Bytes of a text cell.
    pub text_bytes: usize,
    /// Items of a list cell.
    pub list_items: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { frame_bytes: 64 << 20, rows: 1 << 20, text_bytes: 64 << 10, list_items: 4_096 }
    }
}

/// Why a batch was refused. A closed vocabulary; each is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No such record in the bundle.
    UnknownRecord,
    /// More bytes than a frame may have.
    TooLarge,
    /// Not an Arrow IPC stream of one batch.
    Malformed,
    /// Names, order, types or nullability differ from the declared, or there is metadata.
    Schema,
    /// More rows than a batch may have.
    TooManyRows,
    /// A cell is longer than its type allows.
    CellTooLong,
    /// A cell is not a value of its type (NaN, a time before 1970 or after 2200, a null inside a list, a null where there must be none).
    BadValue,
    /// Bytes behind the batch.
    TrailingBytes,
    /// The keys are gone: the run is over.
    Forgotten,
}

impl Refusal {
    /// One word, for counters.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::UnknownRecord => "unknown_record",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Schema => "schema",
            Self::TooManyRows => "too_many_rows",
            Self::CellTooLong => "cell_too_long",
            Self::BadValue => "bad_value",
            Self::TrailingBytes => "trailing_bytes",
            Self::Forgotten => "forgotten",
        }
    }
}

/// Records that a policy has cleared. There is one maker: [`Gate::clear`].
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

struct Record {
    schema: RecordSchema,
    arrow: Schema,
    out: SchemaRef,
    /// Input column and transform of each output column.
    workers: Vec<(usize, Worker)>,
}

/// A policy with its keys.
pub struct Gate {
    records: HashMap<String, Record>,
    limits: Limits,
    keys: Option<Keys>,
    trace: Option<Trace>,
}

/// A rule that does not fit its record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleFault {
    /// Record.
    pub record: String,
    /// Output column.
    pub rule: String,
}

impl Gate {
    /// A gate for these records and rules.
    ///
    /// # Errors
    /// [`RuleFault`]: a rule names no column of its record, does not fit its type, or comes twice.
    pub fn new(
        schemas: Vec<RecordSchema>,
        rules: &HashMap<String, Vec<Rule>>,
        keys: Keys,
        limits: Limits,
    ) -> Result<Self, RuleFault> {
        let mut records = HashMap::new();
        for schema in schemas {
            let mut fields: Vec<ArrowField> = Vec::new();
            let mut workers = Vec::new();
            for rule in rules.get(&schema.name).map_or(&[][..], Vec::as_slice) {
                let fault = || RuleFault { record: schema.name.clone(), rule: rule.name.clone() };
                let place = schema.position(&rule.from).ok_or_else(fault)?;
                let kind = schema.fields.get(place).map(|field| field.kind).ok_or_else(fault)?;
                let data_type = rule.transform.output_type(kind).ok_or_else(fault)?;
                if fields.iter().any(|field| field.name() == &rule.name) {
                    return Err(fault());
                }
                fields.push(ArrowField::new(&rule.name, data_type, true));
                workers.push((place, Worker::new(&rule.transform, kind, &keys, "run")));
            }
            let record = Record { arrow: schema.arrow(), out: Arc::new(Schema::new(fields)), workers, schema };
            records.insert(record.schema.name.clone(), record);
        }
        Ok(Self { records, limits, keys: Some(keys), trace: None })
    }

    /// Clear packets too: the record of [`columns`], under the same keys as all others.
    ///
    /// # Errors
    /// [`RuleFault`]: no analyzer emits packets, or another schema has their name.
    pub fn trace_packets(&mut self, rules: Rules) -> Result<(), RuleFault> {
        let fault = || RuleFault { record: columns::RECORD.to_owned(), rule: "headers".to_owned() };
        let keys = self.keys.as_ref().map(Keys::shared).ok_or_else(fault)?;
        let record = self.records.get_mut(columns::RECORD).ok_or_else(fault)?;
        if record.schema != columns::schema() || !record.workers.is_empty() {
            return Err(fault());
        }
        record.out = columns::output();
        self.trace = Some(Trace::new(rules, keys, None));
        Ok(())
    }

    /// Packets by what became of them; empty if none are cleared here.
    #[must_use]
    pub fn packet_counts(&self) -> Vec<(&'static str, u64)> {
        self.trace.as_ref().map_or_else(Vec::new, |trace| trace.counts().0)
    }

    /// The columns that leave of a record; empty if it does not leave.
    #[must_use]
    pub fn outputs(&self, record: &str) -> Vec<Output> {
        self.records.get(record).map_or_else(Vec::new, |record| {
            record
                .out
                .fields()
                .iter()
                .map(|field| Output { name: field.name().clone(), data_type: field.data_type().clone() })
                .collect()
        })
    }

    /// Check and clear a worker's batch. None: the policy lets nothing of this record out.
    ///
    /// # Errors
    /// [`Refusal`]: nothing of the batch leaves.
    pub fn clear(&mut self, record: &str, ipc: &[u8]) -> Result<Option<ClearedBatch>, Refusal> {
        if self.keys.is_none() {
            return Err(Refusal::Forgotten);
        }
        if ipc.len() > self.limits.frame_bytes {
            return Err(Refusal::TooLarge);
        }
        let limits = self.limits;
        let record = self.records.get_mut(record).ok_or(Refusal::UnknownRecord)?;
        let arrow = &record.arrow;
        let batch = catch_unwind(AssertUnwindSafe(|| decode(ipc, arrow))).map_err(|_| Refusal::Malformed)??;
        check(&batch, &record.schema, limits)?;
        if let Some(trace) = self.trace.as_mut().filter(|_| record.schema.name == columns::RECORD) {
            let cleared = columns::clear(trace, &batch, &record.out).ok_or(Refusal::BadValue)?;
            if cleared.num_rows() == 0 {
                return Ok(None);
            }
            let ipc = encode(&cleared).ok_or(Refusal::Malformed)?;
            return Ok(Some(ClearedBatch { record: columns::RECORD.to_owned(), ipc, rows: cleared.num_rows() }));
        }
        if record.workers.is_empty() || batch.num_rows() == 0 {
            return Ok(None);
        }
        let mut columns = Vec::with_capacity(record.workers.len());
        for (place, worker) in &mut record.workers {
            let column = batch.columns().get(*place).ok_or(Refusal::Schema)?;
            columns.push(worker.apply(column).ok_or(Refusal::Schema)?);
        }
        let columns = in_canonical_order(columns).ok_or(Refusal::Malformed)?;
        let cleared = RecordBatch::try_new(Arc::clone(&record.out), columns).map_err(|_| Refusal::Malformed)?;
        let ipc = encode(&cleared).ok_or(Refusal::Malformed)?;
        Ok(Some(ClearedBatch { record: record.schema.name.clone(), ipc, rows: cleared.num_rows() }))
    }

    /// The run is over: keys and everything derived from them are overwritten; nothing is cleared after this.
    pub fn forget(&mut self) {
        if let Some(mut keys) = self.keys.take() {
            keys.forget();
        }
        if let Some(trace) = &mut self.trace {
            trace.forget();
        }
        for record in self.records.values_mut() {
            record.workers.clear();
        }
    }
}

fn decode(ipc: &[u8], expected: &Schema) -> Result<RecordBatch, Refusal> {
    let mut cursor = Cursor::new(ipc);
    let mut reader = StreamReader::try_new(&mut cursor, None).map_err(|_| Refusal::Malformed)?;
    if reader.schema().as_ref() != expected {
        return Err(Refusal::Schema);
    }
    let batch = reader.next().ok_or(Refusal::Malformed)?.map_err(|_| Refusal::Malformed)?;
    if reader.next().is_some() {
        return Err(Refusal::TrailingBytes);
    }
    drop(reader);
    if cursor.position() != ipc.len() as u64 {
        return Err(Refusal::TrailingBytes);
    }
    Ok(batch)
}

fn check(batch: &RecordBatch, schema: &RecordSchema, limits: Limits) -> Result<(), Refusal> {
    if batch.num_rows() > limits.rows {
        return Err(Refusal::TooManyRows);
    }
    for (column, field) in batch.columns().iter().zip(&schema.fields) {
        if !field.nullable && column.null_count() > 0 {
            return Err(Refusal::BadValue);
        }
        check_column(column, field.kind, limits)?;
    }
    Ok(())
}

fn check_column(column: &ArrayRef, kind: FieldType, limits: Limits) -> Result<(), Refusal> {
    const LATEST_NS: i64 = 7_258_118_400_000_000_000; // the year 2200
    match kind {
        FieldType::Score => {
            let column = column.as_primitive_opt::<Float64Type>().ok_or(Refusal::Schema)?;
            if column.iter().flatten().any(|value| !value.is_finite()) {
                return Err(Refusal::BadValue);
            }
        }
        FieldType::Time => {
            let column = column.as_primitive_opt::<TimestampNanosecondType>().ok_or(Refusal::Schema)?;
            if column.iter().flatten().any(|value| !(0..=LATEST_NS).contains(&value)) {
                return Err(Refusal::BadValue);
            }
        }
        FieldType::AddressList | FieldType::TextList => {
            let column = column.as_list_opt::<i32>().ok_or(Refusal::Schema)?;
            for items in column.iter().flatten() {
                if items.null_count() > 0 {
                    return Err(Refusal::BadValue);
                }
                if items.len() > limits.list_items {
                    return Err(Refusal::CellTooLong);
                }
                if let Some(texts) = items.as_string_opt::<i32>()
                    && texts.iter().flatten().any(|text| text.len() > limits.text_bytes)
                {
                    return Err(Refusal::CellTooLong);
                }
            }
        }
        _ => {
            if let Some(column) = column.as_string_opt::<i32>()
                && column.iter().flatten().any(|text| text.len() > limits.text_bytes)
            {
                return Err(Refusal::CellTooLong);
            }
        }
    }
    Ok(())
}

/// Rows sorted by all columns.
fn in_canonical_order(columns: Vec<ArrayRef>) -> Option<Vec<ArrayRef>> {
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let rows = RowConverter::new(fields).ok()?.convert_columns(&columns).ok()?;
    let mut order: Vec<u32> = (0..u32::try_from(rows.num_rows()).ok()?).collect();
    order.sort_unstable_by(|one, other| rows.row(*one as usize).cmp(&rows.row(*other as usize)));
    let order = PrimitiveArray::<UInt32Type>::from(order);
    columns.iter().map(|column| take(column, &order, None).ok()).collect()
}

fn encode(batch: &RecordBatch) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).ok()?;
    writer.write(batch).ok()?;
    writer.finish().ok()?;
    drop(writer);
    Some(bytes)
}

/// The name of an output type, for statements and tables.
#[must_use]
pub fn type_name(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Utf8 => "text",
        DataType::UInt16 => "u16",
        DataType::UInt64 => "u64",
        DataType::Float64 => "f64",
        DataType::Boolean => "bool",
        DataType::Binary => "binary",
        DataType::Timestamp(_, _) => "timestamp_ns",
        DataType::Duration(_) => "duration_ns",
        DataType::List(_) => "list<text>",
        _ => "other",
    }
}
