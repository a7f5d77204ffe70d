//! Where inflation can start again, and the rule that decides which places are kept.
//!
//! Source: docs/format.md#checkpoints; docs/format.md#windows.

use crate::bytes::SharedBytes;
use crate::span::{BitOffset, CompressedOffset, UncompressedOffset};

/// How far back a DEFLATE distance may reach (RFC 1951 §2).
pub const WINDOW_LEN: usize = 32_768;

/// The 32 KiB of output before a checkpoint, left-padded with zeros near the start of the layer.
#[derive(Clone)]
pub struct Window(Bytes);

#[derive(Clone)]
enum Bytes {
    Owned(Box<[u8; WINDOW_LEN]>),
    /// From a byte of something larger on, such as the blob of a zTOC.
    Shared(SharedBytes, usize),
}

static ZEROS: [u8; WINDOW_LEN] = [0; WINDOW_LEN];

impl Window {
    /// The window of a layer's first checkpoint: nothing came before.
    #[must_use]
    pub fn zeros() -> Self {
        Self(Bytes::Owned(Box::new(ZEROS)))
    }

    /// The window that begins at byte `at` of `bytes`, which stays there; `None` if it ends first.
    #[must_use]
    pub fn shared(bytes: &SharedBytes, at: usize) -> Option<Self> {
        let end = at.checked_add(WINDOW_LEN)?;
        let _ = bytes.as_slice().get(at..end)?;
        Some(Self(Bytes::Shared(bytes.clone(), at)))
    }

    /// The last `WINDOW_LEN` bytes of `history`, zeros before it where it is shorter.
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
            // They were there when it was made.
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

/// A place between two DEFLATE blocks at which inflation can start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The first whole byte of the block that starts here.
    pub compressed: CompressedOffset,
    /// The first byte that block produces.
    pub uncompressed: UncompressedOffset,
    /// How many high-order bits of the byte before `compressed` already belong to the block, 0 to 7.
    pub bits: u8,
    /// The output before `uncompressed`.
    pub window: Window,
}

impl Checkpoint {
    /// A checkpoint at a bit of the layer.
    #[must_use]
    pub const fn at(position: BitOffset, uncompressed: UncompressedOffset, window: Window) -> Self {
        let compressed = CompressedOffset(position.0.div_ceil(8));
        Self { compressed, uncompressed, bits: (8 - position.bit_in_byte()) % 8, window }
    }

    /// The first compressed byte needed to start here: one before `compressed` when bits of that
    /// byte belong to the block.
    #[must_use]
    pub const fn first_byte(&self) -> CompressedOffset {
        CompressedOffset(self.compressed.0.saturating_sub((self.bits != 0) as u64))
    }
}

/// The reference's rule for which candidates become checkpoints.
///
/// A candidate is a place between blocks whose preceding block was not the last of its member: right
/// after a member's header, and after each block that is not final.
#[derive(Debug, Clone)]
pub struct CheckpointRule {
    span_size: u64,
    last: UncompressedOffset,
}

impl CheckpointRule {
    /// Spans will hold more than `span_size` uncompressed bytes each, except the last.
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
