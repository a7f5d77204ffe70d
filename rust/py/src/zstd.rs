//! `_core.ZstdDecoder`: decodes a zstd layer in pieces.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tocsin_core::zstd;

use crate::buffer::Blob;
use crate::gate;

/// Decodes a zstd layer in pieces: call `feed`, then `read` until it returns nothing; at the end,
/// call `finish`.
#[pyclass(frozen, module = "tocsin._core")]
#[derive(Debug)]
pub(crate) struct ZstdDecoder(Mutex<zstd::ZstdDecoder>);

impl ZstdDecoder {
    /// Runs without the GIL, since it may have to wait for the decoder.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut zstd::ZstdDecoder) -> tocsin_core::Result<T> + Send,
    ) -> PyResult<T> {
        gate::run(py, || work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[pymethods]
impl ZstdDecoder {
    #[new]
    fn new() -> Self {
        Self(Mutex::new(zstd::ZstdDecoder::new()))
    }

    fn feed(&self, py: Python<'_>, data: Blob) -> PyResult<()> {
        self.with(py, |decoder| {
            decoder.feed(data.as_slice());
            Ok(())
        })
    }

    fn read<'py>(&self, py: Python<'py>, max_size: usize) -> PyResult<Bound<'py, PyBytes>> {
        let output = self.with(py, |decoder| decoder.read(max_size))?;
        Ok(PyBytes::new(py, &output))
    }

    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |decoder| decoder.finish())
    }
}
