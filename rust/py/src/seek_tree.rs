//! `_core.SeekRoot` and `_core.SeekTree`: the root of a seek table, and the merged names of an image
//! according to its file list.

use std::ops::Range;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyException, PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use pyo3::{PyTypeInfo, create_exception};
use tocsin_core::digest::Digest;
use tocsin_core::seek::{self, Answer, FileList, LayerParts, ListWalk, Listed, RootLayer, Stop};
use tocsin_core::tar::EntryType;
use tocsin_core::tree::MAX_LINKS;
use tocsin_core::ztoc::{Entry, IMPLIED_DIRECTORY};

use crate::buffer::Blob;
use crate::file_stat::{Owner, absolute, stat, stat_in_list, word};
use crate::seek::{SeekLayer, SeekSpans, compression_name};
use crate::span_cache::VerifiedFiles;
use crate::tree::{path_error, trimmed};
use crate::ztoc::Ztoc;
use crate::{errors, gate, text};

/// Maximum bytes of paths in one batch of a walk: deep trees have long paths.
const BATCH_LEN: usize = 1 << 20;

create_exception!(
    tocsin._core,
    MissingChunks,
    PyException,
    "The answer needs chunks of the file list that have not been added; `chunks` has their numbers."
);

type Node<'py> = (u32, Option<u32>, Bound<'py, PyString>, u64);
type Row<'py> = (Bound<'py, PyString>, Bound<'py, PyString>, u64, u64);

type DataPlace<'py> = (u32, u64, u64, u32, Bound<'py, PyString>, bool);

/// Makes the root and the file list blob of an image. Each layer is given as its zTOC, its seek blob
/// and its digest.
#[pyfunction]
pub(crate) fn build_seek_table<'py>(
    py: Python<'py>,
    layers: Vec<(Bound<'py, Ztoc>, Bound<'py, SeekLayer>, String)>,
) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
    let parts = layers.iter().map(|(ztoc, seek, digest)| {
        let bad_digest = |_| PyValueError::new_err(format!("invalid digest {digest:?}"));
        Ok(LayerParts {
            ztoc: Arc::clone(&ztoc.get().0),
            seek: seek.get().0.clone(),
            digest: Digest::from_str(digest).map_err(bad_digest)?,
        })
    });
    let parts = parts.collect::<PyResult<Vec<_>>>()?;
    let table = gate::run(py, || seek::build(&parts))?;
    Ok((PyBytes::new(py, &table.root), PyBytes::new(py, &table.list_blob)))
}

/// The root of a seek table, whose digest the caller has verified.
#[pyclass(frozen, module = "tocsin._core")]
#[derive(Debug)]
pub(crate) struct SeekRoot(Arc<seek::Root>);

impl SeekRoot {
    fn root_layer(&self, layer: usize) -> PyResult<&RootLayer> {
        let no_layer = || PyIndexError::new_err(format!("layer {layer} does not exist"));
        self.0.layers().get(layer).ok_or_else(no_layer)
    }
}

#[pymethods]
impl SeekRoot {
    #[new]
    fn new(py: Python<'_>, root: Blob) -> PyResult<Self> {
        gate::run(py, || seek::Root::parse(root.as_slice())).map(|root| Self(Arc::new(root)))
    }

    #[getter]
    fn span_size(&self) -> u64 {
        self.0.span_size()
    }

    #[getter]
    fn entry_count(&self) -> u32 {
        self.0.entry_count()
    }

    #[getter]
    fn toc_chunk_count(&self) -> u32 {
        self.0.list_chunk_count()
    }

    #[getter]
    fn layer_count(&self) -> usize {
        self.0.layers().len()
    }

    #[getter]
    fn toc_blob_size(&self) -> u64 {
        self.0.list_blob_size()
    }

    /// Digest, compression, compressed size, uncompressed size, span count, size of the seek blob.
    fn layer(&self, layer: usize) -> PyResult<(String, &'static str, u64, u64, u64, u64)> {
        let layer = self.root_layer(layer)?;
        Ok((
            layer.digest.to_string(),
            compression_name(layer.compression()),
            layer.compressed_size(),
            layer.uncompressed_size(),
            layer.span_count(),
            layer.blob_size(),
        ))
    }

    #[getter]
    fn positions_range(&self) -> (u64, u64) {
        bounds(self.0.positions_range())
    }

    fn toc_chunk_range(&self, chunk: u32) -> PyResult<(u64, u64)> {
        self.0.list_chunk_range(chunk).map(bounds).ok_or_else(|| no_chunk(chunk))
    }

    /// The numbers of the entries in a chunk, as a half-open range.
    fn toc_chunk_entries(&self, chunk: u32) -> (u32, u32) {
        let entries = self.0.chunk_entries(chunk);
        (entries.start, entries.end)
    }

    fn seek_chunk_range(&self, layer: usize, chunk: u32) -> PyResult<(u64, u64)> {
        let range = self.root_layer(layer)?.chunk_range(chunk);
        range.map(bounds).ok_or_else(|| no_chunk(chunk))
    }

    /// The spans of each layer, from the position map.
    fn positions(&self, py: Python<'_>, data: Blob) -> PyResult<Vec<SeekSpans>> {
        let spans = gate::run(py, || self.0.spans(data.as_slice()))?;
        Ok(spans.into_iter().map(|spans| SeekSpans(Arc::new(spans))).collect())
    }
}

const fn bounds(range: Range<u64>) -> (u64, u64) {
    (range.start, range.end)
}

fn no_chunk(chunk: u32) -> PyErr {
    PyIndexError::new_err(format!("chunk {chunk} does not exist"))
}

/// The merged names of an image, from those chunks of its file list that have been added.
#[pyclass(frozen, module = "tocsin._core")]
#[derive(Debug)]
pub(crate) struct SeekTree(Arc<FileList>);

impl SeekTree {
    /// The file list in the core.
    pub(crate) fn list(&self) -> &FileList {
        &self.0
    }
}

/// A `MissingChunks` for these chunks.
fn missing_chunks(py: Python<'_>, chunks: Vec<u32>) -> PyErr {
    let build = || -> PyResult<PyErr> {
        let count = chunks.len();
        let chunks = PyList::new(py, chunks)?;
        let error =
            MissingChunks::type_object(py).call1((format!("{count} chunks are missing"),))?;
        error.setattr("chunks", chunks)?;
        Ok(PyErr::from_value(error))
    };
    build().unwrap_or_else(|failure| failure)
}

impl SeekTree {
    fn resolve(&self, path: &Bound<'_, PyString>, follow: bool) -> PyResult<Listed> {
        let outcome = match text::encode(path)? {
            Some(bytes) => self.0.resolve(&bytes, follow),
            // A string that cannot be encoded cannot be a file name.
            None => Err(Stop::Missing),
        };
        outcome.map_err(|stop| stopped(path, stop))
    }

    fn located(&self, path: &Bound<'_, PyString>) -> PyResult<Option<Listed>> {
        match text::encode(path)? {
            Some(bytes) => self.0.locate(&bytes).map_err(|stop| stopped(path, stop)),
            None => Ok(None),
        }
    }

    /// The clean path of a directory, given a path that has already been resolved.
    fn directory(&self, path: &Bound<'_, PyString>) -> PyResult<Vec<u8>> {
        let found = self.located(path)?.filter(is_directory);
        let error = || path_error(path, "not_directory", None, "is not a directory");
        found.map(|found| found.path()).ok_or_else(error)
    }

    fn node<'py>(&self, py: Python<'py>, listed: &Listed) -> Node<'py> {
        let entry = listed.entry();
        let number = listed.first_name();
        let of_entry = (!entry.is_implied).then_some(number);
        (entry.layer, of_entry, word(py, entry.kind), inode(number))
    }

    fn children_of(&self, path: &Bound<'_, PyString>) -> PyResult<Vec<Listed>> {
        let directory = self.directory(path)?;
        self.0.children(&directory).map_err(|stop| stopped(path, stop))
    }

    fn numbered(&self, py: Python<'_>, number: u64, answer: Answer<Listed>) -> PyResult<Listed> {
        answer.map_err(|stop| match stop {
            Stop::Chunks(chunks) => missing_chunks(py, chunks),
            _ => PyIndexError::new_err(format!("entry {number} is not in the file list")),
        })
    }
}

/// Where the data of a regular file is: layer, offset, size, number of header blocks and clean name in
/// the tar; and whether the mode and owner are those in its headers. `None` for other types.
fn data_place<'py>(py: Python<'py>, listed: &Listed) -> PyResult<Option<DataPlace<'py>>> {
    let found = listed.entry();
    if found.kind != EntryType::Regular {
        return Ok(None);
    }
    let tar_name = found.extra.as_ref().and_then(|extra| extra.tar_name.clone());
    let name = text::decode(py, &tar_name.unwrap_or_else(|| listed.path()))?;
    let has_owner = !found.extra.as_ref().is_some_and(|extra| extra.has_link_owner);
    Ok(Some((found.layer, found.offset, found.size, found.header_blocks, name, has_owner)))
}

fn is_directory(listed: &Listed) -> bool {
    listed.entry().kind == EntryType::Directory
}

/// The inode number. Two names share it if and only if they are links to one file. 0 is not valid.
fn inode(first_name: u32) -> u64 {
    u64::from(first_name) + 1
}

fn stat_unpacked<'py>(
    py: Python<'py>,
    path: &[u8],
    listed: &Listed,
) -> PyResult<Bound<'py, PyTuple>> {
    stat_in_list(py, path, listed, inode(listed.first_name()), Owner::Unpacked)
}

fn stopped(path: &Bound<'_, PyString>, stop: Stop) -> PyErr {
    match stop {
        Stop::Chunks(chunks) => missing_chunks(path.py(), chunks),
        Stop::Missing => path_error(path, "missing", None, "no such file or directory"),
        Stop::NotDirectory(at) => {
            let asked = text::encode(path).ok().flatten().unwrap_or_default();
            let other = Some(&at[..]).filter(|at| trimmed(&asked) != *at);
            path_error(path, "not_directory", other, "is not a directory")
        }
        Stop::Loop => {
            let about = format!("more than {MAX_LINKS} symbolic links, possibly a loop");
            path_error(path, "loop", None, &about)
        }
    }
}

#[pymethods]
impl SeekTree {
    #[new]
    fn new(root: &SeekRoot) -> Self {
        Self(Arc::new(FileList::new(Arc::clone(&root.0))))
    }

    fn has_chunk(&self, chunk: u32) -> bool {
        self.0.has_chunk(chunk)
    }

    fn add_chunk(&self, py: Python<'_>, chunk: u32, data: Blob) -> PyResult<()> {
        gate::run(py, || self.0.add_chunk(chunk, data.as_slice()))
    }

    fn missing_chunks(&self) -> Vec<u32> {
        self.0.missing_chunks()
    }

    /// Like [`data_place`], for a file given by any of its names.
    fn data_place<'py>(&self, py: Python<'py>, entry: u32) -> PyResult<DataPlace<'py>> {
        let listed = self.numbered(py, entry.into(), self.0.entry(entry))?;
        data_place(py, &listed)?.ok_or_else(|| errors::to_python(py, &self.0.not_a_file(&listed)))
    }

    /// Where an entry's data is, or `None`; whether the entry is only implied; its target.
    fn listed<'py>(
        &self,
        py: Python<'py>,
        entry: u32,
    ) -> PyResult<(Option<DataPlace<'py>>, bool, Bound<'py, PyString>)> {
        let listed = self.numbered(py, entry.into(), self.0.named(entry))?;
        let found = listed.entry();
        Ok((data_place(py, &listed)?, found.is_implied, text::decode(py, &found.target)?))
    }

    /// The target of a link.
    fn target_of<'py>(&self, py: Python<'py>, entry: u32) -> PyResult<Bound<'py, PyString>> {
        let listed = self.numbered(py, entry.into(), self.0.entry(entry))?;
        text::decode(py, &listed.entry().target)
    }

    fn left_out(&self) -> Vec<(String, u64, u32, String)> {
        Vec::new()
    }

    #[allow(clippy::unused_self, reason = "the same interface as Tree")]
    fn left_out_below(&self, _path: &str) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Empty: the file list has the metadata of the last link of each file.
    fn links(&self) -> Vec<((u32, u32), (u32, u32))> {
        Vec::new()
    }

    fn find<'py>(
        &self,
        path: &Bound<'py, PyString>,
        follow: bool,
    ) -> PyResult<(Bound<'py, PyString>, Node<'py>)> {
        let listed = self.resolve(path, follow)?;
        Ok((text::decode(path.py(), &listed.path())?, self.node(path.py(), &listed)))
    }

    fn node_at<'py>(&self, path: &Bound<'py, PyString>) -> PyResult<Node<'py>> {
        Ok(self.node(path.py(), &self.resolve(path, true)?))
    }

    fn type_of<'py>(&self, path: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyString>>> {
        let py = path.py();
        let Some(bytes) = text::encode(path)? else { return Ok(None) };
        match self.0.resolve(&bytes, true) {
            Ok(listed) => Ok(Some(word(py, listed.entry().kind))),
            Err(Stop::Chunks(chunks)) => Err(missing_chunks(py, chunks)),
            Err(_) => Ok(None),
        }
    }

    /// As `Tree.read_cached`; also `None` if chunks are missing.
    fn read_cached<'py>(
        &self,
        path: &Bound<'py, PyAny>,
        start: &Bound<'py, PyAny>,
        end: &Bound<'py, PyAny>,
        files: &Bound<'py, VerifiedFiles>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let Ok(path) = path.cast::<PyString>() else { return Ok(None) };
        let found = text::encode(path)?.and_then(|bytes| self.0.resolve(&bytes, true).ok());
        let found = found.filter(|listed| listed.entry().kind == EntryType::Regular);
        let place = found.map(|listed| (listed.entry().layer, listed.first_name()));
        Ok(place.and_then(|place| files.get().read(place, start, end)))
    }

    fn root<'py>(&self, py: Python<'py>) -> PyResult<Node<'py>> {
        let listed = self.numbered(py, 0, self.0.named(0))?;
        Ok(self.node(py, &listed))
    }

    fn is_directory(&self, path: &Bound<'_, PyString>) -> PyResult<bool> {
        Ok(self.located(path)?.is_some_and(|listed| is_directory(&listed)))
    }

    fn children<'py>(
        &self,
        path: &Bound<'py, PyString>,
    ) -> PyResult<Vec<(Bound<'py, PyString>, Node<'py>)>> {
        let py = path.py();
        let children = self.children_of(path)?;
        let rows = children.iter();
        rows.map(|listed| Ok((text::decode(py, listed.name())?, self.node(py, listed)))).collect()
    }

    fn names<'py>(
        &self,
        path: &Bound<'py, PyString>,
    ) -> PyResult<(Bound<'py, PyList>, Bound<'py, PyList>)> {
        let py = path.py();
        let (directories, others) = (PyList::empty(py), PyList::empty(py));
        for listed in self.children_of(path)? {
            let list = if is_directory(&listed) { &directories } else { &others };
            list.append(text::decode(py, listed.name())?)?;
        }
        Ok((directories, others))
    }

    fn stat<'py>(
        &self,
        path: &Bound<'py, PyString>,
        follow: bool,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let listed = self.resolve(path, follow)?;
        stat_unpacked(path.py(), &listed.path(), &listed)
    }

    fn stat_listed<'py>(
        &self,
        py: Python<'py>,
        path: &Bound<'py, PyString>,
        layer: u32,
        entry: Option<u32>,
        inode: u64,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let path = text::encode(path)?.unwrap_or_default();
        let Some(number) = entry else {
            return stat(
                py,
                &path,
                Entry::from(&IMPLIED_DIRECTORY),
                None,
                inode,
                layer,
                Owner::Listed,
            );
        };
        let listed = self.numbered(py, number.into(), self.0.entry(number))?;
        stat_in_list(py, &path, &listed, inode, Owner::Listed)
    }

    fn stat_all<'py>(&self, path: &Bound<'py, PyString>) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let py = path.py();
        let listed = self.resolve(path, true)?;
        let full = listed.path();
        if !is_directory(&listed) {
            return Ok(vec![stat_unpacked(py, &full, &listed)?]);
        }
        let children = self.0.children(&full).map_err(|stop| stopped(path, stop))?;
        children.iter().map(|listed| stat_unpacked(py, &listed.path(), listed)).collect()
    }

    fn stat_place<'py>(&self, py: Python<'py>, number: u64) -> PyResult<Bound<'py, PyTuple>> {
        let named = self.0.named(u32::try_from(number).unwrap_or(u32::MAX));
        let listed = self.numbered(py, number, named)?;
        stat_unpacked(py, &listed.path(), &listed)
    }

    fn walk(&self, path: &Bound<'_, PyString>) -> PyResult<SeekWalk> {
        let directory = self.directory(path)?;
        Ok(SeekWalk::new(&self.0, None, Some(directory)))
    }

    fn walk_from(&self, path: &Bound<'_, PyString>) -> PyResult<SeekWalk> {
        let top = self.resolve(path, true)?;
        let directory = is_directory(&top).then(|| top.path());
        Ok(SeekWalk::new(&self.0, Some(top), directory))
    }
}

/// A walk over the names, each directory before its contents, in batches. An empty batch marks the
/// end.
#[pyclass(frozen, module = "tocsin._core")]
#[derive(Debug)]
pub(crate) struct SeekWalk {
    tree: SeekTree,
    state: Mutex<WalkState>,
}

#[derive(Debug)]
struct WalkState {
    /// Returned before everything below it.
    top: Option<Listed>,
    below: Option<ListWalk>,
}

impl SeekWalk {
    fn new(list: &Arc<FileList>, top: Option<Listed>, directory: Option<Vec<u8>>) -> Self {
        let below = directory.map(ListWalk::new);
        Self { tree: SeekTree(Arc::clone(list)), state: Mutex::new(WalkState { top, below }) }
    }

    /// The next paths and entries. If chunks are missing, returns the entries before them, or an
    /// error if there are none; the walk can be continued afterwards.
    fn batch(&self, py: Python<'_>, limit: usize) -> PyResult<Vec<(Vec<u8>, Listed)>> {
        let list = &self.tree.0;
        let (batch, missing) = gate::run(py, || {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let (mut batch, mut len) = (Vec::new(), 0);
            if let Some(top) = state.top.take() {
                batch.push((top.path(), top));
            }
            while batch.len() < limit && len < BATCH_LEN {
                let Some(below) = &mut state.below else { break };
                match below.step(list) {
                    Ok(Some((path, listed))) => {
                        len += path.len();
                        batch.push((path, listed));
                    }
                    Ok(None) => break,
                    Err(Stop::Chunks(chunks)) => return Ok((batch, chunks)),
                    // A walk only lists directories that exist.
                    Err(_) => break,
                }
            }
            Ok((batch, Vec::new()))
        })?;
        if batch.is_empty() && !missing.is_empty() {
            return Err(missing_chunks(py, missing));
        }
        Ok(batch)
    }
}

#[pymethods]
impl SeekWalk {
    fn nodes<'py>(
        &self,
        py: Python<'py>,
        limit: usize,
    ) -> PyResult<Vec<(Bound<'py, PyString>, Node<'py>)>> {
        let batch = self.batch(py, limit)?;
        let rows = batch.iter();
        rows.map(|(path, listed)| Ok((text::decode(py, path)?, self.tree.node(py, listed))))
            .collect()
    }

    fn rows<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Vec<Row<'py>>> {
        let batch = self.batch(py, limit)?;
        let rows = batch.iter().map(|(path, listed)| {
            let entry = listed.entry();
            let size = match entry.kind {
                EntryType::SymLink => entry.target.len() as u64,
                _ => entry.size,
            };
            Ok((absolute(py, path)?, word(py, entry.kind), size, listed.number.into()))
        });
        rows.collect()
    }

    fn stats<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let batch = self.batch(py, limit)?;
        batch.iter().map(|(path, listed)| stat_unpacked(py, path, listed)).collect()
    }
}
