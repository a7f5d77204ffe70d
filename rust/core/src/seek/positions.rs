//! The sizes of a layer and the positions of its checkpoints.

use std::ops::Range;

use super::wire::{Reader, put_varint};
use super::{
    CHECKPOINTS_PER_CHUNK, MAX_LAYER_SIZE, MAX_SEEK_SPAN_SIZE, MAX_SPANS, MIN_SEEK_SPAN_SIZE,
    in_part,
};
use crate::error::{Error, Result, SeekError, SeekPart};
use crate::span::{BitOffset, CompressedOffset, SpanId, UncompressedOffset};

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerCompression {
    /// gzip: spans start at checkpoints.
    Gzip,
    /// None: spans have equal sizes.
    Tar,
    /// zstd: there are no spans, so the layer is read in full.
    Zstd,
}

impl LayerCompression {
    /// The number that is stored.
    pub(crate) const fn code(self) -> u64 {
        match self {
            Self::Gzip => 0,
            Self::Tar => 1,
            Self::Zstd => 2,
        }
    }

    pub(crate) const fn from_code(code: u64) -> std::result::Result<Self, SeekError> {
        match code {
            0 => Ok(Self::Gzip),
            1 => Ok(Self::Tar),
            2 => Ok(Self::Zstd),
            value => Err(SeekError::Value { what: "compression", value }),
        }
    }
}

/// Where a checkpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) uncompressed: u64,
    pub(crate) bits: u64,
}

/// The sizes of a layer and the positions of its checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Positions {
    pub(crate) layer: LayerSizes,
    pub(crate) points: Vec<Position>,
}

/// What a seek table records about a layer besides its checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LayerSizes {
    pub(crate) span_size: u64,
    pub(crate) compression: LayerCompression,
    pub(crate) compressed_size: u64,
    pub(crate) uncompressed_size: u64,
    pub(crate) span_count: u64,
}

impl LayerSizes {
    /// Checks all numbers, before anything is allocated for them.
    pub(crate) fn check(&self) -> std::result::Result<(), SeekError> {
        check_span_size(self.span_size)?;
        for (what, value) in [
            ("compressed size", self.compressed_size),
            ("uncompressed size", self.uncompressed_size),
        ] {
            if value > MAX_LAYER_SIZE {
                return Err(SeekError::TooLarge { what, value, limit: MAX_LAYER_SIZE });
            }
        }
        let (what, value) = ("span count", self.span_count);
        if value > MAX_SPANS {
            return Err(SeekError::TooLarge { what, value, limit: MAX_SPANS });
        }
        let is_possible = match self.compression {
            // Every span has at least one byte, except that of an empty layer.
            LayerCompression::Gzip => (1..=self.uncompressed_size.max(1)).contains(&value),
            LayerCompression::Tar => value == self.uncompressed_size.div_ceil(self.span_size),
            LayerCompression::Zstd => value == 0,
        };
        if !is_possible {
            return Err(SeekError::Value { what, value });
        }
        if self.compression == LayerCompression::Tar
            && self.compressed_size != self.uncompressed_size
        {
            return Err(SeekError::Value { what: "compressed size", value: self.compressed_size });
        }
        Ok(())
    }

    /// The number of seek chunks.
    #[allow(clippy::cast_possible_truncation, reason = "at most MAX_SPANS / 64")]
    pub(crate) const fn chunk_count(&self) -> usize {
        self.span_count.div_ceil(CHECKPOINTS_PER_CHUNK as u64) as usize
    }
}

pub(crate) const fn check_span_size(value: u64) -> std::result::Result<(), SeekError> {
    let (what, limit) = ("span size", MAX_SEEK_SPAN_SIZE);
    match value {
        MIN_SEEK_SPAN_SIZE..=MAX_SEEK_SPAN_SIZE => Ok(()),
        ..MIN_SEEK_SPAN_SIZE => Err(SeekError::Value { what, value }),
        _ => Err(SeekError::TooLarge { what, value, limit }),
    }
}

impl Positions {
    /// Checks the rules about positions.
    pub(crate) fn new(layer: LayerSizes, points: Vec<Position>, part: SeekPart) -> Result<Self> {
        layer.check().map_err(in_part(part))?;
        if points.len() as u64 != layer.span_count {
            let value = points.len() as u64;
            return Err(in_part(part)(SeekError::Value { what: "number of checkpoints", value }));
        }
        let positions = Self { layer, points };
        positions.check()?;
        Ok(positions)
    }

    /// Reads the deltas of a layer whose numbers have been checked.
    pub(crate) fn read(layer: LayerSizes, reader: &mut Reader<'_>, part: SeekPart) -> Result<Self> {
        layer.check().map_err(in_part(part))?;
        let count = usize::try_from(layer.span_count).unwrap_or(usize::MAX);
        // Each takes at least two bytes, so no more than this can follow.
        let mut points = Vec::with_capacity(count.min(reader.remaining() / 2));
        let mut last = Position { uncompressed: 0, bits: 0 };
        for index in 0..layer.span_count {
            let mut add = |value: u64, what| {
                let delta = reader.varint(what).map_err(in_part(part))?;
                let limit = u64::MAX - value;
                let too_large = SeekError::TooLarge { what, value: delta, limit };
                let error = || in_part(checkpoint(index))(too_large);
                value.checked_add(delta).ok_or_else(error)
            };
            last = Position {
                uncompressed: add(last.uncompressed, "uncompressed offset of a checkpoint")?,
                bits: add(last.bits, "compressed position of a checkpoint")?,
            };
            points.push(last);
        }
        let positions = Self { layer, points };
        positions.check()?;
        Ok(positions)
    }

    /// Writes the deltas.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut last = Position { uncompressed: 0, bits: 0 };
        for point in &self.points {
            put_varint(out, point.uncompressed - last.uncompressed);
            put_varint(out, point.bits - last.bits);
            last = *point;
        }
    }

    fn check(&self) -> Result<()> {
        let LayerSizes { span_size, compression, compressed_size, uncompressed_size, .. } =
            self.layer;
        let longest = match compression {
            LayerCompression::Gzip => span_size / 4 * 5 + span_size % 4 * 5 / 4,
            LayerCompression::Tar | LayerCompression::Zstd => span_size,
        };
        let end = Position { uncompressed: uncompressed_size, bits: compressed_size * 8 };
        let nexts = self.points.iter().skip(1).chain([&end]);
        for (index, (point, next)) in (0..).zip(self.points.iter().zip(nexts)) {
            let fail = |kind| Err(in_part(checkpoint(index))(kind));
            if index == 0 && (point.uncompressed != 0 || point.bits != 0) {
                let value = point.bits.max(point.uncompressed);
                return fail(SeekError::Value { what: "position of the first checkpoint", value });
            }
            if point.bits >= next.bits {
                return fail(SeekError::Order("compressed positions"));
            }
            // Only the one span of an empty layer is empty.
            if point.uncompressed >= next.uncompressed && uncompressed_size > 0 {
                return fail(SeekError::Order("uncompressed offsets"));
            }
            let len = next.uncompressed - point.uncompressed;
            if len > longest {
                let what = "size of the span";
                return fail(SeekError::TooLarge { what, value: len, limit: longest });
            }
            if compression == LayerCompression::Tar
                && (point.uncompressed != index * span_size || point.bits != point.uncompressed * 8)
            {
                let value = point.uncompressed;
                return fail(SeekError::Value { what: "offset in a plain tar", value });
            }
        }
        Ok(())
    }

    /// The distance between checkpoints in uncompressed bytes.
    #[must_use]
    pub const fn span_size(&self) -> u64 {
        self.layer.span_size
    }

    /// How the layer is compressed.
    #[must_use]
    pub const fn compression(&self) -> LayerCompression {
        self.layer.compression
    }

    /// Size of the layer as stored in a registry, in bytes.
    #[must_use]
    pub const fn compressed_size(&self) -> u64 {
        self.layer.compressed_size
    }

    /// Size of the uncompressed layer up to the end of the stream, in bytes.
    #[must_use]
    pub const fn uncompressed_size(&self) -> u64 {
        self.layer.uncompressed_size
    }

    /// The number of spans; 0 for a layer that is read in full, or has no bytes.
    #[must_use]
    pub const fn span_count(&self) -> u64 {
        self.layer.span_count
    }

    /// The number of seek chunks.
    #[must_use]
    pub const fn chunk_count(&self) -> usize {
        self.layer.chunk_count()
    }

    /// The numbers of the checkpoints in a chunk.
    #[must_use]
    pub fn chunk_points(&self, chunk: usize) -> Range<usize> {
        let place =
            |chunk: usize| chunk.saturating_mul(CHECKPOINTS_PER_CHUNK).min(self.points.len());
        place(chunk)..place(chunk.saturating_add(1))
    }

    /// The position of a checkpoint: its uncompressed offset and its first compressed bit.
    #[must_use]
    pub fn position(&self, span_id: SpanId) -> Option<(UncompressedOffset, BitOffset)> {
        let point = self.points.get(span_id.0 as usize)?;
        Some((UncompressedOffset(point.uncompressed), BitOffset(point.bits)))
    }

    /// The compressed bytes of a span, which its digest covers. Spans may share a byte.
    ///
    /// # Errors
    /// `Error::NoSuchSpan`.
    pub fn compressed_range(&self, span_id: SpanId) -> Result<Range<CompressedOffset>> {
        let (point, next) = self.span(span_id)?;
        let end = next.map_or(self.layer.compressed_size, |next| next.bits.div_ceil(8));
        Ok(CompressedOffset(point.bits / 8)..CompressedOffset(end))
    }

    /// The uncompressed bytes of a span. The last one ends with the stream.
    ///
    /// # Errors
    /// `Error::NoSuchSpan`.
    pub fn uncompressed_range(&self, span_id: SpanId) -> Result<Range<UncompressedOffset>> {
        let (point, next) = self.span(span_id)?;
        let end = next.map_or(self.layer.uncompressed_size, |next| next.uncompressed);
        Ok(UncompressedOffset(point.uncompressed)..UncompressedOffset(end))
    }

    /// The span that contains a byte: the last span that starts at or before it, even if the byte
    /// is beyond the layer. `None` if there are no spans.
    #[must_use]
    pub fn span_of(&self, at: UncompressedOffset) -> Option<SpanId> {
        let after = self.points.partition_point(|point| point.uncompressed <= at.0);
        after.checked_sub(1).and_then(|index| u32::try_from(index).ok()).map(SpanId)
    }

    /// The spans that contain the bytes of a range; empty if there are none.
    #[must_use]
    pub fn spans_in(&self, range: Range<UncompressedOffset>) -> Range<SpanId> {
        let last = range.end.0.checked_sub(1).filter(|last| *last >= range.start.0);
        let last = last.and_then(|last| self.span_of(UncompressedOffset(last)));
        match (self.span_of(range.start), last) {
            (Some(first), Some(last)) => first..SpanId(last.0.saturating_add(1)),
            _ => SpanId(0)..SpanId(0),
        }
    }

    fn span(&self, span_id: SpanId) -> Result<(Position, Option<Position>)> {
        let index = span_id.0 as usize;
        let point = self.points.get(index).ok_or_else(|| self.no_such_span(span_id))?;
        Ok((*point, self.points.get(index + 1).copied()))
    }

    pub(crate) fn no_such_span(&self, span_id: SpanId) -> Error {
        let last = i64::try_from(self.points.len()).map_or(i64::MAX, |count| count - 1);
        Error::NoSuchSpan { span_id, last }
    }
}

/// The part that errors about a checkpoint name.
pub(crate) fn checkpoint(index: u64) -> SeekPart {
    SeekPart::Checkpoint(u32::try_from(index).unwrap_or(u32::MAX))
}
