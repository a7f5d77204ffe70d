//! The table of contents of a zTOC: a list of entries, or a reference to the blob that has them.
//!
//! What was read from a blob stays there: a blob of small or shared entries would unfold into many
//! times its size.

use std::borrow::Cow;

use super::Entry;
use super::flat::{KnownTable, string_at};
use crate::bytes::SharedBytes;
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
    /// The offset of each entry's name: names are read many times.
    names: Vec<u32>,
}

impl Stored {
    #[inline]
    fn entry(&self, index: usize) -> Option<Entry<'_>> {
        self.entry_in(self.blob.as_slice(), index)
    }

    #[inline]
    fn entry_in<'a>(&self, blob: &'a [u8], index: usize) -> Option<Entry<'a>> {
        if index >= self.names.len() {
            return None;
        }
        KnownTable::element(blob, self.first, index).map(Entry::stored)
    }
}

impl Toc {
    /// Entries whose tables are the elements of a vector. All must have been read without an error.
    pub(super) const fn stored(blob: SharedBytes, first: usize, names: Vec<u32>) -> Self {
        Self { listed: Vec::new(), stored: Some(Stored { blob, first, names }) }
    }

    /// The entries that are not in a blob.
    pub(super) fn listed(&self) -> &[FileMetadata] {
        &self.listed
    }

    /// Bytes of the blob that has the entries.
    pub(super) fn blob_len(&self) -> Option<usize> {
        self.stored.as_ref().map(|stored| stored.blob.as_slice().len())
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stored.as_ref().map_or(self.listed.len(), |stored| stored.names.len())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An entry, whole.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Cow<'_, FileMetadata>> {
        match &self.stored {
            Some(stored) => stored.entry(index).map(|entry| Cow::Owned(entry.to_metadata())),
            None => self.listed.get(index).map(Cow::Borrowed),
        }
    }

    /// All entries, whole, one after the other.
    pub fn iter(
        &self,
    ) -> impl DoubleEndedIterator<Item = Cow<'_, FileMetadata>> + ExactSizeIterator + Clone {
        (0..self.len()).map(|index| self.get(index).unwrap_or_default())
    }

    /// All entries, each field read when asked for.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = Entry<'_>> + Clone {
        let stored = self.stored.as_ref().map(|stored| (stored, stored.blob.as_slice()));
        (0..self.len()).filter_map(move |index| match stored {
            Some((stored, blob)) => stored.entry_in(blob, index),
            None => self.listed.get(index).map(Entry::from),
        })
    }

    /// The entries, to be changed.
    pub fn to_mut(&mut self) -> &mut Vec<FileMetadata> {
        if self.stored.is_some() {
            self.listed = self.entries().map(Entry::to_metadata).collect();
            self.stored = None;
        }
        &mut self.listed
    }
}

impl Entries for Toc {
    type Entry<'a> = Entry<'a>;

    fn count(&self) -> usize {
        self.len()
    }

    #[inline]
    fn entry(&self, index: usize) -> Option<Entry<'_>> {
        match &self.stored {
            Some(stored) => stored.entry(index),
            None => self.listed.get(index).map(Entry::from),
        }
    }

    #[inline]
    fn name(&self, index: usize) -> &[u8] {
        let Some(stored) = &self.stored else { return self.listed.name(index) };
        let at = stored.names.get(index);
        at.map_or(&[], |at| string_at(stored.blob.as_slice(), *at as usize))
    }

    #[inline]
    fn linkname(&self, index: usize) -> &[u8] {
        self.entry(index).map(Entry::linkname).unwrap_or_default()
    }

    #[inline]
    fn entry_type(&self, index: usize) -> EntryType {
        self.entry(index).map(Entry::entry_type).unwrap_or_default()
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
