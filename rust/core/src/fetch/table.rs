//! What is fetched span by span: a layer, with its zTOC or its part of a seek table, or a pack.

use std::ops::Range;
use std::sync::Arc;

use crate::bytes::SharedBytes;
use crate::error::Result;
use crate::extract::SpanReader;
use crate::pack::Pack;
use crate::seek::SeekSpans;
use crate::span::{SpanId, UncompressedOffset};
use crate::ztoc::Ztoc;

/// The spans of one layer, or the frames of a pack, which are scheduled in the same way.
#[derive(Debug, Clone)]
pub enum Table {
    /// A zTOC, which has all checkpoints.
    Ztoc(Arc<Ztoc>),
    /// Positions, to which chunks with checkpoints are added as they arrive.
    Seek {
        /// The spans.
        spans: Arc<SeekSpans>,
        /// Where each chunk is in the layer's seek blob.
        chunks: Arc<[Range<u64>]>,
    },
    /// A pack, each frame of which counts as a span.
    Pack(Arc<Pack>),
}

impl Table {
    /// The number of spans.
    #[must_use]
    pub fn span_count(&self) -> u32 {
        let count = match self {
            Self::Ztoc(ztoc) => ztoc.span_count(),
            Self::Seek { spans, .. } => spans.positions().span_count(),
            Self::Pack(pack) => pack.frames().len() as u64,
        };
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// The span that contains an uncompressed byte; the last one if the byte is beyond the layer.
    #[must_use]
    pub fn span_of(&self, at: u64) -> Option<u32> {
        let at = UncompressedOffset(at);
        let found = match self {
            Self::Ztoc(ztoc) => ztoc.span_of(at),
            Self::Seek { spans, .. } => spans.positions().span_of(at),
            // Its frames are not in the order of the layers' bytes.
            Self::Pack(_) => None,
        };
        found.map(|span| span.0)
    }

    /// The spans that contain a range of uncompressed bytes; empty if there are none.
    #[must_use]
    pub fn spans_in(&self, range: &Range<u64>) -> Range<u32> {
        if range.is_empty() {
            return 0..0;
        }
        match (self.span_of(range.start), self.span_of(range.end - 1)) {
            (Some(first), Some(last)) => first..last.saturating_add(1),
            _ => 0..0,
        }
    }

    /// The compressed bytes of a span; empty for one that does not exist.
    #[must_use]
    pub fn compressed(&self, span: u32) -> Range<u64> {
        let found = match self {
            Self::Ztoc(ztoc) => ztoc.span_compressed_range(SpanId(span)),
            Self::Seek { spans, .. } => spans.positions().compressed_range(SpanId(span)),
            Self::Pack(pack) => {
                return pack.frames().get(span as usize).map_or(0..0, |frame| frame.stored.clone());
            }
        };
        found.map_or(0..0, |range| range.start.0..range.end.0)
    }

    /// The uncompressed bytes of a span that readers of files need; empty for one that does not
    /// exist.
    #[must_use]
    pub fn uncompressed(&self, span: u32) -> Range<u64> {
        match self {
            Self::Ztoc(ztoc) => {
                let tar_end = UncompressedOffset(ztoc.uncompressed_archive_size);
                let found = ztoc.span_uncompressed_range(SpanId(span));
                found.map_or(0..0, |(start, end)| start.0..end.unwrap_or(tar_end).max(start).0)
            }
            Self::Seek { spans, .. } => {
                let found = spans.positions().uncompressed_range(SpanId(span));
                found.map_or(0..0, |range| range.start.0..range.end.0)
            }
            Self::Pack(pack) => pack.frames().get(span as usize).map_or(0..0, |frame| 0..frame.len),
        }
    }

    /// The end of the uncompressed bytes of all spans.
    #[must_use]
    pub fn uncompressed_size(&self) -> u64 {
        match self.span_count() {
            0 => 0,
            count => self.uncompressed(count - 1).end,
        }
    }

    /// The chunk that a span needs and that has not been added.
    #[must_use]
    pub fn missing_chunk(&self, span: u32) -> Option<u32> {
        match self {
            Self::Ztoc(_) | Self::Pack(_) => None,
            Self::Seek { spans, .. } => {
                let chunk = spans.chunk_of(SpanId(span));
                (!spans.has_chunk(chunk)).then_some(chunk)
            }
        }
    }

    /// The number of chunks.
    #[must_use]
    pub fn chunk_count(&self) -> usize {
        match self {
            Self::Ztoc(_) | Self::Pack(_) => 0,
            Self::Seek { chunks, .. } => chunks.len(),
        }
    }

    /// Where a chunk is in the layer's seek blob; empty for one that does not exist.
    #[must_use]
    pub fn chunk_range(&self, chunk: u32) -> Range<u64> {
        match self {
            Self::Ztoc(_) | Self::Pack(_) => 0..0,
            Self::Seek { chunks, .. } => chunks.get(chunk as usize).cloned().unwrap_or(0..0),
        }
    }

    /// Adds a chunk, after verifying its digest.
    ///
    /// # Errors
    /// As [`SeekSpans::add_chunk`].
    pub fn add_chunk(&self, chunk: u32, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Ztoc(_) | Self::Pack(_) => Ok(()),
            Self::Seek { spans, .. } => spans.add_chunk(chunk, SharedBytes::copied(bytes)),
        }
    }

    /// The uncompressed bytes of a span, after verifying its compressed bytes.
    ///
    /// # Errors
    /// As [`SpanReader::new`] and [`SpanReader::read`].
    pub fn inflate(&self, span: u32, compressed: &[u8]) -> Result<Vec<u8>> {
        let wanted = self.uncompressed(span);
        let range = UncompressedOffset(wanted.start)..UncompressedOffset(wanted.end);
        let mut reader = match self {
            Self::Ztoc(ztoc) => SpanReader::new(&**ztoc, SpanId(span), compressed)?,
            Self::Seek { spans, .. } => SpanReader::new(&**spans, SpanId(span), compressed)?,
            Self::Pack(pack) => return pack.open_frame(span, compressed),
        };
        reader.inflate_to(range.end)?;
        Ok(reader.into_inflated())
    }
}
