//! Names of a tar as Python spells them: `str`, with surrogate escapes where they are not UTF-8.

use std::borrow::Cow;

use pyo3::exceptions::PyUnicodeEncodeError;
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

/// The bytes that `decode` would make this of; `None` if there are none.
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
