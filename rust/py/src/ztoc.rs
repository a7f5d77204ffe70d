//! `_core.Ztoc`: a zTOC in memory.

use std::sync::Arc;

use pyo3::exceptions::PyIndexError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use tocsin_core::bytes::SharedBytes;
use tocsin_core::span::{SpanId, UncompressedOffset};
use tocsin_core::tar::Entries;
use tocsin_core::ztoc::{Entry, Zinfo};
use tocsin_core::{extract, ztoc};

use crate::buffer::Blob;
use crate::{columns, gate, text};

/// A zTOC in memory.
#[pyclass(frozen, module = "tocsin._core")]
#[derive(Debug)]
pub(crate) struct Ztoc(pub(crate) Arc<ztoc::Ztoc>);

impl Ztoc {
    fn entry_at(&self, index: usize) -> PyResult<Entry<'_>> {
        let no_entry = || PyIndexError::new_err(format!("toc has no entry {index}"));
        self.0.toc.entry(index).ok_or_else(no_entry)
    }
}

/// Code, span, entry, whether the whole layer is rejected, and the message.
type Refusal = (&'static str, Option<u32>, Option<usize>, bool, String);

/// Entries of each type, files with data in several spans, compressed size of the largest span.
type Counts = (Vec<(&'static str, u64)>, u64, u64);

fn refusal(found: &ztoc::Refusal) -> Refusal {
    let span_id = found.span_id().map(|span_id| span_id.0);
    (found.code(), span_id, found.entry_index(), found.is_of_layer(), found.to_string())
}

#[pymethods]
impl Ztoc {
    #[staticmethod]
    fn from_bytes(py: Python<'_>, blob: Blob) -> PyResult<Self> {
        // Keep the blob, since entries and windows are looked up in it later.
        let blob = SharedBytes::new(blob.into_frozen(py)?);
        gate::run(py, || ztoc::Ztoc::from_shared(&blob)).map(|ztoc| Self(Arc::new(ztoc)))
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let blob = gate::run(py, || self.0.to_bytes())?;
        Ok(PyBytes::new(py, &blob))
    }

    #[getter]
    fn version(&self) -> &str {
        &self.0.version
    }

    #[getter]
    fn build_tool_identifier(&self) -> &str {
        &self.0.build_tool_identifier
    }

    #[getter]
    fn compressed_archive_size(&self) -> u64 {
        self.0.compressed_archive_size
    }

    #[getter]
    fn uncompressed_archive_size(&self) -> u64 {
        self.0.uncompressed_archive_size
    }

    #[getter]
    fn compression_algorithm(&self) -> &'static str {
        match self.0.zinfo {
            Zinfo::Gzip(_) => "gzip",
            Zinfo::Tar(_) => "uncompressed",
        }
    }

    #[getter]
    fn span_size(&self) -> u64 {
        match &self.0.zinfo {
            Zinfo::Gzip(zinfo) => zinfo.span_size,
            Zinfo::Tar(zinfo) => zinfo.span_size,
        }
    }

    #[getter]
    fn span_count(&self) -> u64 {
        self.0.span_count()
    }

    #[getter]
    fn entry_count(&self) -> usize {
        self.0.toc.len()
    }

    /// The number of entries of each type, the number of files with data in more than one span, and
    /// the compressed size of the largest span in bytes.
    fn counts(&self, py: Python<'_>) -> PyResult<Counts> {
        gate::run(py, || {
            let counts = self.0.counts();
            let types = counts.types.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
            Ok((types, counts.multi_span_files, counts.largest_span))
        })
    }

    fn file_rows<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        PyBytes::new_with(py, self.0.toc.len() * columns::FILE_ROW_LEN, |rows| {
            gate::run(py, || {
                columns::files(&self.0, rows);
                Ok(())
            })
        })
    }

    fn span_rows<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let rows = gate::run(py, || columns::spans(&self.0))?;
        Ok(PyBytes::new(py, &rows))
    }

    fn names<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        self.0.toc.entries().map(|entry| PyBytes::new(py, entry.name())).collect()
    }

    fn clean_paths<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyString>>> {
        self.0.toc.entries().map(|entry| text::decode(py, &entry.clean_name())).collect()
    }

    fn entry<'py>(&self, py: Python<'py>, index: usize) -> PyResult<Bound<'py, PyDict>> {
        let entry = self.entry_at(index)?;
        let fields = PyDict::new(py);
        let bytes = |text: &[u8]| PyBytes::new(py, text);
        fields.set_item(intern!(py, "name"), bytes(entry.name()))?;
        fields.set_item(intern!(py, "type"), entry.entry_type().as_str())?;
        fields.set_item(intern!(py, "uncompressed_offset"), entry.uncompressed_offset())?;
        fields.set_item(intern!(py, "uncompressed_size"), entry.uncompressed_size())?;
        fields.set_item(intern!(py, "linkname"), bytes(entry.linkname()))?;
        fields.set_item(intern!(py, "mode"), entry.mode())?;
        fields.set_item(intern!(py, "uid"), entry.uid())?;
        fields.set_item(intern!(py, "gid"), entry.gid())?;
        fields.set_item(intern!(py, "uname"), bytes(entry.uname()))?;
        fields.set_item(intern!(py, "gname"), bytes(entry.gname()))?;
        fields.set_item(intern!(py, "mod_time"), bytes(entry.mod_time()))?;
        fields.set_item(intern!(py, "devmajor"), entry.devmajor())?;
        fields.set_item(intern!(py, "devminor"), entry.devminor())?;
        fields.set_item(intern!(py, "is_sparse"), entry.is_sparse())?;
        fields.set_item(intern!(py, "pax_records"), self.records(py, index)?)?;
        Ok(fields)
    }

    fn records<'py>(&self, py: Python<'py>, index: usize) -> PyResult<Bound<'py, PyDict>> {
        let records = PyDict::new(py);
        for (key, value) in self.entry_at(index)?.xattrs().iter() {
            records.set_item(PyBytes::new(py, key), PyBytes::new(py, value))?;
        }
        Ok(records)
    }

    /// Nanoseconds since 1970; `None` if the zTOC has no valid time.
    fn mod_time_ns(&self, index: usize) -> PyResult<Option<i128>> {
        let parts = self.entry_at(index)?.mod_time_parts();
        Ok(parts.map(|(seconds, nanoseconds)| {
            i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
        }))
    }

    fn span_of(&self, uncompressed_offset: u64) -> Option<u32> {
        self.0.span_of(UncompressedOffset(uncompressed_offset)).map(|span_id| span_id.0)
    }

    fn span_range(&self, span_id: u32) -> PyResult<(u64, u64)> {
        let no_span = |_| PyIndexError::new_err(format!("span {span_id} does not exist"));
        let range = self.0.span_compressed_range(SpanId(span_id)).map_err(no_span)?;
        Ok((range.start.0, range.end.0))
    }

    fn window<'py>(&self, py: Python<'py>, span_id: u32) -> PyResult<Bound<'py, PyBytes>> {
        let no_window = || PyIndexError::new_err(format!("span {span_id} has no window"));
        let Zinfo::Gzip(zinfo) = &self.0.zinfo else { return Err(no_window()) };
        let checkpoint = zinfo.checkpoints.get(span_id as usize).ok_or_else(no_window)?;
        Ok(PyBytes::new(py, checkpoint.window.as_bytes()))
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

    #[getter]
    fn needs_xattrs(&self) -> bool {
        self.0.toc.entries().any(Entry::needs_xattrs)
    }

    fn reader_refusals(&self, py: Python<'_>) -> PyResult<Vec<Refusal>> {
        gate::run(py, || Ok(self.0.reader_refusals().iter().map(refusal).collect()))
    }
}
