//! Reading spans with a seek table: the same bytes as zlib's, and wrong checkpoints are reported.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test may stop at once")]
#![allow(clippy::cast_possible_truncation, reason = "test data is small")]

use std::ops::Range;

use crate::support::layers::{span_bytes, tar_of};
use crate::support::seek::numbers;
use crate::support::{decode, golden, mixed_data, zlib_gunzip, zlib_gzip};
use proptest::prelude::*;
use serde_json::Value;
use tocsin_core::bytes::SharedBytes;
use tocsin_core::checkpoint::{PointStart, Run, SeekPoint, SparseWindow, WINDOW_LEN, Window};
use tocsin_core::digest::Digest;
use tocsin_core::error::{Error, GzipError, SeekError, SeekPart};
use tocsin_core::extract::{SpanReader, inflate_span, read_span};
use tocsin_core::indexer::{IndexOptions, LayerFormat, LayerIndexer};
use tocsin_core::inflate::Speed;
use tocsin_core::seek::{LayerCompression, LayerWriter, MIN_SEEK_SPAN_SIZE, SeekLayer, SeekSpans};
use tocsin_core::span::{BitOffset, SpanId, UncompressedOffset};
use tocsin_core::ztoc::Ztoc;

/// A window whose bytes are all known.
fn whole_window(before: &[u8]) -> SparseWindow {
    let known = before.len().min(WINDOW_LEN);
    if known == 0 {
        return SparseWindow::default();
    }
    let run = Run { start: (WINDOW_LEN - known) as u16, len: known as u16 };
    let window = Window::ending_with(before);
    SparseWindow { runs: [run].into(), bytes: window.as_bytes()[WINDOW_LEN - known..].into() }
}

/// Checkpoints at ends of blocks, at most one and a quarter times `span_size` apart.
fn block_points(layer: &[u8], whole: &[u8], span_size: u64) -> Vec<SeekPoint> {
    let mut points = vec![SeekPoint {
        uncompressed: UncompressedOffset(0),
        position: BitOffset(0),
        start: PointStart::Member,
        window: SparseWindow::default(),
    }];
    for (bit, at) in decode(layer, 4096, Speed::Plain).unwrap().candidates {
        if at - points[points.len() - 1].uncompressed.0 >= span_size / 4 * 3 {
            points.push(SeekPoint {
                uncompressed: UncompressedOffset(at),
                position: BitOffset(bit),
                start: PointStart::Block,
                window: whole_window(&whole[..at as usize]),
            });
        }
    }
    points
}

fn spans_of(layer: &[u8], whole: &[u8], span_size: u64, points: Vec<SeekPoint>) -> SeekSpans {
    let mut writer = LayerWriter::new(span_size);
    let starts: Vec<usize> = points.iter().map(|point| point.position.byte().0 as usize).collect();
    let ends = points[1..].iter().map(|point| point.position.0.div_ceil(8) as usize);
    for (start, end) in starts.into_iter().zip(ends.chain([layer.len()])) {
        writer.push_digest(Digest::of(&layer[start..end]));
    }
    points.into_iter().for_each(|point| writer.push_point(point));
    let blob = writer.finish(LayerCompression::Gzip, layer.len() as u64, whole.len() as u64);
    blob.unwrap().all_spans().unwrap()
}

fn bytes_of<'a>(spans: &SeekSpans, layer: &'a [u8], span_id: SpanId) -> &'a [u8] {
    let range = spans.positions().compressed_range(span_id).unwrap();
    &layer[range.start.0 as usize..range.end.0 as usize]
}

fn span_ids(spans: &SeekSpans) -> impl Iterator<Item = SpanId> + use<> {
    (0..spans.positions().span_count() as u32).map(SpanId)
}

fn offsets(range: Range<usize>) -> Range<UncompressedOffset> {
    UncompressedOffset(range.start as u64)..UncompressedOffset(range.end as u64)
}

fn sample() -> (Vec<u8>, Vec<u8>) {
    let whole = tar_of(&mixed_data(1_500_000, 7));
    (zlib_gzip(&whole, 6), whole)
}

#[test]
fn inflate_span_when_points_are_at_blocks_then_equals_zlib() {
    let (one, whole) = sample();
    // Members of any length, one of them empty.
    let parts = [&whole[..300_000], &[], &whole[300_000..300_001], &whole[300_001..]];
    let many: Vec<u8> = parts.iter().flat_map(|part| zlib_gzip(part, 6)).collect();
    for layer in [one, many] {
        assert!(zlib_gunzip(&layer).unwrap() == whole);
        let span_size = 2 * MIN_SEEK_SPAN_SIZE;
        let points = block_points(&layer, &whole, span_size);
        let spans = spans_of(&layer, &whole, span_size, points);
        assert!(spans.positions().span_count() > 5);
        let mut joined = Vec::new();
        for span_id in span_ids(&spans) {
            let bytes = bytes_of(&spans, &layer, span_id);
            joined.extend(inflate_span(&spans, span_id, bytes).unwrap());
            let mut reader = SpanReader::new(&spans, span_id, bytes).unwrap();
            let range = reader.start()..reader.end();
            let expected = &whole[range.start.0 as usize..range.end.0 as usize];
            assert!(reader.read(&range).unwrap() == expected);
        }
        assert!(joined == whole);

        let mut draw = numbers(3);
        for _ in 0..50 {
            let start = draw(whole.len() as u64) as usize;
            let end = start + draw((whole.len() - start) as u64 + 1) as usize;
            let range = spans.positions().spans_in(offsets(start..end));
            let mut joined = Vec::new();
            for span_id in (range.start.0..range.end.0).map(SpanId) {
                let bytes = bytes_of(&spans, &layer, span_id);
                joined.extend(read_span(&spans, span_id, bytes, offsets(start..end)).unwrap());
            }
            assert!(joined == whole[start..end], "{start}..{end}");
        }
    }
}

#[test]
fn inflate_span_when_layer_is_plain_tar_then_equals_it() {
    let (_, whole) = sample();
    let mut writer = LayerWriter::new(MIN_SEEK_SPAN_SIZE);
    for bytes in whole.chunks(MIN_SEEK_SPAN_SIZE as usize) {
        writer.push_digest(Digest::of(bytes));
    }
    let size = whole.len() as u64;
    let spans = writer.finish(LayerCompression::Tar, size, size).unwrap().all_spans().unwrap();
    let mut joined = Vec::new();
    for span_id in span_ids(&spans) {
        joined.extend(inflate_span(&spans, span_id, bytes_of(&spans, &whole, span_id)).unwrap());
    }
    assert!(joined == whole);
}

#[test]
fn inflate_span_when_any_byte_differs_then_verification_error() {
    let (layer, whole) = sample();
    let points = block_points(&layer, &whole, 2 * MIN_SEEK_SPAN_SIZE);
    let spans = spans_of(&layer, &whole, 2 * MIN_SEEK_SPAN_SIZE, points);
    let good = bytes_of(&spans, &layer, SpanId(1));
    for at in [0, 1, good.len() / 2, good.len() - 1] {
        let mut bad = good.to_vec();
        bad[at] ^= 1;
        for error in [
            inflate_span(&spans, SpanId(1), &bad).unwrap_err(),
            SpanReader::new(&spans, SpanId(1), &bad).unwrap_err(),
        ] {
            assert!(matches!(error, Error::Verification { .. }), "{error}");
            assert!(error.to_string().starts_with("span 1 digest"), "{error}");
        }
    }
    let error = inflate_span(&spans, SpanId(1), &good[1..]).unwrap_err();
    assert!(error.to_string().starts_with("span 1 size"), "{error}");
}

/// Changes checkpoint 2, reads its span or the one before it, and returns the error.
fn error_after(change: impl FnOnce(&mut SeekPoint), span_id: SpanId) -> (SeekError, SeekPart) {
    let (layer, whole) = sample();
    let mut points = block_points(&layer, &whole, 2 * MIN_SEEK_SPAN_SIZE);
    change(&mut points[2]);
    let spans = spans_of(&layer, &whole, 2 * MIN_SEEK_SPAN_SIZE, points);
    let bytes = bytes_of(&spans, &layer, span_id);
    let error = inflate_span(&spans, span_id, bytes).unwrap_err();
    let mut reader = SpanReader::new(&spans, span_id, bytes).unwrap();
    assert_eq!(reader.inflate_to(UncompressedOffset(u64::MAX)), Err(error.clone()));
    match error {
        Error::Seek { kind, part } => (kind, part),
        error => panic!("{error}"),
    }
}

#[test]
fn inflate_span_when_checkpoint_is_wrong_then_error_names_it() {
    let second = SeekPart::Checkpoint(2);
    let (kind, part) = error_after(|point| point.window = SparseWindow::default(), SpanId(2));
    assert!(matches!(kind, SeekError::MissingWindowByte(1..=32_768)), "{kind}");
    assert_eq!(part, second);

    let (kind, part) = error_after(|point| point.position.0 += 1, SpanId(2));
    assert!(matches!(kind, SeekError::Span { .. } | SeekError::MissingWindowByte(_)), "{kind}");
    assert_eq!(part, second);

    // The previous span has fewer bytes than the checkpoint now claims.
    let (kind, part) = error_after(|point| point.uncompressed.0 += 1, SpanId(1));
    let is_truncated = matches!(kind, SeekError::Span { kind: GzipError::Truncated("a span"), .. });
    assert!(is_truncated, "{kind}");
    assert_eq!(part, SeekPart::Checkpoint(1));

    let header = tocsin_core::checkpoint::BlockHeader { bytes: [4, 0, 0, 0].into(), len: 29 };
    let huffman = |point: &mut SeekPoint| point.start = PointStart::Huffman(header);
    assert_eq!(error_after(huffman, SpanId(2)), (SeekError::BlockHeader, second));
}

/// The spans of a layer as the indexer makes them.
fn indexed(layer: &[u8], format: LayerFormat) -> (Ztoc, SeekSpans) {
    let options = IndexOptions {
        format: Some(format),
        span_size: MIN_SEEK_SPAN_SIZE,
        seek_span_size: Some(MIN_SEEK_SPAN_SIZE),
        reference_identical: true,
        ..IndexOptions::default()
    };
    let mut indexer = LayerIndexer::new(options).unwrap();
    indexer.push(layer).unwrap();
    let indexed = indexer.finish().unwrap();
    let seek = indexed.seek.unwrap();
    let read = SeekLayer::parse(&SharedBytes::copied(seek.blob())).unwrap();
    (indexed.ztoc, read.all_spans().unwrap())
}

/// Reads a range with a seek table.
fn read_range(spans: &SeekSpans, layer: &[u8], range: Range<usize>) -> Vec<u8> {
    let span_ids = spans.positions().spans_in(offsets(range.clone()));
    (span_ids.start.0..span_ids.end.0)
        .map(SpanId)
        .flat_map(|span_id| {
            let bytes = bytes_of(spans, layer, span_id);
            let part = read_span(spans, span_id, bytes, offsets(range.clone())).unwrap();
            let mut reader = SpanReader::new(spans, span_id, bytes).unwrap();
            assert!(reader.read(&offsets(range.clone())).unwrap() == part);
            part
        })
        .collect()
}

/// Checks all spans and some ranges of a layer against zlib's output and its zTOC.
fn assert_same(name: &str, layer: &[u8], whole: &[u8], format: LayerFormat, seed: u64) {
    let (ztoc, spans) = indexed(layer, format);
    let mut joined = Vec::new();
    for span_id in span_ids(&spans) {
        let range = spans.positions().uncompressed_range(span_id).unwrap();
        assert!(range.end.0 - range.start.0 <= MIN_SEEK_SPAN_SIZE / 4 * 5, "{name} {span_id}");
        joined.extend(inflate_span(&spans, span_id, bytes_of(&spans, layer, span_id)).unwrap());
    }
    assert!(joined == whole, "{name}");
    let mut draw = numbers(seed);
    for _ in 0..10 {
        let start = draw(whole.len() as u64 + 1) as usize;
        let end = start + draw((whole.len() - start) as u64 + 1) as usize;
        let by_seek_table = read_range(&spans, layer, start..end);
        assert!(by_seek_table == whole[start..end], "{name} {start}..{end}");
        let first = ztoc.span_of(UncompressedOffset(start as u64)).unwrap_or_default();
        let last = ztoc.span_of(UncompressedOffset(end as u64)).unwrap_or_default();
        let by_ztoc: Vec<u8> = (first.0..=last.0)
            .map(SpanId)
            .filter(|span_id| u64::from(span_id.0) < ztoc.span_count())
            .flat_map(|span_id| {
                let bytes = span_bytes(&ztoc, layer, span_id);
                read_span(&ztoc, span_id, bytes, offsets(start..end)).unwrap()
            })
            .collect();
        assert!(by_seek_table == by_ztoc, "{name} {start}..{end}");
    }
}

#[test]
fn read_span_when_layer_is_golden_then_equals_zlib_and_ztoc() {
    let json: Value =
        serde_json::from_slice(&std::fs::read(golden("expected.json")).unwrap()).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for case in json["built"].as_array().unwrap() {
        let name = case["layer"].as_str().unwrap();
        if !seen.insert(name) {
            continue;
        }
        let layer = std::fs::read(golden("layers").join(name)).unwrap();
        let is_gzip = name.ends_with(".gz");
        let whole = if is_gzip { zlib_gunzip(&layer).unwrap() } else { layer.clone() };
        let format = if is_gzip { LayerFormat::Gzip } else { LayerFormat::Tar };
        assert_same(name, &layer, &whole, format, 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn read_span_when_layer_is_arbitrary_then_equals_zlib_and_ztoc(
        len in 0..800_000_usize, seed in any::<u64>(), level in 0..10_u32,
        cuts in prop::collection::vec(0..800_000_usize, 0..4),
    ) {
        let whole = tar_of(&mixed_data(len, seed));
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % whole.len()).collect();
        cuts.sort_unstable();
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain([whole.len()]);
        let layer: Vec<u8> = starts
            .zip(ends)
            .flat_map(|(start, end)| zlib_gzip(&whole[start..end], level))
            .collect();
        assert_same("gzip", &layer, &whole, LayerFormat::Gzip, seed);
        assert_same("tar", &whole, &whole, LayerFormat::Tar, seed);
    }
}
