//! `HeaderTrace`: capture files in, a cleared capture file out.
use std::collections::HashMap;

use std::sync::Arc;

use arrow_array::builder::BinaryBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampNanosecondType, UInt16Type, UInt64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use bunker_clear::Keys;
use bunker_clear::trace::burst::Burst;
use bunker_clear::trace::columns;
use bunker_clear::trace::encode::Provenance;
use bunker_clear::trace::facts::Facts;
use bunker_clear::trace::file::Format;
use bunker_clear::trace::rules::Rules;
use bunker_clear::trace::survey::Survey;
use bunker_clear::trace::{Trace, decode};
use bunker_wire::capfile::{CaptureFile, Fault};
use bunker_wire::flowhash::Seed;
use bunker_wire::packet::Packet;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use zeroize::Zeroizing;

use crate::batch::Batch;

/// A rule as `bunker.policy.trace` compiles it: key, word, numbers.
pub type Word = (String, String, Vec<u64>);

/// The rules, or which is not understood.
pub fn rules_of(words: &[Word]) -> PyResult<Rules> {
    Rules::of(words.iter().map(|(key, word, numbers)| (key.as_str(), word.as_str(), numbers.as_slice())))
        .map_err(|bad| PyValueError::new_err(format!("rule {} is not understood", bad.0)))
}

/// Keys from the kernel.
pub fn fresh_keys() -> PyResult<Keys> {
    let mut root = Zeroizing::new([0_u8; 32]);
    getrandom::fill(root.as_mut_slice()).map_err(|_| PyValueError::new_err("the kernel gave no randomness"))?;
    Ok(Keys::new(&mut root))
}

/// One header trace being made, with keys of its own, drawn here and dying here.
#[pyclass(module = "bunker._core")]
pub struct HeaderTrace {
    rules: Rules,
    format: Format,
    burst: Burst,
    file: CaptureFile,
    survey: Option<Survey>,
    trace: Option<Trace>,
    fault: Option<Fault>,
    out: Vec<u8>,
}

impl HeaderTrace {
    fn trace(&mut self) -> PyResult<&mut Trace> {
        if self.trace.is_none() {
            let survey = self.survey.take().map(|mut survey| {
                survey.settle();
                survey
            });
            self.trace = Some(Trace::new(self.rules.clone(), fresh_keys()?, survey));
        }
        self.trace.as_mut().ok_or_else(|| PyValueError::new_err("no trace"))
    }
}

#[pymethods]
impl HeaderTrace {
    #[new]
    fn new(words: Vec<Word>, format: &str) -> PyResult<Self> {
        let rules = rules_of(&words)?;
        let format = match format {
            "pcapng" => Format::Pcapng,
            "pcap" => Format::Pcap,
            _ => return Err(PyValueError::new_err("the format is pcapng or pcap")),
        };
        let mut seed = [0; 16];
        getrandom::fill(&mut seed).map_err(|_| PyValueError::new_err("the kernel gave no randomness"))?;
        let survey = Survey::needed(&rules).then(|| Survey::new(&rules, Seed::new(seed)));
        Ok(Self {
            rules,
            format,
            burst: Burst::new(format),
            file: CaptureFile::new(),
            survey,
            trace: None,
            fault: None,
            out: Vec::new(),
        })
    }

    /// Whether the rules need a first pass over all files (`survey`, `end_file`) before the second (`feed`, `end_file`).
    #[getter]
    fn needs_survey(&self) -> bool {
        self.survey.is_some()
    }

    /// The bytes before the first packet.
    fn head<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let mut head = Vec::new();
        self.format.start(&mut head);
        PyBytes::new(py, &head)
    }

    /// First pass: bytes of a file.
    fn survey(&mut self, py: Python<'_>, bytes: &[u8]) -> PyResult<()> {
        if self.fault.is_some() {
            return Ok(());
        }
        let Some(survey) = &mut self.survey else { return Err(PyValueError::new_err("there is no first pass")) };
        let file = &mut self.file;
        if let Err(fault) = py.detach(|| file.feed(bytes, &mut |packet, _| survey.feed(packet))) {
            self.fault = Some(fault);
        }
        Ok(())
    }

    /// Second pass: bytes of a file; the cleared packets among them. After damage the rest of the file is passed over.
    fn feed<'py>(&mut self, py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        self.trace()?;
        let (burst, file, out, fault) = (&mut self.burst, &mut self.file, &mut self.out, &mut self.fault);
        let Some(trace) = &mut self.trace else { return Err(PyValueError::new_err("no trace")) };
        out.clear();
        if fault.is_none() {
            *fault = py.detach(|| {
                let fed = file.feed(bytes, &mut |packet, _| burst.take(packet, trace, out));
                burst.flush(trace, out);
                fed.err()
            });
        }
        Ok(PyBytes::new(py, out))
    }

    /// The file has ended: the last cleared packets, and (offset, kind) of its damage, or None. The next bytes begin another file.
    fn end_file<'py>(&mut self, py: Python<'py>) -> PyResult<(Bound<'py, PyBytes>, Option<(u64, &'static str)>)> {
        let (burst, out) = (&mut self.burst, &mut self.out);
        out.clear();
        let ended = match (&mut self.trace, &mut self.survey) {
            (Some(trace), _) => {
                let ended = self.file.finish(&mut |packet, _| burst.take(packet, trace, out));
                burst.flush(trace, out);
                ended
            }
            (None, Some(survey)) => self.file.finish(&mut |packet, _| survey.feed(packet)),
            (None, None) => self.file.finish(&mut |_, _| {}),
        };
        self.file = CaptureFile::new();
        let fault = self.fault.take().or(ended.err());
        Ok((PyBytes::new(py, out), fault.map(|fault| (fault.offset, fault.kind.word()))))
    }

    /// Packets by what became of them.
    fn counts(&self) -> HashMap<&'static str, u64> {
        let Some(trace) = &self.trace else { return HashMap::new() };
        let (fates, resets) = trace.counts();
        fates.into_iter().chain([("flow_table_resets", resets)]).collect()
    }

    /// The trace is over: keys and what was derived from them are gone.
    fn forget(&mut self) {
        if let Some(trace) = &mut self.trace {
            trace.forget();
        }
    }

    #[allow(clippy::unused_self)]
    const fn __repr__(&self) -> &'static str {
        "<HeaderTrace>"
    }
}

/// Which rule of a compiled policy the core does not understand, or None.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)]
pub fn trace_fault(words: Vec<Word>) -> Option<String> {
    Rules::of(words.iter().map(|(key, word, numbers)| (key.as_str(), word.as_str(), numbers.as_slice())))
        .err()
        .map(|bad| bad.0)
}

/// Clear the packets of a capture and tell, for each byte of each cleared packet, the rule that it is accounted to: the proof.
#[pyfunction]
#[allow(clippy::needless_pass_by_value, clippy::type_complexity)]
pub fn trace_provenance(
    py: Python<'_>,
    words: Vec<Word>,
    data: PyBuffer<u8>,
) -> PyResult<Vec<(Py<PyBytes>, Vec<&'static str>)>> {
    let bytes = data.to_vec(py)?;
    let mut trace = Trace::new(rules_of(&words)?, fresh_keys()?, None);
    let mut found = Vec::new();
    let mut facts = Facts::default();
    let mut file = CaptureFile::new();
    let mut take = |packet: &Packet<'_>, _: u32| {
        let (mut out, mut provenance) = (Vec::new(), Provenance::default());
        decode::decode(packet, &mut facts);
        if trace.clear(packet.ts_ns, &facts, &mut out, &mut provenance).is_some() {
            let keys = (0..out.len())
                .map(|at| provenance.keys.get(at).copied().flatten().map_or("none", |key| key.name()))
                .collect::<Vec<_>>();
            found.push((out, keys));
        }
    };
    let _ = file.feed(&bytes, &mut take).and_then(|()| file.finish(&mut take));
    Ok(found.into_iter().map(|(out, keys)| (PyBytes::new(py, &out).unbind(), keys)).collect())
}

/// The packets of a batch of `packet` messages as facts: the record that the gate clears.
#[pyfunction]
pub fn packet_headers(py: Python<'_>, batch: &Batch) -> PyResult<Batch> {
    let batch = &batch.batch;
    py.detach(|| headers_of(batch))
        .map(|batch| Batch { batch })
        .ok_or_else(|| PyValueError::new_err("no batch of packet messages"))
}

fn headers_of(batch: &RecordBatch) -> Option<RecordBatch> {
    let times = batch.column_by_name("ts")?;
    let stamps = times.as_primitive_opt::<TimestampNanosecondType>()?;
    let wire_lens = batch.column_by_name("wirelen")?;
    let lengths = wire_lens.as_primitive_opt::<UInt64Type>()?;
    let links = batch.column_by_name("linktype")?.as_primitive_opt::<UInt16Type>()?;
    let tci = batch.column_by_name("vlan_tci")?.as_primitive_opt::<UInt16Type>()?;
    let tpid = batch.column_by_name("vlan_tpid")?.as_primitive_opt::<UInt16Type>()?;
    let unready = batch.column_by_name("checksum_unready")?.as_boolean_opt()?;
    let payloads = batch.column_by_name("payload")?.as_binary_opt::<i32>()?;
    let (mut facts, mut cell) = (Facts::default(), Vec::new());
    let mut headers = BinaryBuilder::with_capacity(batch.num_rows(), batch.num_rows().saturating_mul(96));
    for row in 0..batch.num_rows() {
        let packet = Packet {
            ts_ns: u64::try_from(stamps.value(row)).ok()?,
            captured: payloads.value(row),
            wire_len: u32::try_from(lengths.value(row)).unwrap_or(u32::MAX),
            linktype: links.value(row),
            vlan: tci
                .is_valid(row)
                .then(|| (tci.value(row), if tpid.is_valid(row) { tpid.value(row) } else { 0x8100 })),
            checksum_not_ready: unready.value(row),
        };
        decode::decode(&packet, &mut facts);
        cell.clear();
        facts.pack(&mut cell);
        headers.append_value(&cell);
    }
    let made: Vec<ArrayRef> = vec![Arc::clone(times), Arc::clone(wire_lens), Arc::new(headers.finish())];
    RecordBatch::try_new(Arc::new(columns::schema().arrow()), made).ok()
}

/// The fields of that record: (name, type, may be empty).
#[pyfunction]
pub fn packet_record() -> Vec<(String, &'static str, bool)> {
    columns::schema().fields.into_iter().map(|field| (field.name, field.kind.name(), field.nullable)).collect()
}

/// The bytes of a pcapng file before its first packet.
#[pyfunction]
pub fn trace_head(py: Python<'_>) -> Bound<'_, PyBytes> {
    let mut head = Vec::new();
    Format::Pcapng.start(&mut head);
    PyBytes::new(py, &head)
}

/// Cleared packets, as the open box has them, as blocks of a pcapng file.
#[pyfunction]
pub fn trace_blocks<'py>(py: Python<'py>, batch: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let batch = Batch::from_object(batch)?;
    let blocks = py.detach(|| columns::blocks(&batch.batch));
    blocks.map(|blocks| PyBytes::new(py, &blocks)).ok_or_else(|| PyValueError::new_err("no batch of cleared packets"))
}

/// Map `count` addresses of `distinct` different ones: for measurements.
#[pyfunction]
pub fn map_addresses(py: Python<'_>, method: &str, family: u8, count: u32, distinct: u32) -> PyResult<()> {
    let word: Word = ("addresses".to_owned(), method.to_owned(), Vec::new());
    let rules = rules_of(std::slice::from_ref(&word))?;
    let keys = fresh_keys()?;
    let mut maps = bunker_clear::trace::maps::Maps::new(&rules, &keys, "run", Seed::new([7; 16]));
    py.detach(|| {
        let map = maps.addresses(None, &keys, "run");
        for number in 0..count {
            // Spread over the whole space, as a trace's addresses are.
            let place = u64::from(number.checked_rem(distinct.max(1)).unwrap_or(0)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let [a, b, c, d, e, f, g, h] = place.to_be_bytes();
            let address = if family == 4 {
                bunker_clear::trace::maps::wide([0x20 | a & 0x1F, b, c, d])
            } else {
                [0x20, 1, a, b, c, d, e, f, 0x11, h, g, f, e, d, c, b]
            };
            std::hint::black_box(map.map(address));
        }
    });
    Ok(())
}
