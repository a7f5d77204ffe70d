//! The table of contents of a zTOC: a list of entries, or a reference to the blob that contains
//! them.
//!
//! Entries of a blob are not copied: if they are small or share strings, the copies would take many
//! times the memory of the blob.

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

/// A vector of tables in a blob, all of which have been read without an error.
#[derive(Debug, Clone)]
struct Stored {
    blob: SharedBytes,
    /// The offset of the first element.
    first: usize,
    /// The offset of each entry's name, kept because names are read many times.
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
    /// The entries in a vector of tables, all of which have been read without an error.
    pub(super) const fn stored(blob: SharedBytes, first: usize, names: Vec<u32>) -> Self {
        Self { listed: Vec::new(), stored: Some(Stored { blob, first, names }) }
    }

    /// The entries in memory; empty if they are in a blob.
    pub(super) fn listed(&self) -> &[FileMetadata] {
        &self.listed
    }

    /// The length of the blob that contains the entries; `None` if they are in memory.
    pub(super) fn blob_len(&self) -> Option<usize> {
        self.stored.as_ref().map(|stored| stored.blob.as_slice().len())
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stored.as_ref().map_or(self.listed.len(), |stored| stored.names.len())
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An entry with all its fields; a copy if it is in a blob.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Cow<'_, FileMetadata>> {
        match &self.stored {
            Some(stored) => stored.entry(index).map(|entry| Cow::Owned(entry.to_metadata())),
            None => self.listed.get(index).map(Cow::Borrowed),
        }
    }

    /// Iterates over all entries, each as from [`Self::get`].
    pub fn iter(
        &self,
    ) -> impl DoubleEndedIterator<Item = Cow<'_, FileMetadata>> + ExactSizeIterator + Clone {
        (0..self.len()).map(|index| self.get(index).unwrap_or_default())
    }

    /// Iterates over all entries without copying their fields.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = Entry<'_>> + Clone {
        let stored = self.stored.as_ref().map(|stored| (stored, stored.blob.as_slice()));
        (0..self.len()).filter_map(move |index| match stored {
            Some((stored, blob)) => stored.entry_in(blob, index),
            None => self.listed.get(index).map(Entry::from),
        })
    }

    /// The entries for changing them; they are copied first if they are in a blob.
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
