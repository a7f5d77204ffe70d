//! Bytes from Python without a copy where they cannot change, with one where they can.

#![allow(unsafe_code, reason = "a read-only buffer is borrowed across the release of the GIL")]

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

/// `bytes`, or any other contiguous buffer of bytes.
#[derive(Debug)]
pub(crate) enum Blob {
    /// Immutable.
    Bytes(PyBackedBytes),
    /// Read-only, such as a read-only `mmap` or a `memoryview` of `bytes`.
    ReadOnly(PyBuffer<u8>),
    /// Another thread may write to the original while the GIL is released, so this is a copy.
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
        // SAFETY: the exported buffer is contiguous, held by `self`, and not to be written through
        // Python. A read-only `mmap` of a file that someone changes meanwhile gives unspecified bytes,
        // which every digest is then checked against.
        unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast::<u8>(), buffer.len_bytes()) }
    }
}

impl Blob {
    /// The same bytes, now and later: another process may write to the file of a read-only `mmap`, so
    /// what is verified once and used for long is copied.
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
