//! Errors in zstd streams.

use thiserror::Error;

/// The rule of RFC 8878 that a stream breaks.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ZstdError {
    /// §3.1: neither a frame nor a skippable frame starts here.
    #[error("invalid magic number {0:#010x}")]
    Magic(u32),
    /// §3.1.1.1.1: the reserved bit must be zero.
    #[error("reserved bit of the frame header is set ({0:#04x})")]
    ReservedBit(u8),
    /// §3.1.1.1.2: the window is too large to hold in memory.
    #[error("window is too large (found {size} bytes, at most {limit} allowed)")]
    Window {
        /// The declared size.
        size: u64,
        /// The largest size allowed.
        limit: u64,
    },
    /// §3.1.1.1.3: the frame needs a dictionary, and layers have none.
    #[error("frame needs a dictionary, which is not supported (dictionary ID {0})")]
    Dictionary(u32),
    /// §3.1.1.2: a block cannot be decoded; the text is the decoder's.
    #[error("{0}")]
    Block(String),
    /// §3.1.1.1.4, Frame_Content_Size.
    #[error("frame content size mismatch (counted {actual}, stored {stored})")]
    ContentSize {
        /// Bytes counted so far.
        actual: u64,
        /// The stored value.
        stored: u64,
    },
    /// §3.1.1, Content_Checksum.
    #[error("content checksum mismatch (computed {actual:#010x}, stored {stored:#010x})")]
    Checksum {
        /// The computed value.
        actual: u32,
        /// The stored value.
        stored: u32,
    },
    /// The stream is truncated.
    #[error("stream ends inside {0}")]
    Truncated(&'static str),
}

impl ZstdError {
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::Magic(_) => "zstd.magic",
            Self::ReservedBit(_) => "zstd.reserved-bit",
            Self::Window { .. } => "zstd.window",
            Self::Dictionary(_) => "zstd.dictionary",
            Self::Block(_) => "zstd.block",
            Self::ContentSize { .. } => "zstd.content-size",
            Self::Checksum { .. } => "zstd.checksum",
            Self::Truncated(_) => "zstd.truncated",
        }
    }
}
