//! Seek blobs: what is written is read back, and nothing else is accepted.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test may stop at once")]
#![allow(clippy::cast_possible_truncation, reason = "test data is small")]

use crate::support::seek::{layer, numbers, points};
use proptest::prelude::*;
use tocsin_core::bytes::SharedBytes;
use tocsin_core::digest::Digest;
use tocsin_core::error::{Error, SeekError, SeekPart};
use tocsin_core::seek::{
    CHECKPOINTS_PER_CHUNK, LayerCompression, LayerWriter, MIN_SEEK_SPAN_SIZE, SeekLayer,
};
use tocsin_core::span::{SpanId, UncompressedOffset};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn parse_when_blob_was_written_then_every_point_is_the_same(
        count in 1..200_u64, seed in any::<u64>(),
    ) {
        let (written, points) = layer(count, &mut numbers(seed));
        let read = SeekLayer::parse(&SharedBytes::copied(written.blob())).unwrap();
        prop_assert_eq!(read.positions(), written.positions());
        prop_assert_eq!(read.span_count(), count);
        prop_assert_eq!(read.chunk_count(), points.len().div_ceil(CHECKPOINTS_PER_CHUNK));
        let spans = read.all_spans().unwrap();
        for (span_id, point) in (0..).map(SpanId).zip(&points) {
            let digest = Digest::of(&(span_id.0 as usize).to_le_bytes());
            prop_assert_eq!(spans.point(span_id), Ok((point.clone(), digest)));
            prop_assert_eq!(
                spans.positions().position(span_id),
                Some((point.uncompressed, point.position))
            );
            let range = spans.positions().uncompressed_range(span_id).unwrap();
            prop_assert_eq!(spans.positions().span_of(range.start), Some(span_id));
            let last = UncompressedOffset(range.end.0 - 1);
            prop_assert_eq!(spans.positions().span_of(last), Some(span_id));
            let after = SpanId(span_id.0 + 1);
            prop_assert_eq!(spans.positions().spans_in(range), span_id..after);
        }
        let beyond = SpanId(count as u32);
        let error = Err(Error::NoSuchSpan { span_id: beyond, last: count.cast_signed() - 1 });
        prop_assert_eq!(spans.point(beyond), error);
    }
}

#[test]
fn finish_when_layer_is_plain_tar_then_spans_have_equal_sizes() {
    for size in [0_u64, 1, 65_535, 65_536, 65_537, 64 * 65_536, 65 * 65_536 + 7] {
        let mut writer = LayerWriter::new(MIN_SEEK_SPAN_SIZE);
        for _ in 0..size.div_ceil(MIN_SEEK_SPAN_SIZE) {
            writer.push_digest(Digest::of(b""));
        }
        let layer = writer.finish(LayerCompression::Tar, size, size).unwrap();
        let spans = layer.all_spans().unwrap();
        let mut end = 0;
        for span_id in (0..layer.span_count() as u32).map(SpanId) {
            let range = layer.positions().uncompressed_range(span_id).unwrap();
            let compressed = layer.positions().compressed_range(span_id).unwrap();
            assert_eq!((range.start.0, range.end.0), (compressed.start.0, compressed.end.0));
            assert_eq!(range.start.0, end);
            assert!(spans.point(span_id).unwrap().0.window.runs.is_empty());
            end = range.end.0;
        }
        assert_eq!(end, size);
    }
}

#[test]
fn whole_when_layer_is_zstd_then_there_are_no_spans() {
    let layer = SeekLayer::whole(LayerCompression::Zstd, 100, 1000, MIN_SEEK_SPAN_SIZE).unwrap();
    let read = SeekLayer::parse(&SharedBytes::copied(layer.blob())).unwrap();
    assert_eq!((read.span_count(), read.chunk_count()), (0, 0));
    assert_eq!(read.head_len(), layer.blob().len());
    assert_eq!(read.positions().compressed_size(), 100);
    assert_eq!(read.positions().uncompressed_size(), 1000);
    assert_eq!(read.positions().span_of(UncompressedOffset(0)), None);
}

#[test]
fn finish_when_digests_are_missing_then_error() {
    let (points, compressed_size, uncompressed_size) = points(3, &mut numbers(1));
    let mut writer = LayerWriter::new(MIN_SEEK_SPAN_SIZE);
    points.into_iter().for_each(|point| writer.push_point(point));
    writer.push_digest(Digest::of(b""));
    let error = writer.finish(LayerCompression::Gzip, compressed_size, uncompressed_size);
    let kind = SeekError::Value { what: "number of span digests", value: 1 };
    assert_eq!(error.unwrap_err(), Error::Seek { kind, part: SeekPart::LayerHead });
}

#[test]
fn point_when_chunk_was_not_added_then_error_names_it() {
    let (layer, _) = layer(65, &mut numbers(2));
    let spans = layer.spans();
    let chunk = SharedBytes::copied(layer.chunk(1).unwrap());
    spans.add_chunk(1, chunk.clone()).unwrap();
    assert!(spans.has_chunk(1) && !spans.has_chunk(0));
    assert!(spans.point(SpanId(64)).is_ok());
    let missing = Error::Seek { kind: SeekError::MissingChunk, part: SeekPart::SeekChunk(0) };
    assert_eq!(spans.point(SpanId(63)), Err(missing));
    let error = spans.add_chunk(0, chunk).unwrap_err();
    assert!(matches!(error, Error::Verification { .. }), "{error}");
}
