//! `Row`: one message of a batch, a view whose attributes are made when they are read.
//!
//! Rules of this file:
//! 1. An attribute is found by the identity of its name's string, which code has interned; other strings are compared.
//! 2. A row prints nothing of what it holds.
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{DurationNanosecondType, Float64Type, TimestampNanosecondType, UInt16Type, UInt64Type};
use arrow_array::{
    Array, BinaryArray, BooleanArray, FixedSizeBinaryArray, ListArray, PrimitiveArray, RecordBatch, StringArray,
    UInt64Array,
};
use arrow_schema::{DataType, TimeUnit};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyList, PyString};

use crate::address::Address;
use crate::hand::Hand;

enum Cells {
    U16(PrimitiveArray<UInt16Type>),
    U64(PrimitiveArray<UInt64Type>),
    F64(PrimitiveArray<Float64Type>),
    Time(PrimitiveArray<TimestampNanosecondType>),
    Duration(PrimitiveArray<DurationNanosecondType>),
    Flag(BooleanArray),
    Text(StringArray),
    Content(BinaryArray),
    Address(FixedSizeBinaryArray),
    Fixed(FixedSizeBinaryArray),
    Texts(ListArray),
    Addresses(ListArray),
}

impl Cells {
    fn of(array: &dyn Array) -> Option<Self> {
        Some(match array.data_type() {
            DataType::UInt16 => Self::U16(array.as_primitive::<UInt16Type>().clone()),
            DataType::UInt64 => Self::U64(array.as_primitive::<UInt64Type>().clone()),
            DataType::Float64 => Self::F64(array.as_primitive::<Float64Type>().clone()),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                Self::Time(array.as_primitive::<TimestampNanosecondType>().clone())
            }
            DataType::Duration(TimeUnit::Nanosecond) => {
                Self::Duration(array.as_primitive::<DurationNanosecondType>().clone())
            }
            DataType::Boolean => Self::Flag(array.as_boolean().clone()),
            DataType::Utf8 => Self::Text(array.as_string::<i32>().clone()),
            DataType::Binary => Self::Content(array.as_binary::<i32>().clone()),
            DataType::FixedSizeBinary(16) => Self::Address(array.as_fixed_size_binary().clone()),
            DataType::FixedSizeBinary(_) => Self::Fixed(array.as_fixed_size_binary().clone()),
            DataType::List(item) if item.data_type() == &DataType::Utf8 => Self::Texts(array.as_list::<i32>().clone()),
            DataType::List(item) if item.data_type() == &DataType::FixedSizeBinary(16) => {
                Self::Addresses(array.as_list::<i32>().clone())
            }
            _ => return None,
        })
    }

    fn get(&self, py: Python<'_>, row: usize) -> PyResult<Py<PyAny>> {
        let null = match self {
            Self::U16(cells) => cells.is_null(row),
            Self::U64(cells) => cells.is_null(row),
            Self::F64(cells) => cells.is_null(row),
            Self::Time(cells) => cells.is_null(row),
            Self::Duration(cells) => cells.is_null(row),
            Self::Flag(cells) => cells.is_null(row),
            Self::Text(cells) => cells.is_null(row),
            Self::Content(cells) => cells.is_null(row),
            Self::Address(cells) | Self::Fixed(cells) => cells.is_null(row),
            Self::Texts(cells) | Self::Addresses(cells) => cells.is_null(row),
        };
        if null {
            return Ok(py.None());
        }
        Ok(match self {
            Self::U16(cells) => int(py, cells.value(row)),
            Self::U64(cells) => int(py, cells.value(row)),
            Self::Time(cells) => int(py, cells.value(row)),
            Self::Duration(cells) => int(py, cells.value(row)),
            Self::F64(cells) => PyFloat::new(py, cells.value(row)).into_any().unbind(),
            Self::Flag(cells) => PyBool::new(py, cells.value(row)).to_owned().into_any().unbind(),
            Self::Text(cells) => PyString::new(py, cells.value(row)).into_any().unbind(),
            Self::Content(cells) => PyBytes::new(py, cells.value(row)).into_any().unbind(),
            Self::Fixed(cells) => PyBytes::new(py, cells.value(row)).into_any().unbind(),
            Self::Address(cells) => address(py, cells.value(row))?,
            Self::Texts(cells) => {
                let items = cells.value(row);
                let items = items.as_string::<i32>();
                PyList::new(py, (0..items.len()).map(|item| items.value(item)))?.into_any().unbind()
            }
            Self::Addresses(cells) => {
                let items = cells.value(row);
                let items = items.as_fixed_size_binary();
                let list = PyList::empty(py);
                for item in 0..items.len() {
                    list.append(address(py, items.value(item))?)?;
                }
                list.into_any().unbind()
            }
        })
    }
}

fn int<'py, T>(py: Python<'py>, value: T) -> Py<PyAny>
where
    T: IntoPyObject<'py, Target = PyInt, Output = Bound<'py, PyInt>, Error = std::convert::Infallible>,
{
    match value.into_pyobject(py) {
        Ok(number) => number.into_any().unbind(),
        Err(never) => match never {},
    }
}

fn address(py: Python<'_>, bytes: &[u8]) -> PyResult<Py<PyAny>> {
    let bytes: [u8; 16] = bytes.try_into().unwrap_or_default();
    Ok(Py::new(py, Address(bytes))?.into_any())
}

/// The columns of a batch, found by name.
pub struct Columns {
    cells: Vec<Cells>,
    names: Vec<Py<PyString>>,
    /// Column for each name, aliases included.
    places: Vec<usize>,
    /// Open addressing by the name's address: index into `names`, or `EMPTY`.
    table: Vec<u16>,
    shift: u32,
}

const EMPTY: u16 = u16::MAX;
/// Names of analyzer authors for Zeek's columns.
const ALIASES: [(&str, &str); 2] = [("client", "orig_h"), ("server", "resp_h")];

impl Columns {
    /// Those of `batch`.
    pub fn of(py: Python<'_>, batch: &RecordBatch) -> PyResult<Self> {
        let schema = batch.schema();
        let mut cells = Vec::with_capacity(batch.num_columns());
        let (mut names, mut places) = (Vec::new(), Vec::new());
        for (field, column) in schema.fields().iter().zip(batch.columns()) {
            let made = Cells::of(column).ok_or_else(|| {
                PyTypeError::new_err(format!("column {} has a type that rows do not have", field.name()))
            })?;
            places.push(cells.len());
            names.push(PyString::intern(py, field.name()).unbind());
            cells.push(made);
        }
        for (alias, name) in ALIASES {
            if let Ok(index) = schema.index_of(name)
                && schema.index_of(alias).is_err()
            {
                places.push(index);
                names.push(PyString::intern(py, alias).unbind());
            }
        }
        let bits = usize::BITS.saturating_sub((names.len().saturating_mul(4)).leading_zeros()).max(3);
        let mut columns =
            Self { cells, names, places, table: vec![EMPTY; 1usize << bits], shift: 64u32.saturating_sub(bits) };
        for index in 0..columns.names.len() {
            let Some(name) = columns.names.get(index) else { break };
            let mut slot = columns.slot(name.as_ptr() as usize);
            while columns.table.get(slot).is_some_and(|place| *place != EMPTY) {
                slot = columns.next(slot);
            }
            if let Some(place) = columns.table.get_mut(slot) {
                *place = u16::try_from(index).unwrap_or(EMPTY);
            }
        }
        Ok(columns)
    }

    fn slot(&self, pointer: usize) -> usize {
        ((pointer as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift) as usize
    }

    fn next(&self, slot: usize) -> usize {
        slot.wrapping_add(1) & self.table.len().wrapping_sub(1)
    }

    fn find(&self, name: &Bound<'_, PyString>) -> Option<&Cells> {
        let pointer = name.as_ptr();
        let mut slot = self.slot(pointer as usize);
        // The table is at most a quarter full: this ends at an empty place.
        while let Some(index) = self.table.get(slot).filter(|index| **index != EMPTY) {
            let index = usize::from(*index);
            if self.names.get(index).is_some_and(|known| known.as_ptr() == pointer) {
                return self.cells.get(*self.places.get(index)?);
            }
            slot = self.next(slot);
        }
        None
    }

    fn find_by_text(&self, name: &Bound<'_, PyString>) -> Option<&Cells> {
        let text = name.to_str().ok()?;
        if text.starts_with("__") {
            return None;
        }
        let index =
            self.names.iter().position(|known| known.bind(name.py()).to_str().is_ok_and(|known| known == text))?;
        self.cells.get(*self.places.get(index)?)
    }
}

/// One message.
#[pyclass(frozen, module = "bunker._core")]
pub struct Row {
    columns: Arc<Columns>,
    row: usize,
}

#[pymethods]
impl Row {
    fn __getattribute__(slf: &Bound<'_, Self>, name: &Bound<'_, PyString>) -> PyResult<Py<PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        if let Some(cells) = this.columns.find(name).or_else(|| this.columns.find_by_text(name)) {
            return cells.get(py, this.row);
        }
        let object = py.get_type::<PyAny>();
        Ok(object.getattr("__getattribute__")?.call1((slf, name))?.unbind())
    }

    fn __dir__(&self, py: Python<'_>) -> Vec<Py<PyString>> {
        self.columns.names.iter().map(|name| name.clone_ref(py)).collect()
    }

    #[allow(clippy::unused_self)]
    const fn __repr__(&self) -> &'static str {
        "<Row>"
    }
}

/// The rows of a batch, one after another.
#[pyclass(module = "bunker._core")]
pub struct Rows {
    columns: Arc<Columns>,
    next: usize,
    rows: usize,
    shown: Option<(Hand, Option<UInt64Array>)>,
}

impl Rows {
    /// Those of `batch`.
    pub fn of(py: Python<'_>, batch: &RecordBatch, hand: Option<Hand>) -> PyResult<Self> {
        let uids = || batch.column_by_name("uid").and_then(|column| column.as_primitive_opt::<UInt64Type>()).cloned();
        let shown = hand.map(|hand| (hand, uids()));
        Ok(Self { columns: Arc::new(Columns::of(py, batch)?), next: 0, rows: batch.num_rows(), shown })
    }
}

#[pymethods]
impl Rows {
    const fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&mut self) -> Option<Row> {
        if self.next >= self.rows {
            return None;
        }
        let row = Row { columns: Arc::clone(&self.columns), row: self.next };
        if let Some((hand, uids)) = &self.shown {
            let uid = uids.as_ref().filter(|uids| uids.is_valid(self.next)).map_or(0, |uids| uids.value(self.next));
            hand.message(uid);
        }
        self.next = self.next.wrapping_add(1);
        Some(row)
    }

    const fn __length_hint__(&self) -> usize {
        self.rows.saturating_sub(self.next)
    }
}
