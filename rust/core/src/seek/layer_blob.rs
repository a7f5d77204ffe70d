//! The seek blob of a layer: a head with the positions of all checkpoints, then the seek chunks.

use std::ops::Range;

use super::chunk::{ChunkWriter, DIGEST_LEN};
use super::positions::{LayerSizes, Position, check_span_size, checkpoint};
use super::wire::{Compressor, Reader, len32, put_varint};
use super::{CHECKPOINTS_PER_CHUNK, LayerCompression, MAX_SPANS, Positions, SeekSpans, in_part};
use crate::bytes::SharedBytes;
use crate::checkpoint::{PointStart, SeekPoint, SparseWindow};
use crate::digest::Digest;
use crate::error::{Result, SeekError, SeekPart};
use crate::span::{BitOffset, UncompressedOffset};

const MAGIC: [u8; 8] = *b"TOCSINL1";
/// Length in bytes that the decompressed head of any blob may have. In large blobs it may be longer,
/// but never longer than the rest of the blob: the digests alone take more bytes than the head.
const MAX_SMALL_HEAD_LEN: u64 = 1 << 20;
/// Compression level of the head.
const LEVEL: i32 = 19;

/// Writes the seek blob of a layer while the layer is being indexed.
///
/// Checkpoints are compressed 64 at a time, so that few of them are held in memory. Errors are
/// returned by [`Self::finish`].
#[derive(Debug)]
pub struct LayerWriter {
    span_size: u64,
    points: Vec<Position>,
    /// The columns of each complete chunk, compressed.
    columns: Vec<Vec<u8>>,
    digests: Vec<Digest>,
    /// The first error, after which nothing more is collected.
    state: Result<ChunkWriter>,
}

impl LayerWriter {
    /// A writer for a layer with a checkpoint about every `span_size` uncompressed bytes.
    #[must_use]
    pub fn new(span_size: u64) -> Self {
        let check = check_span_size(span_size);
        let state = check.and_then(|()| ChunkWriter::new()).map_err(in_part(SeekPart::LayerHead));
        Self { span_size, points: Vec::new(), columns: Vec::new(), digests: Vec::new(), state }
    }

    /// Adds the next checkpoint.
    ///
    /// Not needed for a plain tar, whose checkpoints follow from its size.
    #[allow(clippy::needless_pass_by_value, reason = "the caller has no use for it afterwards")]
    pub fn push_point(&mut self, point: SeekPoint) {
        let Ok(chunk) = &mut self.state else { return };
        let part = checkpoint(self.points.len() as u64);
        let outcome = chunk.push(&point);
        let position = Position { uncompressed: point.uncompressed.0, bits: point.position.0 };
        self.points.push(position);
        let outcome = outcome.map_err(in_part(part)).and_then(|()| {
            if self.points.len().is_multiple_of(CHECKPOINTS_PER_CHUNK) {
                self.columns.push(finish_chunk(chunk, self.columns.len())?);
            }
            Ok(())
        });
        if let Err(error) = outcome {
            self.state = Err(error);
        }
    }

    /// Adds the digest of the next span's compressed bytes. Digests may lag behind checkpoints.
    pub fn push_digest(&mut self, digest: Digest) {
        self.digests.push(digest);
    }

    /// The number of checkpoints so far.
    #[must_use]
    pub fn point_count(&self) -> usize {
        self.points.len()
    }

    /// Memory held in bytes, not counting the compressor's.
    #[must_use]
    pub fn memory(&self) -> usize {
        let columns: usize = self.columns.iter().map(Vec::capacity).sum();
        columns
            + self.points.capacity() * size_of::<Position>()
            + self.digests.capacity() * size_of::<Digest>()
    }

    /// Returns the blob of a layer with these sizes. The uncompressed size is that up to the end of
    /// the stream.
    ///
    /// # Errors
    /// `Error::Seek` if a checkpoint that was added breaks a rule of the format, checkpoints and
    /// digests differ in number, or the layer has too many.
    pub fn finish(
        mut self,
        compression: LayerCompression,
        compressed_size: u64,
        uncompressed_size: u64,
    ) -> Result<SeekLayer> {
        if compression == LayerCompression::Tar && self.points.is_empty() {
            self.push_tar(uncompressed_size);
        }
        let Self { span_size, points, mut columns, digests, state } = self;
        let mut chunk = state?;
        if !points.len().is_multiple_of(CHECKPOINTS_PER_CHUNK) {
            columns.push(finish_chunk(&mut chunk, columns.len())?);
        }
        let in_head = in_part(SeekPart::LayerHead);
        if digests.len() != points.len() {
            let (what, value) = ("number of span digests", digests.len() as u64);
            return Err(in_head(SeekError::Value { what, value }));
        }
        let span_count = points.len() as u64;
        let layer =
            LayerSizes { span_size, compression, compressed_size, uncompressed_size, span_count };
        let positions = Positions::new(layer, points, SeekPart::LayerHead)?;

        let mut chunks = columns;
        for (chunk, digests) in chunks.iter_mut().zip(digests.chunks(CHECKPOINTS_PER_CHUNK)) {
            chunk.extend(digests.iter().flat_map(Digest::as_bytes));
        }
        write(positions, &chunks).map_err(in_head)
    }

    /// Adds the checkpoints of a plain tar.
    fn push_tar(&mut self, size: u64) {
        // One above the maximum is enough for `finish` to fail.
        for index in 0..size.div_ceil(self.span_size.max(1)).min(MAX_SPANS + 1) {
            let uncompressed = UncompressedOffset(index * self.span_size);
            self.push_point(SeekPoint {
                uncompressed,
                position: BitOffset(uncompressed.0 * 8),
                start: PointStart::Block,
                window: SparseWindow::default(),
            });
        }
    }
}

fn finish_chunk(chunk: &mut ChunkWriter, number: usize) -> Result<Vec<u8>> {
    let part = SeekPart::SeekChunk(u32::try_from(number).unwrap_or(u32::MAX));
    chunk.finish_columns().map_err(in_part(part))
}

fn write(positions: Positions, chunks: &[Vec<u8>]) -> std::result::Result<SeekLayer, SeekError> {
    let mut content = Vec::new();
    let LayerSizes { span_size, compression, compressed_size, uncompressed_size, span_count } =
        positions.layer;
    for number in [
        span_size,
        CHECKPOINTS_PER_CHUNK as u64,
        compression.code(),
        compressed_size,
        uncompressed_size,
        span_count,
    ] {
        put_varint(&mut content, number);
    }
    for chunk in chunks {
        put_varint(&mut content, len32(chunk.len())?.into());
    }
    positions.write(&mut content);

    let mut blob = MAGIC.to_vec();
    Compressor::new(LEVEL)?.put_frame(&mut blob, &content)?;
    let head_len = blob.len();
    let mut ends = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        blob.extend_from_slice(chunk);
        ends.push(blob.len());
    }
    let (blob, ends) = (SharedBytes::new(blob), ends.into());
    Ok(SeekLayer { blob, head_len, ends, positions })
}

/// The seek blob of a layer, whose head has been checked.
#[derive(Debug, Clone)]
pub struct SeekLayer {
    blob: SharedBytes,
    head_len: usize,
    /// Where each chunk ends in the blob.
    ends: Box<[usize]>,
    positions: Positions,
}

impl PartialEq for SeekLayer {
    /// Everything else follows from the blob.
    fn eq(&self, other: &Self) -> bool {
        self.blob() == other.blob()
    }
}

impl Eq for SeekLayer {}

impl SeekLayer {
    /// Reads a blob and checks its head. Chunks are checked when they are used, see
    /// [`SeekSpans::add_chunk`].
    ///
    /// # Errors
    /// `Error::Seek` if the head is invalid.
    pub fn parse(blob: &SharedBytes) -> Result<Self> {
        let in_head = in_part(SeekPart::LayerHead);
        let mut reader = Reader::new(blob.as_slice());
        let content = read_head(&mut reader).map_err(&in_head)?;
        let head_len = reader.position();
        let mut head = Reader::new(&content);
        let layer = read_sizes(&mut head).map_err(&in_head)?;
        let ends = read_chunk_ends(&layer, &mut head, &mut reader, head_len).map_err(&in_head)?;
        // All chunks are complete, so the blob has at least 32 bytes for each checkpoint.
        let positions = Positions::read(layer, &mut head, SeekPart::LayerHead)?;
        head.finish().map_err(&in_head)?;
        Ok(Self { blob: blob.clone(), head_len, ends, positions })
    }

    /// The blob of a layer without spans, which is read in full.
    ///
    /// # Errors
    /// `Error::Seek` if a number is out of range.
    pub fn whole(
        compression: LayerCompression,
        compressed_size: u64,
        uncompressed_size: u64,
        span_size: u64,
    ) -> Result<Self> {
        LayerWriter::new(span_size).finish(compression, compressed_size, uncompressed_size)
    }

    /// The bytes of the blob.
    #[must_use]
    pub fn blob(&self) -> &[u8] {
        self.blob.as_slice()
    }

    /// The number of bytes before the first chunk.
    #[must_use]
    pub const fn head_len(&self) -> usize {
        self.head_len
    }

    /// The sizes of the layer and the positions of its checkpoints.
    #[must_use]
    pub const fn positions(&self) -> &Positions {
        &self.positions
    }

    /// The distance between checkpoints in uncompressed bytes.
    #[must_use]
    pub const fn span_size(&self) -> u64 {
        self.positions.span_size()
    }

    /// The number of spans.
    #[must_use]
    pub const fn span_count(&self) -> u64 {
        self.positions.span_count()
    }

    /// The number of chunks.
    #[must_use]
    pub fn chunk_count(&self) -> usize {
        self.ends.len()
    }

    /// Where a chunk is in the blob.
    #[must_use]
    pub fn chunk_range(&self, chunk: usize) -> Option<Range<usize>> {
        let end = *self.ends.get(chunk)?;
        let start = chunk
            .checked_sub(1)
            .map_or(Some(self.head_len), |before| self.ends.get(before).copied())?;
        Some(start..end)
    }

    /// The bytes of a chunk.
    #[must_use]
    pub fn chunk(&self, chunk: usize) -> Option<&[u8]> {
        self.blob().get(self.chunk_range(chunk)?)
    }

    /// The digest of each chunk.
    pub fn chunk_digests(&self) -> impl Iterator<Item = Digest> + '_ {
        (0..self.chunk_count()).filter_map(|chunk| self.chunk(chunk)).map(Digest::of)
    }

    /// The spans of the layer, without any chunk.
    #[must_use]
    pub fn spans(&self) -> SeekSpans {
        SeekSpans::new(self.positions.clone(), self.chunk_digests().collect())
    }

    /// The spans of the layer, with all chunks.
    ///
    /// # Errors
    /// `Error::Seek` if a chunk is invalid.
    pub fn all_spans(&self) -> Result<SeekSpans> {
        let spans = self.spans();
        for number in 0..self.chunk_count() {
            let data = self.chunk(number).unwrap_or_default();
            spans
                .add_chunk(u32::try_from(number).unwrap_or(u32::MAX), SharedBytes::copied(data))?;
        }
        Ok(spans)
    }
}

/// Reads the magic number and the frame of a head.
fn read_head(reader: &mut Reader<'_>) -> std::result::Result<Vec<u8>, SeekError> {
    if *reader.array::<8>("the magic number")? != MAGIC {
        return Err(SeekError::Magic);
    }
    let limit = MAX_SMALL_HEAD_LEN.max(reader.remaining() as u64);
    reader.frame(limit, "the head")
}

/// Reads the numbers at the start of a head.
fn read_sizes(head: &mut Reader<'_>) -> std::result::Result<LayerSizes, SeekError> {
    let span_size = head.varint("the span size")?;
    let (what, value) = ("number of checkpoints in a chunk", head.varint("the chunk size")?);
    if value != CHECKPOINTS_PER_CHUNK as u64 {
        return Err(SeekError::Value { what, value });
    }
    let layer = LayerSizes {
        span_size,
        compression: LayerCompression::from_code(head.varint("the compression")?)?,
        compressed_size: head.varint("the compressed size")?,
        uncompressed_size: head.varint("the uncompressed size")?,
        span_count: head.varint("the span count")?,
    };
    layer.check()?;
    Ok(layer)
}

/// Reads the length of each chunk from the head, and checks that `chunks` has exactly these chunks.
fn read_chunk_ends(
    layer: &LayerSizes,
    head: &mut Reader<'_>,
    chunks: &mut Reader<'_>,
    head_len: usize,
) -> std::result::Result<Box<[usize]>, SeekError> {
    let mut ends = Vec::with_capacity(layer.chunk_count().min(head.remaining()));
    let mut left = layer.span_count;
    let mut end = head_len;
    while left > 0 {
        let count = left.min(CHECKPOINTS_PER_CHUNK as u64);
        let (what, value) = ("length of a chunk", head.varint("the length of a chunk")?);
        if value < count * DIGEST_LEN as u64 {
            return Err(SeekError::Value { what, value });
        }
        let len = usize::try_from(value).unwrap_or(usize::MAX);
        end += chunks.bytes(len, "a chunk")?.len();
        ends.push(end);
        left -= count;
    }
    chunks.finish()?;
    Ok(ends.into())
}
