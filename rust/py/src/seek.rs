//! `_core.SeekLayer`: the seek blob of a layer.

use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tocsin_core::bytes::SharedBytes;
use tocsin_core::seek::{self, LayerCompression};

use crate::buffer::Blob;
use crate::gate;

/// The name of a compression, as `_core` uses it.
pub(crate) const fn compression_name(compression: LayerCompression) -> &'static str {
    match compression {
        LayerCompression::Gzip => "gzip",
        LayerCompression::Tar => "uncompressed",
        LayerCompression::Zstd => "zstd",
    }
}

/// The compression with a name.
pub(crate) fn compression_named(name: &str) -> PyResult<LayerCompression> {
    match name {
        "gzip" => Ok(LayerCompression::Gzip),
        "uncompressed" => Ok(LayerCompression::Tar),
        "zstd" => Ok(LayerCompression::Zstd),
        other => {
            let message = format!(
                "invalid compression {other:?} (expected 'gzip', 'uncompressed' or 'zstd')"
            );
            Err(PyValueError::new_err(message))
        }
    }
}

/// The seek blob of a layer, whose head has been checked.
#[pyclass(frozen, module = "tocsin._core")]
#[derive(Debug)]
pub(crate) struct SeekLayer(pub(crate) seek::SeekLayer);

#[pymethods]
impl SeekLayer {
    #[staticmethod]
    fn parse(py: Python<'_>, blob: Blob) -> PyResult<Self> {
        let blob = SharedBytes::new(blob.into_frozen(py)?);
        gate::run(py, || seek::SeekLayer::parse(&blob)).map(Self)
    }

    #[staticmethod]
    fn whole(
        py: Python<'_>,
        compression: &str,
        compressed_size: u64,
        uncompressed_size: u64,
        span_size: u64,
    ) -> PyResult<Self> {
        let compression = compression_named(compression)?;
        let work =
            || seek::SeekLayer::whole(compression, compressed_size, uncompressed_size, span_size);
        gate::run(py, work).map(Self)
    }

    #[getter]
    fn blob<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.blob())
    }

    #[getter]
    fn compression(&self) -> &'static str {
        compression_name(self.0.positions().compression())
    }

    #[getter]
    fn compressed_size(&self) -> u64 {
        self.0.positions().compressed_size()
    }

    #[getter]
    fn uncompressed_size(&self) -> u64 {
        self.0.positions().uncompressed_size()
    }

    #[getter]
    fn span_size(&self) -> u64 {
        self.0.span_size()
    }

    #[getter]
    fn span_count(&self) -> u64 {
        self.0.span_count()
    }

    #[getter]
    fn chunk_count(&self) -> usize {
        self.0.chunk_count()
    }

    fn chunk_range(&self, chunk: usize) -> PyResult<(usize, usize)> {
        let no_chunk = || PyIndexError::new_err(format!("seek chunk {chunk} does not exist"));
        self.0.chunk_range(chunk).map(|range| (range.start, range.end)).ok_or_else(no_chunk)
    }
}
