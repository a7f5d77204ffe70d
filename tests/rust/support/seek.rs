//! Made-up checkpoints for seek blobs: valid, but not those of any layer.

use tocsin_core::checkpoint::{BlockHeader, PointStart, Run, SeekPoint, SparseWindow, WINDOW_LEN};
use tocsin_core::digest::Digest;
use tocsin_core::seek::{LayerCompression, LayerWriter, MIN_SEEK_SPAN_SIZE, SeekLayer};
use tocsin_core::span::{BitOffset, UncompressedOffset};

/// A source of numbers below a limit.
pub type Draw<'a> = dyn FnMut(u64) -> u64 + 'a;

/// A layer with `count` checkpoints (at least 1) of random kinds, and its checkpoints.
pub fn layer(count: u64, draw: &mut Draw<'_>) -> (SeekLayer, Vec<SeekPoint>) {
    let mut writer = LayerWriter::new(MIN_SEEK_SPAN_SIZE);
    let (points, compressed_size, uncompressed_size) = points(count, draw);
    for (index, point) in points.iter().enumerate() {
        writer.push_point(point.clone());
        writer.push_digest(Digest::of(&index.to_le_bytes()));
    }
    let layer = writer.finish(LayerCompression::Gzip, compressed_size, uncompressed_size);
    (layer.unwrap(), points)
}

/// Checkpoints, compressed size and uncompressed size.
pub fn points(count: u64, draw: &mut Draw<'_>) -> (Vec<SeekPoint>, u64, u64) {
    let mut points = Vec::new();
    let (mut uncompressed, mut bits) = (0, 0);
    for index in 0..count {
        let (start, window) = match (index, draw(5)) {
            (0, _) | (_, 4) => (PointStart::Member, SparseWindow::default()),
            (_, 0) => (PointStart::Block, window(uncompressed, draw)),
            (_, 1) => {
                let (remaining, last) = (1 + draw(65_535) as u16, draw(2) == 1);
                (PointStart::Stored { remaining, last }, window(uncompressed, draw))
            }
            _ => (PointStart::Huffman(header(draw)), window(uncompressed, draw)),
        };
        if matches!(start, PointStart::Member | PointStart::Stored { .. }) {
            bits = u64::next_multiple_of(bits, 8);
        }
        let position = BitOffset(bits);
        points.push(SeekPoint {
            uncompressed: UncompressedOffset(uncompressed),
            position,
            start,
            window,
        });
        uncompressed += 1 + draw(MIN_SEEK_SPAN_SIZE / 4 * 5);
        bits += 8 + draw(1 << 20);
    }
    (points, bits.div_ceil(8), uncompressed)
}

fn header(draw: &mut Draw<'_>) -> BlockHeader {
    if draw(8) == 0 {
        return BlockHeader { bytes: [0b010 | draw(2) as u8].into(), len: 3 };
    }
    let len = 29 + draw(1000) as u16;
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).map(|_| draw(256) as u8).collect();
    bytes[0] = bytes[0] & !0b110 | 0b100;
    if !len.is_multiple_of(8) {
        *bytes.last_mut().unwrap() &= (1 << (len % 8)) - 1;
    }
    BlockHeader { bytes: bytes.into(), len }
}

/// A window for a checkpoint with `before` bytes before it.
fn window(before: u64, draw: &mut Draw<'_>) -> SparseWindow {
    let first = WINDOW_LEN - (before as usize).min(WINDOW_LEN);
    let (mut runs, mut bytes) = (Vec::new(), Vec::new());
    let mut at = first + draw(2) as usize * draw(1000) as usize;
    for _ in 0..draw(40) {
        let len = match draw(16) {
            0 => 1 + draw(WINDOW_LEN as u64) as usize,
            _ => 1 + draw(12) as usize,
        };
        if at + len > WINDOW_LEN {
            break;
        }
        runs.push(Run { start: at as u16, len: len as u16 });
        bytes.extend((0..len).map(|_| draw(256) as u8));
        at += len + 1 + draw(300) as usize;
    }
    SparseWindow { runs: runs.into(), bytes: bytes.into() }
}

/// A generator of numbers below a limit, which are the same in every run.
pub fn numbers(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |limit| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % limit
    }
}

/// A seek blob field by field, which may break any rule.
#[derive(Debug, Clone)]
pub struct RawLayer {
    pub magic: [u8; 8],
    /// Span size, checkpoints in a chunk, compression, compressed size, uncompressed size, span
    /// count.
    pub numbers: [u64; 6],
    /// Uncompressed bytes and compressed bits since the previous checkpoint.
    pub deltas: Vec<(u64, u64)>,
    pub chunks: Vec<RawChunk>,
}

/// What starts at a checkpoint, as it is stored, and runs (start and length).
pub type RawPoint<'a> = (Vec<u8>, &'a [(u64, u64)]);

/// A seek chunk, field by field.
#[derive(Debug, Clone, Default)]
pub struct RawChunk {
    pub columns: [Vec<u8>; 4],
    pub digests: Vec<u8>,
}

impl RawLayer {
    /// A gzip layer whose checkpoints are 65,536 bytes and 1,000 bits apart, with these columns.
    pub fn of_columns(count: u64, columns: [Vec<u8>; 4]) -> Self {
        let deltas = (0..count).map(|index| if index == 0 { (0, 0) } else { (65_536, 1000) });
        let digests = vec![0; 32 * count as usize];
        Self {
            magic: *b"TOCSINL1",
            numbers: [65_536, 64, 0, count * 125, count * 65_536, count],
            deltas: deltas.collect(),
            chunks: vec![RawChunk { columns, digests }],
        }
    }

    /// A gzip layer with a member, then checkpoints with these starts and runs of zeros.
    pub fn of_points(points: &[RawPoint<'_>]) -> Self {
        let mut columns = [varint(3), varint(0), Vec::new(), Vec::new()];
        for (start, runs) in points {
            columns[0].extend_from_slice(start);
            columns[1].extend(varint(runs.len() as u64));
            let mut end = 0;
            for (start, len) in *runs {
                columns[1].extend(varint(start.wrapping_sub(end)));
                columns[2].extend(varint(len - 1));
                columns[3].resize(columns[3].len() + *len as usize, 0);
                end = start + len;
            }
        }
        Self::of_columns(points.len() as u64 + 1, columns)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let chunks: Vec<_> = self.chunks.iter().map(RawChunk::to_bytes).collect();
        let mut head: Vec<u8> = self.numbers.iter().flat_map(|number| varint(*number)).collect();
        head.extend(chunks.iter().flat_map(|chunk| varint(chunk.len() as u64)));
        for (uncompressed, bits) in &self.deltas {
            head.extend(varint(*uncompressed));
            head.extend(varint(*bits));
        }
        let parts = [self.magic.to_vec(), frame(&head)];
        parts.into_iter().chain(chunks).collect::<Vec<_>>().concat()
    }
}

impl RawChunk {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.columns.iter().flat_map(|column| frame(column)).collect();
        bytes.extend_from_slice(&self.digests);
        bytes
    }
}

/// An unsigned LEB128 number.
pub fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// Both lengths, and a zstd frame.
pub fn frame(content: &[u8]) -> Vec<u8> {
    stated_frame(content, content.len() as u32)
}

/// Like `frame`, but states any length of the content.
pub fn stated_frame(content: &[u8], len: u32) -> Vec<u8> {
    let stored = zstd::bulk::compress(content, 3).unwrap();
    [&(stored.len() as u32).to_le_bytes(), &len.to_le_bytes(), stored.as_slice()].concat()
}

/// What starts at a checkpoint, as the first column stores it.
pub fn start(kind: u64, value: u64, header: &[u8]) -> Vec<u8> {
    let mut bytes = varint(value << 2 | kind);
    bytes.extend_from_slice(header);
    bytes
}
