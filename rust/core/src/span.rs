//! Offsets into a layer, compressed and uncompressed, and span IDs.
//!
//! A layer has compressed bytes (what a registry serves) and uncompressed bytes (the tar).
//! Confusing the two offsets is the classic mistake here, so each has its own type. All ranges are
//! half-open, `[start, end)`.

use std::fmt;

/// Default minimum size of a span, in uncompressed bytes (SOCI's default, 4 MiB).
pub const DEFAULT_SPAN_SIZE: u64 = 4 << 20;

/// A byte offset in the compressed layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CompressedOffset(pub u64);

/// A byte offset in the uncompressed layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UncompressedOffset(pub u64);

/// A bit offset in the compressed layer; DEFLATE fills bytes from the low bit upwards (RFC 1951
/// §3.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BitOffset(pub u64);

/// A span ID: 0 to `max_span_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SpanId(pub u32);

impl BitOffset {
    /// The byte that contains this bit.
    #[must_use]
    pub const fn byte(self) -> CompressedOffset {
        CompressedOffset(self.0 / 8)
    }

    /// The position of this bit in its byte, 0 being the low bit.
    #[must_use]
    pub const fn bit_in_byte(self) -> u8 {
        (self.0 % 8) as u8
    }
}

impl From<CompressedOffset> for BitOffset {
    fn from(at: CompressedOffset) -> Self {
        Self(at.0.saturating_mul(8))
    }
}

impl fmt::Display for CompressedOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "compressed byte {}", self.0)
    }
}

impl fmt::Display for UncompressedOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uncompressed byte {}", self.0)
    }
}

impl fmt::Display for BitOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "compressed byte {} bit {}", self.byte().0, self.bit_in_byte())
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "span {}", self.0)
    }
}
