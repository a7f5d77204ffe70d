//! Errors in tar archives.

use thiserror::Error;

/// Why a tar archive cannot be indexed or read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TarError {
    /// Neither the signed nor the unsigned sum of a header block matches the stored checksum.
    #[error("header checksum mismatch (computed {actual}, stored {stored})")]
    Checksum {
        /// The stored checksum.
        stored: u64,
        /// The unsigned sum.
        actual: u64,
    },
    /// A header field cannot be parsed.
    #[error("header field {0} is invalid")]
    Field(&'static str),
    /// A single zero block is followed by a block that is not zero.
    #[error("a single zero block is followed by more data")]
    LoneZeroBlock,
    /// An entry type that a zTOC cannot represent.
    #[error("unsupported entry type {0:?}")]
    UnsupportedType(char),
    /// A PAX record cannot be parsed.
    #[error("PAX record {0}")]
    Pax(&'static str),
    /// A sparse map cannot be parsed.
    #[error("sparse map {0}")]
    Sparse(&'static str),
    /// A PAX or GNU long-name payload exceeds Go's limit of 1 MiB.
    #[error("{what} payload is too large (found {size} bytes, at most {limit} allowed)")]
    PayloadTooLarge {
        /// The kind of pseudo entry.
        what: &'static str,
        /// The declared size.
        size: u64,
        /// The largest size allowed.
        limit: u64,
    },
    /// A negative size.
    #[error("entry size is negative")]
    NegativeSize,
    /// The bytes are not the complete headers of an entry.
    #[error("no entry starts here")]
    NoEntry,
    /// The archive ends inside a block or a file.
    #[error("archive ends inside {0}")]
    Truncated(&'static str),
    /// The names and PAX records do not fit in a zTOC.
    #[error("names and PAX records do not fit in a zTOC (limit {limit} bytes)")]
    TocTooLarge {
        /// The size limit of a zTOC.
        limit: u64,
    },
}

impl TarError {
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::Checksum { .. } => "tar.checksum",
            Self::Field(_) => "tar.field",
            Self::LoneZeroBlock => "tar.lone-zero-block",
            Self::UnsupportedType(_) => "tar.unsupported-type",
            Self::Pax(_) => "tar.pax",
            Self::Sparse(_) => "tar.sparse",
            Self::PayloadTooLarge { .. } => "tar.payload-too-large",
            Self::TocTooLarge { .. } => "tar.toc-too-large",
            Self::NegativeSize => "tar.negative-size",
            Self::NoEntry => "tar.no-entry",
            Self::Truncated(_) => "tar.truncated",
        }
    }
}
