//! The metadata of a path in an image, as a row for `FileStat` in `python/tocsin/reading/stat.py`.

use std::ops::RangeInclusive;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};
use pyo3::{IntoPyObjectExt, intern};
use tocsin_core::seek::Listed;
use tocsin_core::tar::{EntryType, FileMetadata};
use tocsin_core::ztoc::{Entry, Records};

use crate::text;

/// The bits of a mode that `chmod` sets.
const PERMISSIONS: i64 = 0o7777;
/// The range of Python's `datetime`, years 1 to 9999, in seconds since 1970.
const DATETIME_SECONDS: RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
/// Prefix of PAX records that hold extended attributes.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// The ID that chown(2) treats as "do not change".
const NO_ID: u32 = u32::MAX;
/// The extended attribute that chown(2) removes: file capabilities.
const CAPABILITY: &[u8] = b"security.capability";

/// How to return an owner that the tar leaves unchanged (`NO_ID`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Returned as `NO_ID`.
    Listed,
    /// Returned as root, which unpacks the file and therefore owns it.
    Unpacked,
}

/// A directory that no layer lists, as unpackers create it.
pub(crate) static IMPLIED: FileMetadata = FileMetadata {
    name: Vec::new(),
    entry_type: EntryType::Directory,
    uncompressed_offset: 0,
    uncompressed_size: 0,
    linkname: Vec::new(),
    mode: 0o755,
    uid: 0,
    gid: 0,
    uname: Vec::new(),
    gname: Vec::new(),
    mod_time: Vec::new(),
    devmajor: 0,
    devminor: 0,
    xattrs: Vec::new(),
};

/// A row with the fields of `FileStat`, in the same order.
///
/// `link`: the last hard link to the file. For each link, an unpacker applies the metadata of the
/// link's entry to the file, and chown(2) removes its file capabilities, so only the last link
/// matters.
/// Source: containerd/containerd, archive/tar.go.
pub(crate) fn stat<'py>(
    py: Python<'py>,
    path: &[u8],
    entry: Entry<'_>,
    link: Option<Entry<'_>>,
    inode: u64,
    layer: u32,
    owner: Owner,
) -> PyResult<Bound<'py, PyTuple>> {
    let is_link = entry.entry_type() == EntryType::SymLink;
    let target: &[u8] = if is_link { entry.linkname() } else { &[] };
    let last = link.unwrap_or(entry);
    let mode = if is_link { entry.mode() } else { last.mode() };
    let id = |listed: u32, of_file: u32| match (listed, of_file, owner) {
        (NO_ID, NO_ID, Owner::Unpacked) => 0,
        (NO_ID, kept, _) => kept,
        (listed, ..) => listed,
    };
    row(
        py,
        Fields {
            path,
            kind: entry.entry_type(),
            size: size(entry),
            mode: mode & PERMISSIONS,
            uid: id(last.uid(), entry.uid()),
            gid: id(last.gid(), entry.gid()),
            uname: last.uname(),
            gname: last.gname(),
            mtime_ns: mtime_ns(last),
            target,
            device: (entry.devmajor(), entry.devminor()),
            xattrs: xattrs(py, entry, link)?,
            inode,
            layer,
        },
    )
}

/// The metadata of an entry of a seek table, which describes the file after all layers are applied.
pub(crate) fn stat_in_list<'py>(
    py: Python<'py>,
    path: &[u8],
    listed: &Listed,
    inode: u64,
    owner: Owner,
) -> PyResult<Bound<'py, PyTuple>> {
    let entry = listed.entry();
    let names = listed.owner();
    let id = |id: u32| if id == NO_ID && owner == Owner::Unpacked { 0 } else { id };
    let (seconds, nanoseconds) = entry.mtime;
    let target: &[u8] = if entry.kind == EntryType::SymLink { &entry.target } else { &[] };
    let found = PyDict::new(py);
    let extra = entry.extra.as_deref();
    for (name, value) in extra.iter().flat_map(|extra| &extra.xattrs) {
        found.set_item(text::decode(py, name)?, PyBytes::new(py, value))?;
    }
    let size = match entry.kind {
        EntryType::Regular => entry.size,
        EntryType::SymLink => entry.target.len() as u64,
        _ => 0,
    };
    row(
        py,
        Fields {
            path,
            kind: entry.kind,
            size: i64::try_from(size).unwrap_or(i64::MAX),
            mode: entry.mode.into(),
            uid: id(names.uid),
            gid: id(names.gid),
            uname: &names.uname,
            gname: &names.gname,
            mtime_ns: nanoseconds_since_1970(seconds, nanoseconds),
            target,
            device: extra.map_or((0, 0), |extra| extra.device),
            xattrs: found,
            inode,
            layer: entry.layer,
        },
    )
}

/// What a row shows.
struct Fields<'a, 'py> {
    path: &'a [u8],
    kind: EntryType,
    size: i64,
    mode: i64,
    uid: u32,
    gid: u32,
    uname: &'a [u8],
    gname: &'a [u8],
    mtime_ns: i128,
    target: &'a [u8],
    device: (i64, i64),
    xattrs: Bound<'py, PyDict>,
    inode: u64,
    layer: u32,
}

fn row<'py>(py: Python<'py>, fields: Fields<'_, 'py>) -> PyResult<Bound<'py, PyTuple>> {
    let row: [Bound<'py, PyAny>; 15] = [
        absolute(py, fields.path)?.into_any(),
        word(py, fields.kind).into_any(),
        fields.size.into_bound_py_any(py)?,
        fields.mode.into_bound_py_any(py)?,
        fields.uid.into_bound_py_any(py)?,
        fields.gid.into_bound_py_any(py)?,
        text::decode(py, fields.uname)?.into_any(),
        text::decode(py, fields.gname)?.into_any(),
        fields.mtime_ns.into_bound_py_any(py)?,
        text::decode(py, fields.target)?.into_any(),
        fields.device.0.into_bound_py_any(py)?,
        fields.device.1.into_bound_py_any(py)?,
        fields.xattrs.into_any(),
        fields.inode.into_bound_py_any(py)?,
        fields.layer.into_bound_py_any(py)?,
    ];
    PyTuple::new(py, row)
}

fn xattrs<'py>(
    py: Python<'py>,
    entry: Entry<'_>,
    link: Option<Entry<'_>>,
) -> PyResult<Bound<'py, PyDict>> {
    let found = PyDict::new(py);
    for (key, value) in entry.xattrs().iter() {
        let name = key.strip_prefix(XATTR).filter(|name| link.is_none() || *name != CAPABILITY);
        if let Some(name) = name {
            found.set_item(text::decode(py, name)?, PyBytes::new(py, value))?;
        }
    }
    let records = link.map(Entry::xattrs);
    for (key, value) in records.iter().flat_map(Records::iter) {
        if let Some(name) = key.strip_prefix(XATTR) {
            found.set_item(text::decode(py, name)?, PyBytes::new(py, value))?;
        }
    }
    Ok(found)
}

/// Bytes of a file or of a link's target.
pub(crate) fn size(entry: Entry<'_>) -> i64 {
    match entry.entry_type() {
        EntryType::Regular => entry.uncompressed_size(),
        EntryType::SymLink => i64::try_from(entry.linkname().len()).unwrap_or(i64::MAX),
        _ => 0,
    }
}

/// Nanoseconds since 1970; 0 if no time is stored, or if Python's `datetime` cannot represent it.
fn mtime_ns(entry: Entry<'_>) -> i128 {
    let parts = entry.mod_time_parts();
    parts.map_or(0, |(seconds, nanoseconds)| nanoseconds_since_1970(seconds, nanoseconds))
}

fn nanoseconds_since_1970(seconds: i64, nanoseconds: u32) -> i128 {
    if !DATETIME_SECONDS.contains(&seconds) {
        return 0;
    }
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
}

/// The name of a type in `FileStat`.
pub(crate) fn word(py: Python<'_>, kind: EntryType) -> Bound<'_, PyString> {
    let word = match kind {
        EntryType::Regular => intern!(py, "file"),
        EntryType::HardLink => intern!(py, "hardlink"),
        EntryType::SymLink => intern!(py, "symlink"),
        EntryType::CharDevice => intern!(py, "char"),
        EntryType::BlockDevice => intern!(py, "block"),
        EntryType::Directory => intern!(py, "dir"),
        EntryType::Fifo => intern!(py, "fifo"),
    };
    word.clone()
}

/// A path with a leading slash.
pub(crate) fn absolute<'py>(py: Python<'py>, path: &[u8]) -> PyResult<Bound<'py, PyString>> {
    text::decode(py, &[b"/", path].concat())
}
