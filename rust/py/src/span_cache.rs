//! `_core.SpanCache`, `_core.CachedLayer` and `_core.VerifiedFiles`: spans in memory.
//!
//! Their locks are held only by threads that hold the GIL, and only within one call, so after a fork
//! no missing thread holds them. It may hold the lock of a span that it was inflating: the child
//! clears the cache.

use std::sync::Arc;

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tocsin_core::extract;
use tocsin_core::span::UncompressedOffset;

use crate::buffer::Blob;
use crate::span_reader::SpanReader;

/// Spans of any number of layers in memory; the least recently used are dropped first.
#[pyclass(frozen, module = "tocsin._core")]
#[derive(Debug)]
pub(crate) struct SpanCache(Arc<extract::SpanCache<Blob>>);

#[pymethods]
impl SpanCache {
    #[new]
    fn new(limit: u64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Self(Arc::new(extract::SpanCache::new(limit)))
    }

    /// The spans of a new layer.
    fn layer(&self) -> CachedLayer {
        CachedLayer(Arc::new(extract::CachedLayer::new(&self.0)))
    }

    /// Drops all spans.
    fn clear(&self) {
        self.0.clear();
    }
}

/// The spans of one layer in memory.
#[pyclass(frozen, module = "tocsin._core")]
#[derive(Debug)]
pub(crate) struct CachedLayer(Arc<extract::CachedLayer<Blob>>);

#[pymethods]
impl CachedLayer {
    /// A span; `None` if it is missing.
    fn get(&self, span_id: u32) -> Option<SpanReader> {
        self.0.get(span_id).map(SpanReader)
    }

    /// Keeps a span, or updates the size of one that is kept.
    fn put(&self, py: Python<'_>, span_id: u32, span: &Bound<'_, SpanReader>) {
        let span = span.get();
        let memory = span.memory(py);
        self.0.put(span_id, &span.0, memory);
    }

    /// Uncompressed bytes of the layer; `None` if some of them are missing or not inflated.
    fn read<'py>(&self, py: Python<'py>, start: u64, end: u64) -> Option<Bound<'py, PyBytes>> {
        if end <= start {
            return Some(PyBytes::new(py, &[]));
        }
        let wanted = UncompressedOffset(start)..UncompressedOffset(end);
        self.0.with_bytes(&wanted, |bytes| PyBytes::new(py, bytes))
    }

    /// Fills a writable buffer with the uncompressed bytes that begin at `start`. Returns false, and
    /// writes nothing, if some of them are missing or not inflated.
    fn read_into(&self, py: Python<'_>, buffer: PyBuffer<u8>, start: u64) -> PyResult<bool> {
        let end = start.saturating_add(buffer.item_count() as u64);
        if buffer.readonly() || end <= start {
            return Ok(false);
        }
        let wanted = UncompressedOffset(start)..UncompressedOffset(end);
        let copied = self.0.with_bytes(&wanted, |bytes| buffer.copy_from_slice(py, bytes));
        copied.transpose().map(|copied| copied.is_some())
    }
}

impl CachedLayer {
    /// Whether a span is here; it then counts as used.
    pub(crate) fn has(&self, span_id: u32) -> bool {
        self.0.get(span_id).is_some()
    }
}

/// Where the data of files is in their layers, after their headers have been verified.
#[pyclass(frozen, module = "tocsin._core")]
#[derive(Debug)]
pub(crate) struct VerifiedFiles(extract::VerifiedFiles<Blob>);

#[pymethods]
impl VerifiedFiles {
    #[new]
    fn new() -> Self {
        Self(extract::VerifiedFiles::default())
    }

    /// Adds a file whose data is contiguous, by the numbers of its layer and entry.
    fn add(&self, layer: u32, entry: u32, spans: &Bound<'_, CachedLayer>, start: u64, end: u64) {
        self.0.add(layer, entry, &spans.get().0, start..end);
    }
}

impl VerifiedFiles {
    /// Bytes `[start, end)` of a file, or fewer at its end; `None` if the file has not been added, or
    /// some of the bytes are missing or not inflated, or the numbers are too large.
    pub(crate) fn read<'py>(
        &self,
        (layer, entry): (u32, u32),
        start: &Bound<'py, PyAny>,
        end: &Bound<'py, PyAny>,
    ) -> Option<Bound<'py, PyBytes>> {
        let number = |given: &Bound<'py, PyAny>| {
            given.extract::<i64>().ok().map(|number| u64::try_from(number).unwrap_or(0))
        };
        let wanted = number(start)?..number(end)?;
        self.0.with_bytes(layer, entry, wanted, |bytes| PyBytes::new(start.py(), bytes))
    }
}
