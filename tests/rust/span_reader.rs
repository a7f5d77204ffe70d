//! Reading spans in pieces: any sequence of reads returns slices of zlib's output, and unverified
//! bytes are never inflated.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test may stop at once")]
#![allow(clippy::cast_possible_truncation, reason = "test data is small")]

use std::ops::Range;

use crate::support::layers::{index, span_bytes, span_ids, tar_of};
use crate::support::{golden, mixed_data, zlib_gunzip, zlib_gzip};
use proptest::prelude::*;
use serde_json::Value;
use tocsin_core::Error;
use tocsin_core::error::GzipError;
use tocsin_core::extract::SpanReader;
use tocsin_core::indexer::{IndexOptions, LayerFormat};
use tocsin_core::span::{SpanId, UncompressedOffset};
use tocsin_core::ztoc::{Zinfo, Ztoc};

/// Maximum number of bytes that a read may inflate beyond what it needs.
const BUFFER_LEN: usize = 160 << 10;

fn spans_of(span_size: u64) -> IndexOptions {
    IndexOptions { span_size, ..IndexOptions::default() }
}

fn reader<'a>(ztoc: &Ztoc, layer: &'a [u8], span_id: SpanId) -> SpanReader<&'a [u8]> {
    SpanReader::new(ztoc, span_id, span_bytes(ztoc, layer, span_id)).unwrap()
}

fn offsets(range: Range<usize>) -> Range<UncompressedOffset> {
    UncompressedOffset(range.start as u64)..UncompressedOffset(range.end as u64)
}

/// The part of `whole` that a reader must return for `wanted`.
fn expected<'a, B: AsRef<[u8]>>(
    whole: &'a [u8],
    reader: &SpanReader<B>,
    wanted: &Range<usize>,
) -> &'a [u8] {
    let (low, high) = (reader.start().0 as usize, reader.end().0 as usize);
    let end = wanted.end.clamp(low, high);
    &whole[wanted.start.clamp(low, end)..end]
}

#[test]
fn read_when_layer_is_golden_then_pieces_equal_zlib() {
    let json: Value =
        serde_json::from_slice(&std::fs::read(golden("expected.json")).unwrap()).unwrap();
    for case in json["built"].as_array().unwrap() {
        let name = case["layer"].as_str().unwrap();
        let layer = std::fs::read(golden("layers").join(name)).unwrap();
        let is_gzip = name.ends_with(".gz");
        let whole = if is_gzip { zlib_gunzip(&layer).unwrap() } else { layer.clone() };
        let options = IndexOptions {
            format: Some(if is_gzip { LayerFormat::Gzip } else { LayerFormat::Tar }),
            reference_identical: true,
            ..spans_of(case["span_size"].as_u64().unwrap())
        };
        let ztoc = index(&layer, options);
        let mut end = 0;
        for span_id in span_ids(&ztoc) {
            let mut reader = reader(&ztoc, &layer, span_id);
            assert!(reader.start().0 as usize <= end.max(whole.len()), "{name} {span_id}");
            for piece_len in [4096, 50_001] {
                let mut at = reader.start().0 as usize;
                while at < reader.end().0 as usize {
                    let piece = at..at + piece_len;
                    let wanted = expected(&whole, &reader, &piece).to_vec();
                    assert!(reader.read(&offsets(piece)).unwrap() == wanted, "{name} {span_id}");
                    at += piece_len;
                }
            }
            end = reader.end().0 as usize;
        }
        // Spans are contiguous and extend to the end of the tar.
        assert!(end as u64 >= ztoc.uncompressed_archive_size, "{name}");
    }
}

#[test]
fn read_when_pieces_ascend_then_decoder_continues_where_it_stopped() {
    let tar = tar_of(&mixed_data(900_000, 7));
    let layer = zlib_gzip(&tar, 6);
    let ztoc = index(&layer, spans_of(800_000));
    for piece_len in [1000, 7777, 300_000] {
        let mut reader = reader(&ztoc, &layer, SpanId(0));
        assert_eq!(reader.inflated_len(), 0);
        let end = reader.end().0 as usize;
        for at in (0..end).step_by(piece_len) {
            let stop = (at + piece_len).min(end);
            let before = reader.inflated_len();
            assert!(reader.read(&offsets(at..stop)).unwrap() == &tar[at..stop], "{at}");
            assert!(reader.inflated_len() >= before.max(stop));
            assert!(reader.inflated_len() <= before.max(stop + BUFFER_LEN), "{at}");
            assert!(reader.get(&offsets(0..stop)) == Some(&tar[..stop]));
        }
        // The decoder and the compressed bytes have been dropped, and the output has no spare
        // capacity.
        assert_eq!((reader.inflated_len(), reader.memory()), (end, end));
    }
}

#[test]
fn get_when_not_inflated_then_none() {
    let layer = zlib_gzip(&tar_of(&mixed_data(900_000, 7)), 6);
    let ztoc = index(&layer, spans_of(800_000));
    let mut reader = reader(&ztoc, &layer, SpanId(0));
    assert_eq!(reader.get(&offsets(0..1)), None);
    assert_eq!(reader.read(&offsets(10..11)).unwrap().len(), 1);
    assert!(reader.get(&offsets(0..1)).is_some());
    assert_eq!(reader.get(&offsets(790_000..800_000)), None);
}

#[test]
fn read_when_range_exceeds_the_span_then_clipped() {
    let tar = tar_of(&mixed_data(900_000, 8));
    for layer in [zlib_gzip(&tar, 6), tar.clone()] {
        let ztoc = index(&layer, spans_of(256 << 10));
        let mut reader = reader(&ztoc, &layer, SpanId(1));
        let (start, end) = (reader.start().0 as usize, reader.end().0 as usize);
        assert!(0 < start && start < end);
        for wanted in [0..start, end..end + 9, start + 5..start + 5, start + 9..start] {
            assert_eq!(reader.read(&offsets(wanted)).unwrap(), b"");
        }
        assert!(reader.read(&offsets(0..usize::MAX)).unwrap() == &tar[start..end]);
        assert_eq!(reader.memory(), end - start);
    }
}

#[test]
fn new_when_any_byte_differs_then_verification_error() {
    let layer = zlib_gzip(&tar_of(&mixed_data(900_000, 2)), 6);
    let ztoc = index(&layer, spans_of(256 << 10));
    let good = span_bytes(&ztoc, &layer, SpanId(1));
    for at in [0, 1, good.len() / 2, good.len() - 1] {
        let mut bad = good.to_vec();
        bad[at] ^= 1;
        let error = SpanReader::new(&ztoc, SpanId(1), bad).unwrap_err();
        assert!(matches!(error, Error::Verification { .. }), "{error}");
        assert!(error.to_string().starts_with("span 1 digest mismatch (found sha256:"), "{error}");
    }
    for bad in [&good[1..], &good[..good.len() - 1], &[]] {
        let error = SpanReader::new(&ztoc, SpanId(1), bad).unwrap_err();
        assert!(error.to_string().starts_with("span 1 size"), "{error}");
    }
    let error = SpanReader::new(&ztoc, SpanId(99), good).unwrap_err();
    assert!(matches!(error, Error::NoSuchSpan { span_id: SpanId(99), .. }), "{error}");
}

#[test]
fn read_when_ztoc_is_wrong_then_same_error_every_time_and_no_data_kept() {
    let layer = zlib_gzip(&tar_of(&mixed_data(1_200_000, 3)), 6);
    let mut wrong = index(&layer, spans_of(256 << 10));
    let Zinfo::Gzip(zinfo) = &mut wrong.zinfo else { panic!("a gzip layer") };
    zinfo.checkpoints[2].uncompressed.0 += 1000;
    let mut reader = reader(&wrong, &layer, SpanId(1));
    let start = reader.start().0 as usize;
    // The digest matches, so the error shows only at the end: fewer bytes than declared.
    assert_eq!(reader.read(&offsets(start..start + 100)).unwrap().len(), 100);
    let error = reader.read(&offsets(0..usize::MAX)).unwrap_err();
    assert!(matches!(error, Error::Gzip { kind: GzipError::Truncated("a span"), .. }), "{error}");
    for wanted in [start..start + 100, 0..usize::MAX, 0..0] {
        assert_eq!(reader.read(&offsets(wanted)).unwrap_err(), error);
    }
    assert_eq!((reader.memory(), reader.inflated_len()), (0, 0));
    assert_eq!(reader.get(&offsets(start..start + 100)), None);
}

#[test]
fn read_when_ztoc_declares_a_huge_size_then_memory_follows_the_output() {
    let tar = tar_of(&mixed_data(300_000, 4));
    let layer = zlib_gzip(&tar, 6);
    let mut ztoc = index(&layer, IndexOptions::default());
    ztoc.uncompressed_archive_size = 1 << 62;
    let mut reader = reader(&ztoc, &layer, SpanId(0));
    assert_eq!(reader.end().0, 1 << 62);
    assert!(reader.read(&offsets(0..1)).unwrap() == &tar[..1]);
    assert!(reader.memory() < layer.len() + 2 * BUFFER_LEN + (64 << 10), "{}", reader.memory());
    assert!(reader.read(&offsets(0..tar.len())).unwrap() == tar);
    let error = reader.read(&offsets(0..tar.len() + 1)).unwrap_err();
    assert!(matches!(error, Error::Gzip { kind: GzipError::Truncated("a span"), .. }), "{error}");
}

#[test]
fn end_when_tar_ends_before_the_last_span_then_span_is_empty() {
    let mut tar = tar_of(&mixed_data(100_000, 5));
    let archive_len = tar.len();
    tar.extend(mixed_data(400_000, 6));
    let layer = zlib_gzip(&tar, 6);
    let ztoc = index(&layer, spans_of(128 << 10));
    let last = SpanId(ztoc.span_count() as u32 - 1);
    let mut reader = reader(&ztoc, &layer, last);
    assert!(reader.start().0 as usize > archive_len);
    assert_eq!(reader.start(), reader.end());
    assert_eq!(reader.read(&offsets(0..usize::MAX)).unwrap(), b"");
    assert_eq!(reader.memory(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn read_when_sequence_is_random_then_slices_of_zlibs_output(
        seed in any::<u64>(),
        level in 0_u32..10,
        is_gzip in any::<bool>(),
        span_size in prop::sample::select(vec![1_u64, 3000, 60_000, 4 << 20]),
        reads in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..50_000), 1..40),
    ) {
        let tar = tar_of(&mixed_data(250_000, seed));
        let layer = if is_gzip { zlib_gzip(&tar, level) } else { tar };
        let whole = if is_gzip { zlib_gunzip(&layer).unwrap() } else { layer.clone() };
        let span_size = if is_gzip { span_size } else { span_size.max(3000) };
        let ztoc = index(&layer, spans_of(span_size));
        let mut readers: Vec<_> =
            span_ids(&ztoc).map(|span_id| reader(&ztoc, &layer, span_id)).collect();
        for (index, len) in reads {
            let start = index.index(whole.len());
            let wanted = start..start + len;
            let mut joined = Vec::new();
            for reader in &mut readers {
                let own = expected(&whole, reader, &wanted);
                let read = reader.read(&offsets(wanted.clone())).unwrap();
                prop_assert!(read == own, "{wanted:?}");
                joined.extend_from_slice(read);
            }
            prop_assert!(joined == whole[start..wanted.end.min(whole.len())], "{wanted:?}");
        }
    }
}
