//! The pack of an image: the parts of its layers that a program was recorded to read, in the order of
//! their first use, compressed in frames with a digest each.
//!
//! `docs/pack.md` describes the format. `index` reads the index, `write` makes a pack, and `plan`
//! chooses what goes into it.

mod index;
mod plan;
mod write;

use std::ops::Range;

pub use index::{Frame, Pack, Piece};
pub use plan::{Plan, plan};
pub use write::PackWriter;

use crate::digest::Digest;

/// Unit of extents in bytes: the length of a tar block.
pub const BLOCK_LEN: u64 = 512;
/// Maximum length of the content of a frame, so that one bad frame cannot fill the memory.
pub const MAX_FRAME_LEN: u64 = 1 << 20;
/// Maximum length of a frame as stored: incompressible content, and zstd's headers.
pub const MAX_STORED_LEN: u64 = MAX_FRAME_LEN + (64 << 10);
/// Maximum length of the content of all frames.
pub const MAX_PACK_LEN: u64 = 256 << 20;
/// Maximum length of an index, stored or decompressed: an extent for each block of the largest pack, in
/// 16 bytes.
pub const MAX_INDEX_LEN: u64 = 8 << 20;
/// Length at which tocsin ends a frame. A reader that waits for one block waits for its whole frame, but
/// in shorter frames the content compresses less.
const FRAME_LEN: u64 = 512 << 10;
const MAGIC: [u8; 8] = *b"TOCSINP1";

/// A layer of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackLayer {
    /// The digest of the layer as stored.
    pub digest: Digest,
    /// Its uncompressed size in bytes.
    pub uncompressed_size: u64,
}

/// A part of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// The number of the layer, 0 for the lowest.
    pub layer: u32,
    /// Its uncompressed bytes.
    pub range: Range<u64>,
}

impl Extent {
    /// The number of its bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start)
    }

    /// Whether it has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
