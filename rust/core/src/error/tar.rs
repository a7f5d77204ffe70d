//! Broken rules of tar.

use thiserror::Error;

/// Why a tar archive cannot be indexed or read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TarError {
    /// Neither the signed nor the unsigned sum of a header block is the stored one.
    #[error("header checksum is {stored}, sum of the block is {actual}")]
    Checksum {
        /// As stored.
        stored: u64,
        /// The unsigned sum.
        actual: u64,
    },
    /// A header field does not parse.
    #[error("header field {0} does not parse")]
    Field(&'static str),
    /// A zero block followed by a block that is not zero.
    #[error("one zero block is followed by a block that is not zero")]
    LoneZeroBlock,
    /// An entry type that SOCI has no word for.
    #[error("unsupported entry type {0:?}")]
    UnsupportedType(char),
    /// A PAX record does not parse.
    #[error("PAX record {0}")]
    Pax(&'static str),
    /// A sparse map does not parse.
    #[error("sparse map {0}")]
    Sparse(&'static str),
    /// A PAX or GNU long-name payload above Go's limit of 1 MiB.
    #[error("{what} payload of {size} bytes is above the limit of {limit}")]
    PayloadTooLarge {
        /// Which pseudo entry.
        what: &'static str,
        /// As declared.
        size: u64,
        /// The most allowed.
        limit: u64,
    },
    /// A negative size.
    #[error("entry size is negative")]
    NegativeSize,
    /// The bytes given are not all headers of an entry.
    #[error("no entry begins here")]
    NoEntry,
    /// The archive ended where a whole block or file was due.
    #[error("archive ends inside {0}")]
    Truncated(&'static str),
    /// More names and records than any zTOC can hold.
    #[error("names and PAX records would make a ztoc larger than {limit} bytes")]
    TocTooLarge {
        /// The most a zTOC may have.
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
