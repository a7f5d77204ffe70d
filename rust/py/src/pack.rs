//! `_core.Pack` and `_core.PackWriter`: the recorded parts of an image's layers.

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use tocsin_core::digest::Digest;
use tocsin_core::inodes::Inodes;
use tocsin_core::pack::{self, Extent, PackLayer, Plan};

use crate::buffer::Blob;
use crate::seek_tree::SeekTree;
use crate::{gate, text};

/// Number of a layer, start and end.
type Row = (u32, u64, u64);

/// The extents of each frame; numbers of reads of unknown files and of layers that cannot be packed;
/// number of bytes that do not fit.
type Planned = (Vec<Vec<Row>>, u64, u64, u64);

/// Chooses what goes into a pack. `sizes` has the uncompressed size of each layer, or `None` for a layer
/// of which nothing is packed.
#[pyfunction]
pub(crate) fn plan_pack(
    py: Python<'_>,
    tree: &Bound<'_, SeekTree>,
    sizes: Vec<Option<u64>>,
    reads: Vec<(Bound<'_, PyString>, u64, u64)>,
) -> PyResult<Planned> {
    let mut found = Vec::with_capacity(reads.len());
    let mut unknown = 0;
    for (path, start, end) in reads {
        match text::encode(&path)? {
            Some(path) => found.push((path.into_owned(), start, end)),
            None => unknown += 1,
        }
    }
    let list = tree.get().list();
    let plan = gate::run(py, || {
        let inodes = Inodes::from_list(list)?;
        Ok(pack::plan(&inodes, &sizes, &found))
    })?;
    let Plan { frames, unknown: missing, unusable, left_out } = plan;
    let rows = |frame: &Vec<Extent>| frame.iter().map(row).collect();
    Ok((frames.iter().map(rows).collect(), unknown + missing, unusable, left_out))
}

const fn row(extent: &Extent) -> Row {
    (extent.layer, extent.range.start, extent.range.end)
}

/// The index of a pack, whose digest the caller has verified.
#[pyclass(frozen, module = "tocsin._core")]
#[derive(Debug)]
pub(crate) struct Pack(pub(crate) Arc<pack::Pack>);

#[pymethods]
impl Pack {
    #[new]
    fn new(py: Python<'_>, index: Blob) -> PyResult<Self> {
        gate::run(py, || pack::Pack::parse(index.as_slice())).map(|pack| Self(Arc::new(pack)))
    }

    /// The digest and the uncompressed size of each layer.
    #[getter]
    fn layers(&self) -> Vec<(String, u64)> {
        let layers = self.0.layers().iter();
        layers.map(|layer| (layer.digest.to_string(), layer.uncompressed_size)).collect()
    }

    #[getter]
    fn size(&self) -> u64 {
        self.0.stored_size()
    }

    #[getter]
    fn content_size(&self) -> u64 {
        self.0.content_len()
    }

    #[getter]
    fn frame_count(&self) -> usize {
        self.0.frames().len()
    }

    #[getter]
    fn extent_count(&self) -> usize {
        self.0.extent_count()
    }

    fn frame_range(&self, frame: u32) -> PyResult<(u64, u64)> {
        let found = self.0.frames().get(frame as usize).map(|frame| &frame.stored);
        found.map(|stored| (stored.start, stored.end)).ok_or_else(|| no_frame(frame))
    }

    fn extents(&self, frame: u32) -> Vec<Row> {
        self.0.extents(frame).map(row).collect()
    }

    /// The content of a frame, after verifying its digest.
    fn open_frame<'py>(
        &self,
        py: Python<'py>,
        frame: u32,
        stored: Blob,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let stored = stored.into_frozen(py)?;
        let content = gate::run(py, || self.0.open_frame(frame, stored.as_slice()))?;
        Ok(PyBytes::new(py, &content))
    }
}

fn no_frame(frame: u32) -> PyErr {
    PyIndexError::new_err(format!("frame {frame} does not exist"))
}

/// Makes a pack, frame by frame.
#[pyclass(frozen, module = "tocsin._core")]
#[derive(Debug)]
pub(crate) struct PackWriter(Mutex<Option<pack::PackWriter>>);

#[pymethods]
impl PackWriter {
    #[new]
    fn new(py: Python<'_>, layers: Vec<(String, u64)>) -> PyResult<Self> {
        let layers = layers.iter().map(|(digest, uncompressed_size)| {
            let bad_digest = |_| PyValueError::new_err(format!("invalid digest {digest:?}"));
            let digest = Digest::from_str(digest).map_err(bad_digest)?;
            Ok(PackLayer { digest, uncompressed_size: *uncompressed_size })
        });
        let layers = layers.collect::<PyResult<Vec<_>>>()?;
        let writer = gate::run(py, || pack::PackWriter::new(layers))?;
        Ok(Self(Mutex::new(Some(writer))))
    }

    fn add(&self, py: Python<'_>, extents: Vec<Row>, content: Blob) -> PyResult<()> {
        let extents =
            extents.into_iter().map(|(layer, start, end)| Extent { layer, range: start..end });
        let extents = extents.collect();
        gate::run(py, || {
            let mut writer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            writer.as_mut().map_or(Ok(()), |writer| writer.add(extents, content.as_slice()))
        })
    }

    /// The index and the frames.
    fn finish<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        let writer = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let writer =
            writer.ok_or_else(|| PyValueError::new_err("the pack has already been finished"))?;
        let (index, blob) = gate::run(py, || writer.finish())?;
        Ok((PyBytes::new(py, &index), PyBytes::new(py, &blob)))
    }
}
