//! `Gate` and `ClearedBatch`: clearing for the releaser.
//!
//! `ClearedBatch` has no constructor in Python: it comes from `Gate.clear` alone. It cannot be subclassed, copied or pickled.
use std::collections::HashMap;

use bunker_clear::gate::{Limits, type_name};
use bunker_clear::transform::Edges;
use bunker_clear::{Field, FieldType, Keys, RecordSchema, Refusal, Rule, Transform};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use zeroize::Zeroizing;

/// Records that a policy has cleared.
#[pyclass(frozen, module = "bunker._core")]
pub struct ClearedBatch(bunker_clear::ClearedBatch);

#[pymethods]
impl ClearedBatch {
    #[getter]
    fn record(&self) -> &str {
        self.0.record()
    }

    #[getter]
    fn num_rows(&self) -> usize {
        self.0.rows()
    }

    /// The batch as an Arrow IPC stream.
    fn ipc<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.ipc())
    }

    fn __repr__(&self) -> String {
        format!("<ClearedBatch of {} rows>", self.0.rows())
    }

    fn __copy__(&self) -> PyResult<()> {
        Err(pyo3::exceptions::PyTypeError::new_err("a cleared batch cannot be copied"))
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(pyo3::exceptions::PyTypeError::new_err("a cleared batch cannot be pickled"))
    }
}

/// A rule as `bunker.policy` compiles it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct RuleSpec {
    name: String,
    from: String,
    #[pyo3(item("do"))]
    transform: String,
    v4: u8,
    v6: u8,
    edges: Option<Vec<f64>>,
    values: Vec<String>,
    other: Option<String>,
    grain_ns: u64,
    domain: String,
    ports: Vec<u16>,
}

fn rule_of(spec: RuleSpec) -> PyResult<Rule> {
    let transform = match spec.transform.as_str() {
        "keep" => Transform::Keep,
        "tag" => Transform::Tag { domain: spec.domain },
        "pfx" => Transform::Pfx,
        "truncate" => Transform::Truncate { v4: spec.v4, v6: spec.v6 },
        "bucket" => Transform::Bucket(spec.edges.map_or(Edges::Log2, Edges::Declared)),
        "allow" => Transform::Allow { values: spec.values, other: spec.other },
        "shift+grain" => Transform::ShiftGrain { grain_ns: spec.grain_ns },
        "present" => Transform::Present,
        "len" => Transform::Len,
        "etld1_tag" => Transform::Etld1Tag { domain: spec.domain },
        "depth" => Transform::Depth,
        "service" => Transform::Service { ports: spec.ports },
        other => return Err(PyValueError::new_err(format!("no transform {other}"))),
    };
    Ok(Rule { name: spec.name, from: spec.from, transform })
}

fn schema_of(name: String, fields: Vec<(String, String, bool)>) -> PyResult<RecordSchema> {
    let fields = fields
        .into_iter()
        .map(|(name, kind, nullable)| {
            let kind = FieldType::named(&kind).ok_or_else(|| PyValueError::new_err(format!("no field type {kind}")))?;
            Ok(Field { name, kind, nullable })
        })
        .collect::<PyResult<Vec<_>>>()?;
    Ok(RecordSchema { name, fields })
}

/// A policy with keys of its own, drawn here and dying here.
#[pyclass(module = "bunker._core")]
pub struct Gate(bunker_clear::Gate);

#[pymethods]
impl Gate {
    #[new]
    #[pyo3(signature = (rules, schemas, packets = None))]
    fn new(
        rules: HashMap<String, Vec<RuleSpec>>,
        schemas: HashMap<String, Vec<(String, String, bool)>>,
        packets: Option<Vec<crate::trace::Word>>,
    ) -> PyResult<Self> {
        let mut root = Zeroizing::new([0_u8; 32]);
        getrandom::fill(root.as_mut_slice()).map_err(|_| PyValueError::new_err("the kernel gave no randomness"))?;
        let rules = rules
            .into_iter()
            .map(|(record, rules)| Ok((record, rules.into_iter().map(rule_of).collect::<PyResult<Vec<_>>>()?)))
            .collect::<PyResult<HashMap<_, _>>>()?;
        let schemas =
            schemas.into_iter().map(|(name, fields)| schema_of(name, fields)).collect::<PyResult<Vec<_>>>()?;
        let misfit = |fault: bunker_clear::gate::RuleFault| {
            PyValueError::new_err(format!("rule {}.{} does not fit", fault.record, fault.rule))
        };
        let mut gate =
            bunker_clear::Gate::new(schemas, &rules, Keys::new(&mut root), Limits::default()).map_err(misfit)?;
        if let Some(words) = packets {
            gate.trace_packets(crate::trace::rules_of(&words)?).map_err(misfit)?;
        }
        Ok(Self(gate))
    }

    /// Check and clear a worker's batch; None if the policy lets nothing of this record out.
    fn clear(&mut self, py: Python<'_>, record: &str, ipc: &[u8]) -> PyResult<Option<ClearedBatch>> {
        let gate = &mut self.0;
        py.detach(|| gate.clear(record, ipc))
            .map(|cleared| cleared.map(ClearedBatch))
            .map_err(|refusal| refused(py, refusal))
    }

    /// (name, type) of each column that leaves of a record.
    fn outputs(&self, record: &str) -> Vec<(String, &'static str)> {
        self.0.outputs(record).into_iter().map(|output| (output.name, type_name(&output.data_type))).collect()
    }

    /// The run is over: the keys are overwritten.
    fn forget(&mut self) {
        self.0.forget();
    }
}

/// The output type of a transform on a field type, None if it does not fit: for checks at load.
#[pyfunction]
pub fn transform_output(transform: &str, field_type: &str) -> PyResult<Option<&'static str>> {
    let spec = RuleSpec {
        name: String::new(),
        from: String::new(),
        transform: transform.to_owned(),
        v4: 24,
        v6: 48,
        edges: None,
        values: Vec::new(),
        other: None,
        grain_ns: 1,
        domain: String::new(),
        ports: Vec::new(),
    };
    let kind =
        FieldType::named(field_type).ok_or_else(|| PyValueError::new_err(format!("no field type {field_type}")))?;
    Ok(rule_of(spec)?.transform.output_type(kind).as_ref().map(type_name))
}

fn refused(py: Python<'_>, refusal: Refusal) -> PyErr {
    let made = py
        .import("bunker.errors")
        .and_then(|module| module.getattr("GateRefusal"))
        .and_then(|class| class.call1((refusal.word(),)));
    made.map_or_else(|error| error, PyErr::from_value)
}
