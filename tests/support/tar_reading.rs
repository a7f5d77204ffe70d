//! Reading the files of an archive as those of a layer are read: at the offsets that the scanner
//! found, with only their headers.

use tocsin_core::Result;
use tocsin_core::digest::Digest;
use tocsin_core::span::UncompressedOffset;
use tocsin_core::tar::{EntryHeaders, EntryType, FileMetadata, Region, read_headers};

/// Maximum number of bytes read from a file, as in `tests/support/gotar`, since holes may be huge.
const MOST_READ: u64 = 1 << 17;

/// Walks the entries of an archive by their headers.
pub(crate) struct HeaderWalk<'a> {
    archive: &'a [u8],
    /// Where the previous entry ends.
    pub(crate) start: u64,
}

impl<'a> HeaderWalk<'a> {
    pub(crate) fn new(archive: &'a [u8]) -> Self {
        Self { archive, start: 0 }
    }

    /// Reads the headers of the next entry, which must end where its data begins.
    pub(crate) fn next(&mut self, entry: &FileMetadata) -> Result<EntryHeaders> {
        let stretch = self.stretch(entry);
        let found = read_headers(stretch, UncompressedOffset(self.start))?;
        self.start = found.end().0;
        Ok(found)
    }

    /// The bytes between the previous entry and this one's data.
    pub(crate) fn stretch(&self, entry: &FileMetadata) -> &'a [u8] {
        let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
        let end = at(entry.uncompressed_offset.unsigned_abs());
        self.archive.get(at(self.start)..end).unwrap_or_default()
    }
}

/// The data of an entry, up to the maximum; `None` if the archive holds less or more data than the
/// map of a sparse file says.
pub(crate) fn data(archive: &[u8], found: &EntryHeaders) -> Option<Vec<u8>> {
    if found.entry.entry_type != EntryType::Regular {
        return Some(Vec::new());
    }
    let size = u64::try_from(found.entry.uncompressed_size).ok()?;
    let wanted = size.min(MOST_READ);
    let mut data = vec![0; usize::try_from(wanted).ok()?];
    let mut stored = archive.get(usize::try_from(found.data_offset().0).ok()?..)?;
    let mut left = found.stored_size;
    let whole = [Region { offset: 0, len: size }];
    for region in found.regions.as_deref().unwrap_or(&whole) {
        let end = (region.offset + region.len).min(wanted);
        let range = usize::try_from(region.offset.min(end)).ok()?..usize::try_from(end).ok()?;
        left = left.checked_sub(range.len() as u64)?;
        let (piece, rest) = stored.split_at_checked(range.len())?;
        data.get_mut(range)?.copy_from_slice(piece);
        stored = rest;
    }
    (left == 0 || size > MOST_READ).then_some(data)
}

/// The data in the format of `tests/support/gotar`.
pub(crate) fn describe_data(archive: &[u8], found: &EntryHeaders) -> String {
    data(archive, found).map_or_else(
        || "error".to_owned(),
        |data| Digest::of(&data).to_string().split_off("sha256:".len()),
    )
}
