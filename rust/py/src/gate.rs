//! The only way from Python into long-running work: releases the GIL, maps errors and checks for
//! signals.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::errors;

/// Bytes of input between two checks for signals: a few milliseconds of work, or a second at the
/// highest compression ratio.
pub(crate) const PIECE_LEN: usize = 1 << 20;

/// Runs `work` without the GIL.
///
/// A panic is a bug in tocsin, whatever the input. It becomes a `RuntimeError` that says so.
pub(crate) fn run<T: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> tocsin_core::Result<T> + Send,
) -> PyResult<T> {
    let outcome = detached(py, work);
    py.check_signals()?;
    outcome?.map_err(|error| errors::to_python(py, &error))
}

/// Runs `work` without the GIL, and without a check for signals. A panic becomes an error as in
/// [`run`].
pub(crate) fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> PyResult<T> {
    let outcome = py.detach(|| catch_unwind(AssertUnwindSafe(work)));
    outcome.map_err(|_| {
        PyRuntimeError::new_err("internal error: tocsin's core panicked; please report this bug")
    })
}
