//! Parsing a blob into a [`Ztoc`], field by field.

use super::flat::{Reader, Table};
use super::raw::{self, slot};
use super::zinfo::{self, GzipZinfo, TarZinfo, Zinfo};
use super::{Toc, Ztoc, rules};
use crate::bytes::SharedBytes;
use crate::digest::Digest;
use crate::error::{Error, Result, ZtocError};
use crate::tar::EntryType;

/// Minimum number of blob bytes per entry: its place in the vector, the table's start, seven
/// references, six strings of a length and a NUL, and the count of a vector; divided by four, since
/// entries may share bytes as long as the reader reads at most four times the blob's length.
const ENTRY_MIN_LEN: usize = (4 + 4 + 7 * 4 + 6 * 5 + 4) / 4;
/// Maximum length of a string in bytes, and of all PAX records of an entry, counting [`RECORD_LEN`]
/// for each: no tar that can be indexed holds more. Source: Go archive/tar, format.go.
const MAX_TEXT_LEN: usize = 1 << 20;
/// Minimum length of a PAX record apart from its key and value: a digit, a space, an equals sign
/// and a newline.
const RECORD_LEN: usize = 4;
/// Number of bytes of an unknown entry type shown in errors.
const SHOWN_LEN: usize = 32;

pub(super) fn read(shared: &SharedBytes) -> Result<Ztoc> {
    let blob = shared.as_slice();
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
    let (toc, broken_entry) = read_toc(shared, &root)?;

    let info = root.table(slot::ztoc::COMPRESSION_INFO, "compression info")?;
    let algorithm = info.int8(slot::compression_info::ALGORITHM, raw::GZIP, "algorithm")?;
    let (zinfo_at, packed) = info.bytes(slot::compression_info::CHECKPOINTS, "checkpoints")?;
    let zinfo = match algorithm {
        raw::GZIP => {
            let offset = usize::try_from(zinfo_at).unwrap_or(usize::MAX);
            Zinfo::Gzip(GzipZinfo::unpack_shared(packed, zinfo_at, shared, offset)?)
        }
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
    if let Some(error) = broken_entry {
        return Err(error);
    }
    rules::check_spans(&ztoc, zinfo_at)?;
    if i64::from(max_span_id) != ztoc.max_span_id() {
        let kind = rules::span_count_error(&ztoc, i64::from(max_span_id));
        return Err(Error::Ztoc { kind, at: info.position() });
    }
    Ok(ztoc)
}

fn text(table: &Table<'_, '_>, slot: usize, what: &'static str) -> Result<String> {
    let bytes = limited_string(table, slot, what)?.to_vec();
    String::from_utf8(bytes)
        .map_err(|_| Error::Ztoc { kind: ZtocError::NotUtf8(what), at: table.position() })
}

/// Reads a string, which must not be longer than a tar allows.
fn limited_string<'a>(table: &Table<'_, 'a>, slot: usize, what: &'static str) -> Result<&'a [u8]> {
    let text = table.string(slot, what)?;
    check_length(table, text, what)?;
    Ok(text)
}

fn check_length(table: &Table<'_, '_>, text: &[u8], what: &'static str) -> Result<()> {
    if text.len() > MAX_TEXT_LEN {
        let kind = ZtocError::TooLong { what, limit: MAX_TEXT_LEN as u64 };
        return Err(Error::Ztoc { kind, at: table.position() });
    }
    Ok(())
}

/// Reads all entries once, and returns them with the first error of `rules::check_entry`.
fn read_toc(blob: &SharedBytes, root: &Table<'_, '_>) -> Result<(Toc, Option<Error>)> {
    let toc = root.table(slot::ztoc::TOC, "toc")?;
    let tables = toc.vector(slot::toc::METADATA, "file metadata")?;
    let mut broken = None;
    // A hostile vector may claim more entries than the blob can hold.
    let most = blob.as_slice().len() / ENTRY_MIN_LEN;
    let mut names = Vec::with_capacity(tables.len().min(most));
    for (index, table) in (0..).zip(tables.tables()) {
        let Checked { name_at, offset, size } = check_entry(&table?, index)?;
        names.push(name_at);
        if broken.is_none() {
            broken = rules::check_place(index, offset, size).err();
        }
    }
    Ok((Toc::stored(blob.clone(), tables.first(), names), broken))
}

/// The values of a checked entry that the caller still needs.
struct Checked {
    name_at: u32,
    offset: i64,
    size: i64,
}

/// Reads all fields of an entry.
fn check_entry(table: &Table<'_, '_>, index: u64) -> Result<Checked> {
    let word = table.string(slot::entry::TYPE, "type")?;
    if EntryType::from_word(word).is_none() {
        let shown = &word[..word.len().min(SHOWN_LEN)];
        let word = String::from_utf8_lossy(shown).into_owned();
        return Err(Error::Ztoc {
            kind: ZtocError::EntryType { index, word },
            at: table.position(),
        });
    }
    let (name_at, name) = table.placed_string(slot::entry::NAME, "name")?;
    check_length(table, name, "name")?;
    let offset = table.int64(slot::entry::UNCOMPRESSED_OFFSET, "entry uncompressed offset")?;
    let size = table.int64(slot::entry::UNCOMPRESSED_SIZE, "entry size")?;
    limited_string(table, slot::entry::LINKNAME, "linkname")?;
    table.int64(slot::entry::MODE, "mode")?;
    table.uint32(slot::entry::UID, "uid")?;
    table.uint32(slot::entry::GID, "gid")?;
    limited_string(table, slot::entry::UNAME, "uname")?;
    limited_string(table, slot::entry::GNAME, "gname")?;
    limited_string(table, slot::entry::MOD_TIME, "mod time")?;
    table.int64(slot::entry::DEVMAJOR, "devmajor")?;
    table.int64(slot::entry::DEVMINOR, "devminor")?;
    check_xattrs(table)?;
    // A blob of less than 1 GiB has no place that does not fit.
    let name_at = u32::try_from(name_at).unwrap_or(u32::MAX);
    Ok(Checked { name_at, offset, size })
}

fn check_xattrs(entry: &Table<'_, '_>) -> Result<()> {
    let tables = entry.vector(slot::entry::XATTRS, "xattrs")?;
    let mut left = MAX_TEXT_LEN;
    for table in tables.tables() {
        let table = table?;
        let key = table.string(slot::xattr::KEY, "xattr key")?;
        let value = table.string(slot::xattr::VALUE, "xattr value")?;
        let len = key.len().saturating_add(value.len()).saturating_add(RECORD_LEN);
        left = left.checked_sub(len).ok_or_else(|| Error::Ztoc {
            kind: ZtocError::TooLong { what: "xattrs", limit: MAX_TEXT_LEN as u64 },
            at: table.position(),
        })?;
    }
    Ok(())
}

fn read_digests(reader: &Reader<'_>, info: &Table<'_, '_>) -> Result<Vec<Digest>> {
    let strings = info.vector(slot::compression_info::SPAN_DIGESTS, "span digests")?;
    // Strings may be shared and then take only 4 bytes each in the blob, but digests take 32.
    let limit = reader.len() / size_of::<Digest>();
    if strings.len() > limit {
        let kind = ZtocError::Amplified { limit: reader.len() as u64 };
        return Err(Error::Ztoc { kind, at: info.position() });
    }
    let mut digests = Vec::with_capacity(strings.len());
    for string in strings.strings() {
        let (at, bytes) = string?;
        let digest = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
        digests.push(digest.ok_or(Error::Ztoc { kind: ZtocError::DigestSpelling, at })?);
    }
    Ok(digests)
}
