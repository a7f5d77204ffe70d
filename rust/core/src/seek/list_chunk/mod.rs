//! A chunk of the file list: up to 1,024 entries of the merged image, in columns.

mod read;
mod write;

use std::ops::Range;

use crate::error::SeekError;
use crate::tar::EntryType;

pub(super) use read::read;
pub(super) use write::{Row, write};

type Result<T> = std::result::Result<T, SeekError>;

/// Size of a tar block.
const BLOCK_LEN: u64 = 512;
/// Largest offset or size in a layer.
const MAX_OFFSET: u64 = super::MAX_LAYER_SIZE;

/// An entry of the merged image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListEntry {
    /// The type; `HardLink` only for a hard link whose target is missing.
    pub kind: EntryType,
    /// Whether this is a directory that no layer lists.
    pub is_implied: bool,
    /// The layer of the data, and of the metadata unless a hard link in another layer changed it.
    pub layer: u32,
    /// Permission bits.
    pub mode: u16,
    /// Index of the owner in the chunk.
    pub owner: u32,
    /// Seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
    /// Size of a regular file in bytes.
    pub size: u64,
    /// Number of tar blocks from the first header of a regular file to its data.
    pub header_blocks: u32,
    /// Offset of a regular file's data in the uncompressed layer.
    pub offset: u64,
    /// The target of a symbolic link, or of a hard link whose target is missing.
    pub target: Vec<u8>,
    /// The rare fields, all empty for most entries.
    pub extra: Option<Box<Extra>>,
}

/// An entry without any metadata.
pub(super) static EMPTY: ListEntry = ListEntry {
    kind: EntryType::Regular,
    is_implied: false,
    layer: 0,
    mode: 0,
    owner: 0,
    mtime: (0, 0),
    size: 0,
    header_blocks: 0,
    offset: 0,
    target: Vec::new(),
    extra: None,
};

/// Fields that few entries have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extra {
    /// How many entries before this one the first name of this file is.
    pub names_before: Option<u32>,
    /// The clean name in the tar of the entry that holds the data, if it differs from the path.
    pub tar_name: Option<Vec<u8>>,
    /// Device numbers, major and minor.
    pub device: (i64, i64),
    /// Extended attributes, without a prefix, ascending by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether mode and owner are those of a hard link to this regular file, and not those in the
    /// headers before its data.
    pub has_link_owner: bool,
}

/// An owner: numbers and names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Owner {
    /// User ID.
    pub uid: u32,
    /// Group ID.
    pub gid: u32,
    /// User name.
    pub uname: Vec<u8>,
    /// Group name.
    pub gname: Vec<u8>,
}

/// A decoded chunk.
#[derive(Debug, Default)]
pub(super) struct ListChunk {
    /// All names, one after the other.
    names: Vec<u8>,
    name_ends: Vec<u32>,
    directories: Vec<Directory>,
    entries: Vec<ListEntry>,
    owners: Vec<Owner>,
}

/// The entries of one directory in a chunk.
#[derive(Debug)]
struct Directory {
    path: Vec<u8>,
    entries: Range<usize>,
}

impl ListChunk {
    /// Directory and name of an entry.
    pub(super) fn key(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let after = self.directories.partition_point(|directory| directory.entries.start <= index);
        let directory = self.directories.get(after.checked_sub(1)?)?;
        directory.entries.contains(&index).then_some((&directory.path[..], self.name(index)))
    }

    /// The name of an entry.
    pub(super) fn name(&self, index: usize) -> &[u8] {
        let end = |index: usize| self.name_ends.get(index).copied().unwrap_or(0) as usize;
        let start = index.checked_sub(1).map_or(0, end);
        self.names.get(start..end(index)).unwrap_or_default()
    }

    pub(super) fn entry(&self, index: usize) -> Option<&ListEntry> {
        self.entries.get(index)
    }

    pub(super) fn entries(&self) -> &[ListEntry] {
        &self.entries
    }

    pub(super) fn owner(&self, entry: &ListEntry) -> Option<&Owner> {
        self.owners.get(entry.owner as usize)
    }

    /// The entry with a key.
    pub(super) fn find(&self, directory: &[u8], name: &[u8]) -> Option<usize> {
        let range = self.in_directory(directory);
        let (mut low, mut high) = (range.start, range.end);
        while low < high {
            let middle = low.midpoint(high);
            match self.name(middle).cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Bytes of memory held.
    pub(super) fn memory(&self) -> usize {
        let directories = self.directories.iter().map(|directory| directory.path.len());
        let owners = self.owners.iter().map(|owner| owner.uname.len() + owner.gname.len());
        let extra = |extra: &Extra| {
            let xattrs = extra.xattrs.iter().map(|(name, value)| name.len() + value.len());
            let tar_name = extra.tar_name.as_ref().map_or(0, Vec::len);
            size_of::<Extra>() + size_of_val(&extra.xattrs[..]) + tar_name + xattrs.sum::<usize>()
        };
        let entries = self
            .entries
            .iter()
            .map(|entry| entry.target.len() + entry.extra.as_deref().map_or(0, extra));
        self.names.len()
            + size_of_val(&self.name_ends[..])
            + size_of_val(&self.directories[..])
            + size_of_val(&self.entries[..])
            + size_of_val(&self.owners[..])
            + directories.chain(owners).chain(entries).sum::<usize>()
    }

    /// The entries of a directory in this chunk.
    pub(super) fn in_directory(&self, directory: &[u8]) -> Range<usize> {
        let found = self.directories.binary_search_by(|other| other.path[..].cmp(directory));
        found.map_or(0..0, |index| self.directories[index].entries.clone())
    }
}

const COLUMN_COUNT: usize = 15;

const DIRECTORIES: usize = 0;
const NAME_LENS: usize = 1;
const NAMES: usize = 2;
const KINDS: usize = 3;
const LAYERS: usize = 4;
const MODES: usize = 5;
const OWNERS: usize = 6;
const OWNER_TABLE: usize = 7;
const SECONDS: usize = 8;
const NANOSECONDS: usize = 9;
const SIZES: usize = 10;
const HEADERS: usize = 11;
const OFFSETS: usize = 12;
const TARGETS: usize = 13;
const EXTRAS: usize = 14;

/// Bits above the type in the column of types.
const IMPLIED: u8 = 1 << 3;
const HAS_EXTRA: u8 = 1 << 4;
/// Flags for the rare fields that follow.
const HAS_NAMES: u64 = 1;
const HAS_TAR_NAME: u64 = 1 << 1;
const HAS_DEVICE: u64 = 1 << 2;
const HAS_XATTRS: u64 = 1 << 3;
/// No field follows for this one.
const HAS_LINK_OWNER: u64 = 1 << 4;
const ALL_FLAGS: u64 = (1 << 5) - 1;

/// A key: directory, NUL and name.
pub(super) fn key(directory: &[u8], name: &[u8]) -> Vec<u8> {
    [directory, &[0], name].concat()
}

const fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63).cast_unsigned()
}

const fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

/// Where the data of the next file begins if its headers follow a file that ends at `end`.
const fn predicted(end: u64, header_blocks: u32) -> u64 {
    end.wrapping_add(header_blocks as u64 * BLOCK_LEN)
}

/// The end of a file's data, padded to whole blocks.
const fn padded_end(offset: u64, size: u64) -> u64 {
    offset.wrapping_add(size.div_ceil(BLOCK_LEN) * BLOCK_LEN)
}

const fn code(kind: EntryType) -> u8 {
    match kind {
        EntryType::Regular => 0,
        EntryType::Directory => 1,
        EntryType::SymLink => 2,
        EntryType::HardLink => 3,
        EntryType::CharDevice => 4,
        EntryType::BlockDevice => 5,
        EntryType::Fifo => 6,
    }
}

const fn kind_of(code: u8) -> Option<EntryType> {
    Some(match code {
        0 => EntryType::Regular,
        1 => EntryType::Directory,
        2 => EntryType::SymLink,
        3 => EntryType::HardLink,
        4 => EntryType::CharDevice,
        5 => EntryType::BlockDevice,
        6 => EntryType::Fifo,
        _ => return None,
    })
}

/// Checks that the headers of a file are inside the layer.
pub(super) fn check_place(entry: &ListEntry) -> Result<()> {
    if entry.header_blocks == 0 || entry.offset < u64::from(entry.header_blocks) * BLOCK_LEN {
        return Err(SeekError::Value { what: "offset of a file", value: entry.offset });
    }
    Ok(())
}
