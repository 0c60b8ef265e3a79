//! `Gate` and `ClearedBatch`: clearing for the releaser.
//!
//! `ClearedBatch` has no constructor in Python: it comes from `Gate.clear` alone. It cannot be subclassed, copied or pickled.
use std::collections::HashMap;

use bunker_clear::aggregate::{Aggregate, Measure};
use bunker_clear::gate::Policy;
use bunker_clear::gate::{Limits, type_name};
use bunker_clear::sample::Share;
use bunker_clear::transform::{Edges, Other, Shown};
use bunker_clear::window::{MinK, Scanners};
use bunker_clear::{Field, FieldType, Keys, List, Method, RecordSchema, Refusal, Rotation, Rule, Sites, Transform};
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

/// A rule as `bunker.policy` compiles it; the settings that a transform has no use for hold anything.
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
    range: Option<(u16, u16)>,
    other: Option<String>,
    other_tag: bool,
    grain_ns: u64,
    span_ns: u64,
    to: u64,
    scale: u64,
    domain: String,
    ports: Vec<u16>,
    #[pyo3(item("with"))]
    joined: Option<String>,
    list: Option<usize>,
    k: Option<usize>,
    n: Option<usize>,
    shown: String,
}

fn rule_of(spec: RuleSpec) -> PyResult<Rule> {
    let RuleSpec { values, other, domain, .. } = spec;
    let missing = |what: &str| PyValueError::new_err(format!("{} without {what}", spec.transform));
    let transform = match (spec.transform.as_str(), spec.k) {
        ("topk" | "family_major" | "asn" | "country" | "oui_top", Some(k)) => Transform::TopK {
            shown: match spec.shown.as_str() {
                "domain" => Shown::Domain,
                "family" => Shown::Family,
                "network" => Shown::Network,
                "oui" => Shown::Oui,
                _ => Shown::Value,
            },
            k,
            n: spec.n,
            list: spec.list,
            other: match (spec.other_tag, other) {
                (true, _) => Other::Etld1Tag,
                (false, Some(word)) => Other::Word(word),
                (false, None) => Other::Null,
            },
        },
        ("topk" | "asn" | "country" | "oui_top", None) => return Err(missing("k")),
        ("family_major", None) => Transform::FamilyMajor,
        ("keep", _) => Transform::Keep,
        ("tag", _) => Transform::Tag { domain },
        ("tag48", _) => Transform::Tag48,
        ("pfx", _) => Transform::Pfx,
        ("cryptopan", _) => Transform::CryptoPan,
        ("truncate", _) => Transform::Truncate { v4: spec.v4, v6: spec.v6 },
        ("role", _) => Transform::Role,
        ("bucket", _) => Transform::Bucket(spec.edges.map_or(Edges::Log2, Edges::Declared)),
        ("allow", _) => match spec.range {
            Some((from, to)) => Transform::Range { from, to, other: other.and_then(|other| other.parse().ok()) },
            None => Transform::Allow { values, other },
        },
        ("shift+grain", _) => Transform::ShiftGrain { grain_ns: spec.grain_ns },
        ("jitter", _) => Transform::Jitter { span_ns: spec.span_ns, grain_ns: spec.grain_ns },
        ("round", _) => Transform::Round { to: spec.to },
        ("present", _) => Transform::Present,
        ("len", _) => Transform::Len,
        ("count", _) => Transform::Count,
        ("etld1_tag", _) => Transform::Etld1Tag { domain },
        ("labels", _) => Transform::Labels { domain },
        ("chain", _) => Transform::Chain { domain, with: spec.joined },
        ("mail_tag", _) => Transform::MailTag { domain },
        ("depth", _) => Transform::Depth,
        ("ext", _) => Transform::Ext { values, other },
        ("param_names", _) => Transform::ParamNames { values },
        ("class", _) => Transform::Class { list: spec.list.ok_or_else(|| missing("list"))?, other },
        ("service", _) => Transform::Service { ports: spec.ports },
        ("shuffle", _) => Transform::Shuffle,
        ("const", _) => Transform::Const { value: values.into_iter().next().ok_or_else(|| missing("value"))? },
        ("enum", _) => Transform::Enumerate,
        ("rel", _) => Transform::Relative { grain_ns: spec.grain_ns },
        ("noise", _) => Transform::Noise { scale: spec.scale },
        ("ja4_a", _) => Transform::Ja4A,
        (unknown, _) => return Err(PyValueError::new_err(format!("no transform {unknown}"))),
    };
    Ok(Rule { name: spec.name, from: spec.from, transform })
}

/// An aggregate as `bunker.policy` compiles it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct AggregateSpec {
    name: String,
    of: String,
    sum: Option<(String, u64, u64)>,
    by: Option<(String, Vec<String>)>,
    filter: Vec<(String, Vec<String>)>,
    unit: String,
    rows_per_unit: u32,
    epsilon: f64,
    min_size: u64,
}

impl From<AggregateSpec> for Aggregate {
    fn from(spec: AggregateSpec) -> Self {
        Self {
            name: spec.name,
            of: spec.of,
            measure: spec.sum.map_or(Measure::Count, |(field, low, high)| Measure::Sum { field, low, high }),
            by: spec.by,
            filter: spec.filter,
            unit: spec.unit,
            rows_per_unit: spec.rows_per_unit,
            epsilon: spec.epsilon,
            min_size: spec.min_size,
        }
    }
}

/// What becomes of scanners, as `bunker.policy` compiles it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct ScannersSpec {
    drop: bool,
    fanout: usize,
    failed: f64,
    window: usize,
    monotone: usize,
}

/// A policy as `bunker.policy` compiles it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct PolicySpec {
    rules: HashMap<String, Vec<RuleSpec>>,
    words: HashMap<String, HashMap<String, Vec<String>>>,
    rotation: String,
    window: String,
    internal: Vec<(Vec<u8>, u8)>,
    domains: Vec<String>,
    sample: HashMap<String, (String, u64)>,
    delay: bool,
    lists: Vec<HashMap<String, String>>,
    literals: Option<(String, u8, u8)>,
    units: HashMap<String, String>,
    min_k: HashMap<String, (usize, Vec<String>)>,
    scanners: Option<ScannersSpec>,
    aggregates: Vec<AggregateSpec>,
    epsilon: f64,
}

fn rotation_of(word: &str) -> PyResult<Rotation> {
    match word {
        "run" => Ok(Rotation::Run),
        "day" => Ok(Rotation::Day),
        "hour" => Ok(Rotation::Hour),
        _ => Err(PyValueError::new_err("no such epoch")),
    }
}

fn policy_of(spec: PolicySpec) -> PyResult<Policy> {
    let mut rules = HashMap::new();
    for (record, specs) in spec.rules {
        rules.insert(record, specs.into_iter().map(rule_of).collect::<PyResult<Vec<_>>>()?);
    }
    let internal = spec
        .internal
        .into_iter()
        .map(|(network, length)| {
            let network = network.try_into().map_err(|_| PyValueError::new_err("a network is sixteen bytes"))?;
            Ok((network, length))
        })
        .collect::<PyResult<Vec<([u8; 16], u8)>>>()?;
    let literals = match spec.literals {
        None => None,
        Some((word, v4, v6)) => Some(match word.as_str() {
            "pfx" => Method::Pfx,
            "cryptopan" => Method::CryptoPan,
            "truncate" => Method::Truncate { v4, v6 },
            _ => return Err(PyValueError::new_err("no such map of addresses")),
        }),
    };
    Ok(Policy {
        rules,
        rotation: rotation_of(&spec.rotation)?,
        window: rotation_of(&spec.window)?,
        sites: Sites { internal, domains: spec.domains },
        sample: spec.sample.into_iter().map(|(record, (by, below))| (record, Share { by, below })).collect(),
        delay: spec.delay,
        lists: spec.lists.into_iter().map(List::from).collect(),
        literals,
        units: spec.units,
        min_k: spec.min_k.into_iter().map(|(record, (k, by))| (record, MinK { k, by })).collect(),
        scanners: spec.scanners.map(|spec| Scanners {
            drop: spec.drop,
            fanout: spec.fanout,
            failed: spec.failed,
            window: spec.window,
            monotone: spec.monotone,
        }),
        aggregates: spec.aggregates.into_iter().map(Aggregate::from).collect(),
        epsilon: spec.epsilon,
    })
}

fn schema_of(
    name: String,
    fields: Vec<(String, String, bool)>,
    words: &HashMap<String, HashMap<String, Vec<String>>>,
) -> PyResult<RecordSchema> {
    let words = words.get(&name);
    let fields = fields
        .into_iter()
        .map(|(name, kind, nullable)| {
            let kind = FieldType::named(&kind).ok_or_else(|| PyValueError::new_err(format!("no field type {kind}")))?;
            let words = words.and_then(|words| words.get(&name)).cloned().unwrap_or_default();
            Ok(Field { name, kind, nullable, words })
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
    #[pyo3(signature = (policy, schemas, packets = None))]
    fn new(
        policy: PolicySpec,
        schemas: HashMap<String, Vec<(String, String, bool)>>,
        packets: Option<Vec<crate::trace::Word>>,
    ) -> PyResult<Self> {
        let mut root = Zeroizing::new([0_u8; 32]);
        getrandom::fill(root.as_mut_slice()).map_err(|_| PyValueError::new_err("the kernel gave no randomness"))?;
        let schemas = schemas
            .into_iter()
            .map(|(name, fields)| schema_of(name, fields, &policy.words))
            .collect::<PyResult<Vec<_>>>()?;
        let misfit = |fault: bunker_clear::gate::RuleFault| {
            PyValueError::new_err(format!("rule {}.{} does not fit", fault.record, fault.rule))
        };
        let mut gate = bunker_clear::Gate::new(schemas, policy_of(policy)?, Keys::new(&mut root), Limits::default())
            .map_err(misfit)?;
        if let Some(words) = packets {
            gate.trace_packets(crate::trace::rules_of(&words)?).map_err(misfit)?;
        }
        Ok(Self(gate))
    }

    /// Check and clear a worker's batch: what may leave now.
    fn clear(&mut self, py: Python<'_>, record: &str, ipc: &[u8]) -> PyResult<Vec<ClearedBatch>> {
        let gate = &mut self.0;
        py.detach(|| gate.clear(record, ipc))
            .map(|cleared| cleared.into_iter().map(ClearedBatch).collect())
            .map_err(|refusal| refused(py, refusal))
    }

    /// The run ends in order: what waited for its window is decided and may leave now.
    fn finish(&mut self, py: Python<'_>) -> PyResult<Vec<ClearedBatch>> {
        let gate = &mut self.0;
        py.detach(|| gate.finish())
            .map(|cleared| cleared.into_iter().map(ClearedBatch).collect())
            .map_err(|refusal| refused(py, refusal))
    }

    /// Where noise for aggregates comes from: `draw(scale)` gives a whole number.
    fn set_noise(&mut self, draw: Py<PyAny>) {
        self.0.set_noise(Box::new(move |scale| {
            Python::attach(|py| draw.call1(py, (scale,)).and_then(|drawn| drawn.extract(py)).ok())
        }));
    }

    /// Bytes of records that wait for their window.
    #[getter]
    fn waiting_bytes(&self) -> usize {
        self.0.waiting_bytes()
    }

    /// Rows that wait for their window.
    #[getter]
    fn waiting_rows(&self) -> u64 {
        self.0.waiting_rows()
    }

    /// Rows and packets that are not in the sample.
    #[getter]
    fn sampled_out(&self) -> u64 {
        self.0.sampled_out()
    }

    /// Cells that had a value and got no number from `enum`.
    #[getter]
    fn unnumbered(&self) -> u64 {
        self.0.unnumbered()
    }

    /// Windows of aggregates that were not released, for want of budget or noise.
    #[getter]
    fn aggregates_refused(&self) -> u64 {
        self.0.aggregates_refused()
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
#[pyo3(signature = (transform, field_type, shown = None, other_tag = false))]
pub fn transform_output(
    transform: &str,
    field_type: &str,
    shown: Option<String>,
    other_tag: bool,
) -> PyResult<Option<&'static str>> {
    let spec = RuleSpec {
        name: String::new(),
        from: String::new(),
        transform: transform.to_owned(),
        v4: 24,
        v6: 48,
        edges: None,
        values: vec!["0".to_owned()],
        range: None,
        other: None,
        other_tag,
        grain_ns: 1,
        span_ns: 1,
        to: 1,
        scale: 1,
        domain: String::new(),
        ports: Vec::new(),
        joined: None,
        list: Some(0),
        k: (matches!(transform, "topk" | "asn" | "country" | "oui_top") || shown.is_some()).then_some(1),
        n: None,
        shown: shown.unwrap_or_default(),
    };
    let kind =
        FieldType::named(field_type).ok_or_else(|| PyValueError::new_err(format!("no field type {field_type}")))?;
    Ok(rule_of(spec)?.transform.output_type(kind).as_ref().map(type_name))
}

/// BLAKE3 of a sealed list, hex.
#[pyfunction]
pub fn blake3_hex(content: &[u8]) -> String {
    bunker_clear::keys::digest_hex(content)
}

/// The registrable domain of a host, URL or mail address by the public suffix list; None for an address, a bare suffix
/// and what is no name.
#[pyfunction]
pub fn registrable_domain(name: &str) -> Option<String> {
    let host = bunker_clear::names::host_of(name);
    bunker_clear::names::registrable(&host).map(|(domain, _)| domain.to_owned())
}

fn refused(py: Python<'_>, refusal: Refusal) -> PyErr {
    let made = py
        .import("bunker.errors")
        .and_then(|module| module.getattr("GateRefusal"))
        .and_then(|class| class.call1((refusal.word(),)));
    made.map_or_else(|error| error, PyErr::from_value)
}
