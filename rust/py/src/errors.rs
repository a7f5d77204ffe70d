//! Converts the core's errors into the exceptions of `python/tocsin/errors.py`.

use pyo3::exceptions::{PyIndexError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tocsin_core::Error;

/// The exception for an error of the core.
pub(crate) fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    build(py, error).unwrap_or_else(|failure| failure)
}

fn build(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let keywords = PyDict::new(py);
    let place = |offset: Option<String>| -> PyResult<()> {
        keywords.set_item("what", error.code())?;
        keywords.set_item("offset", offset)
    };
    let class = match error {
        Error::Gzip { at, .. } => {
            place(Some(at.to_string()))?;
            "GzipError"
        }
        Error::Zstd { at, .. } => {
            place(Some(at.to_string()))?;
            "FormatError"
        }
        Error::Tar { at, .. } => {
            place(Some(at.to_string()))?;
            "TarError"
        }
        Error::Ztoc { at, .. } => {
            place(Some(format!("ztoc byte {at}")))?;
            "ZtocError"
        }
        Error::Seek { part, .. } => {
            place(Some(part.to_string()))?;
            "SeekTableError"
        }
        Error::LayerFormat { .. } => {
            place(None)?;
            "FormatError"
        }
        Error::Verification { expected, actual, .. } => {
            keywords.set_item("expected", expected)?;
            keywords.set_item("actual", actual)?;
            "VerificationError"
        }
        Error::Unsupported { .. } => "UnsupportedError",
        Error::NoSuchFile { .. } => "NotFoundError",
        Error::NoSuchSpan { .. } => return Ok(PyIndexError::new_err(error.to_string())),
        Error::AlreadyFinished => return Ok(PyRuntimeError::new_err(error.to_string())),
    };
    let class = py.import("tocsin.errors")?.getattr(class)?;
    Ok(PyErr::from_value(class.call((error.to_string(),), Some(&keywords))?))
}
