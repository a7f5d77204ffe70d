//! The tables of a zTOC as stored, without any checks, for tests and for examining blobs that
//! [`Ztoc`](super::Ztoc) rejects.
//!
//! Source: awslabs/soci-snapshotter, ztoc/fbs/ztoc.fbs; docs/format.md#the-ztoc-blob.

use super::Records;
use super::flat::{Builder, Mark};
use crate::error::Result;

/// Slot numbers of the fields in the schema's tables.
pub(super) mod slot {
    pub(in crate::ztoc) mod xattr {
        pub(in crate::ztoc) const KEY: usize = 0;
        pub(in crate::ztoc) const VALUE: usize = 1;
    }
    pub(in crate::ztoc) mod entry {
        pub(in crate::ztoc) const NAME: usize = 0;
        pub(in crate::ztoc) const TYPE: usize = 1;
        pub(in crate::ztoc) const UNCOMPRESSED_OFFSET: usize = 2;
        pub(in crate::ztoc) const UNCOMPRESSED_SIZE: usize = 3;
        pub(in crate::ztoc) const LINKNAME: usize = 4;
        pub(in crate::ztoc) const MODE: usize = 5;
        pub(in crate::ztoc) const UID: usize = 6;
        pub(in crate::ztoc) const GID: usize = 7;
        pub(in crate::ztoc) const UNAME: usize = 8;
        pub(in crate::ztoc) const GNAME: usize = 9;
        pub(in crate::ztoc) const MOD_TIME: usize = 10;
        pub(in crate::ztoc) const DEVMAJOR: usize = 11;
        pub(in crate::ztoc) const DEVMINOR: usize = 12;
        pub(in crate::ztoc) const XATTRS: usize = 13;
    }
    pub(in crate::ztoc) mod compression_info {
        pub(in crate::ztoc) const ALGORITHM: usize = 0;
        pub(in crate::ztoc) const MAX_SPAN_ID: usize = 1;
        pub(in crate::ztoc) const SPAN_DIGESTS: usize = 2;
        pub(in crate::ztoc) const CHECKPOINTS: usize = 3;
    }
    pub(in crate::ztoc) mod toc {
        pub(in crate::ztoc) const METADATA: usize = 0;
    }
    pub(in crate::ztoc) mod ztoc {
        pub(in crate::ztoc) const VERSION: usize = 0;
        pub(in crate::ztoc) const BUILD_TOOL_IDENTIFIER: usize = 1;
        pub(in crate::ztoc) const COMPRESSED_ARCHIVE_SIZE: usize = 2;
        pub(in crate::ztoc) const UNCOMPRESSED_ARCHIVE_SIZE: usize = 3;
        pub(in crate::ztoc) const TOC: usize = 4;
        pub(in crate::ztoc) const COMPRESSION_INFO: usize = 5;
    }
}

/// `compression_algorithm` of a gzip layer. It is the schema's default, so it is not stored.
pub const GZIP: i8 = 1;
/// `compression_algorithm` of a plain tar.
pub const UNCOMPRESSED: i8 = 2;

/// The tables `Ztoc` and `CompressionInfo`, without the two large vectors.
#[derive(Debug, Clone, Copy)]
pub struct RawZtoc<'a> {
    /// Format version.
    pub version: &'a [u8],
    /// The tool that made the zTOC.
    pub build_tool_identifier: &'a [u8],
    /// Size of the layer as stored in a registry, in bytes.
    pub compressed_archive_size: i64,
    /// Size of the tar in bytes, up to and including its end-of-archive blocks.
    pub uncompressed_archive_size: i64,
    /// `GZIP` or `UNCOMPRESSED`.
    pub compression_algorithm: i8,
    /// The ID of the last span.
    pub max_span_id: i32,
    /// Digests in OCI form.
    pub span_digests: &'a [String],
}

/// The table `FileMetadata`.
#[derive(Debug, Clone, Copy, Default)]
pub struct RawEntry<'a> {
    /// Name in the tar.
    pub name: &'a [u8],
    /// The name of the entry's type.
    pub entry_type: &'a [u8],
    /// Uncompressed offset of the data.
    pub uncompressed_offset: i64,
    /// Size of the data in bytes.
    pub uncompressed_size: i64,
    /// Target of a link.
    pub linkname: &'a [u8],
    /// Mode bits.
    pub mode: i64,
    /// User ID.
    pub uid: u32,
    /// Group ID.
    pub gid: u32,
    /// User name.
    pub uname: &'a [u8],
    /// Group name.
    pub gname: &'a [u8],
    /// Modification time.
    pub mod_time: &'a [u8],
    /// Device major number.
    pub devmajor: i64,
    /// Device minor number.
    pub devminor: i64,
    /// PAX records in stored order.
    pub xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

impl RawZtoc<'_> {
    /// The blob with these tables, `toc` and `checkpoints`, as the reference would store them.
    ///
    /// # Errors
    /// `Error::Ztoc` with `TooLarge`.
    pub fn to_bytes(&self, toc: &[RawEntry<'_>], checkpoints: &[u8]) -> Result<Vec<u8>> {
        let toc = toc.iter().map(|entry| (*entry, Records::listed(entry.xattrs)));
        self.write(toc, None, checkpoints.len(), |out| out.copy_from_slice(checkpoints))
    }

    /// As `to_bytes`, but takes the entries one by one, each with its PAX records, and packs the
    /// checkpoints in place.
    ///
    /// `capacity`: the expected length of the blob in bytes, if known.
    ///
    /// The bytes depend on the order of the steps, which is that of the reference's marshaler.
    pub(super) fn write<'e>(
        &self,
        toc: impl DoubleEndedIterator<Item = (RawEntry<'e>, Records<'e>)> + Clone,
        capacity: Option<usize>,
        checkpoints_len: usize,
        pack_checkpoints: impl FnOnce(&mut [u8]),
    ) -> Result<Vec<u8>> {
        let mut builder = Builder::with_capacity(capacity.unwrap_or_else(|| {
            let entries = toc.clone().map(|(entry, records)| entry.estimate(&records));
            let digests = self.span_digests.iter().map(|digest| digest.len() + 12);
            let estimate = entries.sum::<usize>() + digests.sum::<usize>() + 512;
            estimate.saturating_add(checkpoints_len)
        }));

        let version = builder.string(self.version)?;
        let build_tool_identifier = builder.string(self.build_tool_identifier)?;
        let mut entries = Vec::with_capacity(toc.size_hint().1.unwrap_or_default());
        let mut xattrs = Vec::new();
        for (entry, records) in toc.rev() {
            entries.push(entry.write(&records, &mut builder, &mut xattrs)?);
        }
        entries.reverse();
        let entries = builder.vector(&entries)?;
        let mut table = builder.table();
        table.reference(slot::toc::METADATA, entries)?;
        let toc = table.finish()?;

        let checkpoints = builder.byte_vector(checkpoints_len, pack_checkpoints)?;
        let digests = self.span_digests.iter().map(|digest| builder.string(digest.as_bytes()));
        let digests = digests.collect::<Result<Vec<Mark>>>()?;
        let digests = builder.vector(&digests)?;
        let mut table = builder.table();
        table.int32(slot::compression_info::MAX_SPAN_ID, self.max_span_id)?;
        table.reference(slot::compression_info::SPAN_DIGESTS, digests)?;
        table.reference(slot::compression_info::CHECKPOINTS, checkpoints)?;
        table.int8(slot::compression_info::ALGORITHM, self.compression_algorithm, GZIP)?;
        let compression_info = table.finish()?;

        let mut table = builder.table();
        table.reference(slot::ztoc::VERSION, version)?;
        table.reference(slot::ztoc::BUILD_TOOL_IDENTIFIER, build_tool_identifier)?;
        table.reference(slot::ztoc::TOC, toc)?;
        table.int64(slot::ztoc::COMPRESSED_ARCHIVE_SIZE, self.compressed_archive_size)?;
        table.int64(slot::ztoc::UNCOMPRESSED_ARCHIVE_SIZE, self.uncompressed_archive_size)?;
        table.reference(slot::ztoc::COMPRESSION_INFO, compression_info)?;
        let root = table.finish()?;
        builder.finish(root)
    }
}

impl RawEntry<'_> {
    /// A generous estimate of this entry's size in bytes: length, NUL and padding of each string,
    /// the table with all fields, and its place in the vector.
    fn estimate(&self, records: &Records<'_>) -> usize {
        let strings =
            [self.name, self.entry_type, self.linkname, self.uname, self.gname, self.mod_time];
        let xattrs = records.iter().map(|(key, value)| key.len() + value.len() + 32);
        strings.map(|string| string.len() + 8).iter().sum::<usize>() + 96 + xattrs.sum::<usize>()
    }

    /// Writes the entry with these records; `xattrs` is a buffer that is reused for each entry.
    fn write(
        &self,
        records: &Records<'_>,
        builder: &mut Builder,
        xattrs: &mut Vec<Mark>,
    ) -> Result<Mark> {
        let name = builder.string(self.name)?;
        let entry_type = builder.string(self.entry_type)?;
        let linkname = builder.string(self.linkname)?;
        let uname = builder.string(self.uname)?;
        let gname = builder.string(self.gname)?;
        let mod_time = builder.string(self.mod_time)?;
        xattrs.clear();
        for (key, value) in records.iter() {
            let key = builder.string(key)?;
            let value = builder.string(value)?;
            let mut table = builder.table();
            table.reference(slot::xattr::KEY, key)?;
            table.reference(slot::xattr::VALUE, value)?;
            xattrs.push(table.finish()?);
        }
        let xattrs = builder.vector(xattrs)?;

        let mut table = builder.table();
        table.reference(slot::entry::NAME, name)?;
        table.reference(slot::entry::TYPE, entry_type)?;
        table.int64(slot::entry::UNCOMPRESSED_OFFSET, self.uncompressed_offset)?;
        table.int64(slot::entry::UNCOMPRESSED_SIZE, self.uncompressed_size)?;
        table.reference(slot::entry::LINKNAME, linkname)?;
        table.int64(slot::entry::MODE, self.mode)?;
        table.uint32(slot::entry::UID, self.uid)?;
        table.uint32(slot::entry::GID, self.gid)?;
        table.reference(slot::entry::UNAME, uname)?;
        table.reference(slot::entry::GNAME, gname)?;
        table.reference(slot::entry::MOD_TIME, mod_time)?;
        table.int64(slot::entry::DEVMAJOR, self.devmajor)?;
        table.int64(slot::entry::DEVMINOR, self.devminor)?;
        table.reference(slot::entry::XATTRS, xattrs)?;
        table.finish()
    }
}
