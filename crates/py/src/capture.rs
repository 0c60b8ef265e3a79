//! `FileSource` and `PackedBlock`: capture files into blocks.
use std::collections::HashMap;
use std::ffi::{c_int, c_void};

use bunker_wire::block::PackedBlock as WireBlock;
use bunker_wire::bpf::Program;
use bunker_wire::capfile::Fault;
use bunker_wire::packer::Packer;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use zeroize::zeroize_bytes;

/// A block of packets from a capture file. Supports the buffer protocol, read-only; overwritten when it goes.
#[pyclass(frozen, module = "bunker._core")]
pub struct PackedBlock {
    bytes: Vec<u8>,
    #[pyo3(get)]
    lane: u16,
    #[pyo3(get)]
    packet_count: u32,
    #[pyo3(get)]
    first_ts_ns: u64,
    #[pyo3(get)]
    last_ts_ns: u64,
}

impl PackedBlock {
    fn new(lane: u16, block: WireBlock) -> Self {
        Self {
            bytes: block.bytes,
            lane,
            packet_count: block.packet_count,
            first_ts_ns: block.first_ts_ns,
            last_ts_ns: block.last_ts_ns,
        }
    }
}

impl Drop for PackedBlock {
    fn drop(&mut self) {
        // In one stroke: byte by byte it was half of what reading a capture file costs.
        zeroize_bytes(&mut self.bytes);
    }
}

#[pymethods]
impl PackedBlock {
    fn __len__(&self) -> usize {
        self.bytes.len()
    }

    fn __repr__(&self) -> String {
        format!("<PackedBlock of {} bytes>", self.bytes.len())
    }

    #[allow(unsafe_code)]
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no view"));
        }
        if flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE {
            return Err(PyBufferError::new_err("a block is read-only"));
        }
        let this = slf.get();
        // SAFETY: `view` is not null and, by the buffer protocol, points to a Py_buffer that we are to fill. The bytes live as long
        // as the object, which the view keeps alive (PyBuffer_FillInfo takes a reference to it), and nothing changes them:
        // the class is frozen and has no method that does.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                this.bytes.as_ptr().cast_mut().cast::<c_void>(),
                ffi::Py_ssize_t::try_from(this.bytes.len()).unwrap_or(0),
                1,
                flags,
            )
        };
        if filled == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}

/// Capture files, one after another, into blocks.
#[pyclass(module = "bunker._core")]
pub struct FileSource {
    packer: Packer,
    maybe_fault: Option<Fault>,
}

#[pymethods]
impl FileSource {
    #[new]
    #[pyo3(signature = (*, lanes, block_bytes, snaplen, filters, seed))]
    fn new(
        lanes: u16,
        block_bytes: usize,
        snaplen: usize,
        filters: Option<HashMap<u16, Vec<u8>>>,
        seed: [u8; 16],
    ) -> PyResult<Self> {
        let filters = filters
            .map(|filters| {
                filters
                    .into_iter()
                    .map(|(linktype, bytes)| Some((linktype, Program::from_bytes(&bytes)?)))
                    .collect::<Option<HashMap<_, _>>>()
                    .ok_or_else(|| PyValueError::new_err("a filter program is malformed"))
            })
            .transpose()?;
        Ok(Self { packer: Packer::new(lanes, block_bytes, snaplen, filters, seed), maybe_fault: None })
    }

    /// Take bytes of a file; blocks that are full now. After damage the rest of the file is passed over.
    fn feed(&mut self, py: Python<'_>, data: PyBuffer<u8>) -> PyResult<Vec<PackedBlock>> {
        if self.maybe_fault.is_none() {
            let bytes = data.to_vec(py)?;
            let packer = &mut self.packer;
            if let Err(fault) = py.detach(|| packer.feed(&bytes)) {
                self.maybe_fault = Some(fault);
            }
        }
        Ok(self.packer.take_full().into_iter().map(|(lane, block)| PackedBlock::new(lane, block)).collect())
    }

    /// The file has ended: (offset, kind) of its damage, or None. The next `feed` begins another file.
    fn end_file(&mut self) -> Option<(u64, &'static str)> {
        let ended = self.packer.end_file();
        let fault = self.maybe_fault.take().or(ended.err());
        fault.map(|fault| (fault.offset, fault.kind.word()))
    }

    /// All files have ended: what is left.
    fn finish(&mut self) -> Vec<PackedBlock> {
        self.packer.take_rest().into_iter().map(|(lane, block)| PackedBlock::new(lane, block)).collect()
    }

    /// Packets by what became of them.
    fn counters(&self) -> HashMap<&'static str, u64> {
        let counters = self.packer.counters();
        HashMap::from([
            ("packets_read", counters.read),
            ("packets_filtered", counters.filtered),
            ("packets_cut", counters.cut),
            ("packets_too_long", counters.too_long),
        ])
    }
}

/// The packets of a block, written as a pcap stream with nanoseconds: for tests of the formats.
#[pyfunction]
pub fn block_packets(
    py: Python<'_>,
    format: u8,
    block: PyBuffer<u8>,
) -> PyResult<Vec<(u64, u32, u16, Option<(u16, u16)>, Py<PyBytes>)>> {
    let format = bunker_wire::block::BlockFormat::from_number(format)
        .ok_or_else(|| PyValueError::new_err("unknown block format"))?;
    let bytes = block.to_vec(py)?;
    bunker_wire::block::packets(format, &bytes)
        .map(|packet| {
            let packet = packet.map_err(|_| PyValueError::new_err("damaged block"))?;
            let captured = PyBytes::new(py, packet.captured).unbind();
            Ok((packet.ts_ns, packet.wire_len, packet.linktype, packet.vlan, captured))
        })
        .collect()
}
