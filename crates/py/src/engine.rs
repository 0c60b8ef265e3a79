//! `Engine`: blocks of one lane in, batches of messages out, with the interpreter lock released.
use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{Location, PanicHookInfo};
use std::sync::Mutex;

use arrow_array::RecordBatch;
use bunker_proto::columns::MessageKind;
use bunker_proto::engine::{Engine as ProtoEngine, EngineConfig, Fault, Fed, Journalled};
use bunker_proto::http::Config;
use bunker_proto::parser::Wanted;
use bunker_wire::Address;
use bunker_wire::block::BlockFormat;
use bunker_wire::limits::Limits;
use bunker_wire::tracker::Checksums;
use bunker_wire::tracker::overlap::{Overlap, Policy};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::batch::Batch;
use crate::errors::{arrow_error, configuration_error, unfinished};
use crate::hand::Hand;

/// Panics remembered, oldest first; each is a place in our source.
const SITES: usize = 64;
static PANIC_SITES: Mutex<Vec<(String, u32)>> = Mutex::new(Vec::new());

/// A panic's message may quote traffic: it is not printed. File and line of our source are kept.
pub fn silence_panics() {
    std::panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        if let Ok(mut sites) = PANIC_SITES.lock()
            && sites.len() < SITES
            && let Some(site) = info.location().map(|place: &Location<'_>| (place.file().to_owned(), place.line()))
        {
            sites.push(site);
        }
    }));
}

/// File and line of each panic that was caught in this process; 64 at most.
#[pyfunction]
pub fn panic_sites() -> Vec<(String, u32)> {
    PANIC_SITES.lock().map(|sites| sites.clone()).unwrap_or_default()
}

type Encoded<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>, Bound<'py, PyBytes>, Bound<'py, PyBytes>);

fn encoded<'py>(py: Python<'py>, journal: &Journalled) -> Encoded<'py> {
    let [opened, ended, condemned, stranded] =
        [&journal.opened, &journal.ended, &journal.condemned, &journal.stranded].map(|part| PyBytes::new(py, part));
    (opened, ended, condemned, stranded)
}

fn kind_of(py: Python<'_>, name: &str) -> PyResult<MessageKind> {
    MessageKind::from_name(name)
        .ok_or_else(|| configuration_error(py, "message kind", format!("the core makes no {name}"), "Use another"))
}

fn fault_of(word: &str) -> PyResult<Fault> {
    Fault::of(word).ok_or_else(|| PyValueError::new_err("no such fault"))
}

/// The words for why a flow ended erroneous.
#[pyfunction]
pub fn fault_words() -> Vec<&'static str> {
    Fault::ALL.iter().map(|fault| fault.word()).collect()
}

/// Names of the overlap policies.
#[pyfunction]
pub fn overlap_policies() -> Vec<&'static str> {
    Policy::names().collect()
}

/// One lane's analysis.
#[pyclass(module = "bunker._core")]
pub struct Engine {
    engine: ProtoEngine,
    flows: VecDeque<RecordBatch>,
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (*, lane, want, seed, needs = Vec::new(), verify_checksums = true, auto_checksums = false,
        overlap = Vec::new(), hand = None, columns = HashMap::new()))]
    #[allow(clippy::needless_pass_by_value, clippy::too_many_arguments)] // named ones, in Python
    fn new(
        py: Python<'_>,
        lane: u16,
        want: Vec<String>,
        seed: [u8; 16],
        needs: Vec<String>,
        verify_checksums: bool,
        auto_checksums: bool,
        overlap: Vec<([u8; 16], u8, String)>,
        hand: Option<PyRef<'_, Hand>>,
        columns: HashMap<String, HashSet<String>>,
    ) -> PyResult<Self> {
        let kinds = want.iter().map(|name| kind_of(py, name)).collect::<PyResult<Vec<_>>>()?;
        let mut http = Config::default();
        let mut statistics = false;
        for need in &needs {
            match need.as_str() {
                "heads" => http.want_heads = true,
                "bodies" => http.want_bodies = true,
                "hashes" => http.want_hashes = true,
                "statistics" => statistics = true,
                other => {
                    let cause = format!("the core knows no {other}");
                    return Err(configuration_error(py, "need", cause, "Known: heads, bodies, hashes, statistics"));
                }
            }
        }
        let config = EngineConfig {
            lane,
            want: Wanted::of(&kinds),
            limits: Limits::default(),
            seed,
            checksums: match (verify_checksums, auto_checksums) {
                (false, _) => Checksums::Ignore,
                (true, false) => Checksums::Verify,
                (true, true) => Checksums::Auto,
            },
            http,
        };
        let mut policies = Overlap::default();
        for (prefix, length, name) in &overlap {
            let Some(policy) = Policy::from_name(name) else {
                let known = Policy::names().collect::<Vec<_>>().join(", ");
                return Err(configuration_error(
                    py,
                    "overlap",
                    format!("{name} is no policy"),
                    &format!("Known: {known}"),
                ));
            };
            policies.set(Address(*prefix), *length, policy);
        }
        let mut engine = ProtoEngine::new(config).with_overlap(policies).with_statistics(statistics);
        for (name, wanted) in &columns {
            engine = engine.with_columns(kind_of(py, name)?, &|column| wanted.contains(column));
        }
        if let Some(hand) = hand {
            engine.show(hand.of_packets());
        }
        Ok(Self { engine, flows: VecDeque::new() })
    }

    /// Take a block. False: take the messages, then feed the same block again.
    /// With `end`: up to that packet of the block, then false.
    #[allow(unsafe_code)]
    #[pyo3(signature = (format, block, number, end = None))]
    fn feed(
        &mut self,
        py: Python<'_>,
        format: u8,
        block: PyBuffer<u8>,
        number: u64,
        end: Option<usize>,
    ) -> PyResult<bool> {
        let format = BlockFormat::from_number(format).ok_or_else(|| PyValueError::new_err("unknown block format"))?;
        if !block.is_c_contiguous() {
            return Err(PyBufferError::new_err("a block is contiguous"));
        }
        let (pointer, length) = (block.buf_ptr().cast::<u8>().cast_const() as usize, block.len_bytes());
        let engine = &mut self.engine;
        let fed = py.detach(|| {
            let bytes: &[u8] = if length == 0 {
                &[]
            } else {
                // SAFETY: `block` holds the buffer for the whole call, so the memory stays where it is and is not freed or resized
                // (buffer protocol); it is contiguous, of bytes, and `length` long. Nobody writes to it meanwhile: the caller
                // promises that in the stub's words, and a worker has one thread.
                unsafe { std::slice::from_raw_parts(pointer as *const u8, length) }
            };
            engine.feed_up_to(format, bytes, number, end.unwrap_or(usize::MAX))
        });
        drop(block);
        fed.map(|fed| fed == Fed::Whole).map_err(|error| unfinished(py, error))
    }

    /// Let time pass: flows time out.
    fn expire(&mut self, py: Python<'_>, now_ns: u64) {
        let engine = &mut self.engine;
        py.detach(|| engine.expire(now_ns));
    }

    /// The clock that stamps packets was set by so many ns; packets stamped before may still come.
    const fn clock_stepped(&mut self, by_ns: i64) {
        self.engine.clock_stepped(by_ns);
    }

    /// The lane has ended: every flow ends.
    fn finish(&mut self, py: Python<'_>) {
        let engine = &mut self.engine;
        py.detach(|| engine.finish());
    }

    /// All messages but flows: (kind, batch), batches of at most 65,536 rows.
    fn take(&mut self, py: Python<'_>) -> PyResult<Vec<(&'static str, Batch)>> {
        let engine = &mut self.engine;
        let taken = py.detach(|| engine.take()).map_err(|error| arrow_error(py, "message table", &error))?;
        Ok(taken.into_iter().map(|(kind, batch)| (kind.name(), Batch { batch })).collect())
    }

    /// Flows that have ended, at most 65,536; call until there are none. Their outcomes are final with the first call.
    fn take_flows(&mut self, py: Python<'_>) -> PyResult<Option<Batch>> {
        if self.flows.is_empty() {
            let engine = &mut self.engine;
            let taken = py.detach(|| engine.take_flows()).map_err(|error| arrow_error(py, "flow table", &error))?;
            self.flows.extend(taken);
        }
        Ok(self.flows.pop_front().map(|batch| Batch { batch }))
    }

    /// Nothing of this flow follows, and its record says "erroneous" unless it has been taken. False: there is no such flow.
    #[pyo3(signature = (uid, fault = "exception"))]
    fn condemn(&mut self, uid: u64, fault: &str) -> PyResult<bool> {
        Ok(self.engine.condemn(uid, fault_of(fault)?))
    }

    /// The same for a flow that has not begun: as soon as it does.
    fn leave_out(&mut self, uid: u64, fault: &str) -> PyResult<()> {
        self.engine.leave_out(uid, fault_of(fault)?);
        Ok(())
    }

    /// This packet is counted and not looked at.
    fn pass_over(&mut self, block: u64, packet: u32) {
        self.engine.pass_over(block, packet);
    }

    /// From now on remember which flows begin and end.
    const fn keep_journal(&mut self) {
        self.engine.keep_journal();
    }

    /// (begun, ended, condemned, stranded) since the last call, encoded; stranded ones are told by `strand` and `whole_journal` alone.
    fn take_journal<'py>(&mut self, py: Python<'py>) -> Encoded<'py> {
        encoded(py, &self.engine.take_journal())
    }

    /// The same for all living flows.
    fn whole_journal<'py>(&mut self, py: Python<'py>) -> Encoded<'py> {
        encoded(py, &self.engine.whole_journal())
    }

    /// (number of the next flow, packet time in ns).
    const fn clock(&self) -> (u64, u64) {
        self.engine.clock()
    }

    /// Packets of the block in hand that have been fed; 0: it was fed whole.
    fn fed(&self) -> usize {
        self.engine.fed()
    }

    /// Before the first block: blocks are read again from now on; journals of the engine that read them before, and its last clock.
    #[allow(clippy::needless_pass_by_value)]
    fn read_again(&mut self, journals: Vec<[Vec<u8>; 4]>, clock: (u64, u64)) {
        let journals: Vec<Journalled> = journals
            .into_iter()
            .map(|[opened, ended, condemned, stranded]| Journalled { opened, ended, condemned, stranded })
            .collect();
        self.engine.read_again(&journals, clock);
    }

    /// Blocks before this one are about to be given back: flows that cannot be opened again without them, encoded. Who talks stands in
    /// it.
    fn strand<'py>(&mut self, py: Python<'py>, before: u64) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.engine.strand(before))
    }

    /// All has been read again. (Flows that go on and end erroneous, because their first blocks are gone; flows of which not even
    /// that is known.)
    fn caught_up(&mut self) -> (usize, usize) {
        self.engine.caught_up()
    }

    /// Every count by its name.
    fn counters(&self) -> HashMap<String, u64> {
        self.engine.counters().into_iter().collect()
    }

    /// The same without names, always in the order of `counter_names`: for whoever asks after every block.
    fn counter_values(&self) -> Vec<u64> {
        self.engine.counters().into_iter().map(|(_, value)| value).collect()
    }

    /// The names of `counter_values`.
    fn counter_names(&self) -> Vec<String> {
        self.engine.counters().into_iter().map(|(name, _)| name).collect()
    }

    /// The oldest block that a flow that has not ended began in.
    fn oldest_needed_block(&self) -> Option<u64> {
        self.engine.oldest_needed_block()
    }

    /// Rows that wait to be taken.
    fn pending_rows(&self) -> usize {
        self.flows.iter().fold(self.engine.pending_rows(), |sum, batch| sum.saturating_add(batch.num_rows()))
    }

    /// Bytes of traffic held.
    fn live_bytes(&self) -> u64 {
        self.engine.live_bytes()
    }

    #[allow(clippy::unused_self)]
    const fn __repr__(&self) -> &'static str {
        "<Engine>"
    }
}
