//! The metadata of a file after unpacking, which its hard links may have changed.
//!
//! An unpacker gives the file the metadata of the entry of each hard link that it makes, and
//! chown(2) removes its file capabilities each time. So the last link decides.
//! Source: containerd/containerd, archive/tar.go.

use std::collections::BTreeMap;

use super::Entry;
use crate::tar::{EntryType, FileMetadata};

/// The bits of a mode that `chmod` sets.
const PERMISSIONS: i64 = 0o7777;
/// Prefix of PAX records that hold extended attributes.
const XATTR: &[u8] = b"SCHILY.xattr.";
/// The extended attribute that chown(2) removes: file capabilities.
const CAPABILITY: &[u8] = b"security.capability";

/// The ID that chown(2) treats as "do not change".
pub const NO_ID: u32 = u32::MAX;

/// A directory that no layer lists, as unpackers create it.
pub static IMPLIED_DIRECTORY: FileMetadata = FileMetadata {
    name: Vec::new(),
    entry_type: EntryType::Directory,
    uncompressed_offset: 0,
    uncompressed_size: 0,
    linkname: Vec::new(),
    mode: 0o755,
    uid: 0,
    gid: 0,
    uname: Vec::new(),
    gname: Vec::new(),
    mod_time: Vec::new(),
    devmajor: 0,
    devminor: 0,
    xattrs: Vec::new(),
};

/// An entry as it is after unpacking.
#[derive(Debug, Clone, Copy)]
pub struct Unpacked<'a> {
    entry: Entry<'a>,
    link: Option<Entry<'a>>,
}

impl<'a> Unpacked<'a> {
    /// An entry, and the last hard link to it.
    #[must_use]
    pub const fn new(entry: Entry<'a>, link: Option<Entry<'a>>) -> Self {
        Self { entry, link }
    }

    fn last(self) -> Entry<'a> {
        self.link.unwrap_or(self.entry)
    }

    /// Permission bits. A symbolic link keeps its own.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "12 bits")]
    pub fn mode(self) -> u16 {
        let is_symlink = self.entry.entry_type() == EntryType::SymLink;
        let entry = if is_symlink { self.entry } else { self.last() };
        (entry.mode() & PERMISSIONS) as u16
    }

    /// User ID; [`NO_ID`] if neither the link nor the file has one.
    #[must_use]
    pub fn uid(self) -> u32 {
        id(self.last().uid(), self.entry.uid())
    }

    /// Group ID; as [`Self::uid`].
    #[must_use]
    pub fn gid(self) -> u32 {
        id(self.last().gid(), self.entry.gid())
    }

    /// User name.
    #[must_use]
    pub fn uname(self) -> &'a [u8] {
        self.last().uname()
    }

    /// Group name.
    #[must_use]
    pub fn gname(self) -> &'a [u8] {
        self.last().gname()
    }

    /// Modification time: seconds since 1970, and nanoseconds.
    #[must_use]
    pub fn mod_time_parts(self) -> Option<(i64, u32)> {
        self.last().mod_time_parts()
    }

    /// Extended attributes by name, without the prefix of PAX records.
    #[must_use]
    pub fn xattrs(self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut found = BTreeMap::new();
        add_xattrs(&mut found, self.entry);
        if let Some(link) = self.link {
            found.remove(CAPABILITY);
            add_xattrs(&mut found, link);
        }
        found
    }
}

const fn id(last: u32, own: u32) -> u32 {
    if last == NO_ID { own } else { last }
}

fn add_xattrs(found: &mut BTreeMap<Vec<u8>, Vec<u8>>, entry: Entry<'_>) {
    for (key, value) in entry.xattrs().iter() {
        if let Some(name) = key.strip_prefix(XATTR) {
            found.insert(name.to_vec(), value.to_vec());
        }
    }
}
