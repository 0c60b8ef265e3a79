//! The jail for Python: three steps and a question, each answering with entries (name, enforced, detail).
//!
//! `bunker.closed.process.launcher` calls them in their order; the rule which entries must hold stands there.

use bunker_jail::{Grants, JailError, PlacedFile, PrivateRoot, Record, Role, Scratch, Spec, Surroundings};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

type Entries = Vec<(&'static str, bool, String)>;

fn entries(record: &Record) -> Entries {
    record.entries().iter().map(|entry| (entry.name, entry.enforced, entry.detail.clone())).collect()
}

/// A failed step as `bunker.errors.BoxError`.
fn box_error(py: Python<'_>, error: &JailError) -> PyErr {
    let made = py.import("bunker.errors").and_then(|module| module.getattr("BoxError")).and_then(|class| {
        let remedy = "Run `bunker run` as root or allow user namespaces; `--closed-box none` is for lab traffic";
        class.call1((format!("jail, {}", error.step), error.cause.to_string(), remedy))
    });
    made.map_or_else(|error| error, PyErr::from_value)
}

fn role_named(name: &str) -> PyResult<Role> {
    Role::named(name).ok_or_else(|| PyValueError::new_err("no such role"))
}

/// What a launch is told, as `bunker.native.jail` writes it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct LaunchSpec {
    role: String,
    new_box: bool,
    uid_base: u32,
    uid: u32,
    shown: Vec<String>,
    links: Vec<(String, String)>,
    scratches: Vec<(u32, u64)>,
    files: Vec<(String, Vec<u8>)>,
    readable: Vec<String>,
    keep: Vec<i32>,
    writable: Option<Vec<i32>>,
    unread: Vec<i32>,
    scratch: bool,
    execute: bool,
    memory_bytes: Option<u64>,
    file_bytes: Option<u64>,
    processes: u64,
    user_namespace: bool,
    launcher_gone: Option<i32>,
}

impl LaunchSpec {
    fn spec(self) -> PyResult<Spec> {
        let surroundings = if self.new_box {
            let scratches = self.scratches.into_iter().map(|(uid, bytes)| Scratch { uid, bytes }).collect();
            let files = self.files.into_iter().map(|(path, content)| PlacedFile { path, content }).collect();
            Surroundings::NewBox {
                uid_base: self.uid_base,
                root: PrivateRoot { shown: self.shown, links: self.links, scratches, files },
            }
        } else {
            Surroundings::InBox
        };
        Ok(Spec {
            role: role_named(&self.role)?,
            surroundings,
            uid: self.uid,
            keep: self.keep,
            readable: self.readable,
            grants: Grants {
                writable: self.writable,
                unread: self.unread,
                scratch: self.scratch,
                execute: self.execute,
            },
            memory_bytes: self.memory_bytes,
            file_bytes: self.file_bytes,
            processes: self.processes,
            user_namespace: self.user_namespace,
            launcher_gone: self.launcher_gone,
        })
    }
}

/// First step: namespaces, and for a new box its root. Single-threaded callers only.
#[pyfunction]
fn jail_isolate(py: Python<'_>, spec: LaunchSpec) -> PyResult<Entries> {
    let spec = spec.spec()?;
    bunker_jail::isolate(&spec).map(|record| entries(&record)).map_err(|error| box_error(py, &error))
}

/// Second step, after the fork: everything up to the first system-call filter.
#[pyfunction]
fn jail_launch(py: Python<'_>, spec: LaunchSpec) -> PyResult<Entries> {
    let spec = spec.spec()?;
    bunker_jail::confine(&spec).map(|record| entries(&record)).map_err(|error| box_error(py, &error))
}

/// Third step, after the role's imports and before its first byte of traffic: the strict list.
#[pyfunction]
fn jail_lock_down(py: Python<'_>, role: &str) -> PyResult<Entries> {
    bunker_jail::lock_down(role_named(role)?).map(|record| entries(&record)).map_err(|error| box_error(py, &error))
}

/// What this machine could enforce, without changing this process.
#[pyfunction]
fn jail_probe(py: Python<'_>) -> PyResult<Entries> {
    bunker_jail::probe().map(|record| entries(&record)).map_err(|error| box_error(py, &error))
}

/// Let orphans among the descendants become this process's children (or no longer); what held before.
#[pyfunction]
fn jail_adopt_orphans(py: Python<'_>, adopt: bool) -> PyResult<bool> {
    bunker_jail::adopt_orphans(adopt).map_err(|error| box_error(py, &error))
}

/// Put the functions into the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(jail_isolate, module)?)?;
    module.add_function(wrap_pyfunction!(jail_launch, module)?)?;
    module.add_function(wrap_pyfunction!(jail_lock_down, module)?)?;
    module.add_function(wrap_pyfunction!(jail_adopt_orphans, module)?)?;
    module.add_function(wrap_pyfunction!(jail_probe, module)?)
}
