//! Errors in seek tables.

use std::fmt;

use thiserror::Error;

use super::GzipError;
use crate::span::BitOffset;

/// The rule of docs/seek-table.md that a seek table breaks.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SeekError {
    /// The magic number is that of another format, or of another version.
    #[error("invalid magic number, or unsupported version")]
    Magic,
    /// The bytes end inside this field.
    #[error("truncated inside {0}")]
    Truncated(&'static str),
    /// There are bytes after the end.
    #[error("{0} bytes after the end")]
    TrailingBytes(u64),
    /// A number is larger than the format allows.
    #[error("{what} is too large (found {value}, at most {limit} allowed)")]
    TooLarge {
        /// Its name.
        what: &'static str,
        /// The number found.
        value: u64,
        /// The largest allowed.
        limit: u64,
    },
    /// A number has a value that the format does not allow.
    #[error("invalid {what} ({value})")]
    Value {
        /// Its name.
        what: &'static str,
        /// The value found.
        value: u64,
    },
    /// A varint is not in its shortest form, or has more than 64 bits.
    #[error("invalid varint in {0}")]
    Varint(&'static str),
    /// Items that must be in order are not.
    #[error("{0} out of order")]
    Order(&'static str),
    /// A compressed part cannot be decompressed, or not to the stated size.
    #[error("invalid zstd data: {0}")]
    Compression(String),
    /// The block header of a checkpoint is not the header of a block with Huffman codes.
    #[error("invalid block header")]
    BlockHeader,
    /// The span cannot be decoded from the checkpoint, although its digest matches.
    #[error("the span cannot be decoded from this checkpoint: {kind}, at {at}")]
    Span {
        /// The rule that is broken.
        kind: GzipError,
        /// The position in the compressed layer.
        at: BitOffset,
    },
    /// A chunk that is needed has not been added yet.
    #[error("the chunk has not been read yet")]
    MissingChunk,
    /// The span refers to a byte of its window that the checkpoint does not list.
    #[error("the span refers to byte {0} before the checkpoint, which is not in its window")]
    MissingWindowByte(u32),
}

impl SeekError {
    /// A stable code for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Magic => "seek.magic",
            Self::Truncated(_) => "seek.truncated",
            Self::TrailingBytes(_) => "seek.trailing-bytes",
            Self::TooLarge { .. } => "seek.too-large",
            Self::Value { .. } => "seek.value",
            Self::Order(_) => "seek.order",
            Self::Compression(_) => "seek.compression",
            Self::Varint(_) => "seek.varint",
            Self::Span { .. } => "seek.span",
            Self::MissingChunk => "seek.missing-chunk",
            Self::BlockHeader => "seek.block-header",
            Self::MissingWindowByte(_) => "seek.missing-window-byte",
        }
    }
}

/// The part of a seek table that an error is about. Layers are numbered from 0, the lowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeekPart {
    /// The root.
    Root,
    /// The position map.
    Positions,
    /// A chunk of the file list.
    TocChunk(u32),
    /// The head of a layer's seek blob.
    LayerHead,
    /// A chunk of a layer's seek blob.
    SeekChunk(u32),
    /// The checkpoint of a span.
    Checkpoint(u32),
    /// The index of a pack.
    PackIndex,
    /// A frame of a pack.
    PackFrame(u32),
}

impl fmt::Display for SeekPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => write!(f, "root"),
            Self::Positions => write!(f, "position map"),
            Self::TocChunk(index) => write!(f, "file list chunk {index}"),
            Self::LayerHead => write!(f, "head of the layer's seek blob"),
            Self::SeekChunk(index) => write!(f, "seek chunk {index}"),
            Self::Checkpoint(index) => write!(f, "checkpoint {index}"),
            Self::PackIndex => write!(f, "pack index"),
            Self::PackFrame(index) => write!(f, "pack frame {index}"),
        }
    }
}
