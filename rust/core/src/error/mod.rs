//! Every way the core can fail, grouped by what a caller would do about it.
//!
//! A failure says what was wrong, where (on which ruler) and, where there is one, what was expected.
//! Input never makes the core panic; a panic is a bug of ours.

mod gzip;
mod tar;
mod zstd;
mod ztoc;

use thiserror::Error;

pub use gzip::{CodeName, GzipError};
pub use tar::TarError;
pub use zstd::ZstdError;
pub use ztoc::ZtocError;

use crate::span::{BitOffset, CompressedOffset, SpanId, UncompressedOffset};

/// What every fallible function of the core returns.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure and its place.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// The layer is not a gzip stream that RFC 1951 and RFC 1952 allow.
    #[error("gzip: {kind}, at {at}")]
    Gzip {
        /// Which rule is broken.
        kind: GzipError,
        /// Where in the compressed layer.
        at: BitOffset,
    },
    /// The layer is not a zstd stream that RFC 8878 allows, or not one that is decoded here.
    #[error("zstd: {kind}, at {at}")]
    Zstd {
        /// Which rule is broken.
        kind: ZstdError,
        /// Where in the compressed layer: the frame or block concerned.
        at: CompressedOffset,
    },
    /// The uncompressed layer is not a tar archive that can be indexed or read.
    #[error("tar: {kind}, at {at}")]
    Tar {
        /// Which rule is broken.
        kind: TarError,
        /// Where in the uncompressed layer: the header block concerned.
        at: UncompressedOffset,
    },
    /// The bytes are not a zTOC that can be used.
    #[error("ztoc: {kind}, at byte {at}")]
    Ztoc {
        /// Which rule is broken.
        kind: ZtocError,
        /// Byte position in the zTOC blob, 0 where the whole is meant.
        at: u64,
    },
    /// A digest or a size differs from what was promised.
    #[error("{what}: is {actual}, expected {expected}")]
    Verification {
        /// The thing that was checked.
        what: String,
        /// What was promised.
        expected: String,
        /// What was found.
        actual: String,
    },
    /// The layer's first bytes are not those of the format it is said to have.
    #[error("layer is said to be {expected}, but its first bytes are {found}")]
    LayerFormat {
        /// What the media type says.
        expected: &'static str,
        /// What the bytes say.
        found: &'static str,
    },
    /// Valid, but nothing that SOCI can index.
    #[error("{what} cannot be indexed by SOCI")]
    Unsupported {
        /// The thing met.
        what: &'static str,
    },
    /// A span number beyond the last one.
    #[error("{span_id} does not exist, the last is {last}")]
    NoSuchSpan {
        /// The number asked for.
        span_id: SpanId,
        /// The greatest number there is; -1 when there are no spans.
        last: i64,
    },
    /// The zTOC has no entry of this name, or not a regular file.
    #[error("no regular file {path:?} in the ztoc")]
    NoSuchFile {
        /// The name asked for.
        path: String,
    },
    /// A `LayerIndexer` was used after `finish` or after it had failed.
    #[error("the layer indexer has already finished")]
    AlreadyFinished,
}

impl Error {
    /// A stable name for programs: the room, then the rule, such as `gzip.crc`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Gzip { kind, .. } => kind.code(),
            Self::Zstd { kind, .. } => kind.code(),
            Self::Tar { kind, .. } => kind.code(),
            Self::Ztoc { kind, .. } => kind.code(),
            Self::Verification { .. } => "verification",
            Self::LayerFormat { .. } => "layer.format",
            Self::Unsupported { .. } => "unsupported",
            Self::NoSuchSpan { .. } => "ztoc.no-such-span",
            Self::NoSuchFile { .. } => "ztoc.no-such-file",
            Self::AlreadyFinished => "indexer.finished",
        }
    }
}
