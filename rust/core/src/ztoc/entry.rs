//! A view of one entry of a zTOC, whether it is in a blob or in memory.

use std::borrow::Cow;

use super::flat::KnownTable;
use super::raw::slot;
use super::rules;
use crate::tar::{self, EntryType, FileMetadata};

/// The fields of a [`FileMetadata`]. If the entry is in a blob, each call reads the field from it.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a>(Kept<'a>);

#[derive(Debug, Clone, Copy)]
enum Kept<'a> {
    Listed(&'a FileMetadata),
    Stored(KnownTable<'a>),
}

/// The PAX records of an entry, keys ascending by bytes.
#[derive(Debug, Clone)]
pub struct Records<'a>(KeptRecords<'a>);

#[derive(Debug, Clone)]
enum KeptRecords<'a> {
    Listed(&'a [(Vec<u8>, Vec<u8>)]),
    Stored(Vec<(&'a [u8], &'a [u8])>),
}

impl<'a> Entry<'a> {
    /// The entry in a table that has been read without an error before.
    #[inline]
    pub(super) const fn stored(table: KnownTable<'a>) -> Self {
        Self(Kept::Stored(table))
    }

    #[inline]
    fn text(self, slot: usize, listed: impl FnOnce(&'a FileMetadata) -> &'a [u8]) -> &'a [u8] {
        match self.0 {
            Kept::Listed(entry) => listed(entry),
            Kept::Stored(table) => table.string(slot),
        }
    }

    #[inline]
    fn int64(self, slot: usize, listed: impl FnOnce(&FileMetadata) -> i64) -> i64 {
        match self.0 {
            Kept::Listed(entry) => listed(entry),
            Kept::Stored(table) => table.int64(slot),
        }
    }

    #[inline]
    fn uint32(self, slot: usize, listed: impl FnOnce(&FileMetadata) -> u32) -> u32 {
        match self.0 {
            Kept::Listed(entry) => listed(entry),
            Kept::Stored(table) => table.uint32(slot),
        }
    }

    /// The type of the entry.
    #[must_use]
    #[inline]
    pub fn entry_type(self) -> EntryType {
        match self.0 {
            Kept::Listed(entry) => entry.entry_type,
            Kept::Stored(table) => {
                EntryType::from_word(table.string(slot::entry::TYPE)).unwrap_or_default()
            }
        }
    }

    /// The name as in the archive, not cleaned.
    #[must_use]
    #[inline]
    pub fn name(self) -> &'a [u8] {
        self.text(slot::entry::NAME, |entry| &entry.name)
    }

    /// Uncompressed offset of the first data byte, after all of the entry's header blocks.
    #[must_use]
    #[inline]
    pub fn uncompressed_offset(self) -> i64 {
        self.int64(slot::entry::UNCOMPRESSED_OFFSET, |entry| entry.uncompressed_offset)
    }

    /// Size in bytes; see [`FileMetadata::uncompressed_size`].
    #[must_use]
    #[inline]
    pub fn uncompressed_size(self) -> i64 {
        self.int64(slot::entry::UNCOMPRESSED_SIZE, |entry| entry.uncompressed_size)
    }

    /// Target of a link, as in the archive; empty otherwise.
    #[must_use]
    #[inline]
    pub fn linkname(self) -> &'a [u8] {
        self.text(slot::entry::LINKNAME, |entry| &entry.linkname)
    }

    /// The header's mode field, all bits.
    #[must_use]
    #[inline]
    pub fn mode(self) -> i64 {
        self.int64(slot::entry::MODE, |entry| entry.mode)
    }

    /// User ID.
    #[must_use]
    #[inline]
    pub fn uid(self) -> u32 {
        self.uint32(slot::entry::UID, |entry| entry.uid)
    }

    /// Group ID.
    #[must_use]
    #[inline]
    pub fn gid(self) -> u32 {
        self.uint32(slot::entry::GID, |entry| entry.gid)
    }

    /// User name.
    #[must_use]
    #[inline]
    pub fn uname(self) -> &'a [u8] {
        self.text(slot::entry::UNAME, |entry| &entry.uname)
    }

    /// Group name.
    #[must_use]
    #[inline]
    pub fn gname(self) -> &'a [u8] {
        self.text(slot::entry::GNAME, |entry| &entry.gname)
    }

    /// Modification time in RFC 3339, or empty.
    #[must_use]
    #[inline]
    pub fn mod_time(self) -> &'a [u8] {
        self.text(slot::entry::MOD_TIME, |entry| &entry.mod_time)
    }

    /// Device major number.
    #[must_use]
    #[inline]
    pub fn devmajor(self) -> i64 {
        self.int64(slot::entry::DEVMAJOR, |entry| entry.devmajor)
    }

    /// Device minor number.
    #[must_use]
    #[inline]
    pub fn devminor(self) -> i64 {
        self.int64(slot::entry::DEVMINOR, |entry| entry.devminor)
    }

    /// All PAX records of the entry.
    #[must_use]
    pub fn xattrs(self) -> Records<'a> {
        Records(match self.0 {
            Kept::Listed(entry) => KeptRecords::Listed(&entry.xattrs),
            Kept::Stored(table) => KeptRecords::Stored(sorted(records(table).collect())),
        })
    }

    /// Whether any of the entry's PAX records has a wanted key.
    pub(super) fn has_key(self, is_wanted: impl Fn(&[u8]) -> bool) -> bool {
        match self.0 {
            Kept::Listed(entry) => entry.xattrs.iter().any(|(key, _)| is_wanted(key)),
            Kept::Stored(table) => records(table).any(|(key, _)| is_wanted(key)),
        }
    }

    /// Same as [`FileMetadata::clean_name`].
    #[must_use]
    pub fn clean_name(self) -> Cow<'a, [u8]> {
        tar::clean_path(self.name())
    }

    /// Same as [`FileMetadata::is_sparse`].
    #[must_use]
    pub fn is_sparse(self) -> bool {
        let records = self.xattrs();
        // Keys are unique, so at most one record matches.
        let value = |key: &[u8]| {
            records.iter().find(|(other, _)| *other == key).map_or(&[][..], |(_, value)| value)
        };
        !records.is_empty() && tar::is_sparse(value)
    }

    /// Same as [`FileMetadata::mod_time_parts`].
    #[must_use]
    pub fn mod_time_parts(self) -> Option<(i64, u32)> {
        tar::time_parts(self.mod_time())
    }

    /// Same as [`FileMetadata::needs_xattrs`].
    #[must_use]
    pub fn needs_xattrs(self) -> bool {
        tar::is_opaque_mark(self.name()) || self.has_key(tar::is_xattr)
    }

    /// Copies all fields.
    #[must_use]
    pub fn to_metadata(self) -> FileMetadata {
        FileMetadata {
            name: self.name().to_vec(),
            entry_type: self.entry_type(),
            uncompressed_offset: self.uncompressed_offset(),
            uncompressed_size: self.uncompressed_size(),
            linkname: self.linkname().to_vec(),
            mode: self.mode(),
            uid: self.uid(),
            gid: self.gid(),
            uname: self.uname().to_vec(),
            gname: self.gname().to_vec(),
            mod_time: self.mod_time().to_vec(),
            devmajor: self.devmajor(),
            devminor: self.devminor(),
            xattrs: self
                .xattrs()
                .iter()
                .map(|(key, value)| (key.to_vec(), value.to_vec()))
                .collect(),
        }
    }
}

impl<'a> From<&'a FileMetadata> for Entry<'a> {
    fn from(entry: &'a FileMetadata) -> Self {
        Self(Kept::Listed(entry))
    }
}

impl<'a> From<&'a Cow<'_, FileMetadata>> for Entry<'a> {
    fn from(entry: &'a Cow<'_, FileMetadata>) -> Self {
        Self(Kept::Listed(entry))
    }
}

impl<'a> Records<'a> {
    /// The records of a list, in its order.
    pub(super) const fn listed(records: &'a [(Vec<u8>, Vec<u8>)]) -> Self {
        Self(KeptRecords::Listed(records))
    }

    /// The number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            KeptRecords::Listed(records) => records.len(),
            KeptRecords::Stored(records) => records.len(),
        }
    }

    /// Whether there are no records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Iterates over keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let (listed, stored) = match &self.0 {
            KeptRecords::Listed(records) => (*records, &[][..]),
            KeptRecords::Stored(records) => (&[][..], &records[..]),
        };
        let listed = listed.iter().map(|(key, value)| (&key[..], &value[..]));
        listed.chain(stored.iter().copied())
    }
}

/// The records in stored order, which may repeat a key.
fn records(table: KnownTable<'_>) -> impl Iterator<Item = (&[u8], &[u8])> {
    let tables = table.tables(slot::entry::XATTRS);
    tables.map(|table| (table.string(slot::xattr::KEY), table.string(slot::xattr::VALUE)))
}

/// Sorts records by key. If a key is repeated, the last record wins.
fn sorted<'a>(mut records: Vec<(&'a [u8], &'a [u8])>) -> Vec<(&'a [u8], &'a [u8])> {
    if !rules::is_ascending(&records) {
        // `dedup_by` keeps the first record of each key, and the sort is stable, so reversing puts
        // the last one first.
        records.reverse();
        records.sort_by_key(|(key, _)| *key);
        records.dedup_by(|(a, _), (b, _)| a == b);
    }
    records
}
