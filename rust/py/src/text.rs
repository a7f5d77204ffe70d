//! Names in tars as Python strings, with surrogate escapes for bytes that are not UTF-8.

use std::borrow::Cow;

use pyo3::exceptions::PyUnicodeEncodeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// Decodes a name as `os.fsdecode` does if the file system encoding is UTF-8.
pub(crate) fn decode<'py>(py: Python<'py>, name: &[u8]) -> PyResult<Bound<'py, PyString>> {
    match std::str::from_utf8(name) {
        Ok(text) => Ok(PyString::new(py, text)),
        Err(_) => {
            let bytes = PyBytes::new(py, name);
            PyString::from_encoded_object(&bytes, Some(c"utf-8"), Some(c"surrogateescape"))
        }
    }
}

/// The inverse of `decode`; `None` if no bytes decode to this string.
pub(crate) fn encode<'a>(name: &'a Bound<'_, PyString>) -> PyResult<Option<Cow<'a, [u8]>>> {
    if let Ok(text) = name.to_str() {
        return Ok(Some(Cow::Borrowed(text.as_bytes())));
    }
    match name.call_method1("encode", ("utf-8", "surrogateescape")) {
        Ok(bytes) => Ok(Some(Cow::Owned(bytes.extract()?))),
        Err(error) if error.is_instance_of::<PyUnicodeEncodeError>(name.py()) => Ok(None),
        Err(error) => Err(error),
    }
}
