//! Errors in gzip and DEFLATE streams.

use thiserror::Error;

/// The rule of RFC 1952 (members) or RFC 1951 (blocks) that a stream breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum GzipError {
    /// RFC 1952 §2.3.1: ID1 and ID2.
    #[error("invalid magic number (found byte {0:#04x}, expected 0x1f 0x8b)")]
    Magic(u8),
    /// RFC 1952 §2.3.1: CM.
    #[error("unsupported compression method (found {0}, expected 8)")]
    Method(u8),
    /// RFC 1952 §2.3.1.2: reserved FLG bits must be zero.
    #[error("reserved header flags are set ({0:#04x})")]
    ReservedFlags(u8),
    /// RFC 1952 §2.3.1: FHCRC.
    #[error("header CRC-16 mismatch (computed {actual:#06x}, stored {stored:#06x})")]
    HeaderCrc {
        /// The computed value.
        actual: u16,
        /// The stored value.
        stored: u16,
    },
    /// FNAME or FCOMMENT is longer than readers of SOCI images accept.
    #[error("file name or comment in the header is longer than {0} bytes")]
    HeaderText(u32),
    /// RFC 1952 §2.3.1: CRC32.
    #[error("CRC-32 mismatch (computed {actual:#010x}, stored {stored:#010x})")]
    Crc {
        /// The computed value.
        actual: u32,
        /// The stored value.
        stored: u32,
    },
    /// RFC 1952 §2.3.1: ISIZE.
    #[error("uncompressed size mismatch, modulo 2^32 (counted {actual}, stored {stored})")]
    Isize {
        /// The number of bytes counted.
        actual: u32,
        /// The stored value.
        stored: u32,
    },
    /// The stream ends inside a member.
    #[error("layer ends inside {0}")]
    Truncated(&'static str),
    /// The bytes after the last member are not another member.
    #[error("trailing data after the last gzip member")]
    TrailingBytes,
    /// RFC 1951 §3.2.3: BTYPE 11.
    #[error("invalid block type 3 (reserved)")]
    ReservedBlockType,
    /// RFC 1951 §3.2.4: NLEN is not the complement of LEN.
    #[error("invalid stored block length (length {len:#06x}, complement {nlen:#06x})")]
    StoredLength {
        /// LEN.
        len: u16,
        /// NLEN.
        nlen: u16,
    },
    /// RFC 1951 §3.2.7: HLIT above 286 codes or HDIST above 30.
    #[error("too many codes (found {litlen} literal/length and {distance} distance codes)")]
    TooManyCodes {
        /// HLIT + 257.
        litlen: u16,
        /// HDIST + 1.
        distance: u16,
    },
    /// RFC 1951 §3.2.7: a repeat before the first code length or past the last.
    #[error("invalid code length repeat (before the first length or past the last)")]
    CodeLengthRepeat,
    /// RFC 1951 §3.2.2: more codes than the code lengths allow.
    #[error("over-subscribed {0} code")]
    OverSubscribed(CodeName),
    /// RFC 1951 §3.2.2: unused codes, which are allowed only for a single distance code.
    #[error("incomplete {0} code")]
    Incomplete(CodeName),
    /// RFC 1951 §3.2.7: symbol 256 must have a code.
    #[error("block has no end-of-block code")]
    NoEndOfBlock,
    /// RFC 1951 §3.2.5–3.2.6: symbols 286, 287 and distance 30, 31, or an unassigned code.
    #[error("invalid {0} symbol")]
    InvalidSymbol(CodeName),
    /// RFC 1951 §3.2.3: a distance beyond the start of the member.
    #[error("distance too far back (found {distance}, at most {available} bytes of history)")]
    DistanceTooFar {
        /// The decoded distance.
        distance: u32,
        /// Bytes of history that a distance may refer to.
        available: u32,
    },
}

/// One of the Huffman codes in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CodeName {
    /// The code for code lengths.
    #[error("code length")]
    CodeLength,
    /// The literal/length code.
    #[error("literal/length")]
    LitLen,
    /// The distance code.
    #[error("distance")]
    Distance,
}

impl GzipError {
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::Magic(_) => "gzip.magic",
            Self::Method(_) => "gzip.method",
            Self::ReservedFlags(_) => "gzip.reserved-flags",
            Self::HeaderCrc { .. } => "gzip.header-crc",
            Self::HeaderText(_) => "gzip.header-text",
            Self::Crc { .. } => "gzip.crc",
            Self::Isize { .. } => "gzip.isize",
            Self::Truncated(_) => "gzip.truncated",
            Self::TrailingBytes => "gzip.trailing-bytes",
            Self::ReservedBlockType => "deflate.reserved-block-type",
            Self::StoredLength { .. } => "deflate.stored-length",
            Self::TooManyCodes { .. } => "deflate.too-many-codes",
            Self::CodeLengthRepeat => "deflate.code-length-repeat",
            Self::OverSubscribed(_) => "deflate.over-subscribed",
            Self::Incomplete(_) => "deflate.incomplete",
            Self::NoEndOfBlock => "deflate.no-end-of-block",
            Self::InvalidSymbol(_) => "deflate.invalid-symbol",
            Self::DistanceTooFar { .. } => "deflate.distance-too-far",
        }
    }
}
