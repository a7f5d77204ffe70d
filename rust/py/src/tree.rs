//! `_core.Tree`: the merged names of an image.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use tocsin_core::tar::{Entries, EntryType, FileMetadata};
use tocsin_core::tree::{self, Failure, Location, MAX_LINKS, Source, TreeBuilder};
use tocsin_core::ztoc::{self, Entry, IMPLIED_DIRECTORY};

use crate::file_stat::{Owner, absolute, size, stat, word};
use crate::span_cache::VerifiedFiles;
use crate::ztoc::Ztoc;
use crate::{gate, text};

/// Entries applied between two checks for signals.
const ENTRIES_AT_ONCE: usize = 1 << 17;
/// Maximum bytes of paths in one batch of a walk: deep trees have long paths.
const BATCH_LEN: usize = 1 << 20;
/// Length to which names from an image are cut for display, in bytes.
const SHOWN_LEN: usize = 400;

/// The entries of one layer.
#[derive(Debug)]
pub(crate) enum Toc {
    Ztoc(Arc<ztoc::Ztoc>),
    Listed(ztoc::Toc),
}

impl Toc {
    fn entries(&self) -> &ztoc::Toc {
        match self {
            Self::Ztoc(ztoc) => &ztoc.toc,
            Self::Listed(entries) => entries,
        }
    }
}

impl Entries for Toc {
    type Entry<'a> = Entry<'a>;

    fn count(&self) -> usize {
        self.entries().count()
    }

    #[inline]
    fn entry(&self, index: usize) -> Option<Entry<'_>> {
        self.entries().entry(index)
    }

    #[inline]
    fn name(&self, index: usize) -> &[u8] {
        self.entries().name(index)
    }

    #[inline]
    fn linkname(&self, index: usize) -> &[u8] {
        self.entries().linkname(index)
    }

    #[inline]
    fn entry_type(&self, index: usize) -> EntryType {
        self.entries().entry_type(index)
    }
}

pub(crate) type Names = tree::Tree<Toc>;

/// A zTOC, or the names, types and link targets of entries.
#[derive(FromPyObject)]
enum LayerArgument<'py> {
    Ztoc(Bound<'py, Ztoc>),
    Listed(Vec<(PyBackedBytes, PyBackedBytes, PyBackedBytes)>),
}

impl LayerArgument<'_> {
    fn into_toc(self) -> PyResult<Toc> {
        match self {
            Self::Ztoc(ztoc) => Ok(Toc::Ztoc(Arc::clone(&ztoc.get().0))),
            Self::Listed(entries) => {
                let entries = entries.iter().map(|(name, kind, target)| listed(name, kind, target));
                let entries = entries.collect::<PyResult<Vec<_>>>()?;
                Ok(Toc::Listed(entries.into()))
            }
        }
    }
}

/// An entry with only a name, a type and a link target.
fn listed(name: &[u8], kind: &[u8], target: &[u8]) -> PyResult<FileMetadata> {
    let no_type = || PyValueError::new_err(format!("unknown entry type {kind:?}"));
    Ok(FileMetadata {
        name: name.to_vec(),
        entry_type: EntryType::from_word(kind).ok_or_else(no_type)?,
        uncompressed_offset: 0,
        uncompressed_size: 0,
        linkname: target.to_vec(),
        mode: 0,
        uid: 0,
        gid: 0,
        uname: Vec::new(),
        gname: Vec::new(),
        mod_time: Vec::new(),
        devmajor: 0,
        devminor: 0,
        xattrs: Vec::new(),
    })
}

/// The merged names of an image.
#[pyclass(frozen, module = "tocsin._core")]
#[derive(Debug)]
pub(crate) struct Tree(Arc<Names>);

#[cfg(target_os = "linux")]
impl Tree {
    /// The tree in the core.
    pub(crate) fn merged(&self) -> &Names {
        &self.0
    }
}

impl Tree {
    /// Resolves a path given as a Python string.
    fn resolve(&self, path: &Bound<'_, PyString>, follow: bool) -> PyResult<Location> {
        let outcome = match text::encode(path)? {
            Some(bytes) => self.0.resolve(&bytes, follow),
            // A string that cannot be encoded cannot be a file name.
            None => Err(Failure::Missing),
        };
        outcome.map_err(|failure| self.path_error(path, failure))
    }

    /// Finds a directory by its resolved path.
    fn directory(&self, path: &Bound<'_, PyString>) -> PyResult<Location> {
        let found = text::encode(path)?.and_then(|bytes| self.0.locate(&bytes));
        let directory = found.filter(|location| self.0.is_directory(*location));
        directory.ok_or_else(|| path_error(path, "not_directory", None, "is not a directory"))
    }

    fn path_error(&self, path: &Bound<'_, PyString>, failure: Failure) -> PyErr {
        match failure {
            Failure::Missing => path_error(path, "missing", None, "no such file or directory"),
            Failure::NotDirectory(location) => {
                let at = self.0.path(location);
                let asked = text::encode(path).ok().flatten().unwrap_or_default();
                let other = Some(&at[..]).filter(|at| trimmed(&asked) != *at);
                path_error(path, "not_directory", other, "is not a directory")
            }
            Failure::Loop | Failure::Costly => {
                let about = format!("more than {MAX_LINKS} symbolic links, possibly a loop");
                path_error(path, "loop", None, &about)
            }
        }
    }

    fn left_out_name<'py>(
        &self,
        py: Python<'py>,
        left_out: &tree::LeftOut,
    ) -> PyResult<Bound<'py, PyString>> {
        let entry = self.0.entry(left_out.layer, left_out.entry);
        let name = entry.map(Entry::clean_name).unwrap_or_default();
        match name.get(..SHOWN_LEN) {
            Some(start) => text::decode(py, &[start, "…".as_bytes()].concat()),
            None => text::decode(py, &name),
        }
    }

    fn path<'py>(&self, py: Python<'py>, location: Location) -> PyResult<Bound<'py, PyString>> {
        text::decode(py, &self.0.path(location))
    }

    /// The fields of `Node` in tree.py: layer, entry, type, inode.
    fn node<'py>(&self, py: Python<'py>, location: Location) -> Node<'py> {
        let Source { layer, entry } = self.0.source(location);
        (layer, entry, word(py, self.0.kind(location)), self.0.inode(location))
    }

    /// The fields of `FileStat` in stat.py, in the same order.
    fn stat_at<'py>(
        &self,
        py: Python<'py>,
        path: &[u8],
        location: Location,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let source = self.0.source(location);
        self.stat_source(py, path, source, self.0.inode(location), Owner::Unpacked)
    }

    fn stat_source<'py>(
        &self,
        py: Python<'py>,
        path: &[u8],
        Source { layer, entry }: Source,
        inode: u64,
        owner: Owner,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let metadata = entry.and_then(|entry| self.0.entry(layer, entry));
        let link = entry.and_then(|entry| self.0.links().get(&(layer, entry)));
        let link = link.and_then(|(layer, entry)| self.0.entry(*layer, *entry));
        let metadata = metadata.unwrap_or_else(|| Entry::from(&IMPLIED_DIRECTORY));
        stat(py, path, metadata, link, inode, layer, owner)
    }
}

type LeftOut<'py> = (String, u64, u32, Bound<'py, PyString>);
type Node<'py> = (u32, Option<u32>, Bound<'py, PyString>, u64);

#[pymethods]
impl Tree {
    #[new]
    fn new(py: Python<'_>, layers: Vec<LayerArgument<'_>>) -> PyResult<Self> {
        let tocs: Vec<Toc> =
            layers.into_iter().map(LayerArgument::into_toc).collect::<PyResult<_>>()?;
        let capacity = tocs.iter().map(|toc| toc.count()).sum();
        let mut builder = TreeBuilder::with_capacity(capacity);
        for toc in tocs {
            builder.push_layer(toc);
            while gate::run(py, || Ok(builder.apply(ENTRIES_AT_ONCE)))? {}
        }
        Ok(Self(Arc::new(builder.finish())))
    }

    /// The entries left out, by reason: the reason, the number of entries, and the layer and name
    /// of the first.
    fn left_out<'py>(&self, py: Python<'py>) -> PyResult<Vec<LeftOut<'py>>> {
        let mut found: Vec<LeftOut<'py>> = Vec::new();
        for left_out in self.0.left_out() {
            let why = left_out.reason.to_string();
            match found.iter_mut().find(|(known, ..)| *known == why) {
                Some((_, count, ..)) => *count += 1,
                None => found.push((why, 1, left_out.layer, self.left_out_name(py, left_out)?)),
            }
        }
        Ok(found)
    }

    /// The entries left out below a directory: their names and reasons.
    fn left_out_below<'py>(
        &self,
        path: &Bound<'py, PyString>,
    ) -> PyResult<Vec<(Bound<'py, PyString>, String)>> {
        let py = path.py();
        let directory = text::encode(path)?.unwrap_or_default();
        let is_below = |left_out: &&tree::LeftOut| {
            let entry = self.0.entry(left_out.layer, left_out.entry);
            entry.is_some_and(|entry| is_below(&entry.clean_name(), &directory))
        };
        let rows = self.0.left_out().iter().filter(is_below);
        rows.map(|left_out| Ok((self.left_out_name(py, left_out)?, left_out.reason.to_string())))
            .collect()
    }

    /// For each file with hard links, the layer and entry of its last hard link.
    fn links(&self) -> Vec<((u32, u32), (u32, u32))> {
        self.0.links().iter().map(|(file, link)| (*file, *link)).collect()
    }

    fn find<'py>(
        &self,
        path: &Bound<'py, PyString>,
        follow: bool,
    ) -> PyResult<(Bound<'py, PyString>, Node<'py>)> {
        let location = self.resolve(path, follow)?;
        Ok((self.path(path.py(), location)?, self.node(path.py(), location)))
    }

    /// The node at a path, following links.
    fn node_at<'py>(&self, path: &Bound<'py, PyString>) -> PyResult<Node<'py>> {
        Ok(self.node(path.py(), self.resolve(path, true)?))
    }

    /// The type at a path, following links; `None` if it does not exist.
    fn type_of<'py>(&self, path: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyString>>> {
        let found = text::encode(path)?.and_then(|bytes| self.0.resolve(&bytes, true).ok());
        Ok(found.map(|location| word(path.py(), self.0.kind(location))))
    }

    /// Bytes of a regular file, following links, if `files` has the file and all bytes are in memory;
    /// `None` otherwise, also for arguments that are not valid.
    fn read_cached<'py>(
        &self,
        path: &Bound<'py, PyAny>,
        start: &Bound<'py, PyAny>,
        end: &Bound<'py, PyAny>,
        files: &Bound<'py, VerifiedFiles>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let Ok(path) = path.cast::<PyString>() else { return Ok(None) };
        let found = text::encode(path)?.and_then(|bytes| self.0.resolve(&bytes, true).ok());
        let found = found.filter(|location| self.0.kind(*location) == EntryType::Regular);
        let place = found.map(|location| self.0.source(location));
        let place = place.and_then(|Source { layer, entry }| Some((layer, entry?)));
        Ok(place.and_then(|place| files.get().read(place, start, end)))
    }

    fn root<'py>(&self, py: Python<'py>) -> Node<'py> {
        self.node(py, Location::ROOT)
    }

    fn is_directory(&self, path: &Bound<'_, PyString>) -> PyResult<bool> {
        let found = text::encode(path)?.and_then(|bytes| self.0.locate(&bytes));
        Ok(found.is_some_and(|location| self.0.is_directory(location)))
    }

    /// The names and nodes in a directory, sorted.
    fn children<'py>(
        &self,
        path: &Bound<'py, PyString>,
    ) -> PyResult<Vec<(Bound<'py, PyString>, Node<'py>)>> {
        let py = path.py();
        let children = self.0.children(self.directory(path)?).into_iter();
        children
            .map(|location| Ok((text::decode(py, self.0.name(location))?, self.node(py, location))))
            .collect()
    }

    /// The names of subdirectories in a directory, and the other names, both sorted.
    fn names<'py>(
        &self,
        path: &Bound<'py, PyString>,
    ) -> PyResult<(Bound<'py, PyList>, Bound<'py, PyList>)> {
        let py = path.py();
        let (directories, others) = (PyList::empty(py), PyList::empty(py));
        for location in self.0.children(self.directory(path)?) {
            let list = if self.0.is_directory(location) { &directories } else { &others };
            list.append(text::decode(py, self.0.name(location))?)?;
        }
        Ok((directories, others))
    }

    fn stat<'py>(
        &self,
        path: &Bound<'py, PyString>,
        follow: bool,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let location = self.resolve(path, follow)?;
        self.stat_at(path.py(), &self.0.path(location), location)
    }

    /// As `stat`, but for an entry found earlier, under any path, with the owner as stored in the
    /// tar.
    fn stat_listed<'py>(
        &self,
        py: Python<'py>,
        path: &Bound<'py, PyString>,
        layer: u32,
        entry: Option<u32>,
        inode: u64,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let path = text::encode(path)?.unwrap_or_default();
        self.stat_source(py, &path, Source { layer, entry }, inode, Owner::Listed)
    }

    /// The contents of a directory, sorted, each as from `stat`; for anything else, only itself.
    fn stat_all<'py>(&self, path: &Bound<'py, PyString>) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let location = self.resolve(path, true)?;
        let mut full = self.0.path(location);
        if !self.0.is_directory(location) {
            return Ok(vec![self.stat_at(path.py(), &full, location)?]);
        }
        if !full.is_empty() {
            full.push(b'/');
        }
        let directory_len = full.len();
        let children = self.0.children(location).into_iter();
        children
            .map(|location| {
                full.truncate(directory_len);
                full.extend_from_slice(self.0.name(location));
                self.stat_at(path.py(), &full, location)
            })
            .collect()
    }

    /// As `stat`, for a location that a walk returned.
    fn stat_place<'py>(&self, py: Python<'py>, number: u64) -> PyResult<Bound<'py, PyTuple>> {
        let no_location = || PyIndexError::new_err(format!("location {number} is not in the tree"));
        let location = self.0.location(number).ok_or_else(no_location)?;
        self.stat_at(py, &self.0.path(location), location)
    }

    /// Starts a walk over everything below a directory.
    fn walk(&self, path: &Bound<'_, PyString>) -> PyResult<Walk> {
        Ok(Walk::new(&self.0, None, Some(self.directory(path)?)))
    }

    /// Starts a walk over a path, following links in it, and everything below.
    fn walk_from(&self, path: &Bound<'_, PyString>) -> PyResult<Walk> {
        let top = self.resolve(path, true)?;
        let directory = Some(top).filter(|top| self.0.is_directory(*top));
        Ok(Walk::new(&self.0, Some(top), directory))
    }
}

/// A walk over a tree, each directory before its contents, in batches. An empty batch marks the
/// end.
#[pyclass(frozen, module = "tocsin._core")]
#[derive(Debug)]
pub(crate) struct Walk {
    tree: Tree,
    state: Mutex<WalkState>,
}

#[derive(Debug)]
struct WalkState {
    /// Returned before everything below it.
    top: Option<Location>,
    below: Option<tree::Walk>,
}

/// Locations, and the ends of their paths in one concatenated string.
#[derive(Debug, Default)]
struct Batch {
    paths: Vec<u8>,
    locations: Vec<(Location, usize)>,
}

impl Batch {
    fn push(&mut self, path: &[u8], location: Location) {
        self.paths.extend_from_slice(path);
        self.locations.push((location, self.paths.len()));
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], Location)> {
        let mut start = 0;
        self.locations.iter().map(move |(location, end)| {
            let path = &self.paths[start..*end];
            start = *end;
            (path, *location)
        })
    }
}

impl Walk {
    fn new(tree: &Arc<Names>, top: Option<Location>, directory: Option<Location>) -> Self {
        let below = directory.map(|directory| tree.walk(directory));
        Self { tree: Tree(Arc::clone(tree)), state: Mutex::new(WalkState { top, below }) }
    }

    fn batch(&self, py: Python<'_>, limit: usize) -> PyResult<Batch> {
        let tree = &self.tree.0;
        gate::run(py, || {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let mut batch = Batch::default();
            if let Some(top) = state.top.take() {
                batch.push(&tree.path(top), top);
            }
            while batch.locations.len() < limit && batch.paths.len() < BATCH_LEN {
                let Some(below) = &mut state.below else { break };
                let Some(location) = tree.next(below) else { break };
                batch.push(below.path(), location);
            }
            Ok(batch)
        })
    }
}

#[pymethods]
impl Walk {
    /// The paths and nodes of the next locations.
    fn nodes<'py>(
        &self,
        py: Python<'py>,
        limit: usize,
    ) -> PyResult<Vec<(Bound<'py, PyString>, Node<'py>)>> {
        let batch = self.batch(py, limit)?;
        let rows = batch.iter();
        rows.map(|(path, location)| Ok((text::decode(py, path)?, self.tree.node(py, location))))
            .collect()
    }

    /// The next locations: path with a leading slash, type, size, and the number to pass to
    /// `stat_place`.
    fn rows<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Vec<Row<'py>>> {
        let batch = self.batch(py, limit)?;
        let names = &self.tree.0;
        let rows = batch.iter().map(|(path, place)| {
            let size = names.metadata(place).map_or(0, size);
            Ok((absolute(py, path)?, word(py, names.kind(place)), size, place.number()))
        });
        rows.collect()
    }

    /// The next locations, each as from `Tree.stat`.
    fn stats<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let batch = self.batch(py, limit)?;
        batch.iter().map(|(path, location)| self.tree.stat_at(py, path, location)).collect()
    }
}

type Row<'py> = (Bound<'py, PyString>, Bound<'py, PyString>, i64, u64);

/// Whether a path is below a directory; neither has leading or trailing slashes.
fn is_below(path: &[u8], directory: &[u8]) -> bool {
    let rest = path.strip_prefix(directory);
    directory.is_empty() || rest.is_some_and(|rest| rest.starts_with(b"/"))
}

/// A path without leading and trailing slashes.
pub(crate) fn trimmed(path: &[u8]) -> &[u8] {
    let start = path.iter().take_while(|byte| **byte == b'/').count();
    let end = path[start..].iter().rev().take_while(|byte| **byte == b'/').count();
    &path[start..path.len() - end]
}

/// A `PathError` for the requested path. The message is the path, `at` if given, and `about`.
pub(crate) fn path_error(
    path: &Bound<'_, PyString>,
    reason: &str,
    at: Option<&[u8]>,
    about: &str,
) -> PyErr {
    let build = || -> PyResult<PyErr> {
        let py = path.py();
        let shown = py.import("tocsin.quoting")?.getattr("shown")?;
        let asked = path.call_method1("lstrip", ("/",))?.str()?;
        let asked = shown.call1((PyString::new(py, "/").add(asked)?,))?;
        let mut message = format!("{asked}: ");
        if let Some(at) = at {
            message += &format!("{} ", shown.call1((absolute(py, at)?,))?);
        }
        message += about;
        let keywords = PyDict::new(py);
        keywords.set_item("path", path)?;
        keywords.set_item("reason", reason)?;
        let class = py.import("tocsin.errors")?.getattr("PathError")?;
        Ok(PyErr::from_value(class.call((message,), Some(&keywords))?))
    };
    build().unwrap_or_else(|failure| failure)
}
