//! Building the table of contents, entry by entry.

use super::entry::{EntryType, FileMetadata};
use super::hazard::{Hazard, HazardReason, dangling_hard_links};
use super::pax::{Attributes, PaxRecords};
use super::sparse::Region;
use crate::error::TarError;

/// Maximum size of a TOC. The reference's writer rejects zTOCs of 1 GiB or more, so a larger TOC is
/// useless.
const MAX_TOC_SIZE: u64 = 1 << 30;
/// Minimum size of an entry in a zTOC, in bytes, without its strings: offsets and lengths.
const MIN_ENTRY_SIZE: u64 = 64;
/// Minimum size of a PAX record in a zTOC, in bytes, without its strings: a vector slot, a table,
/// and two lengths.
const MIN_RECORD_SIZE: u64 = 24;

/// The table of contents of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Toc {
    /// The entries, in archive order.
    pub entries: Vec<FileMetadata>,
    /// The size of the archive: up to and including the second zero block, or all bytes if there is
    /// none. Bytes after that are not counted.
    pub uncompressed_archive_size: u64,
    /// The entries that readers of the zTOC will reject, in ascending order.
    pub reader_hazards: Vec<Hazard>,
}

impl Toc {
    /// Whether the layer must be mounted with extended attributes: an entry has one, or marks its
    /// directory as opaque.
    ///
    /// Source: docs/format.md#the-soci-index.
    #[must_use]
    pub fn needs_xattrs(&self) -> bool {
        self.entries.iter().any(FileMetadata::needs_xattrs)
    }
}

/// An entry whose data offset is not known yet.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) entry_type: EntryType,
    pub(super) mode: i64,
    pub(super) devmajor: i64,
    pub(super) devminor: i64,
    pub(super) attributes: Attributes,
    pub(super) records: PaxRecords,
    /// Bytes of data in the archive, not counting a sparse map before them.
    pub(super) stored_size: u64,
    /// The data regions of a sparse file; `None` for any other entry.
    pub(super) regions: Option<Vec<Region>>,
}

/// Collects entries and hazards.
#[derive(Debug)]
pub(super) struct TocBuilder {
    entries: Vec<FileMetadata>,
    hazards: Vec<Hazard>,
    /// Minimum size of the TOC so far, in bytes.
    size: u64,
    size_limit: u64,
}

impl TocBuilder {
    pub(super) const fn new() -> Self {
        Self { entries: Vec::new(), hazards: Vec::new(), size: 0, size_limit: MAX_TOC_SIZE }
    }

    /// Adds an entry whose data starts at `position`.
    pub(super) fn add(&mut self, draft: Draft, position: u64) -> Result<(), TarError> {
        self.size = self.size.saturating_add(draft.min_size());
        if self.size > self.size_limit {
            return Err(TarError::TocTooLarge { limit: self.size_limit });
        }
        let mod_time = draft.attributes.mtime.to_rfc3339();
        let entry_index = self.entries.len();
        let hazards = draft.hazards(mod_time.is_some());
        self.hazards.extend(hazards.map(|reason| Hazard { entry_index, reason }));
        self.entries.push(draft.into_metadata(position, mod_time));
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn finish(self, uncompressed_archive_size: u64) -> Toc {
        let Self { entries, hazards: mut reader_hazards, .. } = self;
        reader_hazards.extend(dangling_hard_links(&entries));
        reader_hazards.sort_by_key(|hazard| hazard.entry_index);
        Toc { entries, uncompressed_archive_size, reader_hazards }
    }
}

impl Draft {
    /// The entry as a zTOC lists it, with its data at `position`.
    pub(super) fn into_metadata(self, position: u64, mod_time: Option<Vec<u8>>) -> FileMetadata {
        let Attributes { name, linkname, uname, gname, uid, gid, size, mtime: _ } = self.attributes;
        FileMetadata {
            name,
            entry_type: self.entry_type,
            // No stream is long enough to overflow.
            uncompressed_offset: i64::try_from(position).unwrap_or(i64::MAX),
            uncompressed_size: size,
            linkname,
            mode: self.mode,
            uid: low_32_bits(uid),
            gid: low_32_bits(gid),
            uname,
            gname,
            mod_time: mod_time.unwrap_or_default(),
            devmajor: self.devmajor,
            devminor: self.devminor,
            xattrs: self.records.into_vec(),
        }
    }

    /// The minimum size of this entry in a zTOC.
    fn min_size(&self) -> u64 {
        let Attributes { name, linkname, uname, gname, .. } = &self.attributes;
        let texts = [name, linkname, uname, gname].map(|text| text.len() as u64);
        let records = self.records.iter().map(|(key, value)| {
            MIN_RECORD_SIZE.saturating_add(key.len() as u64).saturating_add(value.len() as u64)
        });
        texts.into_iter().chain(records).fold(MIN_ENTRY_SIZE, u64::saturating_add)
    }

    /// The hazards that can be seen from this entry alone.
    fn hazards(&self, has_time: bool) -> impl Iterator<Item = HazardReason> + use<> {
        let is_regular = self.entry_type == EntryType::Regular;
        let Attributes { uid, gid, size, .. } = &self.attributes;
        let is_wide = |id: i64| u32::try_from(id).is_err();
        [
            (self.regions.is_some(), HazardReason::SparseFile),
            (!is_regular && *size != 0, HazardReason::SizeWithoutData),
            (is_regular && (is_wide(*uid) || is_wide(*gid)), HazardReason::WideOwner),
            (is_regular && !has_time, HazardReason::ImpossibleYear),
        ]
        .into_iter()
        .filter_map(|(applies, reason)| applies.then_some(reason))
    }
}

/// An ID as the zTOC stores it: the reference truncates it to 32 bits.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the reference stores IDs modulo 2^32"
)]
const fn low_32_bits(id: i64) -> u32 {
    id as u32
}

#[cfg(test)]
mod tests {
    use super::super::pax::{Attributes, PaxRecords};
    use super::super::time::Timestamp;
    use super::{Draft, MIN_ENTRY_SIZE, MIN_RECORD_SIZE, TocBuilder, low_32_bits};
    use crate::error::TarError;
    use crate::tar::EntryType;

    fn draft(name: &[u8], payload: &[u8]) -> Draft {
        Draft {
            entry_type: EntryType::Regular,
            mode: 0,
            devmajor: 0,
            devminor: 0,
            attributes: Attributes {
                name: name.to_vec(),
                linkname: Vec::new(),
                uname: Vec::new(),
                gname: Vec::new(),
                uid: 0,
                gid: 0,
                size: 0,
                mtime: Timestamp::from_seconds(0),
            },
            records: PaxRecords::parse(payload).unwrap(),
            stored_size: 0,
            regions: None,
        }
    }

    #[test]
    fn add_when_the_toc_does_not_fit_in_a_ztoc_then_fails() {
        let mut toc = TocBuilder::new();
        // Room for two entries with two bytes of names, and one record of four bytes.
        toc.size_limit = 2 * MIN_ENTRY_SIZE + MIN_RECORD_SIZE + 2 + 4;
        let limit = toc.size_limit;
        toc.add(draft(b"a", b"8 key=v\n"), 512).unwrap();
        toc.add(draft(b"b", b""), 1024).unwrap();
        let refusal = toc.add(draft(b"", b""), 1536);
        assert_eq!(refusal, Err(TarError::TocTooLarge { limit }));
    }

    #[test]
    fn low_32_bits_when_wide_or_negative_then_truncates() {
        assert_eq!(low_32_bits(4_294_967_301), 5);
        assert_eq!(low_32_bits(-1), u32::MAX);
    }
}
