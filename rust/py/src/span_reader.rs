//! `_core.SpanReader`: a verified span, inflated only as far as it has been read.

use std::ops::Range;
use std::sync::{Arc, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::PyBytes;
use tocsin_core::extract::{self, SharedSpan, SpanTable};
use tocsin_core::fetch;
use tocsin_core::span::{SpanId, UncompressedOffset};

use crate::buffer::Blob;
use crate::seek::SeekSpans;
use crate::ztoc::Ztoc;
use crate::{errors, gate};

/// The table that describes the span.
#[derive(FromPyObject)]
pub(crate) enum Table<'py> {
    /// A zTOC.
    Ztoc(Bound<'py, Ztoc>),
    /// The layer's part of a seek table.
    Seek(Bound<'py, SeekSpans>),
}

impl Table<'_> {
    /// The table as the core has it. `chunks`: ranges of the chunks in the layer's seek blob.
    pub(crate) fn with_chunks(&self, chunks: impl IntoIterator<Item = Range<u64>>) -> fetch::Table {
        match self {
            Self::Ztoc(ztoc) => fetch::Table::Ztoc(Arc::clone(&ztoc.get().0)),
            Self::Seek(spans) => fetch::Table::Seek {
                spans: Arc::clone(&spans.get().0),
                chunks: chunks.into_iter().collect(),
            },
        }
    }

    /// The table for callers that need no chunks.
    pub(crate) fn without_chunks(&self) -> fetch::Table {
        self.with_chunks([])
    }
}

/// The range of uncompressed bytes of each span.
#[pyfunction]
pub(crate) fn uncompressed_ranges(table: Table<'_>) -> Vec<(u64, u64)> {
    let table = table.without_chunks();
    let ranges = (0..table.span_count()).map(|span| table.uncompressed(span));
    ranges.map(|range| (range.start, range.end)).collect()
}

/// A verified span, inflated only as far as it has been read.
///
/// No thread that holds the GIL waits for the lock of the span, so a thread that holds the lock may
/// wait for the GIL.
#[pyclass(frozen, module = "tocsin._core")]
#[derive(Debug)]
pub(crate) struct SpanReader(pub(crate) Arc<SharedSpan<Blob>>);

impl SpanReader {
    fn lock<'a>(&'a self, py: Python<'_>) -> MutexGuard<'a, extract::SpanReader<Blob>> {
        self.0.reader().lock_py_attached(py).unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl SpanReader {
    #[new]
    fn new(py: Python<'_>, table: Table<'_>, span_id: u32, compressed: Blob) -> PyResult<Self> {
        let table: &(dyn SpanTable + Sync) = match &table {
            Table::Ztoc(ztoc) => &*ztoc.get().0,
            Table::Seek(spans) => &*spans.get().0,
        };
        let compressed = compressed.into_frozen(py)?;
        let work = || extract::SpanReader::new(table, SpanId(span_id), compressed);
        Ok(Self(Arc::new(SharedSpan::new(gate::run(py, work)?))))
    }

    /// A span that was inflated and verified before; `start`: the offset of its first byte.
    #[staticmethod]
    fn inflated_before(py: Python<'_>, start: u64, data: Blob) -> PyResult<Self> {
        let data = data.into_frozen(py)?;
        let reader = extract::SpanReader::inflated_before(UncompressedOffset(start), data);
        Ok(Self(Arc::new(SharedSpan::new(reader))))
    }

    fn read<'py>(&self, py: Python<'py>, start: u64, end: u64) -> PyResult<Bound<'py, PyBytes>> {
        let wanted = UncompressedOffset(start)..UncompressedOffset(end);
        // Copying inflated bytes takes less time than releasing the GIL.
        if let Some(bytes) = self.lock(py).get(&wanted) {
            return Ok(PyBytes::new(py, bytes));
        }
        gate::run(py, || {
            let mut reader = self.0.reader().lock().unwrap_or_else(PoisonError::into_inner);
            reader.inflate_to(wanted.end)
        })?;
        // Another thread may have failed meanwhile, further into the span.
        let outcome = self.lock(py).read(&wanted).map(|bytes| PyBytes::new(py, bytes));
        outcome.map_err(|error| errors::to_python(py, &error))
    }

    #[getter]
    fn start(&self) -> u64 {
        self.0.start().0
    }

    #[getter]
    fn end(&self) -> u64 {
        self.0.end().0
    }

    #[getter]
    fn inflated(&self, py: Python<'_>) -> usize {
        self.lock(py).inflated_len()
    }

    #[getter]
    pub(crate) fn memory(&self, py: Python<'_>) -> usize {
        self.lock(py).memory()
    }
}
