//! The memory limit of a pipeline: 64 MiB plus 24 MiB per thread, whatever the compression ratio.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

use std::io::Write;

use tocsin_core::parallel::{
    BlobConsumer, CheckpointPolicy, ConsumerSet, Consumers, OutputConsumer, Pipeline, Settings,
    SpanConsumer,
};
use tocsin_core::{Result, checkpoint, span};

use crate::support::mixed_data;
use crate::{peak_of, take_turn};

#[derive(Debug)]
struct Nothing;

impl Consumers for Nothing {
    type Policy = Self;
    type Spans = Self;
    type Blob = Self;
    type Output = Self;
}

impl CheckpointPolicy for Nothing {
    fn take(&mut self, _: span::UncompressedOffset) -> Result<bool> {
        Ok(false)
    }
}

impl SpanConsumer<Self> for Nothing {
    fn push(&mut self, _: u64, _: &[u8], _: Vec<checkpoint::Checkpoint>) {}

    fn push_with(&mut self, _: &mut Self, _: u64, _: &[u8], _: Vec<checkpoint::Checkpoint>) {}
}

impl BlobConsumer for Nothing {
    fn push(&mut self, _: &[u8]) {}
}

impl OutputConsumer for Nothing {
    fn push(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// Peak memory in bytes while `layer` is processed.
fn peak(layer: &[u8], threads: usize) -> usize {
    let settings = Settings { threads, unit_len: tocsin_core::parallel::UNIT_LEN, traces: false };
    let consumers: ConsumerSet<Nothing> =
        ConsumerSet { policy: Nothing, spans: Nothing, blob: Nothing, output: Nothing };
    let (peak, ()) = peak_of(|| {
        let mut pipeline = Pipeline::new(settings, consumers);
        layer.chunks(1 << 20).try_for_each(|piece| pipeline.push(piece)).unwrap();
        pipeline.finish().unwrap();
    });
    peak
}

fn gzip(pieces: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    pieces.for_each(|piece| encoder.write_all(&piece).unwrap());
    encoder.finish().unwrap()
}

fn check(name: &str, layer: &[u8]) {
    for threads in [2, 8] {
        let peak = peak(layer, threads);
        let most = (64 + 24 * threads) << 20;
        assert!(peak <= most, "{name}, {threads} threads: {peak} bytes, limit {most}");
    }
}

#[test]
fn pipeline_when_compression_ratio_is_1000_then_memory_is_bounded() {
    let _turn = take_turn();
    // 1.6 MB compressed: six units, each of which inflates to 256 MiB.
    let zeros = gzip((0..200).map(|_| vec![0; 8 << 20]));
    check("zeros", &zeros);
}

#[test]
fn pipeline_when_compression_ratio_is_20_then_memory_is_bounded() {
    let _turn = take_turn();
    // Whole ranges are decoded speculatively, up to the output limit of a speculation.
    let text = mixed_data(40_000, 3).repeat(40);
    let layer = gzip((0..60).map(|index| {
        let mut piece = text.clone();
        piece.extend(mixed_data(20_000, index));
        piece
    }));
    assert!(layer.len() > 2 << 20, "{}", layer.len());
    check("repeats", &layer);
}
