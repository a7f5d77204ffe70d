//! Access to the entries of a layer, however they are stored.

use std::borrow::Cow;

use super::entry::{EntryType, FileMetadata, clean_path};

/// The entries of a layer in the order of its tar.
///
/// For an index out of range, methods return `None` or an empty value.
pub trait Entries {
    /// A view of an entry.
    type Entry<'a>
    where
        Self: 'a;

    /// The number of entries.
    fn count(&self) -> usize;

    /// The entry at an index.
    fn entry(&self, index: usize) -> Option<Self::Entry<'_>>;

    /// The name of an entry, as in the archive.
    fn name(&self, index: usize) -> &[u8];

    /// The name of an entry as a path from the root of the layer; empty for the root itself.
    fn clean_name(&self, index: usize) -> Cow<'_, [u8]> {
        clean_path(self.name(index))
    }

    /// The link target of an entry, as in the archive.
    fn linkname(&self, index: usize) -> &[u8];

    /// The type of an entry.
    fn entry_type(&self, index: usize) -> EntryType;
}

impl Entries for Vec<FileMetadata> {
    type Entry<'a> = &'a FileMetadata;

    fn count(&self) -> usize {
        self.len()
    }

    fn entry(&self, index: usize) -> Option<&FileMetadata> {
        self.get(index)
    }

    fn name(&self, index: usize) -> &[u8] {
        self.get(index).map_or(&[], |entry| &entry.name)
    }

    fn linkname(&self, index: usize) -> &[u8] {
        self.get(index).map_or(&[], |entry| &entry.linkname)
    }

    fn entry_type(&self, index: usize) -> EntryType {
        self.get(index).map(|entry| entry.entry_type).unwrap_or_default()
    }
}
