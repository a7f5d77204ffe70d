//! The inodes of a merged image: what a file system needs to know about each file, in a compact
//! table that refers to nothing else.
//!
//! `build` numbers the inodes and holds the limits, `from_tree` and `from_list` read the two
//! indexes. Numbers are assigned directory by directory, breadth first and sorted by name, so the
//! table does not depend on the index that it was made from.

mod build;
mod from_list;
mod from_tree;

use std::ops::Range;

use crate::tar::EntryType;

/// The number of the root directory. It is its own parent.
pub const ROOT: u64 = 1;
/// Maximum length of a file name in bytes: `NAME_MAX` in torvalds/linux, include/uapi/linux/limits.h.
pub const MAX_NAME_LEN: usize = 255;

/// Name and value of an extended attribute.
pub type Xattr = (Box<[u8]>, Box<[u8]>);

/// All inodes of an image, numbered from 1 to [`Self::len`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inodes {
    inodes: Vec<Inode>,
    /// For each inode, where its name and its contents are.
    places: Vec<Places>,
    /// The contents of each directory, one directory after the other.
    children: Vec<Child>,
    /// All names, one after the other.
    names: Vec<u8>,
    /// All targets of symbolic links, one after the other.
    targets: Vec<u8>,
    // The rare fields, each with the number of its inode, ascending.
    xattrs: Vec<(u32, Box<[Xattr]>)>,
    /// Paths in the tar that are not paths in the image.
    tar_paths: Vec<(u32, Box<[u8]>)>,
    /// Mode and owner in the headers, if they are not those of the inode; `None` if not known.
    header_owners: Vec<(u32, Option<HeaderOwner>)>,
    left_out: usize,
}

/// The metadata of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// The type, never `HardLink`.
    pub kind: EntryType,
    /// Permission bits, at most 0o7777. A symbolic link has 0o777, as on Linux.
    pub mode: u16,
    /// User ID.
    pub uid: u32,
    /// Group ID.
    pub gid: u32,
    /// Modification time: seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
    /// Size of a regular file, or length of a symbolic link's target; otherwise 0.
    pub size: u64,
    /// Number of names; for a directory, 2 and the number of its subdirectories.
    pub nlink: u32,
    /// Major and minor number of a device; otherwise 0.
    pub device: (u32, u32),
    /// Where the data of a regular file is; `None` if it is empty.
    pub data: Option<DataPlace>,
}

/// Where the data of a file is, as the index claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataPlace {
    /// The index of the layer.
    pub layer: u32,
    /// Offset in the uncompressed layer at which the tar headers of the entry begin.
    ///
    /// Wrong after some sparse files; then it is an offset inside or before the headers.
    pub header_start: u64,
    /// Offset of the first byte of data, at which the headers end.
    pub offset: u64,
}

/// Maximum length of the headers of one file, as in a seek table.
const MAX_HEADERS_LEN: u64 = 8 << 20;
/// An index does not record where the headers of the file after a sparse file begin. They end where the
/// data begins, and are searched for in this many bytes before it.
const LOOK_BACK: u64 = 16 << 10;

impl DataPlace {
    /// The bytes before the data in which the headers are expected.
    #[must_use]
    pub const fn header_window(&self) -> Range<u64> {
        let len = self.offset.saturating_sub(self.header_start);
        if len > 0 && len <= MAX_HEADERS_LEN {
            return self.header_start..self.offset;
        }
        self.wide_header_window()
    }

    /// The bytes before the data in which the headers are searched for otherwise.
    #[must_use]
    pub const fn wide_header_window(&self) -> Range<u64> {
        self.offset.saturating_sub(LOOK_BACK)..self.offset
    }
}

/// What the headers of a regular file must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The clean path in its tar.
    pub path: Vec<u8>,
    /// Size of the file.
    pub size: u64,
    /// Permission bits.
    pub mode: u16,
    /// User ID.
    pub uid: u32,
    /// Group ID.
    pub gid: u32,
    /// Whether mode, user and group are those in the headers. If not, they are those of a hard link
    /// to the file, and those in the headers are not known.
    pub has_owner: bool,
}

/// A name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Child {
    /// The inode that it refers to.
    pub inode: u32,
    /// The offset of the name in `Inodes::names`.
    name: u32,
    name_len: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Places {
    /// The directory that contains its first name.
    parent: u32,
    /// The index of its first name in `Inodes::children`; not used for the root.
    name: u32,
    /// For a directory a range of `Inodes::children`, for a symbolic link one of `Inodes::targets`:
    /// start and length.
    start: u32,
    len: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct HeaderOwner {
    mode: u16,
    uid: u32,
    gid: u32,
}

impl Inodes {
    /// The number of inodes, at least 1.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "the root always exists")]
    pub const fn len(&self) -> usize {
        self.inodes.len()
    }

    /// How many names are not in the table: hard links to missing files, names of more than
    /// [`MAX_NAME_LEN`] bytes and symbolic links without a target. Linux would create none of them.
    #[must_use]
    pub const fn left_out(&self) -> usize {
        self.left_out
    }

    /// An inode by its number.
    #[must_use]
    pub fn get(&self, inode: u64) -> Option<&Inode> {
        self.inodes.get(index(inode))
    }

    /// The inode with this name in a directory.
    #[must_use]
    pub fn child(&self, directory: u64, name: &[u8]) -> Option<u64> {
        let children = self.children(directory);
        let found = children.binary_search_by(|child| self.name(child).cmp(name)).ok()?;
        Some(children[found].inode.into())
    }

    /// The contents of a directory, sorted by the bytes of their names; empty for anything else.
    #[must_use]
    pub fn children(&self, directory: u64) -> &[Child] {
        self.in_places(directory, EntryType::Directory, &self.children)
    }

    /// The name of a child.
    #[must_use]
    pub fn name(&self, child: &Child) -> &[u8] {
        let name = self.names.get(child.name as usize..);
        name.and_then(|name| name.get(..child.name_len.into())).unwrap_or_default()
    }

    /// The directory that contains an inode, under its first name. The root contains itself.
    #[must_use]
    pub fn parent(&self, inode: u64) -> u64 {
        self.places.get(index(inode)).map_or(ROOT, |places| places.parent.into())
    }

    /// The target of a symbolic link; empty for anything else.
    #[must_use]
    pub fn target(&self, inode: u64) -> &[u8] {
        self.in_places(inode, EntryType::SymLink, &self.targets)
    }

    /// The extended attributes of an inode, ascending by name, without those that Linux rejects.
    #[must_use]
    pub fn xattrs(&self, inode: u64) -> &[Xattr] {
        rare(&self.xattrs, inode).map_or(&[][..], |xattrs| &xattrs[..])
    }

    /// The path of an inode under its first name, without a leading slash.
    #[must_use]
    pub fn path(&self, inode: u64) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = inode;
        // Ends, since the number of a parent is less than that of its children.
        while let Some(places) = self.places.get(index(at)).filter(|_| at != ROOT) {
            names.extend(self.children.get(places.name as usize).map(|child| self.name(child)));
            at = places.parent.into();
        }
        names.reverse();
        names.join(&b'/')
    }

    /// The inode at a path. Does not follow symbolic links, and gives `.` and `..` no meaning.
    #[must_use]
    pub fn find(&self, path: &[u8]) -> Option<u64> {
        let mut parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        parts.try_fold(ROOT, |at, part| self.child(at, part))
    }

    /// What the headers of a regular file must say.
    #[must_use]
    pub fn claims(&self, inode: u64) -> Claims {
        let path = rare(&self.tar_paths, inode).map(|path| path.to_vec());
        let owner = rare(&self.header_owners, inode);
        let found = self.get(inode);
        let own = found.map_or(HeaderOwner { mode: 0, uid: 0, gid: 0 }, |inode| HeaderOwner {
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
        });
        let HeaderOwner { mode, uid, gid } = owner.copied().flatten().unwrap_or(own);
        Claims {
            path: path.unwrap_or_else(|| self.path(inode)),
            size: found.map_or(0, |inode| inode.size),
            mode,
            uid,
            gid,
            has_owner: owner.is_none_or(Option::is_some),
        }
    }

    fn in_places<'a, T>(&self, inode: u64, kind: EntryType, all: &'a [T]) -> &'a [T] {
        let is_kind = self.get(inode).is_some_and(|inode| inode.kind == kind);
        let places = self.places.get(index(inode)).filter(|_| is_kind);
        places
            .and_then(|places| all.get(places.start as usize..)?.get(..places.len as usize))
            .unwrap_or_default()
    }
}

/// The index of an inode in the table; that of no inode for 0.
fn index(inode: u64) -> usize {
    inode.checked_sub(1).and_then(|index| usize::try_from(index).ok()).unwrap_or(usize::MAX)
}

fn rare<T>(fields: &[(u32, T)], inode: u64) -> Option<&T> {
    let found = fields.binary_search_by_key(&inode, |(inode, _)| (*inode).into()).ok()?;
    Some(&fields[found].1)
}
