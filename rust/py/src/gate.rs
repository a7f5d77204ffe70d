//! The one way from Python into work that takes long: releases the GIL, maps errors, looks at signals.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::errors;

/// Bytes of input between two looks at signals: a few milliseconds of work, a second at the very worst
/// ratio of compression.
pub(crate) const PIECE_LEN: usize = 1 << 20;

/// Runs `work` without the GIL.
///
/// A panic is a bug of ours, whatever the input; it becomes a `RuntimeError` that says so.
pub(crate) fn run<T: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> tocsin_core::Result<T> + Send,
) -> PyResult<T> {
    let outcome = py.detach(|| catch_unwind(AssertUnwindSafe(work)));
    py.check_signals()?;
    match outcome {
        Ok(result) => result.map_err(|error| errors::to_python(py, &error)),
        Err(_) => {
            Err(PyRuntimeError::new_err("tocsin has a bug: its core panicked; please report it"))
        }
    }
}
