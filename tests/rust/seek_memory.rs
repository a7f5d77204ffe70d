//! Reading a seek blob takes memory in proportion to its size, whatever it contains, plus a constant
//! for the largest possible chunk.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

use tocsin_core::bytes::SharedBytes;
use tocsin_core::error::Result;
use tocsin_core::seek::SeekLayer;
use tocsin_core::span::SpanId;

use crate::support::seek::{RawLayer, frame, start, stated_frame, varint};
use crate::{peak_of, take_turn};

/// Maximum number of bytes held per byte of the blob: a decompressed chunk has at most 16.
const FACTOR: usize = 20;
/// Bytes that any blob may allocate: the content of the largest chunk, the decoder's window for its
/// largest column, and the decoder's buffers.
const ALLOWANCE: usize = 12 << 20;
/// Bytes held for any blob after it was read.
const HELD_ALLOWANCE: usize = 16 << 10;

/// Reads a blob and its chunks, checks the memory that this took, and returns what they hold.
fn read(blob: &[u8]) -> Result<usize> {
    let limit = FACTOR * blob.len() + ALLOWANCE;
    let (peak, spans) = peak_of(|| SeekLayer::parse(&SharedBytes::copied(blob))?.all_spans());
    assert!(peak <= limit, "{peak} for {}: {spans:?}", blob.len());
    let spans = spans?;
    let memory = spans.memory();
    assert!(memory <= FACTOR * blob.len() + HELD_ALLOWANCE, "{memory} for {}", blob.len());
    let (peak, point) = peak_of(|| spans.point(SpanId(0)));
    assert!(peak <= limit, "{peak} for {}", blob.len());
    point.map(|_| memory)
}

#[test]
fn test_seek_blob_when_hostile_then_memory_is_bounded() {
    let _turn = take_turn();
    // Whole windows of zeros: a valid chunk of 4 KB, whose content has 2 MiB.
    let whole = vec![(start(0, 0, b""), [(0, 32_768)].as_slice()); 63];
    let raw = RawLayer::of_points(&whole);
    let blob = raw.to_bytes();
    assert!(blob.len() < 5000);
    assert!(read(&blob).unwrap() < blob.len());

    // As many runs as possible.
    let runs: Vec<_> = (0..16_384).map(|index| (2 * index, 1)).collect();
    let many = vec![(start(0, 0, b""), runs.as_slice()); 63];
    assert!(read(&RawLayer::of_points(&many).to_bytes()).is_ok());

    // Columns of the largest lengths, and one more byte, filled with anything.
    for (column, limit) in [36_416_usize, 1_048_768, 1 << 20, 2 << 20].into_iter().enumerate() {
        for (len, byte) in [(limit, 0), (limit, 1), (limit, 2), (limit + 1000, 0)] {
            let mut raw = raw.clone();
            raw.chunks[0].columns[column] = vec![byte; len];
            assert!(read(&raw.to_bytes()).is_err());
        }
    }

    // A large number of checkpoints or chunks that do not exist.
    for content in [vec![0; 1 << 20], vec![1; 1 << 20], vec![0; 64 << 20]] {
        assert!(read(&[b"TOCSINL1".as_slice(), &frame(&content)].concat()).is_err());
    }
    for count in [1 << 16, 1 << 22, 1 << 40_u64] {
        let numbers = [65_536, 64, 0, count * 125, count * 65_536, count].map(varint).concat();
        let mut head = numbers;
        head.resize(1 << 20, 0x40);
        assert!(read(&[b"TOCSINL1".as_slice(), &frame(&head)].concat()).is_err());
    }
    for len in [1 << 20, 1 << 30, u32::MAX] {
        assert!(read(&[b"TOCSINL1".as_slice(), &stated_frame(b"", len)].concat()).is_err());
    }
}
