//! Reading and writing the zTOC, the blob that lists a layer's entries and checkpoints.
//!
//! There are three levels: `flat` handles FlatBuffers, `raw` and `zinfo` the stored fields, and
//! this module the rules that they must satisfy. A zTOC that only soci-snapshotter rejects can
//! still be read, and [`Ztoc::reader_refusals`] lists the reasons; anything that could mislead
//! tocsin's own reader is an error.
//!
//! Source: awslabs/soci-snapshotter, ztoc/fbs/ztoc.fbs; docs/format.md#the-ztoc-blob.

mod counts;
mod entry;
mod flat;
mod headers;
pub mod raw;
mod read;
mod refusal;
mod rules;
mod spans;
mod toc;
mod unpacked;
mod zinfo;

pub use counts::Counts;
pub use entry::{Entry, Records};
pub(crate) use headers::{MAX_HEADER_BLOCKS, header_blocks};
pub use refusal::{MAX_REFUSALS, Refusal};
pub use toc::Toc;
pub use unpacked::{IMPLIED_DIRECTORY, NO_ID, Unpacked};
pub use zinfo::{GzipZinfo, TarZinfo, Zinfo, ZinfoVersion};

use std::borrow::Cow;

use crate::bytes::SharedBytes;
use crate::digest::Digest;
use crate::error::Result;
use crate::tar::{Entries, FileMetadata};
use raw::{RawEntry, RawZtoc};

/// The only format version.
pub const VERSION: &str = "0.9";

/// Blobs must be smaller than this many bytes, as in the reference's writer.
pub const MAX_LEN: u64 = flat::MAX_LEN as u64;

/// Bytes of capacity that the builder needs in addition to the length of the blob.
const SLACK: usize = 64;

/// Everything a zTOC says about one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ztoc {
    /// Format version; written as [`VERSION`], not checked by any reader.
    pub version: String,
    /// The tool that made the zTOC; not checked by any reader.
    pub build_tool_identifier: String,
    /// Size of the layer as stored in a registry, in bytes.
    pub compressed_archive_size: u64,
    /// Size of the tar in bytes, up to and including its end-of-archive blocks. The layer may
    /// continue after that, with further checkpoints.
    pub uncompressed_archive_size: u64,
    /// The entries of the tar in stored order, which is archive order.
    pub toc: Toc,
    /// How the layer is cut into spans.
    pub zinfo: Zinfo,
    /// The digest of each span's compressed bytes.
    pub span_digests: Vec<Digest>,
}

impl Ztoc {
    /// The blob, byte-identical to what the reference would write.
    ///
    /// # Errors
    /// `Error::Ztoc` if a rule of [`Self::from_bytes`] is broken, PAX records are not sorted by
    /// key, or the blob would reach 1 GiB (`TooLarge`).
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        rules::check(self, 0)?;
        let span_digests: Vec<String> = self.span_digests.iter().map(Digest::to_string).collect();
        let fields = RawZtoc {
            version: self.version.as_bytes(),
            build_tool_identifier: self.build_tool_identifier.as_bytes(),
            compressed_archive_size: zinfo::int64(
                "compressed archive size",
                self.compressed_archive_size,
            )?,
            uncompressed_archive_size: zinfo::int64(
                "uncompressed archive size",
                self.uncompressed_archive_size,
            )?,
            compression_algorithm: match self.zinfo {
                Zinfo::Gzip(_) => raw::GZIP,
                Zinfo::Tar(_) => raw::UNCOMPRESSED,
            },
            max_span_id: rules::stored_max_span_id(self)?,
            span_digests: &span_digests,
        };
        let toc = self.toc.entries().map(|entry| (RawEntry::from(entry), entry.xattrs()));
        // A zTOC that was read from a blob usually has about that blob's length when written again.
        let capacity = self.toc.blob_len().map(|len| len.saturating_add(SLACK));
        match &self.zinfo {
            Zinfo::Gzip(zinfo) => {
                fields.write(toc, capacity, zinfo.packed_len(), |out| zinfo.pack(out))
            }
            Zinfo::Tar(zinfo) => {
                let zinfo = zinfo.to_bytes()?;
                fields.write(toc, capacity, zinfo.len(), |out| out.copy_from_slice(&zinfo))
            }
        }
    }

    /// Reads a blob, checking everything before using it.
    ///
    /// Copies the blob; [`Self::from_shared`] does not. PAX records are sorted by key, and of
    /// repeated keys only the last is kept, since the reference reads records into a map.
    ///
    /// # Errors
    /// `Error::Ztoc`, in the order of the tables in the blob, if:
    /// - the flatbuffer cannot be parsed, lacks a field, or refers to the same bytes too often;
    /// - a string is not UTF-8, a digest is invalid, an entry type is unknown, or a size is
    ///   negative;
    /// - the algorithm is neither gzip nor uncompressed, or the length of the zinfo matches no
    ///   version;
    /// - there are no checkpoints, the first is not at the start of the tar, or one is outside the
    ///   layer, before its predecessor, or has an invalid number of bits;
    /// - the spans of a plain tar have size 0 or do not end with the layer;
    /// - `max_span_id`, the spans and the span digests differ in number.
    pub fn from_bytes(blob: &[u8]) -> Result<Self> {
        Self::from_shared(&SharedBytes::copied(blob))
    }

    /// Reads a blob without copying it: entries and windows are looked up in it when needed.
    ///
    /// Uses at most as many bytes of memory as the blob has, whatever it contains, and usually far
    /// fewer: those of the digests, a few words per checkpoint and four bytes per entry.
    ///
    /// # Errors
    /// Same as [`Self::from_bytes`].
    pub fn from_shared(blob: &SharedBytes) -> Result<Self> {
        read::read(blob)
    }

    /// The digest of [`Self::to_bytes`]. Builds the whole blob.
    ///
    /// # Errors
    /// As `to_bytes`.
    pub fn digest(&self) -> Result<Digest> {
        Ok(Digest::of(&self.to_bytes()?))
    }

    /// The entry with exactly this name, compared as bytes. If there are several, returns the
    /// last one, which is the one that remains after unpacking the tar. Takes linear time.
    #[must_use]
    pub fn entry(&self, name: &[u8]) -> Option<Cow<'_, FileMetadata>> {
        let index = (0..self.toc.len()).rev().find(|index| self.toc.name(*index) == name)?;
        self.toc.get(index)
    }
}

impl<'a> From<Entry<'a>> for RawEntry<'a> {
    /// Converts everything but the PAX records.
    fn from(entry: Entry<'a>) -> Self {
        Self {
            name: entry.name(),
            entry_type: entry.entry_type().as_str().as_bytes(),
            uncompressed_offset: entry.uncompressed_offset(),
            uncompressed_size: entry.uncompressed_size(),
            linkname: entry.linkname(),
            mode: entry.mode(),
            uid: entry.uid(),
            gid: entry.gid(),
            uname: entry.uname(),
            gname: entry.gname(),
            mod_time: entry.mod_time(),
            devmajor: entry.devmajor(),
            devminor: entry.devminor(),
            xattrs: &[],
        }
    }
}
