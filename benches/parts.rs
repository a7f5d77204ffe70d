//! The whole indexer on one core, compared with its parts, each run alone: inflate with CRC, tar
//! scan, and the two digests computed together.
//!
//! The difference between the whole and the sum of its parts is the cost of combining them.
#![allow(clippy::print_stdout, reason = "benchmarks print their results")]
#![allow(clippy::unwrap_used, reason = "an invalid corpus is fatal")]

mod measurement;
mod rounds;

use std::hint::black_box;

use rounds::{Layer, Part};
use serde_json::{Map, Value, json};
use tocsin_core::digest::Hasher;
use tocsin_core::gzip::{Event, GzipDecoder};
use tocsin_core::indexer::{IndexOptions, LayerIndexer};
use tocsin_core::inflate::Speed;
use tocsin_core::tar::TocScanner;

/// Bytes per push, as in the Python bindings.
const PIECE_LEN: usize = 1 << 20;
/// Compressed bytes that the indexer processes at a time.
const CHUNK_LEN: usize = 64 << 10;
/// Approximate size of inflate's output pieces.
const OUTPUT_LEN: usize = 256 << 10;

fn index(layer: &[u8]) -> u64 {
    let mut indexer = LayerIndexer::new(IndexOptions::default()).unwrap();
    layer.chunks(PIECE_LEN).try_for_each(|piece| indexer.push(piece)).unwrap();
    indexer.finish().unwrap().uncompressed_size
}

fn inflate(layer: &[u8]) -> u64 {
    let mut decoder = GzipDecoder::new(Speed::Fast);
    let mut total = 0;
    for mut input in layer.chunks(CHUNK_LEN) {
        loop {
            match decoder.step(&mut input).unwrap() {
                Event::NeedInput => break,
                Event::Candidate => {}
                Event::Output | Event::MemberEnd => {
                    decoder.take_output(|bytes| total += bytes.len() as u64);
                }
            }
        }
    }
    decoder.finish().unwrap();
    total
}

fn scan(tar: &[u8]) -> usize {
    let mut scanner = TocScanner::default();
    tar.chunks(OUTPUT_LEN).try_for_each(|piece| scanner.push(piece)).unwrap();
    scanner.finish().unwrap().entries.len()
}

fn digests(layer: &[u8]) {
    let (mut one, mut other) = (Hasher::new(), Hasher::new());
    for piece in layer.chunks(CHUNK_LEN) {
        one.update_with(piece, &mut other, piece);
    }
    black_box((one.finish_reset(), other.finish_reset()));
}

fn measure(layer: &Layer) -> Value {
    let (compressed, tar) = (&layer.compressed[..], &layer.tar[..]);
    let mut parts: [Part<'_>; 4] = [
        ("whole", Box::new(|| assert_eq!(index(black_box(compressed)), tar.len() as u64))),
        ("inflate", Box::new(|| assert_eq!(inflate(black_box(compressed)), tar.len() as u64))),
        ("scan", Box::new(|| assert!(scan(black_box(tar)) > 0))),
        ("digests", Box::new(|| digests(black_box(compressed)))),
    ];
    let medians = rounds::medians(&mut parts);
    let mut found = Map::new();
    for ((name, _), ns) in parts.iter().zip(medians) {
        println!("{:8} {name:8} {:9.2} ms CPU", layer.name, ns / 1e6);
        found.insert(format!("{name}_ns"), json!(ns));
    }
    found.insert("bytes".to_owned(), json!(tar.len()));
    Value::Object(found)
}

fn main() {
    let mut found = Map::new();
    for layer in rounds::layers() {
        let measured = measure(&layer);
        found.insert(layer.name, measured);
    }
    rounds::save("parts", &Value::Object(found));
}
