//! One entry of a layer's tar, as a zTOC lists it.

use std::borrow::Cow;

use super::sparse;

/// The type of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum EntryType {
    /// A regular file.
    #[default]
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
    /// The type's name in a zTOC.
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

    /// The type with this name in a zTOC.
    #[must_use]
    #[inline]
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

/// The metadata of one entry, as in a zTOC. Names are raw bytes, since a tar name need not be
/// UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileMetadata {
    /// The name as in the archive, not cleaned; directories keep their trailing slash.
    pub name: Vec<u8>,
    /// The type of the entry.
    pub entry_type: EntryType,
    /// Uncompressed offset of the first data byte, after all of the entry's header blocks.
    pub uncompressed_offset: i64,
    /// Size in bytes: the header field for links and devices, the expanded size for PAX sparse
    /// files.
    pub uncompressed_size: i64,
    /// Target of a link, as in the archive; empty otherwise.
    pub linkname: Vec<u8>,
    /// The header's mode field, all bits.
    pub mode: i64,
    /// User ID, truncated to 32 bits as the reference does.
    pub uid: u32,
    /// Group ID, truncated to 32 bits as the reference does.
    pub gid: u32,
    /// User name.
    pub uname: Vec<u8>,
    /// Group name.
    pub gname: Vec<u8>,
    /// RFC 3339 in UTC with up to nine fraction digits; empty when the year is outside 0–9999.
    pub mod_time: Vec<u8>,
    /// Device major number, from the header; not only for devices.
    pub devmajor: i64,
    /// Device minor number, from the header; not only for devices.
    pub devminor: i64,
    /// All PAX records of the entry, as in the archive, sorted by key. The zTOC calls them
    /// `xattrs`.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl FileMetadata {
    /// The name as a path from the root of the layer; empty for the root itself.
    #[must_use]
    pub fn clean_name(&self) -> Cow<'_, [u8]> {
        clean_path(&self.name)
    }

    /// Whether the file is sparse, in one of the PAX sparse formats that Go supports.
    #[must_use]
    pub fn is_sparse(&self) -> bool {
        let value = |key: &[u8]| {
            // If another tool's zTOC repeats a key, the last one wins, as in a tar.
            self.xattrs.iter().rfind(|(other, _)| other == key).map_or(&[][..], |(_, value)| value)
        };
        !self.xattrs.is_empty() && is_sparse(value)
    }

    /// The target of a link, as in the archive; empty for other types, whatever their header says.
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
        is_opaque_mark(&self.name) || self.xattrs.iter().any(|(key, _)| is_xattr(key))
    }
}

/// Whether an entry with these PAX records is a sparse file. `value` returns the value of a key,
/// empty if it is missing.
pub(crate) fn is_sparse<'a>(value: impl Fn(&[u8]) -> &'a [u8]) -> bool {
    sparse::map_place(value).is_some()
}

/// Whether an entry with this name marks its directory as opaque.
pub(crate) fn is_opaque_mark(name: &[u8]) -> bool {
    name.ends_with(b".wh..wh..opq")
}

/// Whether a PAX record with this key is an extended attribute.
pub(crate) fn is_xattr(key: &[u8]) -> bool {
    key.starts_with(b"SCHILY.xattr.")
}

/// A path in the form that readers compare: from the root, without empty and `.` components. Each
/// `..` removes the component before it, if there is one.
pub(crate) fn clean_path(path: &[u8]) -> Cow<'_, [u8]> {
    let path = path.strip_prefix(b"./").unwrap_or(path);
    let path = path.strip_suffix(b"/").unwrap_or(path);
    // Most paths are clean, which adjacent bytes show faster than splitting into components.
    let may_be_odd = |[slash, next]: &[u8; 2]| *slash == b'/' && matches!(next, b'/' | b'.');
    if !matches!(path, [] | [b'/' | b'.', ..] | [.., b'/']) && !any_pair(path, may_be_odd) {
        return Cow::Borrowed(path);
    }
    let is_odd = |component: &[u8]| matches!(component, b"" | b"." | b"..");
    if !path.split(|byte| *byte == b'/').any(is_odd) {
        return Cow::Borrowed(path);
    }
    let mut clean = Vec::new();
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                let slash = clean.iter().rposition(|byte| *byte == b'/');
                clean.truncate(slash.unwrap_or(0));
            }
            name => {
                if !clean.is_empty() {
                    clean.push(b'/');
                }
                clean.extend_from_slice(name);
            }
        }
    }
    Cow::Owned(clean)
}

/// Whether any two adjacent bytes match. The loop has no early exit, so that the compiler can
/// vectorize it.
fn any_pair(bytes: &[u8], is_match: impl Fn(&[u8; 2]) -> bool) -> bool {
    let next = bytes.get(1..).unwrap_or_default();
    bytes.iter().zip(next).fold(false, |found, (byte, next)| found | is_match(&[*byte, *next]))
}

#[cfg(test)]
mod tests {
    use super::clean_path;

    #[test]
    fn clean_path_when_it_has_dots_or_slashes_then_relative_to_root() {
        for (path, clean) in [
            ("a/b", "a/b"),
            ("./a/b", "a/b"),
            ("/a//b/", "a/b"),
            ("a//", "a"),
            ("a/b///", "a/b"),
            ("a/./b/../c", "a/c"),
            ("../../a", "a"),
            ("./", ""),
            (".", ""),
            ("/", ""),
            ("", ""),
            ("a/..", ""),
            ("..a/.b", "..a/.b"),
        ] {
            assert_eq!(clean_path(path.as_bytes()), clean.as_bytes(), "{path:?}");
        }
    }
}
