//! `_core.Mount`: an image whose layers are fetched while it is used. Only on Linux.
//!
//! Python asks for the next fetch, carries it out, and passes the bytes back. Nothing here calls Python,
//! and reads of available data never wait for the GIL.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use tocsin_core::fetch::What;
use tocsin_core::inodes::Inodes;
use tocsin_mount::erofs::image;
use tocsin_mount::{Engine, Fs, LayerPlace, MountOptions, Mounted, Options};

use crate::buffer::Blob;
use crate::pack::Pack;
use crate::seek_tree::SeekTree;
use crate::span_reader::Table;
use crate::tree::Tree;
use crate::{gate, text};

/// Names of a merged image.
#[derive(FromPyObject)]
pub(crate) enum Names<'py> {
    Tree(Bound<'py, Tree>),
    Seek(Bound<'py, SeekTree>),
}

impl Names<'_> {
    /// The inode table of the image. A file list must be complete.
    pub(crate) fn inodes(&self, py: Python<'_>) -> PyResult<Inodes> {
        match self {
            Self::Tree(tree) => {
                let names = tree.get().merged();
                gate::run(py, || Inodes::from_tree(names))
            }
            Self::Seek(tree) => {
                let list = tree.get().list();
                gate::run(py, || Inodes::from_list(list))
            }
        }
    }
}

/// A layer: its spans, the ranges of the chunks in its seek blob, the directory of its kept spans.
type Layer<'py> = (Table<'py>, Vec<(u64, u64)>, Option<PathBuf>);

/// Number, layer, whether it is of the layer's seek blob, start, end, purpose.
type Fetch = (u64, usize, bool, u64, u64, &'static str);

/// Seconds since the mount, path, start and end of a read.
type Row<'py> = (f64, Bound<'py, PyString>, u64, u64);

/// An image whose layers are fetched while it is used.
#[pyclass(frozen, module = "tocsin._core")]
#[derive(Debug)]
pub(crate) struct Mount {
    fs: Arc<Fs>,
    mounted: Mutex<Option<Mounted>>,
}

/// Seconds from Python; at most a century, since a `Duration` cannot hold every number.
fn seconds(value: f64) -> PyResult<Duration> {
    let limited = value.min(3.2e9);
    Duration::try_from_secs_f64(limited).map_err(|error| PyValueError::new_err(error.to_string()))
}

#[pymethods]
impl Mount {
    #[new]
    #[pyo3(signature = (tree, layers, *, read_timeout, memory_size, record, pack=None))]
    fn new(
        py: Python<'_>,
        tree: Names<'_>,
        layers: Vec<Layer<'_>>,
        read_timeout: f64,
        memory_size: usize,
        record: bool,
        pack: Option<Bound<'_, Pack>>,
    ) -> PyResult<Self> {
        let places: Vec<LayerPlace> = layers
            .into_iter()
            .map(|(table, chunks, directory)| {
                let chunks = chunks.into_iter().map(|(start, end)| start..end);
                LayerPlace { table: table.with_chunks(chunks), directory }
            })
            .collect();
        let inodes = tree.inodes(py)?;
        let pack = pack.map(|pack| Arc::clone(&pack.get().0));
        let options = Options { read_timeout: seconds(read_timeout)?, memory_size };
        let fs = gate::detached(py, || -> std::io::Result<Fs> {
            Ok(Fs::new(inodes, Engine::start(places, pack, &options)?, record))
        })??;
        Ok(Self { fs: Arc::new(fs), mounted: Mutex::new(None) })
    }

    #[pyo3(signature = (directory, *, allow_other, allow_suid, allow_dev, source))]
    fn mount(
        &self,
        py: Python<'_>,
        directory: PathBuf,
        allow_other: bool,
        allow_suid: bool,
        allow_dev: bool,
        source: String,
    ) -> PyResult<()> {
        let options = MountOptions { allow_other, allow_suid, allow_dev, source };
        let mounted = gate::detached(py, || tocsin_mount::mount(&self.fs, &directory, &options))??;
        *self.mounted.lock().unwrap_or_else(PoisonError::into_inner) = Some(mounted);
        Ok(())
    }

    /// Mounts a file system with a file for each layer, by its number, and the file `image`, which
    /// has the contents of the file `metadata`.
    #[pyo3(signature = (directory, metadata, *, source))]
    fn mount_layers(
        &self,
        py: Python<'_>,
        directory: PathBuf,
        metadata: PathBuf,
        source: String,
    ) -> PyResult<()> {
        let mounted = gate::detached(py, || {
            tocsin_mount::mount_layers(&self.fs, &directory, &metadata, source)
        })??;
        *self.mounted.lock().unwrap_or_else(PoisonError::into_inner) = Some(mounted);
        Ok(())
    }

    /// Whether all spans are on disk and match their digests, and the headers of all files match
    /// the index. Reads everything.
    fn check_all(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(gate::detached(py, || {
            if self.fs.engine().check_all() { self.fs.check_all() } else { Ok(false) }
        })??)
    }

    /// The possible SHA-256 digests of a layer's uncompressed bytes; `None` if spans are missing.
    /// Reads all of them.
    fn layer_digests<'py>(
        &self,
        py: Python<'py>,
        layer: usize,
    ) -> PyResult<Option<Vec<Bound<'py, PyBytes>>>> {
        let digests = gate::detached(py, || self.fs.engine().layer_digests(layer))??;
        let bytes = |digest: &[u8; 32]| PyBytes::new(py, digest);
        Ok(digests.map(|digests| digests.iter().map(bytes).collect()))
    }

    /// The metadata of the image as an EROFS file system over its layers.
    ///
    /// A `ValueError` says why EROFS cannot represent the image. Sparse files are known after
    /// `check_all`; without it, they are an error.
    fn erofs_image<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let made = gate::detached(py, || {
            let sparse = self.fs.sparse_files();
            let sizes = self.fs.engine().layer_sizes();
            image(self.fs.inodes(), &sizes, |inode| sparse.get(&inode).cloned())
        })?;
        let bytes = made.map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(PyBytes::new(py, &bytes))
    }

    fn prefetch(
        &self,
        py: Python<'_>,
        reads: Vec<(Bound<'_, PyString>, u64, u64)>,
    ) -> PyResult<u64> {
        let mut found = Vec::with_capacity(reads.len());
        for (path, start, end) in reads {
            if let Some(path) = text::encode(&path)? {
                found.push((path.into_owned(), start, end));
            }
        }
        gate::detached(py, || self.fs.prefetch(&found))
    }

    #[pyo3(signature = (on, rate=None))]
    fn set_background(&self, on: bool, rate: Option<u64>) {
        self.fs.engine().set_background(on, rate);
    }

    fn next_fetch(&self, py: Python<'_>, timeout: f64) -> PyResult<Option<Fetch>> {
        let timeout = seconds(timeout)?;
        let found = gate::detached(py, || self.fs.engine().next_fetch(timeout))?;
        Ok(found.map(|fetch| {
            // A pack is the source above the highest layer, and its frames are kept like chunks.
            let is_of_pack = fetch.layer == self.fs.engine().layer_sizes().len();
            let of_seek_blob = is_of_pack || matches!(fetch.what, What::Chunks(_));
            let purpose = fetch.purpose.as_str();
            (fetch.number, fetch.layer, of_seek_blob, fetch.range.start, fetch.range.end, purpose)
        }))
    }

    /// Returns what is wrong with the bytes, or `None`.
    fn answer(&self, py: Python<'_>, number: u64, data: Blob) -> PyResult<Option<String>> {
        let data = data.into_frozen(py)?;
        Ok(gate::detached(py, || self.fs.engine().answer(number, data.as_slice()))?.err())
    }

    fn fail(&self, py: Python<'_>, number: u64, error: &str) -> PyResult<()> {
        gate::detached(py, || self.fs.engine().fail(number, error))
    }

    fn drain_log<'py>(&self, py: Python<'py>) -> PyResult<Vec<Row<'py>>> {
        let reads = gate::detached(py, || self.fs.drain_log())?;
        let row = |read: &tocsin_mount::Read| {
            let path = text::decode(py, &self.fs.inodes().path(read.inode))?;
            Ok((read.at.as_secs_f64(), path, read.start, read.end))
        };
        reads.iter().map(row).collect()
    }

    fn write_out(&self, py: Python<'_>) -> PyResult<()> {
        Ok(gate::detached(py, || self.fs.engine().write_out())??)
    }

    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let status = gate::detached(py, || self.fs.engine().status())?;
        let found = PyDict::new(py);
        found.set_item("bytes_fetched", status.bytes_fetched)?;
        found.set_item("fetches", status.fetches)?;
        found.set_item("bytes_left", status.bytes_left)?;
        found.set_item("bytes_total", status.bytes_total)?;
        found.set_item("spans", status.spans)?;
        found.set_item("spans_here", status.spans_here)?;
        found.set_item("reads", status.reads)?;
        found.set_item("reads_waiting", status.reads_waiting)?;
        found.set_item("hits", status.hits)?;
        found.set_item("failures", status.failures)?;
        found.set_item("last_error", status.last_error)?;
        found.set_item("disk_error", status.disk_error)?;
        found.set_item("complete", status.complete)?;
        let pack = status.pack.map(|pack| {
            let found = PyDict::new(py);
            found.set_item("size", pack.size)?;
            found.set_item("bytes_left", pack.bytes_left)?;
            found.set_item("reads", pack.reads)?;
            found.set_item("state", pack.state)?;
            found.set_item("problem", pack.problem)?;
            Ok::<_, PyErr>(found)
        });
        found.set_item("pack", pack.transpose()?)?;
        found.set_item("inodes", self.fs.inodes().len())?;
        found.set_item("left_out", self.fs.inodes().left_out())?;
        Ok(found)
    }

    /// Whether the file system has been unmounted, after `timeout` seconds at most.
    fn wait(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        let timeout = seconds(timeout)?;
        let outcome = gate::detached(py, || {
            // Not locked while it waits, since `unmount` needs the lock.
            let mounted = self.mounted.lock().unwrap_or_else(PoisonError::into_inner);
            let ended = mounted.as_ref().map(Mounted::ended);
            drop(mounted);
            ended.is_none_or(|ended| ended.wait(timeout))
        });
        py.check_signals()?;
        let ended = outcome?;
        Ok(ended)
    }

    fn unmount(&self, py: Python<'_>) -> PyResult<()> {
        gate::detached(py, || {
            let mut mounted = self.mounted.lock().unwrap_or_else(PoisonError::into_inner);
            mounted.take().map_or(Ok(()), |mut mounted| mounted.unmount())
        })??;
        Ok(())
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        gate::detached(py, || self.fs.engine().close())
    }
}
