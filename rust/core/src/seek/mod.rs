//! The seek table: an index of an image that is smaller and denser than its zTOCs.
//!
//! `docs/seek-table.md` describes the format.

/// Default distance between checkpoints in uncompressed bytes.
pub const DEFAULT_SEEK_SPAN_SIZE: u64 = 256 << 10;
/// Smallest distance between checkpoints: below it, windows are most of the table.
pub const MIN_SEEK_SPAN_SIZE: u64 = 64 << 10;
/// Largest distance between checkpoints.
pub const MAX_SEEK_SPAN_SIZE: u64 = 64 << 20;
/// Number of checkpoints in a seek chunk; the last one may have fewer.
pub const CHECKPOINTS_PER_CHUNK: usize = 64;
