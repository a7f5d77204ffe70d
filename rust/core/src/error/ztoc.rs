//! Errors in zTOC blobs.

use thiserror::Error;

use crate::span::SpanId;

/// Why a blob cannot be used as a zTOC.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ZtocError {
    /// An offset, vector or table lies outside the blob.
    #[error("{0} is outside the blob")]
    OutOfBounds(&'static str),
    /// A FlatBuffers string must end with a NUL, which its length does not include.
    #[error("{0} does not end with a NUL")]
    Unterminated(&'static str),
    /// A text field is not UTF-8.
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    /// A required field is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A digest is not `sha256:` followed by 64 lowercase hex digits.
    #[error("invalid digest (expected sha256: followed by 64 lowercase hex digits)")]
    DigestSpelling,
    /// The compression algorithm is neither gzip (1) nor uncompressed (2).
    #[error("unknown compression algorithm {0}")]
    Algorithm(i8),
    /// The length of the checkpoint bytes does not match any zinfo version.
    #[error("wrong zinfo length (found {len} bytes for {checkpoints} checkpoints)")]
    ZinfoLength {
        /// Bytes found.
        len: u64,
        /// Checkpoints declared.
        checkpoints: i64,
    },
    /// A field has an invalid value.
    #[error("invalid {what} (found {value})")]
    Value {
        /// The field.
        what: &'static str,
        /// The value found.
        value: i64,
    },
    /// `max_span_id`, the checkpoints and the span digests disagree on the number of spans.
    #[error("span counts differ (max span id {max_span_id}, {spans} spans, {digests} digests)")]
    SpanCount {
        /// The stored value.
        max_span_id: i64,
        /// The number of checkpoints, or of spans in a plain tar.
        spans: u64,
        /// The number of span digests.
        digests: u64,
    },
    /// A checkpoint starts before the previous one, compressed or uncompressed.
    #[error("{span_id} starts before the previous span")]
    NotMonotonic {
        /// The later span.
        span_id: SpanId,
    },
    /// A checkpoint has an invalid offset or number of bits.
    #[error("checkpoint of {span_id} {what}")]
    Checkpoint {
        /// The span that starts at the checkpoint.
        span_id: SpanId,
        /// What is wrong.
        what: &'static str,
    },
    /// An unknown entry type.
    #[error("toc entry {index} has unknown type {word:?}")]
    EntryType {
        /// The index of the entry, in stored order.
        index: u64,
        /// The type as stored, shortened if it is long.
        word: String,
    },
    /// A TOC entry has an invalid value.
    #[error("toc entry {index} {what}")]
    TocEntry {
        /// The index of the entry, in stored order.
        index: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A string, or the PAX records of one entry, are longer than in any tar that can be indexed.
    #[error("{what} is too long (more than {limit} bytes)")]
    TooLong {
        /// The field.
        what: &'static str,
        /// The maximum length.
        limit: u64,
    },
    /// The fields refer to the same bytes many times over, and so to more bytes than the blob
    /// holds.
    #[error("strings and tables overlap too much (they refer to more than {limit} bytes)")]
    Amplified {
        /// The limit for a blob of this size.
        limit: u64,
    },
    /// The blob is larger than any that the reference writes.
    #[error("blob is too large (must be smaller than {limit} bytes)")]
    TooLarge {
        /// The first length that is too large.
        limit: u64,
    },
}

impl ZtocError {
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "ztoc.too-long",
            Self::OutOfBounds(_) => "ztoc.out-of-bounds",
            Self::Unterminated(_) => "ztoc.unterminated",
            Self::NotUtf8(_) => "ztoc.not-utf8",
            Self::Checkpoint { .. } => "ztoc.checkpoint",
            Self::Missing(_) => "ztoc.missing",
            Self::DigestSpelling => "ztoc.digest-spelling",
            Self::Algorithm(_) => "ztoc.algorithm",
            Self::ZinfoLength { .. } => "ztoc.zinfo-length",
            Self::Value { .. } => "ztoc.value",
            Self::SpanCount { .. } => "ztoc.span-count",
            Self::NotMonotonic { .. } => "ztoc.not-monotonic",
            Self::EntryType { .. } => "ztoc.entry-type",
            Self::TocEntry { .. } => "ztoc.toc-entry",
            Self::Amplified { .. } => "ztoc.amplified",
            Self::TooLarge { .. } => "ztoc.too-large",
        }
    }
}
