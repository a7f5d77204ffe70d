//! `_core.read_headers`, `_core.EntryHeaders`, `_core.TarScanner`, `_core.gzip_header_len`: reading
//! tar and gzip headers.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyString;
use tocsin_core::span::UncompressedOffset;
use tocsin_core::tar::{self, Purpose, TocScanner};
use tocsin_core::{Error, gzip};

use crate::buffer::Blob;
use crate::{errors, gate, text};

/// The parsed headers of one entry.
#[pyclass(frozen, module = "tocsin._core")]
#[derive(Debug)]
pub(crate) struct EntryHeaders(tar::EntryHeaders);

/// Size, mode, user and group, as in the columns of a zTOC.
type Columns = (i64, i64, u32, u32);

/// Reads the headers of the entry at the beginning of `stretch`, which is at offset `start` of a
/// layer.
///
/// Keeps the GIL, since headers are usually one block.
#[pyfunction]
pub(crate) fn read_headers(py: Python<'_>, stretch: Blob, start: u64) -> PyResult<EntryHeaders> {
    tar::read_headers(stretch.as_slice(), UncompressedOffset(start))
        .map(EntryHeaders)
        .map_err(|error| errors::to_python(py, &error))
}

#[pymethods]
impl EntryHeaders {
    #[getter]
    fn r#type(&self) -> &'static str {
        self.0.entry.entry_type.as_str()
    }

    #[getter]
    fn name<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        text::decode(py, &self.0.entry.name)
    }

    #[getter]
    fn path<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        text::decode(py, &self.0.entry.clean_name())
    }

    #[getter]
    fn linkname<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        text::decode(py, &self.0.entry.linkname)
    }

    #[getter]
    fn columns(&self) -> Columns {
        let entry = &self.0.entry;
        (entry.uncompressed_size, entry.mode, entry.uid, entry.gid)
    }

    #[getter]
    fn data_offset(&self) -> u64 {
        self.0.data_offset().0
    }

    #[getter]
    fn end(&self) -> u64 {
        self.0.end().0
    }

    #[getter]
    fn stored_size(&self) -> u64 {
        self.0.stored_size
    }

    #[getter]
    fn regions(&self) -> Option<Vec<(u64, u64)>> {
        let regions = self.0.regions.as_ref()?;
        Some(regions.iter().map(|region| (region.offset, region.len)).collect())
    }
}

/// A pass over an image archive that reads only headers.
#[pyclass(frozen, module = "tocsin._core")]
#[derive(Debug)]
pub(crate) struct TarScanner(Mutex<Option<TocScanner>>);

/// Type, path, offset, size, link target, and whether the file is sparse.
type Member<'py> = (&'static str, Bound<'py, PyString>, i64, i64, Bound<'py, PyString>, bool);

impl TarScanner {
    fn with<T>(
        &self,
        work: impl FnOnce(&mut TocScanner) -> tocsin_core::Result<T>,
    ) -> tocsin_core::Result<T> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work(state.as_mut().ok_or(Error::AlreadyFinished)?)
    }
}

#[pymethods]
impl TarScanner {
    #[new]
    fn new() -> Self {
        Self(Mutex::new(Some(TocScanner::new(Purpose::Archive))))
    }

    /// Takes the next bytes. Keeps the GIL, since callers push little more than a block at a time.
    fn push(&self, py: Python<'_>, data: Blob) -> PyResult<()> {
        self.with(|scanner| scanner.push(data.as_slice()))
            .map_err(|error| errors::to_python(py, &error))
    }

    fn skip(&self, py: Python<'_>, size: u64) -> PyResult<u64> {
        self.with(|scanner| Ok(scanner.skip(size))).map_err(|error| errors::to_python(py, &error))
    }

    #[getter]
    fn entry_count(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(|scanner| Ok(scanner.entry_count()))
            .map_err(|error| errors::to_python(py, &error))
    }

    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Vec<Member<'py>>> {
        let toc = gate::run(py, || {
            let state = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
            state.ok_or(Error::AlreadyFinished)?.finish()
        })?;
        let members = toc.entries.iter().map(|entry| {
            Ok((
                entry.entry_type.as_str(),
                text::decode(py, &entry.clean_name())?,
                entry.uncompressed_offset,
                entry.uncompressed_size,
                text::decode(py, entry.link_target())?,
                entry.is_sparse(),
            ))
        });
        members.collect()
    }
}

/// The length of the gzip header at the start of `data`; `None` if there is no header or it is
/// incomplete.
#[pyfunction]
pub(crate) fn gzip_header_len(data: Blob) -> Option<usize> {
    gzip::header_len(data.as_slice())
}
