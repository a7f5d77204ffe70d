//! `_core.LayerIndexer`: one pass over one layer.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tocsin_core::Error;
use tocsin_core::indexer::{self, IndexOptions, LayerFormat};
use tocsin_core::tar::Purpose;

use crate::buffer::Blob;
use crate::gate;
use crate::seek::SeekLayer;
use crate::ztoc::Ztoc;

/// One pass over one layer: call `push` with its bytes, then `finish`.
#[pyclass(frozen, module = "tocsin._core")]
#[derive(Debug)]
pub(crate) struct LayerIndexer(Mutex<Option<indexer::LayerIndexer>>);

#[pymethods]
impl LayerIndexer {
    #[new]
    #[pyo3(signature = (*, format, span_size, build_tool_identifier, diff_id, reference_identical, threads=1, for_reading=false, seek_span_size=None))]
    #[expect(clippy::too_many_arguments, reason = "Python passes them by name")]
    fn new(
        py: Python<'_>,
        format: Option<&str>,
        span_size: u64,
        build_tool_identifier: String,
        diff_id: bool,
        reference_identical: bool,
        threads: usize,
        for_reading: bool,
        seek_span_size: Option<u64>,
    ) -> PyResult<Self> {
        let format = match format {
            None => None,
            Some("gzip") => Some(LayerFormat::Gzip),
            Some("uncompressed") => Some(LayerFormat::Tar),
            Some(other) => {
                let message =
                    format!("invalid format {other:?} (expected 'gzip', 'uncompressed' or None)");
                return Err(PyValueError::new_err(message));
            }
        };
        let options = IndexOptions {
            format,
            span_size,
            build_tool_identifier,
            purpose: if for_reading { Purpose::Read } else { Purpose::Index },
            diff_id,
            reference_identical,
            threads,
            seek_span_size,
            ..IndexOptions::default()
        };
        let indexer = gate::run(py, || indexer::LayerIndexer::new(options))?;
        Ok(Self(Mutex::new(Some(indexer))))
    }

    fn push(&self, py: Python<'_>, data: Blob) -> PyResult<()> {
        for piece in data.as_slice().chunks(gate::PIECE_LEN) {
            gate::run(py, || {
                let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                state.as_mut().ok_or(Error::AlreadyFinished)?.push(piece)
            })?;
        }
        Ok(())
    }

    fn finish(&self, py: Python<'_>) -> PyResult<IndexedLayer> {
        let layer = gate::run(py, || {
            let state = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
            state.ok_or(Error::AlreadyFinished)?.finish()
        })?;
        Ok(IndexedLayer {
            format: match layer.format {
                LayerFormat::Gzip => "gzip",
                LayerFormat::Tar => "uncompressed",
            },
            digest: layer.digest.to_string(),
            size: layer.size,
            diff_id: layer.diff_id.map(|digest| digest.to_string()),
            uncompressed_size: layer.uncompressed_size,
            needs_xattrs: layer.needs_xattrs,
            hazards: layer
                .hazards
                .iter()
                .map(|hazard| {
                    (hazard.entry_index, hazard.reason.as_str(), hazard.reason.to_string())
                })
                .collect(),
            dropped_checkpoint_count: layer.dropped_checkpoint_count,
            ztoc: Py::new(py, Ztoc(Arc::new(layer.ztoc)))?,
            seek: layer.seek.map(|seek| Py::new(py, SeekLayer(seek))).transpose()?,
        })
    }
}

/// Everything that one pass finds out about a layer.
#[pyclass(frozen, get_all, module = "tocsin._core")]
#[derive(Debug)]
pub(crate) struct IndexedLayer {
    ztoc: Py<Ztoc>,
    seek: Option<Py<SeekLayer>>,
    format: &'static str,
    digest: String,
    size: u64,
    diff_id: Option<String>,
    uncompressed_size: u64,
    needs_xattrs: bool,
    hazards: Vec<(usize, &'static str, String)>,
    dropped_checkpoint_count: u64,
}
