//! The parts of the core besides inflate: the tar scan, reading and writing a zTOC, the whole
//! indexer, and reading one span.
//!
//! Layers come from the folder named by `TOCSIN_CORPUS` (see benches/corpus.py): the `.go.gz`
//! files, which are compressed as container tools do it, and the corresponding tars.
#![allow(clippy::cast_possible_truncation, reason = "benchmarks run on 64-bit machines")]
#![allow(clippy::unwrap_used, reason = "an invalid corpus is fatal")]
#![allow(missing_docs, reason = "criterion's macro makes a public function")]
#![allow(unreachable_pub, reason = "as above")]

mod measurement;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use measurement::CpuTime;
use tocsin_core::extract::inflate_span;
use tocsin_core::indexer::{IndexOptions, LayerIndexer};
use tocsin_core::span::SpanId;
use tocsin_core::tar::TocScanner;
use tocsin_core::ztoc::Ztoc;

/// Bytes per push, as in the Python bindings.
const PIECE_LEN: usize = 1 << 20;

fn layers() -> Vec<(String, PathBuf)> {
    let Some(folder) = std::env::var_os("TOCSIN_CORPUS") else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut layers: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?.strip_suffix(".go.gz")?.to_owned();
            Some((name, path))
        })
        .collect();
    layers.sort();
    layers
}

fn index(layer: &[u8]) -> Ztoc {
    let mut indexer = LayerIndexer::new(IndexOptions::default()).unwrap();
    layer.chunks(PIECE_LEN).try_for_each(|piece| indexer.push(piece)).unwrap();
    indexer.finish().unwrap().ztoc
}

fn scan(tar: &[u8]) -> usize {
    let mut scanner = TocScanner::default();
    tar.chunks(256 << 10).try_for_each(|piece| scanner.push(piece)).unwrap();
    scanner.finish().unwrap().entries.len()
}

fn tar_of(layer: &Path, name: &str) -> Option<Vec<u8>> {
    std::fs::read(layer.with_file_name(format!("{name}.tar"))).ok()
}

fn rooms(criterion: &mut Criterion<CpuTime>) {
    for (name, path) in layers() {
        let layer = std::fs::read(&path).unwrap();
        let ztoc = index(&layer);
        let blob = ztoc.to_bytes().unwrap();
        let mut group = criterion.benchmark_group(format!("rooms/{name}"));
        group.sample_size(10).sampling_mode(SamplingMode::Flat);

        group.throughput(Throughput::Bytes(ztoc.uncompressed_archive_size));
        group.bench_function("index", |b| b.iter(|| index(black_box(&layer))));
        if let Some(tar) = tar_of(&path, &name) {
            group.bench_function("tar-scan", |b| b.iter(|| scan(black_box(&tar))));
        }

        group.throughput(Throughput::Bytes(blob.len() as u64));
        group.bench_function("ztoc-write", |b| b.iter(|| black_box(&ztoc).to_bytes().unwrap()));
        group.bench_function("ztoc-read", |b| {
            b.iter(|| Ztoc::from_bytes(black_box(&blob)).map(drop));
        });

        let span_id = SpanId((ztoc.span_count() / 2) as u32);
        let range = ztoc.span_compressed_range(span_id).unwrap();
        let bytes = &layer[range.start.0 as usize..range.end.0 as usize];
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function("span-read", |b| {
            b.iter(|| inflate_span(&ztoc, span_id, black_box(bytes)).unwrap());
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

criterion_group!(name = benches; config = in_cpu_time(); targets = rooms);
criterion_main!(benches);
