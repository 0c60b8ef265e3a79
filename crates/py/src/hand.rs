//! `Hand`: a shared page on which a worker shows what it has in hand, for the supervisor to read when the worker is dead.
//!
//! Rules of this file:
//! 1. A word is written by one store; nothing is waited for, no system call is made.
//! 2. What stands there are numbers of ours: phases, blocks, flows, analyzers. Nothing of the traffic.
use std::sync::atomic::{AtomicU64, Ordering};

use bunker_wire::tracker::restart;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBufferError, PyIndexError};
use pyo3::prelude::*;

/// Places of words that the core itself writes; Python's `closed/process/hand.py` names them all, and a test compares.
pub const UID: usize = 3;
pub const CALLS: usize = 5;
pub const PACKET: usize = 6;
const WORDS: usize = 16;

/// The page.
#[pyclass(frozen, module = "bunker._core")]
pub struct Hand {
    words: &'static [AtomicU64; WORDS],
}

impl Hand {
    /// For the tracker.
    pub fn of_packets(&self) -> restart::Hand {
        let [_, _, _, uid, _, _, packet, ..] = self.words;
        restart::Hand { uid, packet }
    }

    /// A message of this flow is handed out.
    pub fn message(&self, uid: u64) {
        let [_, _, _, place, _, calls, ..] = self.words;
        place.store(uid, Ordering::Relaxed);
        // One writer: this is a load and a store, not a locked addition.
        calls.store(calls.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// The flow in hand; 0: none.
    pub fn uid(&self) -> u64 {
        let [_, _, _, place, ..] = self.words;
        place.load(Ordering::Relaxed)
    }

    pub const fn share(&self) -> Self {
        Self { words: self.words }
    }
}

#[pymethods]
impl Hand {
    #[new]
    #[allow(unsafe_code, clippy::needless_pass_by_value)]
    fn new(page: PyBuffer<u8>) -> PyResult<Self> {
        let pointer = page.buf_ptr().cast::<[AtomicU64; WORDS]>();
        if page.readonly()
            || !page.is_c_contiguous()
            || page.len_bytes() < size_of::<[AtomicU64; WORDS]>()
            || !pointer.is_aligned()
        {
            return Err(PyBufferError::new_err("the page is a writable, aligned mapping"));
        }
        // The exporter (a mapping) may not be closed while a buffer is held: held for ever, its memory lives as long as the process.
        std::mem::forget(page);
        // SAFETY: the pointer is not null (a buffer with bytes), aligned and long enough as checked above; the memory stays mapped for the
        // rest of the process because the export is never given back; it is only ever accessed as atomic words here, and by readers in
        // other processes.
        let words = unsafe { &*pointer };
        Ok(Self { words })
    }

    /// Write a word.
    fn set(&self, word: usize, value: u64) -> PyResult<()> {
        let place = self.words.get(word).ok_or_else(|| PyIndexError::new_err("no such word"))?;
        place.store(value, Ordering::Relaxed);
        Ok(())
    }

    /// Read a word.
    fn get(&self, word: usize) -> PyResult<u64> {
        self.words
            .get(word)
            .map(|place| place.load(Ordering::Relaxed))
            .ok_or_else(|| PyIndexError::new_err("no such word"))
    }

    #[allow(clippy::unused_self)]
    const fn __repr__(&self) -> &'static str {
        "<Hand>"
    }
}

/// Words that the core writes: (uid, calls, packet).
#[pyfunction]
pub const fn hand_words() -> (usize, usize, usize) {
    (UID, CALLS, PACKET)
}
