//! Every golden layer: the zTOC is byte-identical to the reference's, at any piece size and number
//! of threads, and layers that the reference rejects are rejected.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test may stop at once")]

use crate::support::golden;
use serde_json::Value;
use tocsin_core::Result;
use tocsin_core::digest::Digest;
use tocsin_core::indexer::{IndexOptions, IndexedLayer, LayerFormat, LayerIndexer};
use tocsin_core::ztoc::{Zinfo, Ztoc};

const PIECE_LENS: [usize; 5] = [1, 7, 4096, 1 << 20, usize::MAX];

fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(golden("expected.json")).unwrap()).unwrap()
}

fn layer_bytes(case: &Value) -> Vec<u8> {
    std::fs::read(golden("layers").join(case["layer"].as_str().unwrap())).unwrap()
}

fn index(layer: &[u8], piece_len: usize, options: IndexOptions) -> Result<IndexedLayer> {
    let mut indexer = LayerIndexer::new(options)?;
    layer.chunks(piece_len.min(layer.len().max(1))).try_for_each(|piece| indexer.push(piece))?;
    indexer.finish()
}

fn options(case: &Value) -> IndexOptions {
    let is_gzip = case["layer"].as_str().unwrap().ends_with(".gz");
    IndexOptions {
        format: Some(if is_gzip { LayerFormat::Gzip } else { LayerFormat::Tar }),
        span_size: case["span_size"].as_u64().unwrap(),
        reference_identical: true,
        ..IndexOptions::default()
    }
}

#[test]
fn index_when_layer_is_golden_then_ztoc_equals_the_references() {
    let expected = expected();
    let cases = expected["built"].as_array().unwrap();
    assert_eq!(cases.len(), 247);
    for case in cases {
        let layer = layer_bytes(case);
        for piece_len in PIECE_LENS {
            let name = format!("{} span {} piece {piece_len}", case["layer"], case["span_size"]);
            let indexed = index(&layer, piece_len, options(case)).expect(&name);
            assert_eq!(indexed.digest.to_string(), case["layer_digest"], "{name}");
            let ztoc = &indexed.ztoc;
            assert_eq!(ztoc.max_span_id(), case["max_span_id"], "{name}");
            assert_eq!(ztoc.toc.len() as u64, case["file_count"], "{name}");
            assert_eq!(ztoc.compressed_archive_size, case["compressed_archive_size"], "{name}");
            assert_eq!(ztoc.uncompressed_archive_size, case["uncompressed_archive_size"], "{name}");
            if let Zinfo::Gzip(zinfo) = &ztoc.zinfo {
                let points: Vec<_> = zinfo
                    .checkpoints
                    .iter()
                    .map(|point| (point.compressed.0, point.uncompressed.0, point.bits))
                    .collect();
                assert_eq!(serde_json::to_value(points).unwrap(), case["checkpoints"], "{name}");
            }
            let blob = ztoc.to_bytes().unwrap();
            assert_eq!(blob.len() as u64, case["ztoc_size"], "{name}");
            assert_eq!(Digest::of(&blob).to_string(), case["ztoc_digest"], "{name}");
            assert_eq!(Ztoc::from_bytes(&blob).as_ref(), Ok(ztoc), "{name}: read back");
        }
    }
}

/// Unit lengths so small that their boundaries fall everywhere, down to one byte for small layers.
fn unit_lens(layer: &[u8]) -> &'static [usize] {
    if layer.len() < 3_000 { &[1, 7, 97] } else { &[97, 1_000, 16_384] }
}

#[test]
fn index_when_on_any_number_of_threads_then_ztoc_equals_the_references() {
    let expected = expected();
    for case in expected["built"].as_array().unwrap() {
        let layer = layer_bytes(case);
        for threads in [1, 2, 3, 8] {
            for &unit_len in unit_lens(&layer) {
                let name = format!(
                    "{} span {} threads {threads} unit {unit_len}",
                    case["layer"], case["span_size"]
                );
                let options = IndexOptions { threads, unit_len, ..options(case) };
                let indexed = index(&layer, 10_000, options).expect(&name);
                assert_eq!(indexed.digest.to_string(), case["layer_digest"], "{name}");
                let digest = indexed.ztoc.digest().unwrap().to_string();
                assert_eq!(digest, case["ztoc_digest"], "{name}");
            }
        }
    }
}

#[test]
fn index_when_reference_rejects_then_same_error_on_any_number_of_threads() {
    let expected = expected();
    for case in expected["refused"].as_array().unwrap() {
        let layer = layer_bytes(case);
        let alone = index(&layer, usize::MAX, options(case)).expect_err("refused");
        for threads in [2, 3, 8] {
            for &unit_len in unit_lens(&layer) {
                let options = IndexOptions { threads, unit_len, ..options(case) };
                let error = index(&layer, 10_000, options).expect_err("refused");
                assert_eq!(error, alone, "{} threads {threads}", case["layer"]);
            }
        }
    }
}

#[test]
fn index_when_format_is_not_given_then_detected_by_magic_number() {
    let expected = expected();
    for case in expected["built"].as_array().unwrap() {
        let layer = layer_bytes(case);
        let by_magic = IndexOptions { format: None, ..options(case) };
        assert_eq!(index(&layer, 1 << 20, by_magic), index(&layer, 1 << 20, options(case)));
    }
}

#[test]
fn index_when_reference_rejects_then_same_error_at_every_piece_size() {
    let expected = expected();
    let cases = expected["refused"].as_array().unwrap();
    assert_eq!(cases.len(), 12);
    for case in cases {
        let layer = layer_bytes(case);
        let whole = index(&layer, usize::MAX, options(case)).expect_err("refused");
        for piece_len in PIECE_LENS {
            let error = index(&layer, piece_len, options(case)).expect_err("refused");
            assert_eq!(error, whole, "{} piece {piece_len}", case["layer"]);
        }
    }
}

#[test]
fn index_when_not_reference_identical_then_differs_where_readers_fail() {
    let expected = expected();
    let mut differing = Vec::new();
    for case in expected["built"].as_array().unwrap() {
        let layer = layer_bytes(case);
        let options = IndexOptions { reference_identical: false, ..options(case) };
        let indexed = index(&layer, 4096, options).unwrap();
        let digest = indexed.ztoc.digest().unwrap().to_string();
        let several_at_0 = case["checkpoints"]
            .as_array()
            .is_some_and(|points| points.iter().filter(|point| point[1] == 0).count() > 1);
        assert_eq!(digest != case["ztoc_digest"], several_at_0, "{}", case["layer"]);
        assert_eq!(indexed.dropped_checkpoint_count > 0, several_at_0, "{}", case["layer"]);
        if several_at_0 {
            differing.push(case["layer"].as_str().unwrap());
            assert!(indexed.ztoc.reader_refusals().is_empty(), "{}", case["layer"]);
        }
    }
    assert!(!differing.is_empty());
}
