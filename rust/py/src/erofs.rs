//! `_core.erofs_image`: the metadata of an image as an EROFS file system over its layers. Only on
//! Linux.

use std::collections::HashMap;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use tocsin_mount::erofs::{Extent, image};

use crate::mount::Names;
use crate::{gate, text};

/// Start, length and offset in the uncompressed layer of each range of data in a sparse file.
type Extents = Vec<(u64, u64, u64)>;

/// The metadata of an image whose uncompressed layers have these sizes.
///
/// `sparse`: the data of sparse files, by path. A `ValueError` says why EROFS cannot represent the
/// image.
#[pyfunction]
#[pyo3(signature = (tree, layer_sizes, sparse=Vec::new()))]
pub(crate) fn erofs_image<'py>(
    py: Python<'py>,
    tree: Names<'py>,
    layer_sizes: Vec<u64>,
    sparse: Vec<(Bound<'py, PyString>, Extents)>,
) -> PyResult<Bound<'py, PyBytes>> {
    let inodes = tree.inodes(py)?;
    let mut extents = HashMap::new();
    for (path, ranges) in sparse {
        let inode = text::encode(&path)?.and_then(|path| inodes.find(&path));
        let inode = inode.ok_or_else(|| PyValueError::new_err("a sparse file does not exist"))?;
        let ranges = ranges.into_iter();
        let ranges = ranges.map(|(start, len, offset)| Extent { start, len, offset }).collect();
        extents.insert(inode, ranges);
    }
    let made =
        gate::run(py, || Ok(image(&inodes, &layer_sizes, |inode| extents.get(&inode).cloned())))?;
    let bytes = made.map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(PyBytes::new(py, &bytes))
}
