//! The spans of one layer: their positions, and the checkpoints whose chunks have been added.

use std::sync::OnceLock;

use super::chunk::Chunk;
use super::positions::checkpoint;
use super::{CHECKPOINTS_PER_CHUNK, Positions, in_part};
use crate::bytes::SharedBytes;
use crate::checkpoint::SeekPoint;
use crate::digest::Digest;
use crate::error::{Error, Result, SeekError, SeekPart};
use crate::span::SpanId;

/// A decompressed chunk is kept if it takes at most this many times the memory of the compressed one;
/// real chunks take less than ten times as much. Others are decompressed each time they are used, so
/// that memory stays in proportion to what was fetched.
const MAX_KEPT_RATIO: usize = 16;

/// The spans of one layer. A span can be read as soon as its chunk has been added.
#[derive(Debug)]
pub struct SeekSpans {
    positions: Positions,
    digests: Box<[Digest]>,
    chunks: Box<[OnceLock<Kept>]>,
}

/// A chunk that has been checked.
#[derive(Debug)]
enum Kept {
    Decoded(Chunk),
    Stored(SharedBytes),
}

/// A chunk in use, see [`MAX_KEPT_RATIO`].
enum Loaded<'a> {
    Kept(&'a Chunk),
    Temporary(Chunk),
}

impl SeekSpans {
    /// The spans of a layer, whose chunks have these digests.
    ///
    /// A chunk without a digest can never be added.
    #[must_use]
    pub fn new(positions: Positions, chunk_digests: Vec<Digest>) -> Self {
        let chunks = (0..positions.chunk_count()).map(|_| OnceLock::new()).collect();
        Self { positions, digests: chunk_digests.into(), chunks }
    }

    /// The sizes of the layer and the positions of its checkpoints.
    #[must_use]
    pub const fn positions(&self) -> &Positions {
        &self.positions
    }

    /// The chunk with the checkpoint of a span.
    #[must_use]
    pub fn chunk_of(&self, span_id: SpanId) -> u32 {
        span_id.0 / u32::try_from(CHECKPOINTS_PER_CHUNK).unwrap_or(u32::MAX)
    }

    /// Whether a chunk has been added.
    #[must_use]
    pub fn has_chunk(&self, chunk: u32) -> bool {
        self.chunks.get(chunk as usize).is_some_and(|kept| kept.get().is_some())
    }

    /// Adds a chunk. Its digest is verified first, then everything in it is checked. Adding it again
    /// changes nothing.
    ///
    /// # Errors
    /// `Error::Verification` if the digest differs; `Error::Seek` if its content is invalid.
    pub fn add_chunk(&self, number: u32, data: SharedBytes) -> Result<()> {
        let places = (self.chunks.get(number as usize), self.digests.get(number as usize));
        let (Some(kept), Some(expected)) = places else {
            let (what, value) = ("number of a chunk", number.into());
            return Err(in_part(SeekPart::SeekChunk(number))(SeekError::Value { what, value }));
        };
        if kept.get().is_some() {
            return Ok(());
        }
        let actual = Digest::of(data.as_slice());
        if actual != *expected {
            return Err(Error::Verification {
                what: format!("digest of seek chunk {number}"),
                expected: expected.to_string(),
                actual: actual.to_string(),
            });
        }
        let chunk = self.parse(number, data.as_slice())?;
        let limit = data.as_slice().len().saturating_mul(MAX_KEPT_RATIO);
        let is_small = chunk.memory() <= limit;
        let _ = kept.set(if is_small { Kept::Decoded(chunk) } else { Kept::Stored(data) });
        Ok(())
    }

    /// The checkpoint of a span, and the digest of the span's compressed bytes.
    ///
    /// # Errors
    /// `Error::NoSuchSpan`; `Error::Seek` if the chunk has not been added.
    pub fn point(&self, span_id: SpanId) -> Result<(SeekPoint, Digest)> {
        let no_such_span = || self.positions.no_such_span(span_id);
        let position = self.positions.points.get(span_id.0 as usize).ok_or_else(no_such_span)?;
        let loaded = self.load(span_id)?;
        let index = span_id.0 as usize % CHECKPOINTS_PER_CHUNK;
        let point = loaded.chunk().point(index, *position).ok_or_else(no_such_span)?;
        let point = point.map_err(in_part(checkpoint(span_id.0.into())))?;
        Ok((point, loaded.chunk().digest(index).ok_or_else(no_such_span)?))
    }

    /// Bytes of memory held by chunks.
    #[must_use]
    pub fn memory(&self) -> usize {
        let of = |kept: &Kept| match kept {
            Kept::Decoded(chunk) => chunk.memory(),
            Kept::Stored(data) => data.as_slice().len(),
        };
        self.chunks.iter().filter_map(OnceLock::get).map(of).sum()
    }

    fn load(&self, span_id: SpanId) -> Result<Loaded<'_>> {
        let number = self.chunk_of(span_id);
        let missing = || in_part(SeekPart::SeekChunk(number))(SeekError::MissingChunk);
        let kept = self.chunks.get(number as usize).and_then(OnceLock::get).ok_or_else(missing)?;
        Ok(match kept {
            Kept::Decoded(chunk) => Loaded::Kept(chunk),
            Kept::Stored(data) => Loaded::Temporary(self.parse(number, data.as_slice())?),
        })
    }

    fn parse(&self, number: u32, data: &[u8]) -> Result<Chunk> {
        let range = self.positions.chunk_points(number as usize);
        let points = self.positions.points.get(range.clone()).unwrap_or_default();
        Chunk::parse(data, number, range.start, points, self.positions.compression())
    }
}

impl Loaded<'_> {
    fn chunk(&self) -> &Chunk {
        match self {
            Self::Kept(chunk) => chunk,
            Self::Temporary(chunk) => chunk,
        }
    }
}
