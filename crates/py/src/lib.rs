//! The binding between the compiled core and Python.
//!
//! Converts, maps errors (`errors.rs`, the one place), holds no logic. Each stage has a file of its own; a class appears
//! in Python under `bunker._core`, and `bunker.native` is the only package that imports it.
mod address;
mod batch;
mod builder;
mod capture;
mod clear;
mod engine;
mod errors;
mod hand;
mod heap;
mod jail;
mod owners;
mod row;
mod trace;

use pyo3::prelude::*;

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    engine::silence_panics();
    module.add_class::<capture::FileSource>()?;
    module.add_class::<capture::PackedBlock>()?;
    module.add_class::<clear::Gate>()?;
    module.add_class::<clear::ClearedBatch>()?;
    module.add_function(wrap_pyfunction!(clear::transform_output, module)?)?;
    module.add_function(wrap_pyfunction!(clear::blake3_hex, module)?)?;
    module.add_function(wrap_pyfunction!(clear::registrable_domain, module)?)?;
    module.add_function(wrap_pyfunction!(capture::block_packets, module)?)?;
    module.add_class::<trace::HeaderTrace>()?;
    module.add_function(wrap_pyfunction!(trace::trace_fault, module)?)?;
    module.add_function(wrap_pyfunction!(trace::packet_headers, module)?)?;
    module.add_function(wrap_pyfunction!(trace::map_addresses, module)?)?;
    module.add_function(wrap_pyfunction!(trace::packet_record, module)?)?;
    module.add_function(wrap_pyfunction!(trace::trace_head, module)?)?;
    module.add_function(wrap_pyfunction!(trace::trace_blocks, module)?)?;
    module.add_function(wrap_pyfunction!(trace::trace_provenance, module)?)?;
    jail::register(module)?;
    module.add_class::<address::Address>()?;
    module.add_class::<batch::Batch>()?;
    module.add_class::<builder::RecordBuilder>()?;
    module.add_class::<engine::Engine>()?;
    module.add_class::<hand::Hand>()?;
    module.add_function(wrap_pyfunction!(heap::keep_heap, module)?)?;
    module.add_function(wrap_pyfunction!(hand::hand_words, module)?)?;
    module.add_function(wrap_pyfunction!(engine::fault_words, module)?)?;
    module.add_class::<row::Row>()?;
    module.add_class::<row::Rows>()?;
    module.add_function(wrap_pyfunction!(builder::message_schema, module)?)?;
    module.add_function(wrap_pyfunction!(builder::message_kinds, module)?)?;
    module.add_function(wrap_pyfunction!(builder::field_types, module)?)?;
    module.add_function(wrap_pyfunction!(engine::panic_sites, module)?)?;
    module.add_function(wrap_pyfunction!(engine::overlap_policies, module)?)?;
    Ok(())
}
