//! A seek chunk: what it takes to start at each of up to 64 checkpoints, in four columns, and the
//! digests of their spans.

use zstd::zstd_safe::{CParameter, Strategy};

use super::positions::{Position, checkpoint};
use super::wire::{Compressor, Reader, put_varint};
use super::{CHECKPOINTS_PER_CHUNK, LayerCompression, in_part};
use crate::checkpoint::{BlockHeader, PointStart, Run, SeekPoint, SparseWindow, WINDOW_LEN};
use crate::digest::Digest;
use crate::error::{Result, SeekError, SeekPart};
use crate::span::{BitOffset, UncompressedOffset};

/// Maximum number of runs in a window: no two are adjacent.
const MAX_RUNS: usize = WINDOW_LEN / 2;
/// Number of bits in the header of a block with fixed codes: BFINAL and BTYPE (RFC 1951 §3.2.3).
const FIXED_HEADER_BITS: u16 = 3;
/// Fewest bits in the header of a block with dynamic codes: HLIT, HDIST, HCLEN and four lengths of
/// three bits follow (§3.2.7).
const MIN_DYNAMIC_HEADER_BITS: u16 = FIXED_HEADER_BITS + 14 + 4 * 3;
/// Most bits: 19 lengths of three bits, then 286 + 32 lengths in codes of at most 7 bits, with at
/// most 7 extra bits each.
const MAX_DYNAMIC_HEADER_BITS: u16 = FIXED_HEADER_BITS + 14 + 19 * 3 + (286 + 32) * 14;
/// BTYPE of blocks with fixed and with dynamic codes.
const FIXED: u8 = 1;
const DYNAMIC: u8 = 2;

/// Kinds of start, in the low two bits of a number in the starts column.
const BLOCK: u64 = 0;
const HUFFMAN: u64 = 1;
const STORED: u64 = 2;
const MEMBER: u64 = 3;

const COLUMN_COUNT: usize = 4;
/// Names of the columns, for errors.
const COLUMNS: [&str; COLUMN_COUNT] =
    ["the starts column", "the gaps column", "the lengths column", "the window column"];
/// Maximum length of each column. Starts: a header for each checkpoint. Gaps and lengths: the maximum
/// number of runs, one byte each, since a gap or run that needs a second byte leaves room for fewer.
/// Window: whole windows.
#[allow(clippy::cast_possible_truncation, reason = "small constants")]
const MAX_COLUMN_LENS: [u64; COLUMN_COUNT] = {
    let count = CHECKPOINTS_PER_CHUNK as u64;
    let starts = 3 + MAX_DYNAMIC_HEADER_BITS.div_ceil(8) as u64;
    [
        count * starts,
        count * (3 + MAX_RUNS as u64),
        count * MAX_RUNS as u64,
        count * WINDOW_LEN as u64,
    ]
};
/// Length of a stored digest.
pub(super) const DIGEST_LEN: usize = 32;

/// Compression of the columns, which are compressed while the layer is indexed. For the windows of
/// node_modules, level 10 itself takes half as long again and 0.5 % less space, level 6 a quarter less
/// time and 2 % more space.
const BYTES_LEVEL: i32 = 10;
const BYTES_PARAMETERS: [CParameter; 3] =
    [CParameter::Strategy(Strategy::ZSTD_lazy), CParameter::SearchLog(5), CParameter::MinMatch(4)];
/// Compression of the gaps and lengths. Most matches among such numbers cost more than they save, so
/// looking for only the longest takes less space than any level up to 10.
const NUMBERS_LEVEL: i32 = 1;
const NUMBERS_PARAMETERS: [CParameter; 1] = [CParameter::MinMatch(7)];

/// Collects the columns of the chunk that is being written.
#[derive(Debug)]
pub(super) struct ChunkWriter {
    columns: [Vec<u8>; COLUMN_COUNT],
    bytes: Compressor,
    numbers: Compressor,
}

impl ChunkWriter {
    pub(super) fn new() -> std::result::Result<Self, SeekError> {
        Ok(Self {
            columns: Default::default(),
            bytes: Compressor::with(BYTES_LEVEL, &BYTES_PARAMETERS)?,
            numbers: Compressor::with(NUMBERS_LEVEL, &NUMBERS_PARAMETERS)?,
        })
    }

    /// Adds a checkpoint.
    pub(super) fn push(&mut self, point: &SeekPoint) -> std::result::Result<(), SeekError> {
        check_point(point)?;
        let [starts, gaps, lens, bytes] = &mut self.columns;
        match &point.start {
            PointStart::Block => put_varint(starts, BLOCK),
            PointStart::Huffman(header) => {
                put_varint(starts, u64::from(header.len) << 2 | HUFFMAN);
                starts.extend_from_slice(&header.bytes);
            }
            PointStart::Stored { remaining, last } => {
                let left = u64::from(*remaining) << 1 | u64::from(*last);
                put_varint(starts, left << 2 | STORED);
            }
            PointStart::Member => put_varint(starts, MEMBER),
        }
        put_varint(gaps, point.window.runs.len() as u64);
        let mut end = 0;
        for run in &point.window.runs {
            put_varint(gaps, u64::from(run.start) - end);
            put_varint(lens, u64::from(run.len) - 1);
            end = u64::from(run.start) + u64::from(run.len);
        }
        bytes.extend_from_slice(&point.window.bytes);
        Ok(())
    }

    /// The compressed columns of all checkpoints since the last call. Digests follow them.
    pub(super) fn finish_columns(&mut self) -> std::result::Result<Vec<u8>, SeekError> {
        let mut chunk = Vec::new();
        let [starts, gaps, lens, bytes] = &self.columns;
        self.bytes.put_frame(&mut chunk, starts)?;
        self.numbers.put_frame(&mut chunk, gaps)?;
        self.numbers.put_frame(&mut chunk, lens)?;
        self.bytes.put_frame(&mut chunk, bytes)?;
        self.columns.iter_mut().for_each(Vec::clear);
        Ok(chunk)
    }
}

/// A chunk that has been checked.
#[derive(Debug)]
pub(super) struct Chunk {
    columns: [Box<[u8]>; COLUMN_COUNT],
    /// Where each checkpoint begins in each column.
    places: Box<[[u32; COLUMN_COUNT]]>,
    digests: Box<[Digest]>,
}

impl Chunk {
    /// Reads a chunk and checks everything in it against the positions of its checkpoints, the first
    /// of which has the number `first`.
    pub(super) fn parse(
        data: &[u8],
        number: u32,
        first: usize,
        points: &[Position],
        compression: LayerCompression,
    ) -> Result<Self> {
        let in_chunk = in_part(SeekPart::SeekChunk(number));
        let mut reader = Reader::new(data);
        let mut columns: [Box<[u8]>; COLUMN_COUNT] = Default::default();
        for ((column, name), limit) in columns.iter_mut().zip(COLUMNS).zip(MAX_COLUMN_LENS) {
            *column = reader.frame(limit, name).map_err(&in_chunk)?.into();
        }
        let digests: std::result::Result<_, SeekError> =
            points.iter().map(|_| reader.digest("the digest of a span")).collect();
        let digests = digests.map_err(&in_chunk)?;
        reader.finish().map_err(&in_chunk)?;

        let mut cursors = columns.each_ref().map(|column| Reader::new(column));
        let mut places = Vec::with_capacity(points.len());
        for (index, position) in (first as u64..).zip(points) {
            #[allow(clippy::cast_possible_truncation, reason = "columns have at most 2 MiB")]
            places.push(cursors.each_ref().map(|cursor| cursor.position() as u32));
            let in_point = in_part(checkpoint(index));
            let point = read_point(&mut cursors, *position).map_err(&in_point)?;
            let is_plain = point.start == PointStart::Block && point.window.runs.is_empty();
            if compression == LayerCompression::Tar && !is_plain {
                let (what, value) = ("window in a plain tar", point.window.bytes.len() as u64);
                return Err(in_point(SeekError::Value { what, value }));
            }
        }
        cursors.iter().try_for_each(Reader::finish).map_err(&in_chunk)?;
        let places = places.into();
        Ok(Self { columns, places, digests })
    }

    /// The digest of a span. `index` counts from the first span of the chunk.
    pub(super) fn digest(&self, index: usize) -> Option<Digest> {
        self.digests.get(index).copied()
    }

    /// A checkpoint. `index` counts from the first checkpoint of the chunk.
    pub(super) fn point(
        &self,
        index: usize,
        position: Position,
    ) -> Option<std::result::Result<SeekPoint, SeekError>> {
        let places = self.places.get(index)?;
        let mut cursors = self.columns.each_ref().map(|_| Reader::new(&[]));
        for ((cursor, column), place) in cursors.iter_mut().zip(&self.columns).zip(places) {
            *cursor = Reader::new(column.get(*place as usize..)?);
        }
        Some(read_point(&mut cursors, position))
    }

    /// Bytes of memory held.
    pub(super) fn memory(&self) -> usize {
        let columns: usize = self.columns.iter().map(|column| column.len()).sum();
        columns + size_of_val::<[_]>(&self.places) + size_of_val::<[_]>(&self.digests)
    }
}

/// Reads the next checkpoint from the columns.
fn read_point(
    [starts, gaps, lens, bytes]: &mut [Reader<'_>; COLUMN_COUNT],
    position: Position,
) -> std::result::Result<SeekPoint, SeekError> {
    let start = read_start(starts)?;
    let [_, in_gaps, in_lens, in_bytes] = COLUMNS;
    let count = gaps.varint_to(MAX_RUNS as u64, "number of runs in a window")?;
    // Each run takes a byte or more in its column.
    let mut runs = Vec::with_capacity(usize::try_from(count).unwrap_or(0).min(lens.remaining()));
    let (mut end, mut total) = (0_u64, 0_usize);
    for index in 0..count {
        let room = WINDOW_LEN as u64 - end;
        let gap = gaps.varint_to(room, in_gaps)?;
        if gap == 0 && index > 0 {
            return Err(SeekError::Order("runs of a window"));
        }
        let len = lens.varint_to(room - gap, in_lens)? + 1;
        let run = (u16::try_from(end + gap), u16::try_from(len));
        let (Ok(run_start), Ok(run_len)) = run else {
            return Err(past_window(end + gap + len));
        };
        runs.push(Run { start: run_start, len: run_len });
        end += gap + len;
        if end > WINDOW_LEN as u64 {
            return Err(past_window(end));
        }
        total += usize::from(run_len);
    }
    let window = SparseWindow { runs: runs.into(), bytes: bytes.bytes(total, in_bytes)?.into() };
    let uncompressed = UncompressedOffset(position.uncompressed);
    let point = SeekPoint { uncompressed, position: BitOffset(position.bits), start, window };
    check_point(&point)?;
    Ok(point)
}

fn read_start(starts: &mut Reader<'_>) -> std::result::Result<PointStart, SeekError> {
    let [in_starts, ..] = COLUMNS;
    let number = starts.varint(in_starts)?;
    let (kind, value) = (number & 3, number >> 2);
    match kind {
        HUFFMAN => {
            let what = "number of bits in a block header";
            let limit = u64::from(MAX_DYNAMIC_HEADER_BITS);
            let too_large = SeekError::TooLarge { what, value, limit };
            let len = u16::try_from(value).map_err(|_| too_large.clone())?;
            if len > MAX_DYNAMIC_HEADER_BITS {
                return Err(too_large);
            }
            let bytes = starts.bytes(usize::from(len.div_ceil(8)), in_starts)?.into();
            Ok(PointStart::Huffman(BlockHeader { bytes, len }))
        }
        STORED => {
            let (what, limit) = ("length of a stored block", u64::from(u16::MAX));
            let remaining = u16::try_from(value >> 1);
            let remaining =
                remaining.map_err(|_| SeekError::TooLarge { what, value: value >> 1, limit })?;
            Ok(PointStart::Stored { remaining, last: value & 1 != 0 })
        }
        BLOCK if value == 0 => Ok(PointStart::Block),
        MEMBER if value == 0 => Ok(PointStart::Member),
        _ => Err(SeekError::Value { what: "start of a checkpoint", value: number }),
    }
}

const fn past_window(value: u64) -> SeekError {
    SeekError::TooLarge { what: "end of a run in a window", value, limit: WINDOW_LEN as u64 }
}

/// Checks the rules for one checkpoint, both before writing and after reading.
fn check_point(point: &SeekPoint) -> std::result::Result<(), SeekError> {
    let is_aligned = point.position.bit_in_byte() == 0;
    let bits = u64::from(point.position.bit_in_byte());
    match &point.start {
        PointStart::Huffman(header) => check_header(header)?,
        PointStart::Stored { remaining: 0, .. } => {
            return Err(SeekError::Value { what: "length of a stored block", value: 0 });
        }
        PointStart::Stored { .. } | PointStart::Member if !is_aligned => {
            return Err(SeekError::Value {
                what: "bit offset of a byte-aligned checkpoint",
                value: bits,
            });
        }
        PointStart::Stored { .. } | PointStart::Member | PointStart::Block => {}
    }
    let SparseWindow { runs, bytes } = &point.window;
    if point.start == PointStart::Member
        && let Some(run) = runs.first()
    {
        return Err(SeekError::Value { what: "window of a member", value: run.len.into() });
    }
    let mut end = None;
    let mut total = 0;
    for run in runs {
        let start = usize::from(run.start);
        if run.len == 0 || end.is_some_and(|end| start <= end) {
            return Err(SeekError::Order("runs of a window"));
        }
        let run_end = start + usize::from(run.len);
        if run_end > WINDOW_LEN {
            return Err(past_window(run_end as u64));
        }
        end = Some(run_end);
        total += usize::from(run.len);
    }
    if total != bytes.len() {
        return Err(SeekError::Value { what: "number of window bytes", value: bytes.len() as u64 });
    }
    // Nothing comes before the start of the layer.
    let known = usize::try_from(point.uncompressed.0).unwrap_or(usize::MAX).min(WINDOW_LEN);
    match runs.first() {
        Some(run) if usize::from(run.start) < WINDOW_LEN - known => {
            let (what, value) = ("run before the start of the layer", u64::from(run.start));
            Err(SeekError::Value { what, value })
        }
        _ => Ok(()),
    }
}

/// Checks what can be checked without decoding: type, length and unused bits.
fn check_header(header: &BlockHeader) -> std::result::Result<(), SeekError> {
    let BlockHeader { bytes, len } = header;
    let block_type = bytes.first().map_or(0, |byte| byte >> 1 & 3);
    let is_possible = match block_type {
        FIXED => *len == FIXED_HEADER_BITS,
        DYNAMIC => (MIN_DYNAMIC_HEADER_BITS..=MAX_DYNAMIC_HEADER_BITS).contains(len),
        _ => false,
    };
    if !is_possible || bytes.len() != usize::from(len.div_ceil(8)) {
        let (what, value) = ("number of bits in a block header", u64::from(*len));
        return Err(SeekError::Value { what, value });
    }
    match bytes.last() {
        Some(last) if len % 8 != 0 && last >> (len % 8) != 0 => {
            Err(SeekError::Value { what: "unused bits of a block header", value: (*last).into() })
        }
        _ => Ok(()),
    }
}
