//! Reads a chunk of the file list, and rejects one that breaks a rule.

use super::{
    ALL_FLAGS, COLUMN_COUNT, DIRECTORIES, Directory, EXTRAS, Extra, HAS_DEVICE, HAS_EXTRA,
    HAS_LINK_OWNER, HAS_NAMES, HAS_TAR_NAME, HAS_XATTRS, HEADERS, IMPLIED, KINDS, LAYERS,
    ListChunk, ListEntry, MAX_OFFSET, MODES, NAME_LENS, NAMES, NANOSECONDS, OFFSETS, OWNER_TABLE,
    OWNERS, Owner, Result, SECONDS, SIZES, TARGETS, check_place, kind_of, padded_end, predicted,
    unzigzag,
};
use crate::error::SeekError;
use crate::seek::root::MAX_KEY_LEN;
use crate::seek::wire::Reader;
use crate::tar::EntryType;
use crate::tree::{MAX_PATH_LEN, MAX_TARGET_LEN};
use crate::ztoc::MAX_HEADER_BLOCKS;

/// Decodes the content of a chunk with `count` entries, the first of which is number `first`.
pub(in crate::seek) fn read(
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
            // Including the directory, so that every key fits.
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

/// Maximum number of extended attributes in a chunk: each takes many times its length in memory. The
/// headers of one entry have room for about 55,000, a hard link can add as many, and a chunk ends
/// before its other entries reach 65,000.
const MAX_XATTRS: u64 = 1 << 18;

/// Maximum length of a hard link's target, and of a name in the tar. The target of a hard link is not
/// cleaned, so it may be longer than one that Linux accepts.
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

/// Checks that names ascend within a directory and are single path components. Only the root has an
/// empty name.
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
