//! The seek table: an index of an image that is smaller and denser than its zTOCs.
//!
//! `docs/seek-table.md` describes the format.

mod build;
mod builder;
mod chunk;
mod file_list;
mod finder;
mod layer_blob;
mod list_chunk;
mod positions;
mod root;
mod spans;
pub(crate) mod wire;
mod zone;

pub use build::{LayerParts, SeekTable, build};
pub(crate) use builder::LayerBuilder;
pub use file_list::{Answer, FileList, ListWalk, Listed, Stop};
pub(crate) use finder::{Choices, Finder};
pub use layer_blob::{LayerWriter, SeekLayer};
pub use list_chunk::{Extra, ListEntry, Owner};
pub use positions::{LayerCompression, Positions};
pub use root::{ENTRIES_PER_CHUNK, MAX_LAYERS, Root, RootLayer};
pub use spans::SeekSpans;

use crate::error::{Error, Result, SeekError, SeekPart};

/// Default distance between checkpoints in uncompressed bytes.
pub const DEFAULT_SEEK_SPAN_SIZE: u64 = 256 << 10;
/// Smallest distance between checkpoints: below it, the table would consist mostly of windows.
pub const MIN_SEEK_SPAN_SIZE: u64 = 64 << 10;
/// Largest distance between checkpoints.
pub const MAX_SEEK_SPAN_SIZE: u64 = 64 << 20;
/// Number of checkpoints in a seek chunk; the last one may have fewer.
pub const CHECKPOINTS_PER_CHUNK: usize = 64;
/// Maximum number of spans of a layer: 256 GiB at the smallest distance. A reader allocates 16 bytes
/// for each, while a position map can declare one in 2 bytes.
pub const MAX_SPANS: u64 = 1 << 22;
/// Maximum size of a layer in bytes, compressed or not, so that positions in bits fit in 64 bits.
pub const MAX_LAYER_SIZE: u64 = 1 << 60;

/// Checks the span size of a seek table.
///
/// # Errors
///
/// [`Error::Seek`] unless it is from [`MIN_SEEK_SPAN_SIZE`] to [`MAX_SEEK_SPAN_SIZE`].
pub fn check_span_size(span_size: u64) -> Result<()> {
    positions::check_span_size(span_size).map_err(in_part(SeekPart::LayerHead))
}

/// Returns a function that turns a broken rule into an error about `part`.
pub(crate) const fn in_part(part: SeekPart) -> impl Fn(SeekError) -> Error {
    move |kind| Error::Seek { kind, part }
}
