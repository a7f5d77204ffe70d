//! Mapping offsets in the tar to spans, and spans to byte ranges.

use std::ops::Range;

use super::{Entry, Zinfo, Ztoc};
use crate::error::{Error, Result};
use crate::span::{CompressedOffset, SpanId, UncompressedOffset};
use crate::tar::EntryType;

impl Ztoc {
    /// The number of spans in the layer; 0 for an empty plain tar.
    #[must_use]
    pub fn span_count(&self) -> u64 {
        match &self.zinfo {
            Zinfo::Gzip(zinfo) => zinfo.checkpoints.len() as u64,
            Zinfo::Tar(zinfo) => zinfo.span_count(),
        }
    }

    /// The ID of the last span, as the zTOC stores it: −1 if there are no spans.
    #[must_use]
    pub fn max_span_id(&self) -> i64 {
        // `to_bytes` rejects counts above 2^63.
        i64::try_from(self.span_count()).map_or(i64::MAX, |count| count - 1)
    }

    /// The compressed bytes of a span, which its digest covers.
    ///
    /// A gzip span whose checkpoint has bits starts one byte earlier and shares that byte with the
    /// previous span. The last span ends with the layer.
    ///
    /// # Errors
    /// `Error::NoSuchSpan`.
    pub fn span_compressed_range(&self, span_id: SpanId) -> Result<Range<CompressedOffset>> {
        match &self.zinfo {
            Zinfo::Gzip(zinfo) => {
                let index = span_id.0 as usize;
                let checkpoint = zinfo.checkpoints.get(index);
                let checkpoint = checkpoint.ok_or_else(|| self.no_such_span(span_id))?;
                let end = match zinfo.checkpoints.get(index + 1) {
                    Some(next) => next.compressed,
                    None => CompressedOffset(self.compressed_archive_size),
                };
                Ok(checkpoint.first_byte()..end)
            }
            Zinfo::Tar(_) => {
                let range = self.tar_span(span_id)?;
                Ok(CompressedOffset(range.start)..CompressedOffset(range.end))
            }
        }
    }

    /// The start and end of a span's uncompressed bytes. The end is `None` for the last span of a
    /// gzip layer.
    ///
    /// The last span extends to the end of the stream, which a zTOC does not record:
    /// `uncompressed_archive_size` covers only the tar up to its end-of-archive blocks, and may
    /// even be smaller than the start of the span.
    ///
    /// # Errors
    /// `Error::NoSuchSpan`.
    pub fn span_uncompressed_range(
        &self,
        span_id: SpanId,
    ) -> Result<(UncompressedOffset, Option<UncompressedOffset>)> {
        match &self.zinfo {
            Zinfo::Gzip(zinfo) => {
                let index = span_id.0 as usize;
                let checkpoint = zinfo.checkpoints.get(index);
                let start = checkpoint.ok_or_else(|| self.no_such_span(span_id))?.uncompressed;
                Ok((start, zinfo.checkpoints.get(index + 1).map(|next| next.uncompressed)))
            }
            Zinfo::Tar(_) => {
                let range = self.tar_span(span_id)?;
                Ok((UncompressedOffset(range.start), Some(UncompressedOffset(range.end))))
            }
        }
    }

    /// The span that contains a byte: the last span that starts at or before it, even if the byte
    /// is beyond the layer. `None` if there are no spans.
    #[must_use]
    pub fn span_of(&self, at: UncompressedOffset) -> Option<SpanId> {
        let last = self.span_count().checked_sub(1)?;
        let index = match &self.zinfo {
            Zinfo::Gzip(zinfo) => {
                let after = zinfo.checkpoints.partition_point(|c| c.uncompressed <= at);
                // In a valid zTOC the first span starts at 0, so `after` is at least 1.
                after.saturating_sub(1) as u64
            }
            Zinfo::Tar(zinfo) => (at.0 / zinfo.span_size).min(last),
        };
        u32::try_from(index).ok().map(SpanId)
    }

    /// The spans that contain an entry's data, as a half-open range. Empty for entries without
    /// data, which includes all types but regular files, whatever size their header gives.
    #[must_use]
    pub fn spans_for<'e>(&self, entry: impl Into<Entry<'e>>) -> Range<SpanId> {
        let entry = entry.into();
        let empty = SpanId(0)..SpanId(0);
        let (Ok(start), Ok(size @ 1..)) =
            (u64::try_from(entry.uncompressed_offset()), u64::try_from(entry.uncompressed_size()))
        else {
            return empty;
        };
        if entry.entry_type() != EntryType::Regular {
            return empty;
        }
        let first = self.span_of(UncompressedOffset(start));
        let last = self.span_of(UncompressedOffset(start.saturating_add(size - 1)));
        match (first, last) {
            (Some(first), Some(last)) => first..SpanId(last.0.saturating_add(1)),
            _ => empty,
        }
    }

    fn tar_span(&self, span_id: SpanId) -> Result<Range<u64>> {
        let Zinfo::Tar(zinfo) = &self.zinfo else { return Err(self.no_such_span(span_id)) };
        if u64::from(span_id.0) >= zinfo.span_count() {
            return Err(self.no_such_span(span_id));
        }
        // Below `span_count`, so the start is below the size.
        let start = u64::from(span_id.0) * zinfo.span_size;
        Ok(start..start.saturating_add(zinfo.span_size).min(zinfo.size))
    }

    fn no_such_span(&self, span_id: SpanId) -> Error {
        Error::NoSuchSpan { span_id, last: self.max_span_id() }
    }
}
