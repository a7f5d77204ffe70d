//! A checkpoint of the seek table: where decoding can start, and the few bytes before it that are
//! still needed.

use super::WINDOW_LEN;
use crate::span::{BitOffset, UncompressedOffset};

/// A checkpoint of the seek table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeekPoint {
    /// The number of uncompressed bytes before it.
    pub uncompressed: UncompressedOffset,
    /// The position of the first unused bit.
    pub position: BitOffset,
    /// What starts at the position.
    pub start: PointStart,
    /// The bytes before it that the span refers to.
    pub window: SparseWindow,
}

/// What starts at the position of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PointStart {
    /// A member header; the position is the first bit of a byte.
    Member,
    /// A block header.
    Block,
    /// A symbol inside a block with Huffman codes.
    Huffman(BlockHeader),
    /// A byte inside a stored block; the position is the first bit of that byte.
    Stored {
        /// The number of bytes left in the block, at least 1.
        remaining: u16,
        /// Whether it is the last block of its member.
        last: bool,
    },
}

/// The header of a block with Huffman codes, from BFINAL to the last code length: the bits in
/// stream order, the first one in the lowest bit of the first byte. Unused bits are zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockHeader {
    /// The bits, in `len.div_ceil(8)` bytes.
    pub bytes: Box<[u8]>,
    /// The number of bits, 3 for a block with fixed codes.
    pub len: u16,
}

/// The bytes of a window that a span refers to. All others are unknown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SparseWindow {
    /// Runs of known bytes, in order; no two are adjacent.
    pub runs: Box<[Run]>,
    /// The bytes of all runs.
    pub bytes: Box<[u8]>,
}

/// A run of consecutive known bytes in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Its offset in the window, whose last byte, at `WINDOW_LEN - 1`, is the one before the
    /// checkpoint.
    pub start: u16,
    /// Its length, at least 1.
    pub len: u16,
}

// Every offset and length of a run fits 16 bits.
const _: () = assert!(WINDOW_LEN <= 1 << 15);
