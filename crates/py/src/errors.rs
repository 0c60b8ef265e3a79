//! The one place where errors of the core become Python's.
use arrow_schema::ArrowError;
use bunker_proto::engine::BlockUnfinished;
use pyo3::prelude::*;

fn raise(py: Python<'_>, class: &str, arguments: (&str, String, &str)) -> PyErr {
    let made = py.import("bunker.errors").and_then(|module| module.getattr(class)?.call1(arguments));
    match made {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

/// A fault of ours: `bunker.errors.BoxError`.
pub fn box_error(py: Python<'_>, thing: &str, cause: String, remedy: &str) -> PyErr {
    raise(py, "BoxError", (thing, cause, remedy))
}

/// What the operator or an analyzer's author wrote cannot be: `bunker.errors.ConfigurationError`.
pub fn configuration_error(py: Python<'_>, thing: &str, cause: String, remedy: &str) -> PyErr {
    raise(py, "ConfigurationError", (thing, cause, remedy))
}

/// Arrow refused columns. Its message names columns and types; those are ours, but it is left out all the same.
pub fn arrow_error(py: Python<'_>, thing: &str, error: &ArrowError) -> PyErr {
    let cause = match error {
        ArrowError::InvalidArgumentError(_) => "columns do not fit the schema",
        ArrowError::SchemaError(_) => "no such column",
        ArrowError::MemoryError(_) => "out of memory",
        _ => "Arrow refuses it",
    };
    box_error(py, thing, cause.to_owned(), "This is a bug")
}

/// Blocks were fed in the wrong order.
pub fn unfinished(py: Python<'_>, error: BlockUnfinished) -> PyErr {
    let cause = format!("block {} has not been fed to its end", error.number);
    box_error(py, "engine", cause, "Take the messages, then feed that block again")
}
