//! The metadata of a path in an image, as a row for `FileStat` in `python/tocsin/reading/stat.py`.

use std::ops::RangeInclusive;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};
use pyo3::{IntoPyObjectExt, intern};
use tocsin_core::seek::Listed;
use tocsin_core::tar::EntryType;
use tocsin_core::ztoc::{Entry, NO_ID, Unpacked};

use crate::text;

/// The range of Python's `datetime`, years 1 to 9999, in seconds since 1970.
const DATETIME_SECONDS: RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
/// How to return an owner that the tar leaves unchanged (`NO_ID`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Returned as `NO_ID`.
    Listed,
    /// Returned as root, which unpacks the file and therefore owns it.
    Unpacked,
}

/// A row with the fields of `FileStat`, in the same order.
///
/// `link`: the last hard link to the file.
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
    let unpacked = Unpacked::new(entry, link);
    let xattrs = unpacked.xattrs();
    row(
        py,
        Fields {
            path,
            kind: entry.entry_type(),
            size: size(entry),
            mode: unpacked.mode(),
            uid: id(unpacked.uid(), owner),
            gid: id(unpacked.gid(), owner),
            uname: unpacked.uname(),
            gname: unpacked.gname(),
            mtime: unpacked.mod_time_parts().unwrap_or((0, 0)),
            target,
            device: (entry.devmajor(), entry.devminor()),
            xattrs: xattrs.iter().map(|(name, value)| (&name[..], &value[..])),
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
    let target: &[u8] = if entry.kind == EntryType::SymLink { &entry.target } else { &[] };
    let extra = entry.extra.as_deref();
    let xattrs = extra.iter().flat_map(|extra| &extra.xattrs);
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
            mode: entry.mode,
            uid: id(names.uid, owner),
            gid: id(names.gid, owner),
            uname: &names.uname,
            gname: &names.gname,
            mtime: entry.mtime,
            target,
            device: extra.map_or((0, 0), |extra| extra.device),
            xattrs: xattrs.map(|(name, value)| (&name[..], &value[..])),
            inode,
            layer: entry.layer,
        },
    )
}

/// The contents of a row.
struct Fields<'a, X> {
    path: &'a [u8],
    kind: EntryType,
    size: i64,
    mode: u16,
    uid: u32,
    gid: u32,
    uname: &'a [u8],
    gname: &'a [u8],
    /// Seconds since 1970, and nanoseconds.
    mtime: (i64, u32),
    target: &'a [u8],
    device: (i64, i64),
    /// Names and values.
    xattrs: X,
    inode: u64,
    layer: u32,
}

fn row<'a, 'py>(
    py: Python<'py>,
    fields: Fields<'a, impl Iterator<Item = (&'a [u8], &'a [u8])>>,
) -> PyResult<Bound<'py, PyTuple>> {
    let xattrs = PyDict::new(py);
    for (name, value) in fields.xattrs {
        xattrs.set_item(text::decode(py, name)?, PyBytes::new(py, value))?;
    }
    let row: [Bound<'py, PyAny>; 15] = [
        absolute(py, fields.path)?.into_any(),
        word(py, fields.kind).into_any(),
        fields.size.into_bound_py_any(py)?,
        fields.mode.into_bound_py_any(py)?,
        fields.uid.into_bound_py_any(py)?,
        fields.gid.into_bound_py_any(py)?,
        text::decode(py, fields.uname)?.into_any(),
        text::decode(py, fields.gname)?.into_any(),
        integer(py, mtime_ns(fields.mtime))?,
        text::decode(py, fields.target)?.into_any(),
        fields.device.0.into_bound_py_any(py)?,
        fields.device.1.into_bound_py_any(py)?,
        xattrs.into_any(),
        fields.inode.into_bound_py_any(py)?,
        fields.layer.into_bound_py_any(py)?,
    ];
    PyTuple::new(py, row)
}

const fn id(id: u32, owner: Owner) -> u32 {
    match (id, owner) {
        (NO_ID, Owner::Unpacked) => 0,
        (id, _) => id,
    }
}

/// Bytes of a file or of a link's target.
pub(crate) fn size(entry: Entry<'_>) -> i64 {
    match entry.entry_type() {
        EntryType::Regular => entry.uncompressed_size(),
        EntryType::SymLink => i64::try_from(entry.linkname().len()).unwrap_or(i64::MAX),
        _ => 0,
    }
}

/// Nanoseconds since 1970; 0 if Python's `datetime` cannot represent the time.
fn mtime_ns((seconds, nanoseconds): (i64, u32)) -> i128 {
    if !DATETIME_SECONDS.contains(&seconds) {
        return 0;
    }
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
}

/// A Python integer. Times until the year 2262 have 64 bits, which convert faster.
fn integer(py: Python<'_>, value: i128) -> PyResult<Bound<'_, PyAny>> {
    match i64::try_from(value) {
        Ok(value) => value.into_bound_py_any(py),
        Err(_) => value.into_bound_py_any(py),
    }
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
