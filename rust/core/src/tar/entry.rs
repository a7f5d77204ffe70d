//! One entry of a layer's tar, as a zTOC lists it.

use std::borrow::Cow;

/// What an entry is; the words are those the zTOC stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryType {
    /// A regular file.
    Regular,
    /// A hard link to an earlier entry.
    HardLink,
    /// A symbolic link.
    SymLink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

impl EntryType {
    /// The word stored in the zTOC.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Regular => "reg",
            Self::HardLink => "hardlink",
            Self::SymLink => "symlink",
            Self::CharDevice => "char",
            Self::BlockDevice => "block",
            Self::Directory => "dir",
            Self::Fifo => "fifo",
        }
    }

    /// The type a zTOC's word stands for.
    #[must_use]
    pub fn from_word(word: &[u8]) -> Option<Self> {
        Some(match word {
            b"reg" => Self::Regular,
            b"hardlink" => Self::HardLink,
            b"symlink" => Self::SymLink,
            b"char" => Self::CharDevice,
            b"block" => Self::BlockDevice,
            b"dir" => Self::Directory,
            b"fifo" => Self::Fifo,
            _ => return None,
        })
    }
}

/// The metadata of one entry, in the zTOC's terms. Names are raw bytes: nothing makes a tar name
/// UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMetadata {
    /// As in the archive, uncleaned; directories keep their trailing slash.
    pub name: Vec<u8>,
    /// What it is.
    pub entry_type: EntryType,
    /// Uncompressed position of the first data byte, after all of the entry's header blocks.
    pub uncompressed_offset: i64,
    /// Bytes; the header's own field for links and devices, the expanded size for PAX sparse files.
    pub uncompressed_size: i64,
    /// Target of a link, raw; empty otherwise.
    pub linkname: Vec<u8>,
    /// The header's mode field, all bits.
    pub mode: i64,
    /// User id, cut to 32 bits as the reference does.
    pub uid: u32,
    /// Group id, cut to 32 bits as the reference does.
    pub gid: u32,
    /// User name.
    pub uname: Vec<u8>,
    /// Group name.
    pub gname: Vec<u8>,
    /// RFC 3339 in UTC with up to nine fraction digits; empty when the year is outside 0–9999.
    pub mod_time: Vec<u8>,
    /// Device major number, from the header of every type.
    pub devmajor: i64,
    /// Device minor number, from the header of every type.
    pub devminor: i64,
    /// All PAX records of the entry, keys ascending by bytes, raw. The zTOC calls them `xattrs`.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl FileMetadata {
    /// The name as a path from the root of the layer: no empty or `.` parts, and each `..` takes away
    /// the part before it, if there is one. Empty for the root itself.
    #[must_use]
    pub fn clean_name(&self) -> Cow<'_, [u8]> {
        let parts = || self.name.split(|byte| *byte == b'/');
        if parts().all(|part| !matches!(part, b"" | b"." | b"..")) {
            return Cow::Borrowed(&self.name);
        }
        let mut path = Vec::new();
        for part in parts() {
            match part {
                b"" | b"." => {}
                b".." => {
                    let slash = path.iter().rposition(|byte| *byte == b'/');
                    path.truncate(slash.unwrap_or(0));
                }
                part => {
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(part);
                }
            }
        }
        Cow::Owned(path)
    }

    /// What a link points at, raw; empty for all that is no link, whatever its header says.
    #[must_use]
    pub fn link_target(&self) -> &[u8] {
        match self.entry_type {
            EntryType::HardLink | EntryType::SymLink => &self.linkname,
            _ => &[],
        }
    }

    /// Whether the entry has an extended attribute, or marks its directory as opaque.
    #[must_use]
    pub fn needs_xattrs(&self) -> bool {
        self.name.ends_with(b".wh..wh..opq")
            || self.xattrs.iter().any(|(key, _)| key.starts_with(b"SCHILY.xattr."))
    }
}
