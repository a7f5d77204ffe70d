//! Broken rules of gzip and DEFLATE.

use thiserror::Error;

/// A broken rule of RFC 1952 (members) or RFC 1951 (blocks).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum GzipError {
    /// RFC 1952 §2.3.1: ID1 and ID2.
    #[error("byte is {0:#04x} where a member starts with 0x1f 0x8b")]
    Magic(u8),
    /// RFC 1952 §2.3.1: CM.
    #[error("compression method is {0}, expected 8 (deflate)")]
    Method(u8),
    /// RFC 1952 §2.3.1.2: reserved FLG bits must be zero.
    #[error("reserved header flags are set ({0:#04x})")]
    ReservedFlags(u8),
    /// RFC 1952 §2.3.1: FHCRC.
    #[error("header CRC is {actual:#06x}, stored is {stored:#06x}")]
    HeaderCrc {
        /// As computed.
        actual: u16,
        /// As stored.
        stored: u16,
    },
    /// FNAME or FCOMMENT longer than readers of SOCI images take.
    #[error("header text is longer than {0} bytes")]
    HeaderText(u32),
    /// RFC 1952 §2.3.1: CRC32.
    #[error("CRC-32 of the data is {actual:#010x}, stored is {stored:#010x}")]
    Crc {
        /// As computed.
        actual: u32,
        /// As stored.
        stored: u32,
    },
    /// RFC 1952 §2.3.1: ISIZE.
    #[error("size modulo 2^32 is {actual}, stored is {stored}")]
    Isize {
        /// As counted.
        actual: u32,
        /// As stored.
        stored: u32,
    },
    /// The stream ended inside a member.
    #[error("layer ends inside {0}")]
    Truncated(&'static str),
    /// Bytes after the last member that do not start another.
    #[error("bytes after the last gzip member do not start another member")]
    TrailingBytes,
    /// RFC 1951 §3.2.3: BTYPE 11.
    #[error("reserved block type 3")]
    ReservedBlockType,
    /// RFC 1951 §3.2.4: NLEN is not the complement of LEN.
    #[error("stored block has length {len:#06x} and complement {nlen:#06x}")]
    StoredLength {
        /// LEN.
        len: u16,
        /// NLEN.
        nlen: u16,
    },
    /// RFC 1951 §3.2.7: HLIT above 286 codes or HDIST above 30.
    #[error("dynamic block declares {litlen} literal/length and {distance} distance codes")]
    TooManyCodes {
        /// HLIT + 257.
        litlen: u16,
        /// HDIST + 1.
        distance: u16,
    },
    /// RFC 1951 §3.2.7: a repeat before the first length or past the last.
    #[error("code length repeat has nothing to repeat or runs past the end")]
    CodeLengthRepeat,
    /// RFC 1951 §3.2.2: more codes than bits allow.
    #[error("over-subscribed {0} code")]
    OverSubscribed(CodeName),
    /// RFC 1951 §3.2.2: unused codes (allowed only for a single distance code).
    #[error("incomplete {0} code")]
    Incomplete(CodeName),
    /// RFC 1951 §3.2.7: symbol 256 must have a code.
    #[error("block has no end-of-block code")]
    NoEndOfBlock,
    /// RFC 1951 §3.2.5–3.2.6: symbols 286, 287 and distance 30, 31, or an unassigned code.
    #[error("invalid {0} symbol")]
    InvalidSymbol(CodeName),
    /// RFC 1951 §3.2.3: a distance beyond the start of the member.
    #[error("distance {distance} reaches beyond the {available} bytes of history")]
    DistanceTooFar {
        /// As decoded.
        distance: u32,
        /// Bytes that may be referred to.
        available: u32,
    },
}

/// Which Huffman code of a block.
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
