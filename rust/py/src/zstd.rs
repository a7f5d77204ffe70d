//! `_core.ZstdDecoder`: a zstd layer in pieces.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tocsin_core::zstd;

use crate::buffer::Blob;
use crate::gate;

/// A zstd layer in pieces: feed, read until nothing comes, finish.
#[pyclass(frozen, module = "tocsin._core")]
#[derive(Debug)]
pub(crate) struct ZstdDecoder(Mutex<zstd::ZstdDecoder>);

impl ZstdDecoder {
    /// Waits for the decoder, so always without the GIL.
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
