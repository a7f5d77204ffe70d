//! Writes chunks of the file list.

use super::{
    COLUMN_COUNT, DIRECTORIES, EXTRAS, Extra, HAS_DEVICE, HAS_EXTRA, HAS_LINK_OWNER, HAS_NAMES,
    HAS_TAR_NAME, HAS_XATTRS, HEADERS, IMPLIED, KINDS, LAYERS, ListEntry, MODES, NAME_LENS, NAMES,
    NANOSECONDS, OFFSETS, OWNER_TABLE, OWNERS, Owner, Result, SECONDS, SIZES, TARGETS, code, key,
    padded_end, predicted, zigzag,
};
use crate::error::SeekError;
use crate::seek::root::{MAX_LIST_CHUNK_LEN, WrittenChunk, shared_len};
use crate::seek::wire::{Compressor, put_varint};
use crate::tar::EntryType;

/// Compression level: 19 makes the list of node_modules 4 % smaller and takes five times as long.
const LEVEL: i32 = 9;
/// Length of the content at which a chunk ends, even if it has few entries.
const CUT_LEN: usize = 256 << 10;

/// An entry to be written, with its key and owner.
#[derive(Debug)]
pub(in crate::seek) struct Row {
    pub(in crate::seek) directory: Vec<u8>,
    pub(in crate::seek) name: Vec<u8>,
    pub(in crate::seek) owner: Owner,
    pub(in crate::seek) entry: ListEntry,
}

/// The columns of the chunk that is being written.
#[derive(Debug, Default)]
struct Columns([Vec<u8>; COLUMN_COUNT]);

/// Writes rows, which must ascend by directory and name, as chunks.
pub(in crate::seek) fn write(rows: &[Row], layer_count: usize) -> Result<Vec<WrittenChunk>> {
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

/// Writes the next chunk and returns its content and number of entries.
fn write_content(rows: &[Row], layer_count: usize) -> (Vec<u8>, usize) {
    let mut writer = Writer { ends: vec![0; layer_count], ..Writer::default() };
    let mut count = 0;
    for row in rows.iter().take(crate::seek::root::ENTRIES_PER_CHUNK) {
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
