//! The tar TOC: push uncompressed bytes, get the layer's entries.

mod entry;

pub use entry::{EntryType, FileMetadata};
