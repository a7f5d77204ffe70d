//! Checkpoints, where inflation can resume, and the rule that selects them.
//!
//! Source: docs/format.md#checkpoints; docs/format.md#windows.

mod point;

use crate::bytes::SharedBytes;
use crate::span::{BitOffset, CompressedOffset, UncompressedOffset};

pub use point::{BlockHeader, PointStart, Run, SeekPoint, SparseWindow};

/// How far back a DEFLATE distance may reach (RFC 1951 §2).
pub const WINDOW_LEN: usize = 32_768;

/// The 32 KiB of output before a checkpoint, left-padded with zeros near the start of the layer.
#[derive(Clone)]
pub struct Window(Bytes);

#[derive(Clone)]
enum Bytes {
    Owned(Box<[u8; WINDOW_LEN]>),
    /// A part of larger shared bytes, such as the blob of a zTOC, starting at an offset.
    Shared(SharedBytes, usize),
}

static ZEROS: [u8; WINDOW_LEN] = [0; WINDOW_LEN];

impl Window {
    /// The window of a layer's first checkpoint, which has no output before it.
    #[must_use]
    pub fn zeros() -> Self {
        Self(Bytes::Owned(Box::new(ZEROS)))
    }

    /// The window at offset `at` of `bytes`, which is not copied; `None` if `bytes` is too short.
    #[must_use]
    pub fn shared(bytes: &SharedBytes, at: usize) -> Option<Self> {
        let end = at.checked_add(WINDOW_LEN)?;
        let _ = bytes.as_slice().get(at..end)?;
        Some(Self(Bytes::Shared(bytes.clone(), at)))
    }

    /// The last `WINDOW_LEN` bytes of `history`, padded on the left with zeros if it is shorter.
    #[must_use]
    pub fn ending_with(history: &[u8]) -> Self {
        let mut window = Box::new(ZEROS);
        let tail = &history[history.len().saturating_sub(WINDOW_LEN)..];
        window[WINDOW_LEN - tail.len()..].copy_from_slice(tail);
        Self(Bytes::Owned(window))
    }

    /// The bytes, oldest first.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; WINDOW_LEN] {
        match &self.0 {
            Bytes::Owned(bytes) => bytes,
            // Always in range, since `shared` checked it.
            Bytes::Shared(bytes, at) => {
                bytes.as_slice().get(*at..).and_then(|rest| rest.first_chunk()).unwrap_or(&ZEROS)
            }
        }
    }
}

impl PartialEq for Window {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Window {}

impl std::fmt::Debug for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Window(32768 bytes)")
    }
}

/// A position between two DEFLATE blocks at which inflation can start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The offset of the first whole byte of the block that starts here.
    pub compressed: CompressedOffset,
    /// The offset of the first byte that the block produces.
    pub uncompressed: UncompressedOffset,
    /// The number of high-order bits (0 to 7) of the byte before `compressed` that belong to the
    /// block.
    pub bits: u8,
    /// The output before `uncompressed`.
    pub window: Window,
}

impl Checkpoint {
    /// A checkpoint at a bit offset in the layer.
    #[must_use]
    pub const fn at(position: BitOffset, uncompressed: UncompressedOffset, window: Window) -> Self {
        let compressed = CompressedOffset(position.0.div_ceil(8));
        Self { compressed, uncompressed, bits: (8 - position.bit_in_byte()) % 8, window }
    }

    /// The first compressed byte needed to start here: the one before `compressed` if some of its
    /// bits belong to the block.
    #[must_use]
    pub const fn first_byte(&self) -> CompressedOffset {
        CompressedOffset(self.compressed.0.saturating_sub((self.bits != 0) as u64))
    }
}

/// The reference's rule for which candidates become checkpoints.
///
/// A candidate is the position right after a member's header, or after a block that is not the last
/// of its member.
#[derive(Debug, Clone)]
pub struct CheckpointRule {
    span_size: u64,
    last: UncompressedOffset,
}

impl CheckpointRule {
    /// Every span except the last will hold more than `span_size` uncompressed bytes.
    #[must_use]
    pub const fn new(span_size: u64) -> Self {
        Self { span_size, last: UncompressedOffset(0) }
    }

    /// Whether the candidate at `at` becomes a checkpoint; candidates come in stream order.
    ///
    /// Every candidate before the first output qualifies, so an empty first member or an early
    /// flush gives several checkpoints with `uncompressed` 0, as the reference makes them.
    pub fn take(&mut self, at: UncompressedOffset) -> bool {
        let taken = at.0 == 0 || at.0 - self.last.0 > self.span_size;
        if taken {
            self.last = at;
        }
        taken
    }
}
