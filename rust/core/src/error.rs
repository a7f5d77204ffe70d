//! Every way the core can fail, grouped by what a caller would do about it.
//!
//! A failure says what was wrong, where (on which ruler) and, where there is one, what was expected.
//! Input never makes the core panic; a panic is a bug of ours.

use thiserror::Error;

use crate::span::{BitOffset, SpanId, UncompressedOffset};

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
    /// The uncompressed layer is not a tar archive that can be indexed.
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

/// Why a tar archive cannot be indexed.
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
