//! A chunk of the file list: up to 1,024 entries of the merged image, in columns.

use std::ops::Range;

use super::root::{MAX_KEY_LEN, MAX_LIST_CHUNK_LEN, WrittenChunk, shared_len};
use super::wire::{Compressor, Reader, put_varint};
use crate::error::SeekError;
use crate::tar::EntryType;
use crate::tree::{MAX_PATH_LEN, MAX_TARGET_LEN};

type Result<T> = std::result::Result<T, SeekError>;

/// Compression level: 19 makes the list of node_modules 4 % smaller and takes five times as long.
const LEVEL: i32 = 9;
/// Length of the content at which a chunk ends, even if it has few entries.
const CUT_LEN: usize = 256 << 10;
/// Size of a tar block.
const BLOCK_LEN: u64 = 512;
/// Maximum length of the headers of one entry, in blocks: 8 MiB, as for reading by zTOCs.
pub(super) const MAX_HEADER_BLOCKS: u32 = 16 << 10;
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
    /// How many entries before this one is the first of the names of this file.
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

// -- writing ---------------------------------------------------------------------------------------

/// An entry to be written, with its key and owner.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) directory: Vec<u8>,
    pub(super) name: Vec<u8>,
    pub(super) owner: Owner,
    pub(super) entry: ListEntry,
}

const COLUMN_COUNT: usize = 15;

/// The columns of the chunk that is being written.
#[derive(Debug, Default)]
struct Columns([Vec<u8>; COLUMN_COUNT]);

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
/// Which rare fields follow.
const HAS_NAMES: u64 = 1;
const HAS_TAR_NAME: u64 = 1 << 1;
const HAS_DEVICE: u64 = 1 << 2;
const HAS_XATTRS: u64 = 1 << 3;
/// Nothing follows.
const HAS_LINK_OWNER: u64 = 1 << 4;
const ALL_FLAGS: u64 = (1 << 5) - 1;

/// Writes rows, which must ascend by directory and name, as chunks.
pub(super) fn write(rows: &[Row], layer_count: usize) -> Result<Vec<WrittenChunk>> {
    let mut chunks = Vec::new();
    let mut compressor = Compressor::new(LEVEL)?;
    let mut rest = rows;
    while !rest.is_empty() {
        let (content, count) = write_content(rest, layer_count);
        let len = content.len() as u64;
        if len > MAX_LIST_CHUNK_LEN {
            let (what, limit) = ("length of a chunk", MAX_LIST_CHUNK_LEN);
            return Err(SeekError::TooLarge { what, value: len, limit });
        }
        let first = &rest[0];
        chunks.push(WrittenChunk {
            stored: compressor.compress(&content)?,
            len,
            entries: u32::try_from(count).unwrap_or(u32::MAX),
            first_key: key(&first.directory, &first.name),
        });
        rest = &rest[count..];
    }
    Ok(chunks)
}

/// A key: directory, NUL and name.
pub(super) fn key(directory: &[u8], name: &[u8]) -> Vec<u8> {
    [directory, &[0], name].concat()
}

/// Writes the next chunk and returns its content and number of entries.
fn write_content(rows: &[Row], layer_count: usize) -> (Vec<u8>, usize) {
    let mut writer = Writer { ends: vec![0; layer_count], ..Writer::default() };
    let mut count = 0;
    for row in rows.iter().take(super::root::ENTRIES_PER_CHUNK) {
        writer.push(row);
        count += 1;
        if writer.columns.0.iter().map(Vec::len).sum::<usize>() >= CUT_LEN {
            break;
        }
    }
    (writer.finish(), count)
}

#[derive(Debug, Default)]
struct Writer<'a> {
    columns: Columns,
    /// Directories, with the number of entries of each.
    directories: Vec<(&'a [u8], u64)>,
    name: &'a [u8],
    owners: Vec<&'a Owner>,
    seconds: i64,
    /// Where the previous regular file of each layer ends.
    ends: Vec<u64>,
}

impl<'a> Writer<'a> {
    fn push(&mut self, row: &'a Row) {
        let column = &mut self.columns.0;
        match self.directories.last_mut() {
            Some((directory, count)) if *directory == row.directory => *count += 1,
            _ => {
                self.directories.push((&row.directory, 1));
                self.name = &[];
            }
        }
        let shared = shared_len(self.name, &row.name);
        put_varint(&mut column[NAME_LENS], shared as u64);
        put_varint(&mut column[NAME_LENS], (row.name.len() - shared) as u64);
        column[NAMES].extend_from_slice(&row.name[shared..]);
        self.name = &row.name;

        let entry = &row.entry;
        let flags = if entry.is_implied { IMPLIED } else { 0 };
        let extra = if entry.extra.is_some() { HAS_EXTRA } else { 0 };
        column[KINDS].push(code(entry.kind) | flags | extra);
        put_varint(&mut column[LAYERS], entry.layer.into());
        put_varint(&mut column[MODES], entry.mode.into());
        let owner = self.owners.iter().position(|owner| **owner == row.owner);
        let owner = owner.unwrap_or_else(|| {
            self.owners.push(&row.owner);
            self.owners.len() - 1
        });
        put_varint(&mut column[OWNERS], owner as u64);
        let (seconds, nanoseconds) = entry.mtime;
        put_varint(&mut column[SECONDS], zigzag(seconds.wrapping_sub(self.seconds)));
        put_varint(&mut column[NANOSECONDS], nanoseconds.into());
        self.seconds = seconds;
        if entry.kind == EntryType::Regular {
            put_varint(&mut column[SIZES], entry.size);
            put_varint(&mut column[HEADERS], entry.header_blocks.into());
            let end = &mut self.ends[entry.layer as usize];
            let difference = entry.offset.wrapping_sub(predicted(*end, entry.header_blocks));
            put_varint(&mut column[OFFSETS], zigzag(difference.cast_signed()));
            *end = padded_end(entry.offset, entry.size);
        }
        if matches!(entry.kind, EntryType::SymLink | EntryType::HardLink) {
            put_bytes(&mut column[TARGETS], &entry.target);
        }
        if let Some(extra) = &entry.extra {
            put_extra(&mut column[EXTRAS], extra);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        let columns = &mut self.columns.0;
        let mut last: &[u8] = &[];
        put_varint(&mut columns[DIRECTORIES], self.directories.len() as u64);
        for (directory, count) in self.directories {
            let shared = shared_len(last, directory);
            put_varint(&mut columns[DIRECTORIES], shared as u64);
            put_bytes(&mut columns[DIRECTORIES], &directory[shared..]);
            put_varint(&mut columns[DIRECTORIES], count);
            last = directory;
        }
        put_varint(&mut columns[OWNER_TABLE], self.owners.len() as u64);
        for owner in self.owners {
            put_varint(&mut columns[OWNER_TABLE], owner.uid.into());
            put_varint(&mut columns[OWNER_TABLE], owner.gid.into());
            put_bytes(&mut columns[OWNER_TABLE], &owner.uname);
            put_bytes(&mut columns[OWNER_TABLE], &owner.gname);
        }
        let mut content = Vec::new();
        columns.iter().for_each(|column| put_varint(&mut content, column.len() as u64));
        columns.iter().for_each(|column| content.extend_from_slice(column));
        content
    }
}

fn put_extra(out: &mut Vec<u8>, extra: &Extra) {
    let Extra { names_before, tar_name, device, xattrs, has_link_owner } = extra;
    let flag = |is_set: bool, flag: u64| if is_set { flag } else { 0 };
    put_varint(
        out,
        flag(names_before.is_some(), HAS_NAMES)
            | flag(tar_name.is_some(), HAS_TAR_NAME)
            | flag(*device != (0, 0), HAS_DEVICE)
            | flag(!xattrs.is_empty(), HAS_XATTRS)
            | flag(*has_link_owner, HAS_LINK_OWNER),
    );
    if let Some(count) = names_before {
        put_varint(out, (*count).into());
    }
    if let Some(name) = tar_name {
        put_bytes(out, name);
    }
    if *device != (0, 0) {
        put_varint(out, zigzag(device.0));
        put_varint(out, zigzag(device.1));
    }
    if !xattrs.is_empty() {
        put_varint(out, xattrs.len() as u64);
        for (name, value) in xattrs {
            put_bytes(out, name);
            put_bytes(out, value);
        }
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
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

// -- reading ---------------------------------------------------------------------------------------

/// Decodes the content of a chunk with `count` entries, the first of which is number `first`.
pub(super) fn read(
    content: &[u8],
    first: u32,
    count: usize,
    layer_count: usize,
) -> Result<ListChunk> {
    let mut reader = Reader::new(content);
    let mut lens = [0; COLUMN_COUNT];
    for len in &mut lens {
        let limit = content.len() as u64;
        *len =
            usize::try_from(reader.varint_to(limit, "length of a column")?).unwrap_or(usize::MAX);
    }
    let mut columns = [Reader::new(&[]); COLUMN_COUNT];
    for (column, len) in columns.iter_mut().zip(lens) {
        *column = Reader::new(reader.bytes(len, "a column")?);
    }
    reader.finish()?;

    let mut chunk = ListChunk::default();
    read_directories(&mut columns[DIRECTORIES], &mut chunk, count)?;
    read_names(&mut columns, &mut chunk)?;
    read_owners(&mut columns[OWNER_TABLE], &mut chunk, count)?;
    read_entries(&mut columns, &mut chunk, first, count, layer_count)?;
    columns.iter().try_for_each(Reader::finish)?;
    check_names(&chunk)?;
    Ok(chunk)
}

fn read_bytes<'a>(reader: &mut Reader<'a>, limit: usize, what: &'static str) -> Result<&'a [u8]> {
    let len = reader.varint_to(limit as u64, what)?;
    reader.bytes(usize::try_from(len).unwrap_or(usize::MAX), what)
}

fn read_directories(reader: &mut Reader<'_>, chunk: &mut ListChunk, count: usize) -> Result<()> {
    let what = "directories";
    let groups = reader.varint_to(count as u64, "number of directories")?;
    let mut next = 0;
    for index in 0..groups {
        let last: &[u8] = chunk.directories.last().map_or(&[], |directory| &directory.path);
        let shared = reader.varint_to(last.len() as u64, "shared length of a directory")?;
        let mut path = last[..usize::try_from(shared).unwrap_or(0)].to_vec();
        path.extend_from_slice(read_bytes(reader, MAX_PATH_LEN, "a directory")?);
        let in_group =
            reader.varint_to((count - next) as u64, "number of entries in a directory")?;
        let end = next + usize::try_from(in_group).unwrap_or(0);
        if index > 0 && *last >= path[..] {
            return Err(SeekError::Order(what));
        }
        let parts = || path.split(|byte| *byte == b'/');
        let is_plain = path.is_empty() || parts().all(|part| !matches!(part, b"" | b"." | b".."));
        if in_group == 0 || !is_plain || path.contains(&0) || path.len() > MAX_PATH_LEN {
            return Err(SeekError::Value { what: "directory", value: index });
        }
        chunk.directories.push(Directory { path, entries: next..end });
        next = end;
    }
    if next != count {
        return Err(SeekError::Value { what: "number of entries in a chunk", value: next as u64 });
    }
    Ok(())
}

fn read_names(columns: &mut [Reader<'_>; COLUMN_COUNT], chunk: &mut ListChunk) -> Result<()> {
    for directory in &chunk.directories {
        let mut last = chunk.names.len()..chunk.names.len();
        for _ in directory.entries.clone() {
            let what = "shared length of a name";
            let shared = columns[NAME_LENS].varint_to(last.len() as u64, what)?;
            let shared = usize::try_from(shared).unwrap_or(0);
            let what = "length of a name";
            let len = columns[NAME_LENS].varint_to(MAX_PATH_LEN as u64, what)?;
            let start = chunk.names.len();
            chunk.names.extend_from_within(last.start..last.start + shared);
            let suffix =
                columns[NAMES].bytes(usize::try_from(len).unwrap_or(usize::MAX), "a name")?;
            chunk.names.extend_from_slice(suffix);
            last = start..chunk.names.len();
            // With their directories, so that every key fits.
            if last.len() + directory.path.len() + 1 > MAX_KEY_LEN {
                let value = (last.len() + directory.path.len()) as u64;
                let limit = MAX_PATH_LEN as u64;
                return Err(SeekError::TooLarge { what: "length of a path", value, limit });
            }
            chunk.name_ends.push(u32::try_from(last.end).unwrap_or(u32::MAX));
        }
    }
    Ok(())
}

fn read_owners(reader: &mut Reader<'_>, chunk: &mut ListChunk, count: usize) -> Result<()> {
    for _ in 0..reader.varint_to(count as u64, "number of owners")? {
        let id = |reader: &mut Reader<'_>, what| {
            let id = reader.varint_to(u32::MAX.into(), what)?;
            Ok::<_, SeekError>(u32::try_from(id).unwrap_or(u32::MAX))
        };
        chunk.owners.push(Owner {
            uid: id(reader, "user ID")?,
            gid: id(reader, "group ID")?,
            uname: read_bytes(reader, usize::MAX, "user name")?.to_vec(),
            gname: read_bytes(reader, usize::MAX, "group name")?.to_vec(),
        });
    }
    Ok(())
}

fn read_entries(
    columns: &mut [Reader<'_>; COLUMN_COUNT],
    chunk: &mut ListChunk,
    first: u32,
    count: usize,
    layer_count: usize,
) -> Result<()> {
    let mut ends = vec![0_u64; layer_count];
    let mut seconds = 0_i64;
    let mut xattrs = MAX_XATTRS;
    chunk.entries.reserve_exact(count);
    for number in (first..).take(count) {
        let [bits] = *columns[KINDS].array::<1>("the type of an entry")?;
        let kind = kind_of(bits & 7).filter(|_| bits >> 5 == 0);
        let unknown = || SeekError::Value { what: "type of an entry", value: bits.into() };
        let kind = kind.ok_or_else(unknown)?;
        if bits & IMPLIED != 0 && kind != EntryType::Directory {
            return Err(SeekError::Value { what: "type of an entry", value: bits.into() });
        }
        let layer = columns[LAYERS].varint("the layer of an entry")?;
        if layer >= layer_count as u64 {
            return Err(SeekError::Value { what: "layer of an entry", value: layer });
        }
        let mode = columns[MODES].varint_to(0o7777, "mode")?;
        let owner = columns[OWNERS].varint("the owner of an entry")?;
        if owner >= chunk.owners.len() as u64 {
            return Err(SeekError::Value { what: "owner of an entry", value: owner });
        }
        seconds = seconds.wrapping_add(unzigzag(columns[SECONDS].varint("a time")?));
        let nanoseconds = columns[NANOSECONDS].varint_to(999_999_999, "nanoseconds")?;
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let mut entry = ListEntry {
            kind,
            is_implied: bits & IMPLIED != 0,
            layer: small(layer),
            mode: u16::try_from(mode).unwrap_or(0),
            owner: small(owner),
            mtime: (seconds, small(nanoseconds)),
            ..ListEntry::default()
        };
        if kind == EntryType::Regular {
            entry.size = columns[SIZES].varint_to(MAX_OFFSET, "size of a file")?;
            let limit = MAX_HEADER_BLOCKS.into();
            let blocks = columns[HEADERS].varint_to(limit, "number of header blocks")?;
            entry.header_blocks = small(blocks);
            let end = &mut ends[entry.layer as usize];
            let difference = unzigzag(columns[OFFSETS].varint("the offset of a file")?);
            entry.offset =
                predicted(*end, entry.header_blocks).wrapping_add(difference.cast_unsigned());
            if entry.offset > MAX_OFFSET {
                let (what, value, limit) = ("offset of a file", entry.offset, MAX_OFFSET);
                return Err(SeekError::TooLarge { what, value, limit });
            }
            check_place(&entry)?;
            *end = padded_end(entry.offset, entry.size);
        }
        if matches!(kind, EntryType::SymLink | EntryType::HardLink) {
            let is_symlink = kind == EntryType::SymLink;
            let limit = if is_symlink { MAX_TARGET_LEN } else { MAX_TARGET_BYTES };
            entry.target = read_bytes(&mut columns[TARGETS], limit, "a link target")?.to_vec();
        }
        if bits & HAS_EXTRA != 0 {
            let extra = read_extra(&mut columns[EXTRAS], number, &mut xattrs)?;
            entry.extra = Some(Box::new(extra));
        }
        chunk.entries.push(entry);
    }
    Ok(())
}

/// Maximum number of extended attributes in a chunk: each takes memory many times its length. The
/// headers of one entry have room for about 55,000, a hard link can add as many, and a chunk ends
/// before its other entries have 65,000.
const MAX_XATTRS: u64 = 1 << 18;

/// Checks that the headers of a file are inside the layer.
pub(super) fn check_place(entry: &ListEntry) -> Result<()> {
    if entry.header_blocks == 0 || entry.offset < u64::from(entry.header_blocks) * BLOCK_LEN {
        return Err(SeekError::Value { what: "offset of a file", value: entry.offset });
    }
    Ok(())
}

/// The target of a hard link is not cleaned, so it may be longer than one that Linux accepts.
const MAX_TARGET_BYTES: usize = 1 << 20;
const _: () = assert!(MAX_TARGET_BYTES > MAX_TARGET_LEN);

/// Reads rare fields. `xattrs` is the number of extended attributes that the chunk may still have.
fn read_extra(reader: &mut Reader<'_>, number: u32, xattrs: &mut u64) -> Result<Extra> {
    let flags = reader.varint_to(ALL_FLAGS, "flags of rare fields")?;
    if flags == 0 {
        return Err(SeekError::Value { what: "flags of rare fields", value: flags });
    }
    let mut extra = Extra { has_link_owner: flags & HAS_LINK_OWNER != 0, ..Extra::default() };
    if flags & HAS_NAMES != 0 {
        let before = reader.varint_to(number.into(), "number of the first name of a file")?;
        extra.names_before = Some(u32::try_from(before).unwrap_or(0));
    }
    if flags & HAS_TAR_NAME != 0 {
        extra.tar_name = Some(read_bytes(reader, MAX_TARGET_BYTES, "a name in the tar")?.to_vec());
    }
    if flags & HAS_DEVICE != 0 {
        let major = unzigzag(reader.varint("a device number")?);
        extra.device = (major, unzigzag(reader.varint("a device number")?));
    }
    if flags & HAS_XATTRS != 0 {
        let count = reader.varint_to(*xattrs, "number of extended attributes")?;
        *xattrs -= count;
        for _ in 0..count {
            let name =
                read_bytes(reader, usize::MAX, "the name of an extended attribute")?.to_vec();
            let value = read_bytes(reader, usize::MAX, "an extended attribute")?.to_vec();
            if extra.xattrs.last().is_some_and(|(last, _)| *last >= name) {
                return Err(SeekError::Order("extended attributes"));
            }
            extra.xattrs.push((name, value));
        }
    }
    Ok(extra)
}

/// Names ascend within a directory and are single path components. Only the root has an empty name.
fn check_names(chunk: &ListChunk) -> Result<()> {
    for directory in &chunk.directories {
        for index in directory.entries.clone() {
            let name = chunk.name(index);
            let is_root = name.is_empty() && directory.path.is_empty();
            let is_plain = !matches!(name, b"" | b"." | b"..")
                && !name.iter().any(|byte| matches!(byte, 0 | b'/'));
            if !is_root && !is_plain {
                return Err(SeekError::Value { what: "name of an entry", value: index as u64 });
            }
            if index > directory.entries.start && chunk.name(index - 1) >= name {
                return Err(SeekError::Order("names"));
            }
        }
    }
    Ok(())
}
