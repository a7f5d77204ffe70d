//! The parts of the core besides inflate: the tar scan, reading and writing a zTOC, the whole
//! indexer, reading one span, and reading at random places with a zTOC or a seek table.
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
use tocsin_core::extract::{SpanReader, SpanTable, inflate_span};
use tocsin_core::indexer::{IndexOptions, IndexedLayer, LayerIndexer};
use tocsin_core::seek::DEFAULT_SEEK_SPAN_SIZE;
use tocsin_core::span::{SpanId, UncompressedOffset};
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

/// Bytes of a random read, the largest that a page fault or a small file usually takes.
const READ_LEN: u64 = 64 << 10;

fn index(layer: &[u8]) -> Ztoc {
    index_with(layer, IndexOptions::default()).ztoc
}

fn index_with(layer: &[u8], options: IndexOptions) -> IndexedLayer {
    let mut indexer = LayerIndexer::new(options).unwrap();
    layer.chunks(PIECE_LEN).try_for_each(|piece| indexer.push(piece)).unwrap();
    indexer.finish().unwrap()
}

/// Reads a range from spans that nothing was read from before: verifies each and inflates it as far
/// as necessary.
fn cold_read(
    table: &impl SpanTable,
    span_of: impl Fn(UncompressedOffset) -> Option<SpanId>,
    layer: &[u8],
    start: u64,
) -> u64 {
    let (mut at, end) = (UncompressedOffset(start), UncompressedOffset(start + READ_LEN));
    while at < end {
        let span_id = span_of(at).unwrap();
        let range = table.span(span_id).unwrap().compressed;
        let bytes = &layer[range.start.0 as usize..range.end.0 as usize];
        let mut reader = SpanReader::new(table, span_id, bytes).unwrap();
        let len = reader.read(&(at..end)).unwrap().len();
        at.0 += len as u64;
    }
    at.0 - start
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

        let seek_span_size = Some(DEFAULT_SEEK_SPAN_SIZE);
        let options = IndexOptions { seek_span_size, ..IndexOptions::default() };
        let seek = index_with(&layer, options).seek.unwrap();
        let spans = seek.all_spans().unwrap();
        // The same places for both, spread over the layer.
        let room = ztoc.uncompressed_archive_size.saturating_sub(READ_LEN);
        let places: Vec<u64> = (0..64).map(|index| room / 64 * index + index * 997 % 512).collect();
        group.throughput(Throughput::Bytes(READ_LEN * places.len() as u64));
        group.bench_function("cold-reads-ztoc", |b| {
            let span_of = |at| ztoc.span_of(at);
            let read = |start: &u64| cold_read(&ztoc, span_of, black_box(&layer), *start);
            b.iter(|| places.iter().map(read).sum::<u64>());
        });
        group.bench_function("cold-reads-seek", |b| {
            let span_of = |at| spans.positions().span_of(at);
            let read = |start: &u64| cold_read(&spans, span_of, black_box(&layer), *start);
            b.iter(|| places.iter().map(read).sum::<u64>());
        });
        group.throughput(Throughput::Bytes(seek.blob().len() as u64));
        group.bench_function("seek-chunks-read", |b| b.iter(|| seek.all_spans().map(drop)));
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
