//! `_core.SeekLayer` and `_core.SeekSpans`: the seek blob of a layer, and its spans.

use std::sync::Arc;

use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tocsin_core::bytes::SharedBytes;
use tocsin_core::checkpoint::PointStart;
use tocsin_core::extract;
use tocsin_core::seek::{self, LayerCompression};
use tocsin_core::span::{SpanId, UncompressedOffset};

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

/// The compression with this name.
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

    /// The layer's spans, without any chunk.
    fn spans(&self, py: Python<'_>) -> PyResult<SeekSpans> {
        gate::run(py, || Ok(self.0.spans())).map(|spans| SeekSpans(Arc::new(spans)))
    }
}

type Checkpoint<'py> =
    (&'static str, u16, bool, Bound<'py, PyBytes>, Vec<(u16, Bound<'py, PyBytes>)>, String);

/// The spans of one layer, according to a seek table.
#[pyclass(frozen, module = "tocsin._core")]
#[derive(Debug)]
pub(crate) struct SeekSpans(pub(crate) Arc<seek::SeekSpans>);

#[pymethods]
impl SeekSpans {
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
        self.0.positions().span_size()
    }

    #[getter]
    fn span_count(&self) -> u64 {
        self.0.positions().span_count()
    }

    #[getter]
    fn chunk_count(&self) -> usize {
        self.0.positions().chunk_count()
    }

    #[getter]
    fn memory(&self) -> usize {
        self.0.memory()
    }

    fn span_of(&self, uncompressed_offset: u64) -> Option<u32> {
        let at = UncompressedOffset(uncompressed_offset);
        self.0.positions().span_of(at).map(|span_id| span_id.0)
    }

    fn span_ids(&self, start: u64, end: u64) -> (u32, u32) {
        let range = UncompressedOffset(start)..UncompressedOffset(end);
        let spans = self.0.positions().spans_in(range);
        (spans.start.0, spans.end.0)
    }

    fn compressed_range(&self, span_id: u32) -> PyResult<(u64, u64)> {
        let range = self.0.positions().compressed_range(SpanId(span_id));
        range.map(|range| (range.start.0, range.end.0)).map_err(|_| no_span(span_id))
    }

    fn uncompressed_range(&self, span_id: u32) -> PyResult<(u64, u64)> {
        let range = self.0.positions().uncompressed_range(SpanId(span_id));
        range.map(|range| (range.start.0, range.end.0)).map_err(|_| no_span(span_id))
    }

    fn chunk_of(&self, span_id: u32) -> u32 {
        self.0.chunk_of(SpanId(span_id))
    }

    fn has_chunk(&self, chunk: u32) -> bool {
        self.0.has_chunk(chunk)
    }

    fn add_chunk(&self, py: Python<'_>, chunk: u32, data: Blob) -> PyResult<()> {
        let data = SharedBytes::new(data.into_frozen(py)?);
        gate::run(py, || self.0.add_chunk(chunk, data))
    }

    /// Uncompressed offset of a checkpoint, and offset of its first bit.
    fn position(&self, span_id: u32) -> PyResult<(u64, u64)> {
        let position = self.0.positions().position(SpanId(span_id));
        position.map(|(offset, bit)| (offset.0, bit.0)).ok_or_else(|| no_span(span_id))
    }

    /// The fields of a checkpoint: what starts at it; the number of bits in the block header, or of
    /// bytes left in a stored block; whether the stored block is the last one of its member; the
    /// bytes of the block header; the runs of the window; the digest of the span.
    fn checkpoint<'py>(&self, py: Python<'py>, span_id: u32) -> PyResult<Checkpoint<'py>> {
        let (point, digest) = gate::run(py, || self.0.point(SpanId(span_id)))?;
        let (kind, number, is_last, header) = match &point.start {
            PointStart::Member => ("member", 0, false, &[][..]),
            PointStart::Block => ("block", 0, false, &[][..]),
            PointStart::Huffman(header) => ("symbol", header.len, false, &header.bytes[..]),
            PointStart::Stored { remaining, last } => ("stored", *remaining, *last, &[][..]),
        };
        let mut rest = &point.window.bytes[..];
        let mut runs = Vec::with_capacity(point.window.runs.len());
        for run in &point.window.runs {
            let (bytes, after) = rest.split_at(rest.len().min(run.len.into()));
            runs.push((run.start, PyBytes::new(py, bytes)));
            rest = after;
        }
        Ok((kind, number, is_last, PyBytes::new(py, header), runs, digest.to_string()))
    }

    fn inflate_span<'py>(
        &self,
        py: Python<'py>,
        span_id: u32,
        compressed: Blob,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let work = || extract::inflate_span(&*self.0, SpanId(span_id), compressed.as_slice());
        Ok(PyBytes::new(py, &gate::run(py, work)?))
    }

    fn read_span<'py>(
        &self,
        py: Python<'py>,
        span_id: u32,
        compressed: Blob,
        start: u64,
        end: u64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let wanted = UncompressedOffset(start)..UncompressedOffset(end);
        let work = || extract::read_span(&*self.0, SpanId(span_id), compressed.as_slice(), wanted);
        Ok(PyBytes::new(py, &gate::run(py, work)?))
    }
}

fn no_span(span_id: u32) -> PyErr {
    PyIndexError::new_err(format!("span {span_id} does not exist"))
}
