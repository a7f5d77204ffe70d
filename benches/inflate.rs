//! Inflating whole layers with CRC: tocsin compared with libdeflate, zlib-ng, zlib-rs and zlib in
//! the same run; then only their block headers.
//!
//! Layers come from the folder named by `TOCSIN_CORPUS` (see benches/corpus.py); missing ones are
//! skipped. Every peer reads the layer from memory. All but libdeflate write into a buffer that
//! stays in the cache, as an indexer does; libdeflate can only write the whole output at once, into
//! a buffer whose pages are already mapped. zlib-ng requires the feature `bench-zlib-ng`, since
//! building it needs cmake. ISA-L is not included, since its crates need nasm and autotools;
//! processes.py runs its igzip.
#![allow(clippy::cast_possible_truncation, reason = "benchmarks run on 64-bit machines")]
#![allow(missing_docs, reason = "criterion's macro makes a public function")]
#![allow(unreachable_pub, reason = "as above")]

mod headers;
mod measurement;
#[cfg(feature = "bench-zlib-ng")]
mod zlib_ng;

use std::hint::black_box;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use flate2::{Decompress, FlushDecompress};
use measurement::CpuTime;
use tocsin_core::gzip::{Event, GzipDecoder};
use tocsin_core::inflate::{Inflater, Speed, Stop};
use zlib_rs::{Inflate, InflateFlush, Status};

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

/// The range of each gzip member. libdeflate takes one member at a time and does not return where
/// it ended.
fn members(layer: &[u8]) -> Vec<Range<usize>> {
    let mut decoder = GzipDecoder::new(Speed::Fast);
    let (mut input, mut members, mut start) = (layer, Vec::new(), 0);
    while let Ok(event) = decoder.step(&mut input) {
        match event {
            Event::NeedInput => break,
            Event::Candidate => {}
            Event::Output => decoder.take_output(|_| ()),
            Event::MemberEnd => {
                let end = (decoder.position().0 / 8) as usize;
                members.push(start..end);
                start = end;
            }
        }
    }
    members
}

fn libdeflate(layer: &[u8], members: &[Range<usize>], output: &mut [u8]) -> u64 {
    let mut decompressor = libdeflater::Decompressor::new();
    let mut total = 0;
    for member in members {
        let written = decompressor.gzip_decompress(&layer[member.clone()], &mut output[total..]);
        total += written.unwrap_or(0);
    }
    total as u64
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

fn zlib_rs(layer: &[u8], output: &mut [u8]) -> u64 {
    let mut total = 0;
    let mut rest = layer;
    while !rest.is_empty() {
        let mut stream = Inflate::new(true, 16 + 15);
        loop {
            let before = (stream.total_in(), stream.total_out());
            let status = stream.decompress(rest, output, InflateFlush::NoFlush);
            rest = &rest[(stream.total_in() - before.0) as usize..];
            total += stream.total_out() - before.1;
            match status {
                Ok(Status::StreamEnd) => break,
                Ok(_) => {}
                Err(error) => unreachable!("corpus file does not decode: {error:?}"),
            }
        }
    }
    total
}

/// Inflates a stream without output and returns its number of blocks.
fn tocsin_blocks(inflater: &mut Inflater, stream: &[u8]) -> u64 {
    let (mut input, mut blocks) = (stream, 0);
    inflater.start_stream();
    while let Ok(Stop::BlockEnd { last }) = inflater.run(&mut input) {
        blocks += 1;
        if last {
            break;
        }
    }
    blocks
}

fn inflate(criterion: &mut Criterion<CpuTime>) {
    let mut small = vec![0; 256 << 10];
    for (name, layer) in layers() {
        let len = tocsin(&layer, Speed::Fast);
        let mut whole = vec![1; len as usize];
        let mut group = criterion.benchmark_group(format!("inflate/{name}"));
        group.sample_size(10).sampling_mode(SamplingMode::Flat).throughput(Throughput::Bytes(len));
        group.bench_function(BenchmarkId::from_parameter("tocsin"), |b| {
            b.iter(|| assert_eq!(tocsin(black_box(&layer), Speed::Fast), len));
        });
        let members = members(&layer);
        group.bench_function(BenchmarkId::from_parameter("libdeflate"), |b| {
            b.iter(|| assert_eq!(libdeflate(black_box(&layer), &members, &mut whole), len));
        });
        group.bench_function(BenchmarkId::from_parameter("zlib"), |b| {
            b.iter(|| assert_eq!(zlib(black_box(&layer), &mut small), len));
        });
        #[cfg(feature = "bench-zlib-ng")]
        group.bench_function(BenchmarkId::from_parameter("zlib-ng"), |b| {
            b.iter(|| assert_eq!(zlib_ng::inflate(black_box(&layer), &mut small), len));
        });
        group.bench_function(BenchmarkId::from_parameter("zlib-rs"), |b| {
            b.iter(|| assert_eq!(zlib_rs(black_box(&layer), &mut small), len));
        });
        group.finish();
    }
}

/// Maximum number of headers measured per layer.
const HEADERS_MAX: u64 = 2000;

fn block_headers(criterion: &mut Criterion<CpuTime>) {
    for (name, layer) in layers() {
        let headers = headers::of(&layer, HEADERS_MAX);
        let blocks = headers.count + 1;
        let mut group = criterion.benchmark_group(format!("headers/{name}"));
        group.sample_size(10).throughput(Throughput::Elements(headers.count));
        group.bench_function(BenchmarkId::from_parameter("tocsin"), |b| {
            let mut inflater = Inflater::new(Speed::Fast);
            b.iter(|| {
                assert_eq!(tocsin_blocks(&mut inflater, black_box(&headers.stream)), blocks);
                // Discard the unused bits of the last byte and the bytes that a refill has taken
                // after it.
                while inflater.next_byte(&mut &[][..]).is_some() {}
            });
        });
        group.bench_function(BenchmarkId::from_parameter("libdeflate"), |b| {
            let mut decompressor = libdeflater::Decompressor::new();
            b.iter(|| {
                let written = decompressor.deflate_decompress(black_box(&headers.stream), &mut []);
                assert_eq!(written, Ok(0));
            });
        });
        group.finish();
    }
}

fn in_cpu_time() -> Criterion<CpuTime> {
    Criterion::default()
        .with_measurement(CpuTime)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(2))
}

criterion_group!(name = benches; config = in_cpu_time(); targets = inflate, block_headers);
criterion_main!(benches);
