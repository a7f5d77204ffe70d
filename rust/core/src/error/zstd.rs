//! Broken rules of zstd.

use thiserror::Error;

/// A broken rule of RFC 8878.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ZstdError {
    /// §3.1: neither a frame nor a skippable frame starts here.
    #[error("frame starts with {0:#010x}")]
    Magic(u32),
    /// §3.1.1.1.1: the reserved bit must be zero.
    #[error("reserved bit of the frame header is set ({0:#04x})")]
    ReservedBit(u8),
    /// §3.1.1.1.2: a window too large to be held in memory.
    #[error("window of {size} bytes is above the limit of {limit}")]
    Window {
        /// As declared.
        size: u64,
        /// The most allowed.
        limit: u64,
    },
    /// §3.1.1.1.3: layers come without a dictionary.
    #[error("frame needs dictionary {0}")]
    Dictionary(u32),
    /// §3.1.1.2: a block does not decode; what the decoder says of it.
    #[error("{0}")]
    Block(String),
    /// §3.1.1.1.4, Frame_Content_Size.
    #[error("frame has {actual} bytes, stored is {stored}")]
    ContentSize {
        /// As counted, so far.
        actual: u64,
        /// As stored.
        stored: u64,
    },
    /// §3.1.1, Content_Checksum.
    #[error("checksum of the data is {actual:#010x}, stored is {stored:#010x}")]
    Checksum {
        /// As computed.
        actual: u32,
        /// As stored.
        stored: u32,
    },
    /// The stream ended too early.
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
