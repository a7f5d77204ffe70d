//! Inflate of whole layers with CRC: tocsin beside libdeflate and zlib, in the same run.
//!
//! Layers come from the folder named by `TOCSIN_CORPUS` (see benches/corpus.py); those not there are
//! left out. Every peer reads the layer from memory. tocsin and zlib write into a buffer that stays in
//! the cache, as an indexer does; libdeflate can only write the whole output, into a buffer touched
//! before.
#![allow(clippy::cast_possible_truncation, reason = "benches run on 64-bit machines")]
#![allow(missing_docs, reason = "criterion's macro makes a public function")]

use std::hint::black_box;
use std::path::PathBuf;

use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use flate2::{Decompress, FlushDecompress};
use tocsin_core::gzip::{Event, GzipDecoder};
use tocsin_core::inflate::Speed;

/// Longest run of one layer; the rest of a larger file is not read.
const COMPRESSED_LIMIT: usize = 64 << 20;

fn layers() -> Vec<(String, Vec<u8>)> {
    let Some(folder) = std::env::var_os("TOCSIN_CORPUS").map(PathBuf::from) else {
        return Vec::new();
    };
    let Ok(entries) = std::fs::read_dir(&folder) else { return Vec::new() };
    let mut layers: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "gz"))
        .filter_map(|path| {
            Some((path.file_stem()?.to_str()?.to_owned(), std::fs::read(&path).ok()?))
        })
        .filter(|(_, bytes)| bytes.len() <= COMPRESSED_LIMIT)
        .collect();
    layers.sort();
    layers
}

fn tocsin(layer: &[u8], speed: Speed) -> u64 {
    let mut decoder = GzipDecoder::new(speed);
    let mut total = 0;
    for piece in layer.chunks(64 << 10) {
        let mut input = piece;
        while let Ok(event) = decoder.step(&mut input) {
            if event == Event::NeedInput {
                break;
            }
            if event != Event::Candidate {
                decoder.take_output(|bytes| total += bytes.len() as u64);
            }
        }
    }
    assert!(decoder.finish().is_ok());
    total
}

fn libdeflate(layer: &[u8], output: &mut [u8]) -> u64 {
    let mut decompressor = libdeflater::Decompressor::new();
    decompressor.gzip_decompress(layer, output).map_or(0, |len| len as u64)
}

fn zlib(layer: &[u8], output: &mut [u8]) -> u64 {
    let mut total = 0;
    let mut rest = layer;
    while !rest.is_empty() {
        let mut stream = Decompress::new_gzip(15);
        loop {
            let before = (stream.total_in(), stream.total_out());
            let status = stream.decompress(rest, output, FlushDecompress::None);
            rest = &rest[(stream.total_in() - before.0) as usize..];
            total += stream.total_out() - before.1;
            match status {
                Ok(flate2::Status::StreamEnd) => break,
                Ok(_) => {}
                Err(error) => unreachable!("corpus file does not decode: {error}"),
            }
        }
    }
    total
}

fn inflate(criterion: &mut Criterion) {
    let mut small = vec![0; 256 << 10];
    for (name, layer) in layers() {
        let len = tocsin(&layer, Speed::Fast);
        let mut whole = vec![1; len as usize];
        let mut group = criterion.benchmark_group(format!("inflate/{name}"));
        group.sample_size(10).sampling_mode(SamplingMode::Flat).throughput(Throughput::Bytes(len));
        group.bench_function(BenchmarkId::from_parameter("tocsin"), |b| {
            b.iter(|| assert_eq!(tocsin(black_box(&layer), Speed::Fast), len));
        });
        // One member only, by its interface.
        if libdeflate(&layer, &mut whole) == len {
            group.bench_function(BenchmarkId::from_parameter("libdeflate"), |b| {
                b.iter(|| assert_eq!(libdeflate(black_box(&layer), &mut whole), len));
            });
        }
        group.bench_function(BenchmarkId::from_parameter("zlib"), |b| {
            b.iter(|| assert_eq!(zlib(black_box(&layer), &mut small), len));
        });
        group.finish();
    }
}

criterion_group!(benches, inflate);
criterion_main!(benches);
