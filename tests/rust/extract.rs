//! Reading spans: those of every golden layer equal zlib's output, and changed bytes are rejected.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test may stop at once")]
#![allow(clippy::cast_possible_truncation, reason = "test data is small")]

use crate::support::layers::{index, span_bytes, span_ids, tar_of};
use crate::support::{golden, mixed_data, zlib_gunzip, zlib_gzip};
use serde_json::Value;
use tocsin_core::Error;
use tocsin_core::digest::Digest;
use tocsin_core::error::GzipError;
use tocsin_core::extract::{data_range, inflate_span, read_span};
use tocsin_core::indexer::{IndexOptions, LayerFormat};
use tocsin_core::span::{BitOffset, CompressedOffset, SpanId, UncompressedOffset};
use tocsin_core::ztoc::{Zinfo, Ztoc};

fn spans_of_256_kib() -> IndexOptions {
    IndexOptions { span_size: 256 << 10, ..IndexOptions::default() }
}

#[test]
fn inflate_span_when_layer_is_golden_then_equals_zlib() {
    let expected: Value =
        serde_json::from_slice(&std::fs::read(golden("expected.json")).unwrap()).unwrap();
    for case in expected["built"].as_array().unwrap() {
        let name = case["layer"].as_str().unwrap();
        let layer = std::fs::read(golden("layers").join(name)).unwrap();
        let is_gzip = name.ends_with(".gz");
        let whole = if is_gzip { zlib_gunzip(&layer).unwrap() } else { layer.clone() };
        let ztoc = index(
            &layer,
            IndexOptions {
                format: Some(if is_gzip { LayerFormat::Gzip } else { LayerFormat::Tar }),
                span_size: case["span_size"].as_u64().unwrap(),
                reference_identical: true,
                ..IndexOptions::default()
            },
        );
        let mut joined = Vec::new();
        for span_id in span_ids(&ztoc) {
            let start = ztoc.span_uncompressed_range(span_id).unwrap().0;
            assert_eq!(start.0, joined.len() as u64, "{name} {span_id}");
            joined
                .extend(inflate_span(&ztoc, span_id, span_bytes(&ztoc, &layer, span_id)).unwrap());
        }
        assert!(joined == whole, "{name}");

        for entry in ztoc.toc.iter() {
            let range = data_range(&entry).unwrap();
            let spans = ztoc.spans_for(&entry);
            let mut data = Vec::new();
            for span_id in (spans.start.0..spans.end.0).map(SpanId) {
                let bytes = span_bytes(&ztoc, &layer, span_id);
                data.extend(read_span(&ztoc, span_id, bytes, range.clone()).unwrap());
            }
            let wanted = &whole[range.start.0 as usize..range.end.0 as usize];
            assert!(data == wanted, "{name} {}", entry.name.escape_ascii());
        }
    }
}

#[test]
fn read_span_when_part_is_wanted_then_only_that() {
    let tar = tar_of(&mixed_data(1_500_000, 1));
    for layer in [zlib_gzip(&tar, 6), tar.clone()] {
        let ztoc = index(&layer, spans_of_256_kib());
        assert!(ztoc.span_count() > 3);
        for (start, end) in [(0, 1), (1, 400_000), (399_999, 900_000), (tar.len() - 1, tar.len())] {
            let wanted = UncompressedOffset(start as u64)..UncompressedOffset(end as u64);
            let mut joined = Vec::new();
            for span_id in span_ids(&ztoc) {
                let bytes = span_bytes(&ztoc, &layer, span_id);
                joined.extend(read_span(&ztoc, span_id, bytes, wanted.clone()).unwrap());
            }
            assert!(joined == tar[start..end], "{start}..{end}");
        }
    }
}

#[test]
fn inflate_span_when_any_byte_differs_then_verification_error() {
    let layer = zlib_gzip(&tar_of(&mixed_data(900_000, 2)), 6);
    let ztoc = index(&layer, spans_of_256_kib());
    let good = span_bytes(&ztoc, &layer, SpanId(1));
    for at in [0, 1, good.len() / 2, good.len() - 1] {
        let mut bad = good.to_vec();
        bad[at] ^= 1;
        let error = inflate_span(&ztoc, SpanId(1), &bad).unwrap_err();
        assert!(matches!(error, Error::Verification { .. }), "{error}");
    }
    for bad in [&good[1..], &good[..good.len() - 1], &[]] {
        let error = inflate_span(&ztoc, SpanId(1), bad).unwrap_err();
        assert!(error.to_string().starts_with("span 1 size"), "{error}");
    }
}

#[test]
fn inflate_span_when_span_does_not_exist_then_reports_the_last() {
    let layer = zlib_gzip(&tar_of(b"x"), 6);
    let ztoc = index(&layer, IndexOptions::default());
    let error = inflate_span(&ztoc, SpanId(1), &layer).unwrap_err();
    assert_eq!(error, Error::NoSuchSpan { span_id: SpanId(1), last: 0 });
}

#[test]
fn inflate_span_when_checkpoint_offset_is_wrong_then_gzip_error() {
    let layer = zlib_gzip(&tar_of(&mixed_data(1_200_000, 3)), 6);
    let right = index(&layer, spans_of_256_kib());
    for shift in [1_u64, 5, 1000] {
        let mut wrong = right.clone();
        let Zinfo::Gzip(zinfo) = &mut wrong.zinfo else { panic!("a gzip layer") };
        zinfo.checkpoints[2].uncompressed.0 += shift;
        let bytes = span_bytes(&wrong, &layer, SpanId(1));
        // The digest matches, so the error shows only in the output: fewer bytes than declared.
        let error = inflate_span(&wrong, SpanId(1), bytes).unwrap_err();
        assert!(matches!(error, Error::Gzip { .. }), "{error}");
    }
}

/// Found by `ztoc_never_panics`: the position of the error overflowed.
#[test]
fn inflate_span_when_bit_position_overflows_then_gzip_error() {
    let size = u64::MAX >> 1;
    // An incomplete block: the span ends inside it.
    let bytes = [0b010, 0];
    let mut ztoc = index(&zlib_gzip(&tar_of(b"x"), 6), IndexOptions::default());
    let Zinfo::Gzip(zinfo) = &mut ztoc.zinfo else { panic!("a gzip layer") };
    zinfo.checkpoints[0].compressed = CompressedOffset(size - 2);
    ztoc.compressed_archive_size = size;
    ztoc.span_digests = vec![Digest::of(&bytes)];
    let ztoc = Ztoc::from_bytes(&ztoc.to_bytes().unwrap()).unwrap();
    let error = inflate_span(&ztoc, SpanId(0), &bytes).unwrap_err();
    let kind = GzipError::Truncated("a span");
    assert_eq!(error, Error::Gzip { kind, at: BitOffset(u64::MAX) });
}
