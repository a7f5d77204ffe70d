//! Parsing a blob into a [`Ztoc`], field by field.

use super::flat::{Reader, Table};
use super::raw::{self, slot};
use super::zinfo::{self, GzipZinfo, TarZinfo, Zinfo};
use super::{Ztoc, rules};
use crate::digest::Digest;
use crate::error::{Error, Result, ZtocError};
use crate::tar::{EntryType, FileMetadata};

/// Minimum size of an entry in bytes: its slot in the vector, the table's start, seven references,
/// six strings with a length and a NUL, and the count of one vector.
const ENTRY_MIN_LEN: usize = 4 + 4 + 7 * 4 + 6 * 5 + 4;
/// Minimum size of a PAX record, likewise: its slot, the table's start, two references, two
/// strings.
const XATTR_MIN_LEN: usize = 4 + 4 + 2 * 4 + 2 * 5;
/// Minimum size of a digest: its slot and its string.
const DIGEST_MIN_LEN: usize = 4 + 5;
/// Number of bytes of an unknown entry type shown in errors.
const SHOWN_LEN: usize = 32;

pub(super) fn read(blob: &[u8]) -> Result<Ztoc> {
    if blob.len() >= super::flat::MAX_LEN {
        let kind = ZtocError::TooLarge { limit: super::flat::MAX_LEN as u64 };
        return Err(Error::Ztoc { kind, at: 0 });
    }
    let reader = Reader::new(blob, 0);
    let root = reader.root("ztoc")?;
    let version = text(&root, slot::ztoc::VERSION, "version")?;
    let build_tool_identifier =
        text(&root, slot::ztoc::BUILD_TOOL_IDENTIFIER, "build tool identifier")?;
    let size = |slot, what| zinfo::natural(what, root.int64(slot, what)?, root.position());
    let compressed_archive_size =
        size(slot::ztoc::COMPRESSED_ARCHIVE_SIZE, "compressed archive size")?;
    let uncompressed_archive_size =
        size(slot::ztoc::UNCOMPRESSED_ARCHIVE_SIZE, "uncompressed archive size")?;
    let toc = read_toc(&reader, &root)?;

    let info = root.table(slot::ztoc::COMPRESSION_INFO, "compression info")?;
    let algorithm = info.int8(slot::compression_info::ALGORITHM, raw::GZIP, "algorithm")?;
    let (zinfo_at, packed) = info.bytes(slot::compression_info::CHECKPOINTS, "checkpoints")?;
    let zinfo = match algorithm {
        raw::GZIP => Zinfo::Gzip(GzipZinfo::unpack(packed, zinfo_at)?),
        raw::UNCOMPRESSED => Zinfo::Tar(TarZinfo::unpack(packed, zinfo_at)?),
        _ => {
            let kind = ZtocError::Algorithm(algorithm);
            return Err(Error::Ztoc { kind, at: info.position() });
        }
    };
    let max_span_id = info.int32(slot::compression_info::MAX_SPAN_ID, "max span id")?;
    let span_digests = read_digests(&reader, &info)?;

    let ztoc = Ztoc {
        version,
        build_tool_identifier,
        compressed_archive_size,
        uncompressed_archive_size,
        toc,
        zinfo,
        span_digests,
    };
    rules::check(&ztoc, zinfo_at)?;
    if i64::from(max_span_id) != ztoc.max_span_id() {
        let kind = rules::span_count_error(&ztoc, i64::from(max_span_id));
        return Err(Error::Ztoc { kind, at: info.position() });
    }
    Ok(ztoc)
}

fn text(table: &Table<'_, '_>, slot: usize, what: &'static str) -> Result<String> {
    let bytes = table.string(slot, what)?.to_vec();
    String::from_utf8(bytes)
        .map_err(|_| Error::Ztoc { kind: ZtocError::NotUtf8(what), at: table.position() })
}

fn read_toc(reader: &Reader<'_>, root: &Table<'_, '_>) -> Result<Vec<FileMetadata>> {
    let toc = root.table(slot::ztoc::TOC, "toc")?;
    let tables = toc.vector(slot::toc::METADATA, "file metadata")?;
    let mut entries = Vec::with_capacity(reader.affordable(tables.len(), ENTRY_MIN_LEN));
    for (index, table) in tables.tables().enumerate() {
        entries.push(read_entry(reader, &table?, index as u64)?);
    }
    Ok(entries)
}

fn read_entry(reader: &Reader<'_>, table: &Table<'_, '_>, index: u64) -> Result<FileMetadata> {
    let string = |slot, what| table.string(slot, what).map(<[u8]>::to_vec);
    let word = table.string(slot::entry::TYPE, "type")?;
    let entry_type = EntryType::from_word(word).ok_or_else(|| {
        let shown = &word[..word.len().min(SHOWN_LEN)];
        let word = String::from_utf8_lossy(shown).into_owned();
        Error::Ztoc { kind: ZtocError::EntryType { index, word }, at: table.position() }
    })?;
    Ok(FileMetadata {
        name: string(slot::entry::NAME, "name")?,
        entry_type,
        uncompressed_offset: table
            .int64(slot::entry::UNCOMPRESSED_OFFSET, "entry uncompressed offset")?,
        uncompressed_size: table.int64(slot::entry::UNCOMPRESSED_SIZE, "entry size")?,
        linkname: string(slot::entry::LINKNAME, "linkname")?,
        mode: table.int64(slot::entry::MODE, "mode")?,
        uid: table.uint32(slot::entry::UID, "uid")?,
        gid: table.uint32(slot::entry::GID, "gid")?,
        uname: string(slot::entry::UNAME, "uname")?,
        gname: string(slot::entry::GNAME, "gname")?,
        mod_time: string(slot::entry::MOD_TIME, "mod time")?,
        devmajor: table.int64(slot::entry::DEVMAJOR, "devmajor")?,
        devminor: table.int64(slot::entry::DEVMINOR, "devminor")?,
        xattrs: read_xattrs(reader, table)?,
    })
}

fn read_xattrs(reader: &Reader<'_>, entry: &Table<'_, '_>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let tables = entry.vector(slot::entry::XATTRS, "xattrs")?;
    let mut xattrs = Vec::with_capacity(reader.affordable(tables.len(), XATTR_MIN_LEN));
    for table in tables.tables() {
        let table = table?;
        let key = table.string(slot::xattr::KEY, "xattr key")?.to_vec();
        let value = table.string(slot::xattr::VALUE, "xattr value")?.to_vec();
        xattrs.push((key, value));
    }
    if !rules::is_ascending(&xattrs) {
        // Of equal keys, the last must remain. `dedup_by` keeps the first, and the sort is stable,
        // so reverse the records first.
        xattrs.reverse();
        xattrs.sort_by(|(a, _), (b, _)| a.cmp(b));
        xattrs.dedup_by(|(a, _), (b, _)| a == b);
    }
    Ok(xattrs)
}

fn read_digests(reader: &Reader<'_>, info: &Table<'_, '_>) -> Result<Vec<Digest>> {
    let strings = info.vector(slot::compression_info::SPAN_DIGESTS, "span digests")?;
    let mut digests = Vec::with_capacity(reader.affordable(strings.len(), DIGEST_MIN_LEN));
    for string in strings.strings() {
        let (at, bytes) = string?;
        let digest = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
        digests.push(digest.ok_or(Error::Ztoc { kind: ZtocError::DigestSpelling, at })?);
    }
    Ok(digests)
}
