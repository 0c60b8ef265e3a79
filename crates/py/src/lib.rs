//! The binding between the compiled core and Python.
//!
//! Converts, maps errors (`errors.rs`, the one place), holds no logic. Each stage has a file of its own; a class appears
//! in Python under `bunker._core`, and `bunker.native` is the only package that imports it.
mod capture;

use pyo3::prelude::*;

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<capture::FileSource>()?;
    module.add_class::<capture::PackedBlock>()?;
    module.add_function(wrap_pyfunction!(capture::block_packets, module)?)?;
    Ok(())
}
