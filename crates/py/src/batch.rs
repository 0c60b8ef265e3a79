//! `Batch`: rows of one schema in columns, shared with Arrow without a copy.
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{Array, BooleanArray, RecordBatch, RecordBatchReader, StringArray, StructArray, ffi};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_data::ffi::FFI_ArrowArray;
use arrow_ipc::writer::StreamWriter;
use arrow_pyarrow::{FromPyArrow, PyArrowType};
use arrow_schema::ffi::FFI_ArrowSchema;
use arrow_schema::{ArrowError, Field, Metadata, Schema};
use bunker_proto::columns::FieldType;
use pyo3::exceptions::{PyKeyError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCapsule};

use crate::errors::arrow_error;
use crate::hand::Hand;
use crate::row::Rows;

/// Bytes set aside at most before it is known how long a batch is on the pipe.
const FRAME_ROOM: usize = 8 << 20;

/// Rows in columns. Immutable; its memory is shared by what is made of it.
#[pyclass(frozen, module = "bunker._core")]
pub struct Batch {
    pub batch: RecordBatch,
}

/// The same columns under a schema without metadata.
fn without_metadata(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let fields: Vec<Field> =
        batch.schema().fields().iter().map(|field| field.as_ref().clone().with_metadata(Metadata::default())).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), batch.columns().to_vec())
}

impl Batch {
    fn uids(&self) -> PyResult<&arrow_array::UInt64Array> {
        let column = self.batch.column_by_name("uid").ok_or_else(|| PyKeyError::new_err("no column uid"))?;
        column.as_primitive_opt::<UInt64Type>().ok_or_else(|| PyTypeError::new_err("column uid is not of type FlowId"))
    }

    pub fn keep(&self, py: Python<'_>, keep: &BooleanArray) -> PyResult<Self> {
        arrow_select::filter::filter_record_batch(&self.batch, keep)
            .map(|batch| Self { batch })
            .map_err(|error| arrow_error(py, "filter", &error))
    }
}

#[pymethods]
impl Batch {
    /// Take an Arrow record batch, or anything that hands one over (`__arrow_c_array__`, `__arrow_c_stream__`).
    #[staticmethod]
    #[pyo3(name = "from_arrow")]
    pub fn from_object(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = object.py();
        if let Ok(batch) = object.cast::<Self>() {
            return Ok(Self { batch: batch.get().batch.clone() });
        }
        let batch = if object.hasattr("__arrow_c_array__")? {
            RecordBatch::from_pyarrow_bound(object)?
        } else if object.hasattr("__arrow_c_stream__")? {
            let reader: PyArrowType<arrow_array::ffi_stream::RecordBatchStreamReader> = object.extract()?;
            let schema = reader.0.schema();
            let pieces: Result<Vec<_>, _> = reader.0.collect();
            let pieces = pieces.map_err(|error| arrow_error(py, "Arrow stream", &error))?;
            arrow_select::concat::concat_batches(&schema, &pieces)
                .map_err(|error| arrow_error(py, "Arrow stream", &error))?
        } else {
            return Err(PyTypeError::new_err("not an Arrow record batch or table"));
        };
        without_metadata(&batch)
            .map(|batch| Self { batch })
            .map_err(|error| arrow_error(py, "Arrow record batch", &error))
    }

    #[getter]
    fn num_rows(&self) -> usize {
        self.batch.num_rows()
    }

    #[getter]
    fn column_names(&self) -> Vec<String> {
        self.batch.schema().fields().iter().map(|field| field.name().clone()).collect()
    }

    /// Bytes of the columns.
    #[getter]
    fn nbytes(&self) -> usize {
        self.batch.get_array_memory_size()
    }

    /// The columns of these names, in this order.
    #[allow(clippy::needless_pass_by_value)] // extracted from Python
    fn select(&self, names: Vec<String>) -> PyResult<Self> {
        let schema = self.batch.schema();
        let indices: Vec<usize> = names
            .iter()
            .map(|name| schema.index_of(name).map_err(|_| PyKeyError::new_err(format!("no column {name}"))))
            .collect::<PyResult<_>>()?;
        let batch = self.batch.project(&indices).map_err(|_| PyKeyError::new_err("columns cannot be selected"))?;
        Ok(Self { batch })
    }

    /// Without the rows of these flows.
    #[allow(clippy::needless_pass_by_value)]
    fn filter_out(&self, py: Python<'_>, uids: HashSet<u64>) -> PyResult<Self> {
        let flows = self.uids()?;
        let keep: BooleanArray =
            (0..flows.len()).map(|row| Some(flows.is_null(row) || !uids.contains(&flows.value(row)))).collect();
        self.keep(py, &keep)
    }

    /// The rows of these flows alone.
    #[allow(clippy::needless_pass_by_value)]
    fn of_flows(&self, py: Python<'_>, uids: HashSet<u64>) -> PyResult<Self> {
        let flows = self.uids()?;
        let keep: BooleanArray =
            (0..flows.len()).map(|row| Some(flows.is_valid(row) && uids.contains(&flows.value(row)))).collect();
        self.keep(py, &keep)
    }

    /// Flow records in which these flows (by number) ended erroneous, each for the reason that stands there.
    #[allow(clippy::needless_pass_by_value)]
    fn condemned(&self, py: Python<'_>, faults: HashMap<u64, String>) -> PyResult<Self> {
        let uids = self.uids()?;
        let schema = self.batch.schema();
        let mut columns = self.batch.columns().to_vec();
        for (name, word) in [("outcome", Some("erroneous")), ("fault", None)] {
            let index = schema.index_of(name).map_err(|_| PyKeyError::new_err("not a flow table"))?;
            let place = columns.get_mut(index).ok_or_else(|| PyKeyError::new_err("not a flow table"))?;
            let old =
                place.as_string_opt::<i32>().ok_or_else(|| PyTypeError::new_err("outcome and fault are words"))?;
            let words: StringArray = (0..uids.len())
                .map(|row| match faults.get(&uids.value(row)) {
                    Some(fault) => word.or(Some(fault.as_str())),
                    None => old.is_valid(row).then(|| old.value(row)),
                })
                .collect();
            *place = Arc::new(words);
        }
        RecordBatch::try_new(schema, columns)
            .map(|batch| Self { batch })
            .map_err(|error| arrow_error(py, "flow table", &error))
    }

    /// Rows at which `kept` is true; as long as the batch.
    #[allow(clippy::needless_pass_by_value)]
    fn mask(&self, py: Python<'_>, kept: Vec<bool>) -> PyResult<Self> {
        if kept.len() != self.batch.num_rows() {
            return Err(PyTypeError::new_err("a mask is as long as its batch"));
        }
        self.keep(py, &BooleanArray::from(kept))
    }

    /// As a record of these fields (name, type, may be empty): its columns in this order, other Arrow spellings of the same values (large
    /// strings, dictionaries, wider numbers) in the declared one. An error names the field, never a value.
    #[allow(clippy::needless_pass_by_value)]
    fn conform(&self, fields: Vec<(String, String, bool)>) -> PyResult<Self> {
        if self.batch.num_columns() > fields.len() {
            return Err(PyTypeError::new_err("more columns than the record has fields"));
        }
        let mut columns = Vec::with_capacity(fields.len());
        let mut declared = Vec::with_capacity(fields.len());
        for (name, word, nullable) in fields {
            let kind = FieldType::from_name(&word).ok_or_else(|| PyTypeError::new_err(format!("no type {word}")))?;
            let column = self
                .batch
                .column_by_name(&name)
                .ok_or_else(|| PyKeyError::new_err(format!("field {name} ({word}): no such column")))?;
            let strict = CastOptions { safe: false, ..CastOptions::default() };
            let column = cast_with_options(column, &kind.arrow(), &strict)
                .map_err(|_| PyTypeError::new_err(format!("field {name} ({word}): a column of another type")))?;
            if !nullable && column.null_count() > 0 {
                return Err(PyTypeError::new_err(format!(
                    "field {name} ({word}): empty, but not declared so (| None)"
                )));
            }
            declared.push(Field::new(name, kind.arrow(), nullable));
            columns.push(column);
        }
        RecordBatch::try_new(Arc::new(Schema::new(declared)), columns)
            .map(|batch| Self { batch })
            .map_err(|_| PyTypeError::new_err("columns that do not fit together"))
    }

    /// A part of the rows.
    fn slice(&self, start: usize, rows: usize) -> Self {
        let start = start.min(self.batch.num_rows());
        Self { batch: self.batch.slice(start, rows.min(self.batch.num_rows().saturating_sub(start))) }
    }

    /// As an Arrow IPC stream: what crosses a pipe.
    fn ipc<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let written = py.detach(|| {
            // Room for all of it at once: growing would copy megabytes several times. What is beyond a frame is cut anyway.
            let room = self.batch.get_array_memory_size().min(FRAME_ROOM);
            let mut writer = StreamWriter::try_new(Vec::with_capacity(room), &self.batch.schema())?;
            writer.write(&self.batch)?;
            writer.finish()?;
            writer.into_inner()
        });
        written.map(|bytes| PyBytes::new(py, &bytes)).map_err(|error| arrow_error(py, "Arrow stream", &error))
    }

    /// The rows as views, in order.
    /// With `hand`: each is shown there as it is handed out.
    #[pyo3(signature = (hand = None))]
    fn rows(&self, py: Python<'_>, hand: Option<PyRef<'_, Hand>>) -> PyResult<Rows> {
        Rows::of(py, &self.batch, hand.map(|hand| hand.share()))
    }

    /// The flows that rows belong to, each once, in ascending order.
    fn flows(&self) -> PyResult<Vec<u64>> {
        let mut flows: Vec<u64> = self.uids()?.iter().flatten().collect();
        flows.sort_unstable();
        flows.dedup();
        Ok(flows)
    }

    fn __len__(&self) -> usize {
        self.batch.num_rows()
    }

    fn __repr__(&self) -> String {
        format!("<Batch of {} rows, {} columns>", self.batch.num_rows(), self.batch.num_columns())
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let schema = FFI_ArrowSchema::try_from(self.batch.schema().as_ref())
            .map_err(|error| arrow_error(py, "Arrow schema", &error))?;
        PyCapsule::new_with_value(py, schema, c"arrow_schema")
    }

    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
        // A consumer may wish for another schema; we may answer with ours (PyCapsule interface).
        drop(requested_schema);
        let data = StructArray::from(self.batch.clone()).into_data();
        let (array, _): (FFI_ArrowArray, FFI_ArrowSchema) =
            ffi::to_ffi(&data).map_err(|error| arrow_error(py, "Arrow array", &error))?;
        let schema = self.__arrow_c_schema__(py)?;
        Ok((schema, PyCapsule::new_with_value(py, array, c"arrow_array")?))
    }
}
