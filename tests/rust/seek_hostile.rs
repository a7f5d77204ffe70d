//! Seek blobs that break a rule: the error names the rule and the part, and nothing panics.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test may stop at once")]
#![allow(clippy::cast_possible_truncation, reason = "test data is small")]

use crate::support::seek::{RawLayer, frame, layer, numbers, start, stated_frame, varint};
use proptest::prelude::*;
use tocsin_core::bytes::SharedBytes;
use tocsin_core::error::{Error, SeekError, SeekPart};
use tocsin_core::seek::{SeekLayer, SeekSpans};

const BLOCK: u64 = 0;
const HUFFMAN: u64 = 1;
const STORED: u64 = 2;
const MEMBER: u64 = 3;
/// Offset of the byte after a window.
const END: u64 = 32_768;

/// Reads a blob and all its chunks.
fn read(blob: &[u8]) -> Result<SeekSpans, Error> {
    let spans = SeekLayer::parse(&SharedBytes::copied(blob))?.all_spans()?;
    for span_id in 0..spans.positions().span_count() as u32 {
        spans.point(tocsin_core::span::SpanId(span_id)).unwrap();
    }
    Ok(spans)
}

fn kind_and_part(blob: &[u8]) -> (SeekError, SeekPart) {
    match read(blob).unwrap_err() {
        Error::Seek { kind, part } => (kind, part),
        error => panic!("{error}"),
    }
}

/// Reads a layer with a member and one more checkpoint, and checks the error about the latter.
fn assert_point(start: Vec<u8>, runs: &[(u64, u64)], kind: SeekError) {
    let blob = RawLayer::of_points(&[(start, runs)]).to_bytes();
    assert_eq!(kind_and_part(&blob), (kind, SeekPart::Checkpoint(1)));
}

fn value(what: &'static str, value: u64) -> SeekError {
    SeekError::Value { what, value }
}

fn too_large(what: &'static str, value: u64, limit: u64) -> SeekError {
    SeekError::TooLarge { what, value, limit }
}

#[test]
fn parse_when_columns_are_made_by_hand_then_accepted() {
    let dynamic = start(HUFFMAN, 29, &[0b100, 0, 0, 0]);
    let raw = RawLayer::of_points(&[
        (start(BLOCK, 0, b""), &[(0, 32_768)]),
        (start(HUFFMAN, 3, &[0b010]), &[(0, 1), (2, 1), (32_767, 1)]),
        (dynamic, &[]),
        (start(HUFFMAN, 3, &[0b011]), &[]),
    ]);
    read(&raw.to_bytes()).unwrap();
}

#[test]
fn parse_when_blob_is_cut_anywhere_then_error() {
    for count in [1, 3] {
        let (layer, _) = layer(count, &mut numbers(count));
        for cut in 0..layer.blob().len() {
            let error = SeekLayer::parse(&SharedBytes::copied(&layer.blob()[..cut])).unwrap_err();
            assert_eq!(error.code(), "seek.truncated", "{cut} of {}", layer.blob().len());
        }
        let longer = [layer.blob(), &[0]].concat();
        let error = (SeekError::TrailingBytes(1), SeekPart::LayerHead);
        assert_eq!(kind_and_part(&longer), error);
        for chunk in 0..layer.chunk_count() {
            let data = layer.chunk(chunk).unwrap();
            for cut in 0..data.len() {
                check_chunk(&layer, chunk, &data[..cut], true);
            }
        }
    }
}

/// Adds changed bytes as a chunk, with their own digest.
fn check_chunk(layer: &SeekLayer, chunk: usize, data: &[u8], must_fail: bool) {
    let digests = (0..layer.chunk_count()).map(|_| tocsin_core::digest::Digest::of(data));
    let spans = SeekSpans::new(layer.positions().clone(), digests.collect());
    match spans.add_chunk(chunk as u32, SharedBytes::copied(data)) {
        Ok(()) => assert!(!must_fail),
        Err(Error::Seek { part: SeekPart::SeekChunk(number), .. }) => {
            assert_eq!(number as usize, chunk);
        }
        Err(Error::Seek { part: SeekPart::Checkpoint(index), .. }) => {
            assert_eq!(index as usize / 64, chunk);
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn parse_when_any_bit_is_flipped_then_error_or_valid() {
    for count in [1, 3] {
        let (layer, _) = layer(count, &mut numbers(count));
        for at in 0..layer.blob().len() {
            for bit in 0..8 {
                let mut blob = layer.blob().to_vec();
                blob[at] ^= 1 << bit;
                if let Err(error) = read(&blob) {
                    assert!(matches!(error, Error::Seek { .. }), "{error}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn add_chunk_when_columns_are_reordered_then_error_or_valid(
        count in 1..66_u64, seed in any::<u64>(), order in Just([0, 1, 2, 3]).prop_shuffle(),
    ) {
        let (layer, _) = layer(count, &mut numbers(seed));
        let data = layer.chunk(0).unwrap();
        let (mut parts, mut at) = (Vec::new(), 0);
        for _ in 0..4 {
            let len = 8 + u32::from_le_bytes(data[at..at + 4].try_into().unwrap()) as usize;
            parts.push(&data[at..at + len]);
            at += len;
        }
        let mut columns = order.map(|index: usize| parts[index]).concat();
        columns.extend_from_slice(&data[at..]);
        check_chunk(&layer, 0, &columns, false);
        let digests_first = [&data[at..], &data[..at]].concat();
        check_chunk(&layer, 0, &digests_first, true);
    }

    #[test]
    fn add_chunk_when_columns_have_any_bytes_then_error_or_valid(
        columns in prop::array::uniform4(prop::collection::vec(any::<u8>(), 0..40)),
        count in 1..8_u64,
    ) {
        if let Err(error) = read(&RawLayer::of_columns(count, columns).to_bytes()) {
            prop_assert!(matches!(error, Error::Seek { .. }), "{}", error);
        }
    }

    #[test]
    fn parse_when_numbers_are_arbitrary_then_error_or_valid(
        numbers in prop::array::uniform6(any::<u64>()),
        shifts in prop::array::uniform6(0..65_u32),
        deltas in prop::collection::vec((any::<u64>(), any::<u64>()), 0..4),
        keep in any::<u8>(),
    ) {
        let mut raw = RawLayer::of_points(&[(start(BLOCK, 0, b""), &[])]);
        for index in 0..6 {
            if keep >> index & 1 == 0 {
                raw.numbers[index] = numbers[index].checked_shr(shifts[index]).unwrap_or(0);
            }
        }
        if keep >> 6 == 0 {
            raw.deltas = deltas;
        }
        if let Err(error) = read(&raw.to_bytes()) {
            prop_assert!(matches!(error, Error::Seek { .. }), "{}", error);
        }
    }
}

#[test]
fn add_chunk_when_runs_are_invalid_then_error() {
    let block = || start(BLOCK, 0, b"");
    let past = |end| too_large("end of a run in a window", end, END);
    // The writer of this test does not check anything, so gaps may be negative.
    assert_point(block(), &[(10, 5), (15, 1)], SeekError::Order("runs of a window"));
    let overlap = 0_u64.wrapping_sub(2);
    let gaps = too_large("the gaps column", overlap, END - 15);
    assert_point(block(), &[(10, 5), (13, 1)], gaps);
    assert_point(block(), &[(END, 1)], past(END + 1));
    assert_point(block(), &[(END - 1, 2)], past(END + 1));
    assert_point(block(), &[(END - 1, 3)], too_large("the lengths column", 2, 1));
}

#[test]
fn add_chunk_when_start_is_invalid_then_error() {
    let bits = "number of bits in a block header";
    let most = 3 + 14 + 19 * 3 + (286 + 32) * 14;
    for (found, kind) in [
        (start(BLOCK, 1, b""), value("start of a checkpoint", 4)),
        (start(MEMBER, 1, b""), value("start of a checkpoint", 7)),
        (start(MEMBER, 0, b""), value("bit offset of a byte-aligned checkpoint", 4)),
        (start(STORED, 0b10, b""), value("bit offset of a byte-aligned checkpoint", 4)),
        (start(STORED, 1, b""), value("length of a stored block", 0)),
        (start(STORED, 65_536 << 1, b""), too_large("length of a stored block", 65_536, 65_535)),
        (start(HUFFMAN, 0, b""), value(bits, 0)),
        (start(HUFFMAN, 3, &[0b100]), value(bits, 3)),
        (start(HUFFMAN, 3, &[0b110]), value(bits, 3)),
        (start(HUFFMAN, 3, &[0b000]), value(bits, 3)),
        (start(HUFFMAN, 4, &[0b010]), value(bits, 4)),
        (start(HUFFMAN, 28, &[0b100, 0, 0, 0]), value(bits, 28)),
        (start(HUFFMAN, 3, &[0b1010]), value("unused bits of a block header", 0b1010)),
        (start(HUFFMAN, most + 1, &[4; 600]), too_large(bits, most + 1, most)),
        (start(HUFFMAN, u64::MAX >> 2, &[4]), too_large(bits, u64::MAX >> 2, most)),
        (start(HUFFMAN, 29, &[0b100]), SeekError::Truncated("the starts column")),
        (b"".to_vec(), SeekError::Truncated("the starts column")),
        (vec![0x80, 0], SeekError::Varint("the starts column")),
        (vec![0xff; 11], SeekError::Varint("the starts column")),
    ] {
        let mut raw = RawLayer::of_points(&[(found, &[])]);
        raw.deltas[1].1 = 1004;
        let error = (kind, SeekPart::Checkpoint(1));
        assert_eq!(kind_and_part(&raw.to_bytes()), error);
    }
}

#[test]
fn add_chunk_when_window_is_impossible_then_error() {
    // A member needs no window, and there is nothing before the start of the layer.
    let mut raw = RawLayer::of_points(&[(start(MEMBER, 0, b""), &[(5, 7)])]);
    let error = (value("window of a member", 7), SeekPart::Checkpoint(1));
    assert_eq!(kind_and_part(&raw.to_bytes()), error);
    raw = RawLayer::of_points(&[(start(BLOCK, 0, b""), &[(END - 101, 3)])]);
    raw.deltas[1].0 = 100;
    raw.numbers[4] = 200;
    let error = value("run before the start of the layer", END - 101);
    assert_eq!(kind_and_part(&raw.to_bytes()), (error, SeekPart::Checkpoint(1)));
}

#[test]
fn add_chunk_when_counts_lie_then_error() {
    let raw = RawLayer::of_points(&[(start(BLOCK, 0, b""), &[(10, 3)])]);
    let with = |change: &dyn Fn(&mut [Vec<u8>; 4])| {
        let mut raw = raw.clone();
        change(&mut raw.chunks[0].columns);
        kind_and_part(&raw.to_bytes())
    };
    let point = SeekPart::Checkpoint(1);
    let gaps = |count| {
        move |columns: &mut [Vec<u8>; 4]| columns[1] = [vec![0], varint(count), vec![10]].concat()
    };
    assert_eq!(with(&gaps(2)), (SeekError::Truncated("the gaps column"), point));
    let limit = too_large("number of runs in a window", 16_385, 16_384);
    assert_eq!(with(&gaps(16_385)), (limit, point));
    let limit = too_large("number of runs in a window", u64::MAX, 16_384);
    assert_eq!(with(&gaps(u64::MAX)), (limit, point));
    for column in 0..4 {
        let name =
            ["the starts column", "the gaps column", "the lengths column", "the window column"];
        let cut = with(&|columns| columns[column].truncate(columns[column].len() - 1));
        assert_eq!(cut, (SeekError::Truncated(name[column]), point));
        let longer = with(&|columns| columns[column].push(0));
        assert_eq!(longer, (SeekError::TrailingBytes(1), SeekPart::SeekChunk(0)));
    }
    let mut fewer = raw.clone();
    fewer.chunks[0].digests.pop();
    let error = (SeekError::Truncated("the digest of a span"), SeekPart::SeekChunk(0));
    assert_eq!(kind_and_part(&fewer.to_bytes()), error);
    let mut more = raw;
    more.chunks[0].digests.push(0);
    assert_eq!(
        kind_and_part(&more.to_bytes()),
        (SeekError::TrailingBytes(1), SeekPart::SeekChunk(0))
    );
}

#[test]
fn parse_when_numbers_are_invalid_then_error() {
    let raw = RawLayer::of_points(&[(start(BLOCK, 0, b""), &[])]);
    for (index, number, kind) in [
        (0, 65_535, value("span size", 65_535)),
        (0, (64 << 20) + 1, too_large("span size", (64 << 20) + 1, 64 << 20)),
        (1, 63, value("number of checkpoints in a chunk", 63)),
        (2, 3, value("compression", 3)),
        (2, 1, value("compressed size", 250)),
        (2, 2, value("span count", 2)),
        (3, u64::MAX, too_large("compressed size", u64::MAX, 1 << 60)),
        (4, u64::MAX, too_large("uncompressed size", u64::MAX, 1 << 60)),
        (5, 0, value("span count", 0)),
        (5, (1 << 22) + 1, too_large("span count", (1 << 22) + 1, 1 << 22)),
        (5, u64::MAX, too_large("span count", u64::MAX, 1 << 22)),
        // More checkpoints than the blob has room for.
        (5, 1 << 22, value("span count", 1 << 22)),
        (5, 100_000, value("length of a chunk", 136)),
        (5, 3, SeekError::Truncated("uncompressed offset of a checkpoint")),
    ] {
        let mut raw = raw.clone();
        raw.numbers[index] = number;
        let (found, part) = kind_and_part(&raw.to_bytes());
        assert_eq!((found, part), (kind, SeekPart::LayerHead), "{index} {number}");
    }
    let mut fewer = raw.clone();
    (fewer.numbers[4], fewer.numbers[5]) = (65_536, 1);
    let error = (SeekError::TrailingBytes(5), SeekPart::LayerHead);
    assert_eq!(kind_and_part(&fewer.to_bytes()), error);
    let mut other = raw;
    other.magic[7] = b'2';
    assert_eq!(kind_and_part(&other.to_bytes()), (SeekError::Magic, SeekPart::LayerHead));
}

#[test]
fn parse_when_checkpoints_go_back_or_are_too_far_apart_then_error() {
    let blocks = vec![(start(BLOCK, 0, b""), [].as_slice()); 2];
    let raw = RawLayer::of_points(&blocks);
    let back = 0_u64.wrapping_sub(1);
    for (index, delta, part, kind) in [
        (0, (1, 0), 0, value("position of the first checkpoint", 1)),
        (0, (0, 8), 0, value("position of the first checkpoint", 8)),
        (1, (0, 1000), 0, SeekError::Order("uncompressed offsets")),
        (1, (65_536, 0), 0, SeekError::Order("compressed positions")),
        (
            2,
            (back, 1000),
            2,
            too_large("uncompressed offset of a checkpoint", back, u64::MAX - 65_536),
        ),
        (
            2,
            (65_536, back),
            2,
            too_large("compressed position of a checkpoint", back, u64::MAX - 1000),
        ),
        (2, (65_536, 2000), 2, SeekError::Order("compressed positions")),
        (2, (131_072, 1000), 1, too_large("size of the span", 131_072, 81_920)),
        (1, (81_921, 1000), 0, too_large("size of the span", 81_921, 81_920)),
    ] {
        let mut raw = raw.clone();
        raw.deltas[index] = delta;
        assert_eq!(kind_and_part(&raw.to_bytes()), (kind, SeekPart::Checkpoint(part)), "{delta:?}");
    }
    // The last span ends with the layer.
    let mut late = raw.clone();
    late.numbers[4] = 131_072;
    let error = (SeekError::Order("uncompressed offsets"), SeekPart::Checkpoint(2));
    assert_eq!(kind_and_part(&late.to_bytes()), error);
    let mut long = raw;
    long.numbers[4] = 131_072 + 81_921;
    let error = (too_large("size of the span", 81_921, 81_920), SeekPart::Checkpoint(2));
    assert_eq!(kind_and_part(&long.to_bytes()), error);
}

#[test]
fn parse_when_spans_of_a_tar_are_not_equal_then_error() {
    let points = vec![(start(BLOCK, 0, b""), [].as_slice())];
    let mut raw = RawLayer::of_points(&points);
    raw.numbers = [65_536, 64, 1, 100_000, 100_000, 2];
    raw.deltas[1] = (65_536, 65_536 * 8);
    // The columns have a member, and a tar has none.
    let error = value("window in a plain tar", 0);
    assert_eq!(kind_and_part(&raw.to_bytes()), (error, SeekPart::Checkpoint(0)));
    raw.chunks[0].columns[0] = vec![0, 0];
    read(&raw.to_bytes()).unwrap();
    raw.deltas[1] = (65_535, 65_535 * 8);
    let error = value("offset in a plain tar", 65_535);
    assert_eq!(kind_and_part(&raw.to_bytes()), (error, SeekPart::Checkpoint(1)));
    raw.numbers[5] = 1;
    assert_eq!(kind_and_part(&raw.to_bytes()), (value("span count", 1), SeekPart::LayerHead));
}

#[test]
fn parse_when_frame_is_not_as_written_then_error() {
    let head = |frame: &[u8]| kind_and_part(&[b"TOCSINL1", frame].concat()).0.code();
    let stored = zstd::bulk::compress(&[7; 100], 3).unwrap();
    let with = |stored: &[u8], len: u32| {
        let stored_len = stored.len() as u32;
        head(&[&stored_len.to_le_bytes(), &len.to_le_bytes(), stored].concat())
    };
    for (frame, code) in [
        (frame(&[0; 2 << 20]), "seek.too-large"),
        (stated_frame(&[7; 100], 101), "seek.compression"),
        (stated_frame(&[7; 100], 99), "seek.compression"),
        (stated_frame(&[7; 100], u32::MAX), "seek.too-large"),
        ([&[0; 4], frame(&[0; 2]).as_slice()].concat(), "seek.truncated"),
        (frame(b""), "seek.truncated"),
    ] {
        assert_eq!(head(&frame), code, "{frame:?}");
    }
    // Two frames, a frame and other bytes, a skippable frame, nothing.
    assert_eq!(with(&[stored.as_slice(), &stored].concat(), 100), "seek.trailing-bytes");
    assert_eq!(with(&[stored.as_slice(), b"x"].concat(), 100), "seek.trailing-bytes");
    assert_eq!(with(&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0], 0), "seek.compression");
    assert_eq!(with(b"", 0), "seek.truncated");
    // A checksum, a dictionary, a reserved bit, no content size.
    for flags in [4, 1, 8, 16] {
        let mut changed = stored.clone();
        changed[4] |= flags;
        assert_eq!(with(&changed, 100), "seek.compression", "{flags}");
    }
    let mut unsized_frame = stored;
    unsized_frame[4] &= 0b0001_1111;
    assert_eq!(with(&unsized_frame, 100), "seek.compression");
}
