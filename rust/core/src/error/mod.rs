//! Every way the core can fail, grouped by what a caller can do about it.
//!
//! An error says what is wrong, where (at a compressed or uncompressed offset) and, if possible,
//! what was expected. No input makes the core panic; a panic is a bug in tocsin.

mod gzip;
mod seek;
mod tar;
mod zstd;
mod ztoc;

use thiserror::Error;

pub use gzip::{CodeName, GzipError};
pub use seek::{SeekError, SeekPart};
pub use tar::TarError;
pub use zstd::ZstdError;
pub use ztoc::ZtocError;

use crate::span::{BitOffset, CompressedOffset, SpanId, UncompressedOffset};

/// The result type of every fallible function in the core.
pub type Result<T> = std::result::Result<T, Error>;

/// An error and where it occurred.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// The layer is not a valid gzip stream (RFC 1951 and RFC 1952).
    #[error("gzip: {kind}, at {at}")]
    Gzip {
        /// The rule that is broken.
        kind: GzipError,
        /// The position in the compressed layer.
        at: BitOffset,
    },
    /// The layer is not a valid zstd stream (RFC 8878), or not one that this decoder supports.
    #[error("zstd: {kind}, at {at}")]
    Zstd {
        /// The rule that is broken.
        kind: ZstdError,
        /// The offset of the frame or block in the compressed layer.
        at: CompressedOffset,
    },
    /// The uncompressed layer is not a tar archive that can be indexed or read.
    #[error("tar: {kind}, at {at}")]
    Tar {
        /// The rule that is broken.
        kind: TarError,
        /// The offset of the header block in the uncompressed layer.
        at: UncompressedOffset,
    },
    /// The bytes are not a zTOC that can be used.
    #[error("ztoc: {kind}, at byte {at}")]
    Ztoc {
        /// The rule that is broken.
        kind: ZtocError,
        /// Byte position in the zTOC blob; 0 if the error is about the whole blob.
        at: u64,
    },
    /// The bytes are not a part of a seek table that can be used.
    #[error("seek table: {part}: {kind}")]
    Seek {
        /// The rule that is broken.
        kind: SeekError,
        /// The part that breaks it.
        part: SeekPart,
    },
    /// A digest or a size differs from the expected one.
    #[error("{what} mismatch (found {actual}, expected {expected})")]
    Verification {
        /// What was checked.
        what: String,
        /// The expected value.
        expected: String,
        /// The value found.
        actual: String,
    },
    /// The first bytes of the layer do not match its declared format.
    #[error("layer format does not match its media type (found {found}, expected {expected})")]
    LayerFormat {
        /// The format according to the media type.
        expected: &'static str,
        /// The format according to the first bytes.
        found: &'static str,
    },
    /// The input is valid, but SOCI cannot index it.
    #[error("{what} cannot be indexed by SOCI")]
    Unsupported {
        /// What was found.
        what: &'static str,
    },
    /// A span ID beyond the last one.
    #[error("{span_id} does not exist (last span is {last})")]
    NoSuchSpan {
        /// The requested ID.
        span_id: SpanId,
        /// The ID of the last span; -1 if there are no spans.
        last: i64,
    },
    /// The zTOC has no entry with this name, or the entry is not a regular file.
    #[error("no regular file {path:?} in the zTOC")]
    NoSuchFile {
        /// The requested name.
        path: String,
    },
    /// A `LayerIndexer` was used after it had finished or failed.
    #[error("the layer indexer has already finished")]
    AlreadyFinished,
}

impl Error {
    /// A stable error code for programs: the format, then the rule, such as `gzip.crc`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Gzip { kind, .. } => kind.code(),
            Self::Zstd { kind, .. } => kind.code(),
            Self::Tar { kind, .. } => kind.code(),
            Self::Ztoc { kind, .. } => kind.code(),
            Self::Seek { kind, .. } => kind.code(),
            Self::Verification { .. } => "verification",
            Self::LayerFormat { .. } => "layer.format",
            Self::Unsupported { .. } => "unsupported",
            Self::NoSuchSpan { .. } => "ztoc.no-such-span",
            Self::NoSuchFile { .. } => "ztoc.no-such-file",
            Self::AlreadyFinished => "indexer.finished",
        }
    }
}
