//! The zTOC: the blob that lists a layer's entries and checkpoints, both ways.
//!
//! Three layers: `flat` knows FlatBuffers, `raw` and `zinfo` the stored fields, and this one what
//! they must say. What is merely unusable for the reference's reader is data all the same, and
//! listed by [`Ztoc::reader_refusals`]; what could lead our own reading astray is an error.
//!
//! Source: awslabs/soci-snapshotter, ztoc/fbs/ztoc.fbs; docs/format.md#the-ztoc-blob.

mod counts;
mod flat;
pub mod raw;
mod read;
mod refusal;
mod rules;
mod spans;
mod toc;
mod zinfo;

pub use counts::Counts;
pub use refusal::{MAX_REFUSALS, Refusal};
pub use toc::Toc;
pub use zinfo::{GzipZinfo, TarZinfo, Zinfo, ZinfoVersion};

use std::borrow::Cow;

use crate::bytes::SharedBytes;
use crate::digest::Digest;
use crate::error::Result;
use crate::tar::{Entries, FileMetadata};
use raw::{RawEntry, RawZtoc};

/// The only format version there is.
pub const VERSION: &str = "0.9";

/// A blob of this many bytes is refused, as the reference's writer does.
pub const MAX_LEN: u64 = flat::MAX_LEN as u64;

/// Everything a zTOC says about one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ztoc {
    /// Format version; written as [`VERSION`], checked by no reader.
    pub version: String,
    /// The tool that made it; checked by no reader.
    pub build_tool_identifier: String,
    /// Bytes in the layer as stored in a registry.
    pub compressed_archive_size: u64,
    /// Bytes of the tar up to and including its end-of-archive blocks. The layer may go on after
    /// that, and checkpoints with it.
    pub uncompressed_archive_size: u64,
    /// The tar's entries in the stored order, which is that of the archive.
    pub toc: Toc,
    /// How the layer is cut into spans.
    pub zinfo: Zinfo,
    /// The digest of each span's compressed bytes.
    pub span_digests: Vec<Digest>,
}

impl Ztoc {
    /// The blob, byte for byte as the reference would write it.
    ///
    /// # Errors
    /// `Error::Ztoc`: one of the rules of [`Self::from_bytes`] is broken, PAX records are not in
    /// ascending order of keys, or the blob would reach 1 GiB (`TooLarge`).
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
        match &self.zinfo {
            Zinfo::Gzip(zinfo) => {
                fields.write(self.toc.iter(), zinfo.packed_len(), |out| zinfo.pack(out))
            }
            Zinfo::Tar(zinfo) => {
                let zinfo = zinfo.to_bytes()?;
                fields.write(self.toc.iter(), zinfo.len(), |out| out.copy_from_slice(&zinfo))
            }
        }
    }

    /// Reads a blob; everything in it is checked before it is used.
    ///
    /// Copies the blob; [`Self::from_shared`] does not. PAX records come out in ascending order of
    /// keys, of equal keys the last: the reference reads them into a map.
    ///
    /// # Errors
    /// `Error::Ztoc`, in the order of the blob's tables:
    /// - the flatbuffer does not parse, lacks a field, or refers to the same bytes over and over;
    /// - a text is not UTF-8, a digest not a digest, an entry type not known, a size negative;
    /// - the algorithm is neither gzip nor uncompressed, or the zinfo has a length of no version;
    /// - no checkpoints; the first not at the start of the tar; one that lies outside the layer,
    ///   before its predecessor, or has bits no checkpoint can have;
    /// - a plain tar's spans have no size or do not end with the layer;
    /// - `max_span_id`, spans and span digests do not agree.
    pub fn from_bytes(blob: &[u8]) -> Result<Self> {
        Self::from_shared(&SharedBytes::copied(blob))
    }

    /// Reads a blob that stays where it is: entries and windows are looked up in it.
    ///
    /// Takes at most as much memory as the blob has, whatever it claims, and mostly far less: digests,
    /// a few words for each checkpoint, and, for the while, one entry, whose texts are limited.
    ///
    /// # Errors
    /// As [`Self::from_bytes`].
    pub fn from_shared(blob: &SharedBytes) -> Result<Self> {
        read::read(blob)
    }

    /// The digest of [`Self::to_bytes`], which it makes and drops.
    ///
    /// # Errors
    /// As `to_bytes`.
    pub fn digest(&self) -> Result<Digest> {
        Ok(Digest::of(&self.to_bytes()?))
    }

    /// The entry with exactly this name, as raw bytes; of several the last, which is the one that
    /// remains when the tar is unpacked. Looks at every entry in the worst case.
    #[must_use]
    pub fn entry(&self, name: &[u8]) -> Option<Cow<'_, FileMetadata>> {
        let index = (0..self.toc.len()).rev().find(|index| self.toc.name(*index) == name)?;
        self.toc.get(index)
    }
}

impl<'a> From<&'a Cow<'_, FileMetadata>> for RawEntry<'a> {
    fn from(entry: &'a Cow<'_, FileMetadata>) -> Self {
        Self {
            name: &entry.name,
            entry_type: entry.entry_type.as_str().as_bytes(),
            uncompressed_offset: entry.uncompressed_offset,
            uncompressed_size: entry.uncompressed_size,
            linkname: &entry.linkname,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            uname: &entry.uname,
            gname: &entry.gname,
            mod_time: &entry.mod_time,
            devmajor: entry.devmajor,
            devminor: entry.devminor,
            xattrs: &entry.xattrs,
        }
    }
}
