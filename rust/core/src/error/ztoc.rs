//! Broken rules of the zTOC blob.

use thiserror::Error;

use crate::span::SpanId;

/// Why a blob cannot be used as a zTOC.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ZtocError {
    /// An offset, vector or table points outside the blob.
    #[error("{0} lies outside the blob")]
    OutOfBounds(&'static str),
    /// FlatBuffers: strings end with a NUL that their length does not count.
    #[error("{0} does not end with a NUL")]
    Unterminated(&'static str),
    /// A field for people to read is not text.
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    /// A field that must be present is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A digest is not `sha256:` and 64 lower-case hex digits.
    #[error("digest is not sha256: and 64 lower-case hex digits")]
    DigestSpelling,
    /// Not gzip (1) or uncompressed (2).
    #[error("unknown compression algorithm {0}")]
    Algorithm(i8),
    /// The checkpoint bytes do not have a length any version would have.
    #[error("zinfo of {len} bytes does not hold {checkpoints} checkpoints")]
    ZinfoLength {
        /// Bytes found.
        len: u64,
        /// Checkpoints declared.
        checkpoints: i64,
    },
    /// A field holds a value no zTOC may have.
    #[error("{what} is {value}")]
    Value {
        /// The field.
        what: &'static str,
        /// As found.
        value: i64,
    },
    /// `max_span_id`, checkpoints and span digests do not agree.
    #[error("max span id {max_span_id}, {spans} spans and {digests} digests do not agree")]
    SpanCount {
        /// As stored.
        max_span_id: i64,
        /// Checkpoints, or spans of a plain tar.
        spans: u64,
        /// Span digests.
        digests: u64,
    },
    /// A checkpoint goes back on one of the rulers.
    #[error("{span_id} starts before the one before it")]
    NotMonotonic {
        /// The later span.
        span_id: SpanId,
    },
    /// An offset or the bits of a checkpoint are not those of any checkpoint.
    #[error("checkpoint of {span_id} {what}")]
    Checkpoint {
        /// The span that starts there.
        span_id: SpanId,
        /// What is wrong with it.
        what: &'static str,
    },
    /// An entry type that SOCI has no word for.
    #[error("toc entry {index} has the unknown type {word:?}")]
    EntryType {
        /// Its number in the stored order.
        index: u64,
        /// The word, as far as it can be shown.
        word: String,
    },
    /// A field of a TOC entry holds a value no tar entry has.
    #[error("toc entry {index} {what}")]
    TocEntry {
        /// Its number in the stored order.
        index: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A text, or what an entry has of them, is longer than any tar could hold.
    #[error("{what} has more than {limit} bytes")]
    TooLong {
        /// The field.
        what: &'static str,
        /// The most that there may be.
        limit: u64,
    },
    /// More bytes referred to than the blob could hold: the same bytes used many times over.
    #[error("strings and tables refer to more than {limit} bytes")]
    Amplified {
        /// The most allowed for a blob of this size.
        limit: u64,
    },
    /// The reference can make no blob this large.
    #[error("blob does not stay below {limit} bytes")]
    TooLarge {
        /// The length that is not reached.
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
