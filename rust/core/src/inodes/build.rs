//! Numbers the inodes of an image, whatever index describes it.

use std::collections::{HashMap, VecDeque};

use super::{
    Child, DataPlace, HeaderOwner, Inode, Inodes, MAX_NAME_LEN, Places, ROOT, Xattr, index,
};
use crate::error::{Error, Result};
use crate::tar::EntryType;
use crate::ztoc::NO_ID;

/// Maximum number of directories that no layer lists: a single path can imply two thousand, so the
/// length of the index does not bound them. Their inodes take 32 MB.
const MAX_IMPLIED: usize = 1 << 18;
/// Maximum length of all names, targets and extended attributes in bytes, for each inode and for any
/// image. A seek table is compressed, so its length does not bound them.
const MAX_TEXT_PER_INODE: u64 = 256;
const MAX_TEXT: u64 = 256 << 20;
/// Memory that an extended attribute takes besides its bytes.
const XATTR_OVERHEAD: u64 = 64;
/// Bits of a device number: mknod(2) takes 12 for the major and 20 for the minor number, and ignores
/// others. Source: torvalds/linux, include/linux/kdev_t.h.
const MAJOR_BITS: i64 = 0xFFF;
const MINOR_BITS: i64 = 0xF_FFFF;
/// What Linux gives every symbolic link.
const SYMLINK_MODE: u16 = 0o777;
/// Maximum lengths of the name and the value of an extended attribute in bytes. Source:
/// torvalds/linux, include/uapi/linux/limits.h, `XATTR_NAME_MAX` and `XATTR_SIZE_MAX`.
const MAX_XATTR_NAME_LEN: usize = 255;
const MAX_XATTR_LEN: usize = 65_536;
/// The namespaces of extended attributes in which any name is possible. Source: torvalds/linux,
/// include/uapi/linux/xattr.h.
const XATTR_NAMESPACES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];

/// An index of an image.
pub(super) trait Names {
    /// Where a name is in the index.
    type Place;

    /// About how many names there are.
    fn count(&self) -> usize;

    fn root(&self) -> Result<Self::Place>;

    /// The contents of a directory, in any order.
    fn children(&self, directory: &Self::Place, path: &[u8]) -> Result<Vec<Self::Place>>;

    fn name<'a>(&'a self, place: &'a Self::Place) -> &'a [u8];

    /// The type; `HardLink` only if the target is missing.
    fn kind(&self, place: &Self::Place) -> EntryType;

    /// A number for a file that may have several names, the same for all of them.
    fn file(&self, place: &Self::Place) -> Option<u64>;

    /// The metadata of a name with this path.
    fn describe(&self, place: &Self::Place, path: &[u8]) -> Result<Description>;

    /// The error that there is more of something than allowed.
    fn too_many(&self, what: &'static str, value: u64, limit: u64) -> Error;
}

/// The metadata of a file, as an index has them.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) kind: EntryType,
    pub(super) is_implied: bool,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: (i64, u32),
    /// Size of a regular file.
    pub(super) size: u64,
    pub(super) device: (i64, i64),
    pub(super) data: Option<DataPlace>,
    pub(super) target: Vec<u8>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The clean path in the tar, if it differs from the path of the name.
    pub(super) tar_path: Option<Vec<u8>>,
    /// Mode, user and group in the headers; `None` if not known.
    pub(super) header_owner: Option<(u16, u32, u32)>,
}

impl Description {
    fn inode(&self) -> Inode {
        let is_device = matches!(self.kind, EntryType::CharDevice | EntryType::BlockDevice);
        let (major, minor) = if is_device { self.device } else { (0, 0) };
        let bits = |number: i64, bits: i64| u32::try_from(number & bits).unwrap_or(0);
        let is_symlink = self.kind == EntryType::SymLink;
        Inode {
            kind: self.kind,
            mode: if is_symlink { SYMLINK_MODE } else { self.mode },
            // Files are created by root, and then keep their owner.
            uid: if self.uid == NO_ID { 0 } else { self.uid },
            gid: if self.gid == NO_ID { 0 } else { self.gid },
            mtime: self.mtime,
            size: match self.kind {
                EntryType::Regular => self.size,
                EntryType::SymLink => self.target.len() as u64,
                _ => 0,
            },
            nlink: 0,
            device: (bits(major, MAJOR_BITS), bits(minor, MINOR_BITS)),
            data: self.data.filter(|_| self.kind == EntryType::Regular && self.size > 0),
        }
    }
}

/// Makes the table of an image.
pub(super) fn build<N: Names>(names: &N) -> Result<Inodes> {
    let count = names.count();
    let mut builder = Builder {
        names,
        table: Inodes {
            inodes: Vec::with_capacity(count),
            places: Vec::with_capacity(count),
            children: Vec::with_capacity(count),
            names: Vec::new(),
            targets: Vec::new(),
            xattrs: Vec::new(),
            tar_paths: Vec::new(),
            header_owners: Vec::new(),
            left_out: 0,
        },
        files: HashMap::new(),
        directories: VecDeque::new(),
        implied: 0,
        text: 0,
    };
    builder.run()?;
    Ok(builder.finish())
}

struct Builder<'a, N: Names> {
    names: &'a N,
    table: Inodes,
    /// The inodes of files that may have several names.
    files: HashMap<u64, u32>,
    /// Directories whose contents come next.
    directories: VecDeque<(u32, N::Place)>,
    implied: usize,
    /// Length of what `MAX_TEXT` limits.
    text: u64,
}

impl<N: Names> Builder<'_, N> {
    fn run(&mut self) -> Result<()> {
        let place = self.names.root()?;
        let description = self.names.describe(&place, &[])?;
        let root = self.add(description, 1, 0)?;
        self.directories.push_back((root, place));
        while let Some((inode, place)) = self.directories.pop_front() {
            self.add_children(inode, &place)?;
        }
        Ok(())
    }

    fn add_children(&mut self, directory: u32, place: &N::Place) -> Result<()> {
        let mut path = self.table.path(directory.into());
        let mut children = self.names.children(place, &path)?;
        children.sort_unstable_by(|a, b| self.names.name(a).cmp(self.names.name(b)));
        if !path.is_empty() {
            path.push(b'/');
        }
        let directory_len = path.len();
        let start = self.table.children.len();
        for place in children {
            let name = self.names.name(&place);
            let kind = self.names.kind(&place);
            path.truncate(directory_len);
            path.extend_from_slice(name);
            if kind == EntryType::HardLink || name.len() > MAX_NAME_LEN {
                self.table.left_out += 1;
                continue;
            }
            let name_len = u8::try_from(name.len()).unwrap_or(u8::MAX);
            let Some(inode) = self.inode(&place, kind, &path, directory)? else {
                self.table.left_out += 1;
                continue;
            };
            let name = self.names.name(&place);
            self.spend(name.len() as u64)?;
            let start = self.to_u32("length of all names", self.table.names.len())?;
            extend(&mut self.table.names, name);
            self.table.children.push(Child { inode, name: start, name_len });
            if kind == EntryType::Directory {
                self.link(directory);
                self.directories.push_back((inode, place));
            } else {
                self.link(inode);
            }
        }
        let len = self.table.children.len() - start;
        let start = self.to_u32("number of names", start)?;
        let len = self.to_u32("number of names", len)?;
        let places = &mut self.table.places[index(directory.into())];
        (places.start, places.len) = (start, len);
        Ok(())
    }

    /// The inode of a name, a new one unless it is another name of a known file; `None` if Linux would
    /// not create it.
    fn inode(
        &mut self,
        place: &N::Place,
        kind: EntryType,
        path: &[u8],
        parent: u32,
    ) -> Result<Option<u32>> {
        let description = self.names.describe(place, path)?;
        if kind == EntryType::SymLink && description.target.is_empty() {
            return Ok(None);
        }
        let file = self.names.file(place).filter(|_| kind != EntryType::Directory);
        let known = file.and_then(|file| self.files.get(&file).copied());
        if let Some(known) = known.filter(|known| self.is_same(*known, &description)) {
            return Ok(Some(known));
        }
        let name = self.to_u32("number of names", self.table.children.len())?;
        let inode = self.add(description, parent, name)?;
        if let Some(file) = file {
            self.files.entry(file).or_insert(inode);
        }
        Ok(Some(inode))
    }

    /// Whether a name describes the same file as another one. A hostile file list may say of any two
    /// entries that they are one file.
    fn is_same(&self, known: u32, description: &Description) -> bool {
        let other = description.inode();
        self.table.get(known.into()).is_some_and(|inode| {
            (inode.kind, inode.size, inode.device, inode.data)
                == (other.kind, other.size, other.device, other.data)
                && self.table.target(known.into()) == description.target
        })
    }

    /// Counts one more name of a file, or one more subdirectory of a directory.
    fn link(&mut self, inode: u32) {
        let inode = &mut self.table.inodes[index(inode.into())];
        inode.nlink = inode.nlink.saturating_add(1);
    }

    /// Adds an inode and returns its number.
    fn add(&mut self, description: Description, parent: u32, name: u32) -> Result<u32> {
        self.implied += usize::from(description.is_implied);
        if self.implied > MAX_IMPLIED {
            let what = "number of directories that no layer lists";
            return Err(self.names.too_many(what, self.implied as u64, MAX_IMPLIED as u64));
        }
        let mut inode = description.inode();
        if inode.kind == EntryType::Directory {
            inode.nlink = 2;
        }
        let number = self.to_u32("number of inodes", self.table.inodes.len() + 1)?;
        let owner = (inode.mode, inode.uid, inode.gid);
        let has_data = inode.data.is_some();
        self.table.inodes.push(inode);
        let mut places = Places { parent, name, start: 0, len: 0 };
        let Description { kind, target, xattrs, tar_path, header_owner, .. } = description;
        if kind == EntryType::SymLink {
            self.spend(target.len() as u64)?;
            places.start = self.to_u32("length of all link targets", self.table.targets.len())?;
            places.len = self.to_u32("length of a link target", target.len())?;
            extend(&mut self.table.targets, &target);
        }
        self.table.places.push(places);
        let is_possible = |(name, value): &(Vec<u8>, Vec<u8>)| is_possible(kind, name, value);
        let xattrs = xattrs.into_iter().filter(is_possible);
        let xattrs: Box<[Xattr]> =
            xattrs.map(|(name, value)| (name.into(), value.into())).collect();
        if !xattrs.is_empty() {
            let lens = xattrs.iter();
            let lens = lens.map(|(name, value)| (name.len() + value.len()) as u64 + XATTR_OVERHEAD);
            self.spend(lens.sum())?;
            self.table.xattrs.push((number, xattrs));
        }
        if let Some(path) = tar_path.filter(|_| has_data) {
            self.spend(path.len() as u64)?;
            self.table.tar_paths.push((number, path.into()));
        }
        if has_data && header_owner != Some(owner) {
            let owner = header_owner.map(|(mode, uid, gid)| HeaderOwner { mode, uid, gid });
            self.table.header_owners.push((number, owner));
        }
        Ok(number)
    }

    /// Counts bytes against the limit.
    fn spend(&mut self, len: u64) -> Result<()> {
        self.text = self.text.saturating_add(len);
        let limit = MAX_TEXT + MAX_TEXT_PER_INODE * self.table.inodes.len() as u64;
        if self.text > limit {
            let what = "length of all names, link targets and extended attributes";
            return Err(self.names.too_many(what, self.text, limit));
        }
        Ok(())
    }

    fn to_u32(&self, what: &'static str, number: usize) -> Result<u32> {
        let error = |_| self.names.too_many(what, number as u64, u32::MAX.into());
        u32::try_from(number).map_err(error)
    }

    fn finish(self) -> Inodes {
        let mut table = self.table;
        table.inodes.shrink_to_fit();
        table.places.shrink_to_fit();
        table.children.shrink_to_fit();
        table.names.shrink_to_fit();
        table.targets.shrink_to_fit();
        table.xattrs.shrink_to_fit();
        table.tar_paths.shrink_to_fit();
        table.header_owners.shrink_to_fit();
        debug_assert_eq!(table.parent(ROOT), ROOT);
        table
    }
}

/// Appends bytes, with less unused memory than a vector has by itself.
fn extend(bytes: &mut Vec<u8>, more: &[u8]) {
    if bytes.capacity() - bytes.len() < more.len() {
        bytes.reserve_exact(more.len() + bytes.len() / 8 + 1024);
    }
    bytes.extend_from_slice(more);
}

/// Whether Linux lets a file of this type have this extended attribute; unpackers leave out others.
fn is_possible(kind: EntryType, name: &[u8], value: &[u8]) -> bool {
    let is_directory = kind == EntryType::Directory;
    let is_in = |namespace: &&[u8]| name.starts_with(namespace) && name.len() > namespace.len();
    let is_known = match name {
        b"system.posix_acl_access" => kind != EntryType::SymLink,
        b"system.posix_acl_default" => is_directory,
        _ if name.starts_with(b"user.") && !is_directory && kind != EntryType::Regular => false,
        _ => XATTR_NAMESPACES.iter().any(is_in),
    };
    is_known
        && name.len() <= MAX_XATTR_NAME_LEN
        && value.len() <= MAX_XATTR_LEN
        && !name.contains(&0)
}
