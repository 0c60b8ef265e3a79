//! `RecordBuilder`: records of an analyzer, checked against their schema, become a batch.
//!
//! Rules of this file:
//! 1. An error names the field and its type, never the value.
//! 2. A record that does not fit leaves no trace.
use std::collections::HashSet;

use arrow_array::BooleanArray;
use bunker_proto::columns::{AnyColumn, AnyTable, FieldType, MessageKind, OwnedField, TextItems};
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyList, PyString, PyTuple, PyType};

use crate::address::{Address, NoAddress};
use crate::batch::Batch;
use crate::errors::{arrow_error, configuration_error};
use crate::hand::Hand;
use crate::owners::Owners;

enum Misfit {
    Type,
    Value,
    Range,
    Null,
}

impl Misfit {
    fn error(&self, field: &OwnedField) -> PyErr {
        let place = format!("field {} ({})", field.name, field.kind.name());
        match self {
            Self::Type => PyTypeError::new_err(format!("{place}: a value of another type")),
            Self::Value => PyValueError::new_err(format!("{place}: not a value of this type")),
            Self::Range => PyOverflowError::new_err(format!("{place}: a number out of range")),
            Self::Null => PyTypeError::new_err(format!("{place}: empty, but not declared so (| None)")),
        }
    }
}

fn number<'py, T: for<'a> FromPyObject<'a, 'py>>(value: &Bound<'py, PyAny>) -> Result<T, Misfit> {
    if value.is_instance_of::<PyBool>() || !value.is_instance_of::<PyInt>() {
        return Err(Misfit::Type);
    }
    value.extract().map_err(|_| Misfit::Range)
}

fn nanoseconds(value: &Bound<'_, PyAny>) -> Result<i64, Misfit> {
    let number: i64 = number(value)?;
    if number < 0 { Err(Misfit::Range) } else { Ok(number) }
}

fn address(value: &Bound<'_, PyAny>) -> Result<[u8; 16], Misfit> {
    Address::of(value).map(|address| address.0).map_err(|fault| match fault {
        NoAddress::Type => Misfit::Type,
        NoAddress::Value => Misfit::Value,
    })
}

/// Text, or bytes that are then escaped where they are not UTF-8.
fn with_text<T>(value: &Bound<'_, PyAny>, act: impl FnOnce(&[u8]) -> T) -> Result<T, Misfit> {
    if let Ok(text) = value.cast::<PyString>() {
        return text.to_str().map(|text| act(text.as_bytes())).map_err(|_| Misfit::Value);
    }
    value.cast::<PyBytes>().map(|bytes| act(bytes.as_bytes())).map_err(|_| Misfit::Type)
}

fn items<'py>(value: &Bound<'py, PyAny>) -> Result<Vec<Bound<'py, PyAny>>, Misfit> {
    if let Ok(list) = value.cast::<PyList>() {
        return Ok(list.iter().collect());
    }
    value.cast::<PyTuple>().map(|tuple| tuple.iter().collect()).map_err(|_| Misfit::Type)
}

fn fill(column: &mut AnyColumn, value: &Bound<'_, PyAny>) -> Result<(), Misfit> {
    match column {
        AnyColumn::Addresses(cells) => cells.push(address(value)?),
        AnyColumn::Macs(cells) => {
            let bytes = value.cast::<PyBytes>().map_err(|_| Misfit::Type)?;
            cells.push(bytes.as_bytes().try_into().map_err(|_| Misfit::Value)?);
        }
        AnyColumn::U16s(cells) => cells.push(number(value)?),
        AnyColumn::U64s(cells) => cells.push(number(value)?),
        AnyColumn::F64s(cells) => {
            let float = if value.is_instance_of::<PyFloat>() {
                value.extract().map_err(|_| Misfit::Type)?
            } else {
                let whole: i64 = number(value)?;
                whole as f64
            };
            if !float.is_finite() {
                return Err(Misfit::Value);
            }
            cells.push(float);
        }
        AnyColumn::Bools(cells) => cells.push(value.cast::<PyBool>().map_err(|_| Misfit::Type)?.is_true()),
        AnyColumn::Texts(cells) => with_text(value, |text| cells.push_text(Some(text)))?,
        AnyColumn::Contents(cells) => {
            let bytes: PyBackedBytes = value.extract().map_err(|_| Misfit::Type)?;
            cells.push_bytes(Some(&bytes));
        }
        AnyColumn::TextLists(cells) => {
            let mut texts = TextItems::new();
            for item in items(value)? {
                with_text(&item, |text| texts.push(text))?;
            }
            cells.push(Some(&texts));
        }
        AnyColumn::AddressLists(cells) => {
            let addresses: Vec<[u8; 16]> = items(value)?.iter().map(address).collect::<Result<_, _>>()?;
            cells.push(Some(&addresses));
        }
        AnyColumn::Times(cells) => cells.push(nanoseconds(value)?),
        AnyColumn::Durations(cells) => cells.push(nanoseconds(value)?),
    }
    Ok(())
}

/// Records under construction.
#[pyclass(module = "bunker._core")]
pub struct RecordBuilder {
    table: AnyTable,
    maybe_owners: Option<Owners>,
}

#[pymethods]
impl RecordBuilder {
    /// With `owners` (hand page, records that one flow may make until `finish`, the exception if it makes more) each record belongs
    /// to the flow in hand.
    #[new]
    #[pyo3(signature = (fields, owners = None))]
    #[allow(clippy::needless_pass_by_value)]
    fn new(
        py: Python<'_>,
        fields: Vec<(String, String, bool)>,
        owners: Option<(PyRef<'_, Hand>, usize, Py<PyType>)>,
    ) -> PyResult<Self> {
        let fields = fields
            .into_iter()
            .map(|(name, kind, nullable)| match FieldType::from_name(&kind) {
                Some(kind) => Ok(OwnedField { name, kind, nullable }),
                None => {
                    let cause = format!("{kind} is no field type");
                    Err(configuration_error(py, &format!("field {name}"), cause, "See docs/formats/records.md"))
                }
            })
            .collect::<PyResult<Vec<_>>>()?;
        let maybe_owners = owners.map(|(hand, most, too_many)| Owners::new(&hand, most, too_many));
        Ok(Self { table: AnyTable::new(fields), maybe_owners })
    }

    /// Append a record: its values in the order of the fields.
    fn append(&mut self, py: Python<'_>, values: &Bound<'_, PyAny>) -> PyResult<()> {
        let values = items(values).map_err(|_| PyTypeError::new_err("a record is a tuple or list of its values"))?;
        if values.len() != self.table.fields().len() {
            return Err(PyValueError::new_err("a record has as many values as fields"));
        }
        let owner = self.maybe_owners.as_mut().map(|owners| owners.admit(py)).transpose()?;
        self.table.push(|index, field, column| {
            let Some(value) = values.get(index) else { return Err(Misfit::Type.error(field)) };
            if value.is_none() {
                if !field.nullable {
                    return Err(Misfit::Null.error(field));
                }
                column.push_null();
                return Ok(());
            }
            fill(column, value).map_err(|misfit| misfit.error(field))
        })?;
        if let Some((owners, flow)) = self.maybe_owners.as_mut().zip(owner) {
            owners.push(flow);
        }
        Ok(())
    }

    /// The records as a batch; the builder starts over.
    fn finish(&mut self, py: Python<'_>) -> PyResult<Batch> {
        self.finish_without(py, HashSet::new())
    }

    /// The same without the records of these flows.
    #[allow(clippy::needless_pass_by_value)]
    fn finish_without(&mut self, py: Python<'_>, condemned: HashSet<u64>) -> PyResult<Batch> {
        let maybe_kept = self.maybe_owners.as_mut().and_then(|owners| owners.take(&condemned));
        let batch =
            self.table.finish().map(|batch| Batch { batch }).map_err(|error| arrow_error(py, "records", &error))?;
        match maybe_kept {
            None => Ok(batch),
            Some(kept) => batch.keep(py, &BooleanArray::from(kept)),
        }
    }

    fn __len__(&self) -> usize {
        self.table.rows()
    }

    fn __repr__(&self) -> String {
        format!("<RecordBuilder of {} rows>", self.table.rows())
    }
}

/// The columns of a message table: (name, type, nullable) in order.
#[pyfunction]
pub fn message_schema(py: Python<'_>, kind: &str) -> PyResult<Vec<(&'static str, &'static str, bool)>> {
    let Some(kind) = MessageKind::from_name(kind) else {
        let known = MessageKind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
        return Err(configuration_error(py, "message kind", format!("unknown; known: {known}"), "Use one of them"));
    };
    Ok(kind.fields().into_iter().map(|field| (field.name, field.kind.name(), field.nullable)).collect())
}

/// The kinds of messages that the engine makes.
#[pyfunction]
pub fn message_kinds() -> Vec<&'static str> {
    MessageKind::ALL.iter().map(|kind| kind.name()).collect()
}

/// (name, Arrow type) of every field type, for the test that compares with Python's.
#[pyfunction]
pub fn field_types() -> Vec<(&'static str, String)> {
    FieldType::ALL.iter().map(|kind| (kind.name(), kind.arrow().to_string())).collect()
}
