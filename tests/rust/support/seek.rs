//! Checkpoints for seek blobs, valid but made up: they belong to no layer.

use tocsin_core::checkpoint::{BlockHeader, PointStart, Run, SeekPoint, SparseWindow, WINDOW_LEN};
use tocsin_core::digest::Digest;
use tocsin_core::seek::{LayerCompression, LayerWriter, MIN_SEEK_SPAN_SIZE, SeekLayer};
use tocsin_core::span::{BitOffset, UncompressedOffset};

/// A source of numbers below a limit.
pub type Draw<'a> = dyn FnMut(u64) -> u64 + 'a;

/// A layer with `count` checkpoints of every kind, at least 1, and its checkpoints.
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

/// Numbers below a limit from a seed, the same at every run.
pub fn numbers(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |limit| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % limit
    }
}
