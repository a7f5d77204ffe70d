//! The table of contents of a zTOC: a list of entries, or a reference to the blob that has them.
//!
//! Entries of a blob are decoded on each access. If all were decoded at once, a blob of small or
//! shared entries could take many times its size in memory.

use std::borrow::Cow;

use super::flat::{Reader, Table};
use super::raw::slot;
use super::read;
use crate::bytes::SharedBytes;
use crate::error::Result;
use crate::tar::{Entries, EntryType, FileMetadata};

/// The entries of a layer in stored order.
#[derive(Debug, Clone, Default)]
pub struct Toc {
    /// Empty if `stored` is set.
    listed: Vec<FileMetadata>,
    stored: Option<Stored>,
}

/// A vector of tables in a blob, all of which were read once without an error.
#[derive(Debug, Clone)]
struct Stored {
    blob: SharedBytes,
    /// The offset of the first element.
    first: usize,
    count: usize,
}

impl Stored {
    fn with_table<'a, T>(
        &'a self,
        index: usize,
        read: impl FnOnce(&Table<'_, 'a>) -> Result<T>,
    ) -> Option<T> {
        if index >= self.count {
            return None;
        }
        let reader = Reader::new(self.blob.as_slice(), 0);
        let table = reader.element(self.first, index, "file metadata").ok()?;
        read(&table).ok()
    }

    fn entry(&self, index: usize) -> Option<FileMetadata> {
        self.with_table(index, |table| read::read_entry(table, index as u64))
    }
}

impl Toc {
    /// Entries whose tables are the elements of a vector. All must have been read without an error.
    pub(super) const fn stored(blob: SharedBytes, first: usize, count: usize) -> Self {
        Self { listed: Vec::new(), stored: Some(Stored { blob, first, count }) }
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stored.as_ref().map_or(self.listed.len(), |stored| stored.count)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Cow<'_, FileMetadata>> {
        match &self.stored {
            Some(stored) => stored.entry(index).map(Cow::Owned),
            None => self.listed.get(index).map(Cow::Borrowed),
        }
    }

    /// Iterates over all entries.
    pub fn iter(
        &self,
    ) -> impl DoubleEndedIterator<Item = Cow<'_, FileMetadata>> + ExactSizeIterator + Clone {
        (0..self.len()).map(|index| self.get(index).unwrap_or_default())
    }

    /// The entries for modification; decodes all entries of a blob first.
    pub fn to_mut(&mut self) -> &mut Vec<FileMetadata> {
        if let Some(stored) = self.stored.take() {
            self.listed = (0..stored.count).filter_map(|index| stored.entry(index)).collect();
        }
        &mut self.listed
    }
}

impl Entries for Toc {
    fn count(&self) -> usize {
        self.len()
    }

    fn entry(&self, index: usize) -> Option<Cow<'_, FileMetadata>> {
        self.get(index)
    }

    fn name(&self, index: usize) -> &[u8] {
        let Some(stored) = &self.stored else { return self.listed.name(index) };
        stored
            .with_table(index, |table| table.string(slot::entry::NAME, "name"))
            .unwrap_or_default()
    }

    fn linkname(&self, index: usize) -> &[u8] {
        let Some(stored) = &self.stored else { return self.listed.linkname(index) };
        let found =
            stored.with_table(index, |table| table.string(slot::entry::LINKNAME, "linkname"));
        found.unwrap_or_default()
    }

    fn entry_type(&self, index: usize) -> EntryType {
        let Some(stored) = &self.stored else { return self.listed.entry_type(index) };
        let word = stored.with_table(index, |table| table.string(slot::entry::TYPE, "type"));
        word.and_then(EntryType::from_word).unwrap_or_default()
    }
}

impl From<Vec<FileMetadata>> for Toc {
    fn from(listed: Vec<FileMetadata>) -> Self {
        Self { listed, stored: None }
    }
}

impl PartialEq for Toc {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Toc {}
