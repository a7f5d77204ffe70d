//! Bytes from Python, copied only if they could change.

#![allow(unsafe_code, reason = "a read-only buffer is borrowed across the release of the GIL")]

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

/// `bytes`, or any other contiguous buffer of bytes.
#[derive(Debug)]
pub(crate) enum Blob {
    /// A `bytes` object, which is immutable.
    Bytes(PyBackedBytes),
    /// A read-only buffer, such as a read-only `mmap` or a `memoryview` of `bytes`.
    ReadOnly(PyBuffer<u8>),
    /// A copy of a writable buffer, which another thread could change while the GIL is released.
    Copied(Vec<u8>),
}

impl Blob {
    /// The bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        let buffer = match self {
            Self::Bytes(bytes) => return bytes,
            Self::Copied(bytes) => return bytes,
            Self::ReadOnly(buffer) if buffer.len_bytes() == 0 => return &[],
            Self::ReadOnly(buffer) => buffer,
        };
        // SAFETY: the exported buffer is contiguous, held by `self`, and cannot be written through
        // Python. If another process changes the file of a read-only `mmap`, the bytes are
        // unspecified; they are verified with a digest before use.
        unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast::<u8>(), buffer.len_bytes()) }
    }
}

impl Blob {
    /// Makes sure that the bytes can never change: another process may write to the file of a
    /// read-only `mmap`, so bytes that are verified once and kept must be copied.
    pub(crate) fn into_frozen(self, py: Python<'_>) -> PyResult<Self> {
        match self {
            Self::ReadOnly(buffer) => Ok(Self::Copied(buffer.to_vec(py)?)),
            frozen => Ok(frozen),
        }
    }
}

impl AsRef<[u8]> for Blob {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Blob {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = object.cast::<PyBytes>() {
            return Ok(Self::Bytes(bytes.to_owned().into()));
        }
        let buffer = PyBuffer::<u8>::get(&object)?;
        if !buffer.is_c_contiguous() {
            return Err(PyBufferError::new_err("buffer is not contiguous"));
        }
        if buffer.readonly() {
            return Ok(Self::ReadOnly(buffer));
        }
        Ok(Self::Copied(buffer.to_vec(object.py())?))
    }
}
