//! What reading a span takes, from whatever describes the layer: a zTOC or a seek table.

use std::ops::Range;

use crate::checkpoint::{Checkpoint, SeekPoint};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::seek::{LayerCompression, SeekSpans};
use crate::span::{CompressedOffset, SpanId, UncompressedOffset};
use crate::ztoc::{Zinfo, Ztoc};

/// The spans of a layer.
pub trait SpanTable {
    /// Everything about one span.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchSpan`]; [`Error::Seek`] if the span's seek chunk has not been added.
    fn span(&self, span_id: SpanId) -> Result<Span<'_>>;
}

/// Everything about one span.
#[derive(Debug, Clone)]
pub struct Span<'a> {
    /// Its number.
    pub id: SpanId,
    /// The compressed bytes, which the digest covers.
    pub compressed: Range<CompressedOffset>,
    /// The offset of the first uncompressed byte.
    pub start: UncompressedOffset,
    /// The end of the uncompressed bytes. `None` if it is unknown, since the span ends with the
    /// stream.
    pub end: Option<UncompressedOffset>,
    /// The end of the uncompressed bytes that readers of files need.
    pub needed_end: UncompressedOffset,
    /// The digest of the compressed bytes.
    pub digest: Digest,
    /// How to start.
    pub from: SpanStart<'a>,
}

/// How to start decoding a span.
#[derive(Debug, Clone)]
pub enum SpanStart<'a> {
    /// The bytes are not compressed.
    Plain,
    /// At a checkpoint of a zTOC.
    Checkpoint(&'a Checkpoint),
    /// At a checkpoint of a seek table.
    Point(SeekPoint),
}

impl Span<'_> {
    /// Compares length and digest of the span's compressed bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Verification`].
    pub fn verify(&self, compressed: &[u8]) -> Result<()> {
        let expected_len = self.compressed.end.0.saturating_sub(self.compressed.start.0);
        if compressed.len() as u64 != expected_len {
            return Err(Error::Verification {
                what: format!("{} size", self.id),
                expected: expected_len.to_string(),
                actual: compressed.len().to_string(),
            });
        }
        let actual = Digest::of(compressed);
        if actual != self.digest {
            return Err(Error::Verification {
                what: format!("{} digest", self.id),
                expected: self.digest.to_string(),
                actual: actual.to_string(),
            });
        }
        Ok(())
    }
}

impl SpanTable for Ztoc {
    fn span(&self, id: SpanId) -> Result<Span<'_>> {
        let no_such_span = || Error::NoSuchSpan { span_id: id, last: self.max_span_id() };
        let (start, end) = self.span_uncompressed_range(id)?;
        let from = match &self.zinfo {
            Zinfo::Tar(_) => SpanStart::Plain,
            Zinfo::Gzip(zinfo) => {
                let checkpoint = zinfo.checkpoints.get(id.0 as usize);
                SpanStart::Checkpoint(checkpoint.ok_or_else(no_such_span)?)
            }
        };
        // Whatever follows the tar in the last span of a gzip layer is padding and belongs to no
        // entry.
        let tar_end = UncompressedOffset(self.uncompressed_archive_size);
        Ok(Span {
            id,
            compressed: self.span_compressed_range(id)?,
            start,
            end,
            needed_end: end.unwrap_or(tar_end).max(start),
            digest: *self.span_digests.get(id.0 as usize).ok_or_else(no_such_span)?,
            from,
        })
    }
}

impl SpanTable for SeekSpans {
    fn span(&self, id: SpanId) -> Result<Span<'_>> {
        let positions = self.positions();
        let Range { start, end } = positions.uncompressed_range(id)?;
        let (point, digest) = self.point(id)?;
        let from = match positions.compression() {
            LayerCompression::Tar => SpanStart::Plain,
            LayerCompression::Gzip | LayerCompression::Zstd => SpanStart::Point(point),
        };
        Ok(Span {
            id,
            compressed: positions.compressed_range(id)?,
            start,
            end: Some(end),
            needed_end: end,
            digest,
            from,
        })
    }
}
