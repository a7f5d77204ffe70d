//! Names of a tar as Python spells them: `str`, with surrogate escapes where they are not UTF-8.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// What `os.fsdecode` makes of a name where the file system's encoding is UTF-8.
pub(crate) fn decode<'py>(py: Python<'py>, name: &[u8]) -> PyResult<Bound<'py, PyString>> {
    match std::str::from_utf8(name) {
        Ok(text) => Ok(PyString::new(py, text)),
        Err(_) => {
            let bytes = PyBytes::new(py, name);
            PyString::from_encoded_object(&bytes, Some(c"utf-8"), Some(c"surrogateescape"))
        }
    }
}
