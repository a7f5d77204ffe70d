//! A pipeline gives the same result as a single thread (output, candidates, windows, compressed
//! bytes, errors), wherever units and ranges begin and however hostile the stream is.
#![allow(clippy::cast_possible_truncation, reason = "test data is small")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test may stop at once")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::deflate::{Codes, Shape, Token, block, stored};
use crate::support::layers::tar_of;
use crate::support::{BitWriter, decode, member, mixed_data, zlib_gzip};
use proptest::prelude::*;
use tocsin_core::checkpoint::{Checkpoint, Window};
use tocsin_core::error::{GzipError, TarError};
use tocsin_core::indexer::{IndexOptions, LayerIndexer};
use tocsin_core::inflate::Speed;
use tocsin_core::parallel::{
    BlobConsumer, CheckpointPolicy, ConsumerSet, Consumers, OutputConsumer, Pipeline, Settings,
    SpanConsumer,
};
use tocsin_core::span::UncompressedOffset;
use tocsin_core::{Error, Result};

const THREADS: [usize; 4] = [1, 2, 3, 8];

/// Selects every candidate.
#[derive(Debug, Default)]
struct Everywhere(Vec<u64>);

impl CheckpointPolicy for Everywhere {
    fn take(&mut self, at: UncompressedOffset) -> Result<bool> {
        self.0.push(at.0);
        Ok(true)
    }
}

#[derive(Debug, Default)]
struct Collected {
    bytes: Vec<u8>,
    checkpoints: Vec<Checkpoint>,
}

impl SpanConsumer<Bytes> for Collected {
    fn push(&mut self, start: u64, bytes: &[u8], checkpoints: Vec<Checkpoint>) {
        assert_eq!(start, self.bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
        for checkpoint in &checkpoints {
            let first = checkpoint.first_byte().0;
            assert!(first >= start && first < self.bytes.len() as u64, "{checkpoint:?}");
        }
        self.checkpoints.extend(checkpoints);
    }

    fn push_with(
        &mut self,
        blob: &mut Bytes,
        start: u64,
        bytes: &[u8],
        checkpoints: Vec<Checkpoint>,
    ) {
        self.push(start, bytes, checkpoints);
        BlobConsumer::push(blob, bytes);
    }
}

impl BlobConsumer for Bytes {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

#[derive(Debug, Default)]
struct Bytes(Vec<u8>);

impl OutputConsumer for Bytes {
    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Consumers that keep everything.
#[derive(Debug)]
enum Keeping {}

impl Consumers for Keeping {
    type Policy = Everywhere;
    type Spans = Collected;
    type Blob = Bytes;
    type Output = Bytes;
}

type Found = ConsumerSet<Keeping>;

fn consumers() -> Found {
    ConsumerSet {
        policy: Everywhere::default(),
        spans: Collected::default(),
        blob: Bytes::default(),
        output: Bytes::default(),
    }
}

fn run(layer: &[u8], threads: usize, unit_len: usize) -> Result<Found> {
    let mut pipeline = Pipeline::new(Settings { threads, unit_len, traces: false }, consumers());
    layer.chunks(10_000).try_for_each(|piece| pipeline.push(piece))?;
    pipeline.finish()
}

/// Runs pipelines with several settings, and compares each result with the plain decoder's.
fn check(name: &str, layer: &[u8], unit_lens: &[usize]) {
    let expected = decode(layer, usize::MAX, Speed::Plain);
    for threads in THREADS {
        for &unit_len in unit_lens {
            let how = format!("{name}: {threads} threads, units of {unit_len}");
            match (run(layer, threads, unit_len), &expected) {
                (Err(error), Err(expected)) => assert_eq!(error, *expected, "{how}"),
                (Ok(found), Ok(expected)) => {
                    assert!(found.output.0 == expected.output, "{how}: output");
                    assert!(found.spans.bytes == layer, "{how}: compressed bytes");
                    assert!(found.blob.0 == layer, "{how}: compressed bytes as a whole");
                    let offsets: Vec<u64> = expected.candidates.iter().map(|at| at.1).collect();
                    assert_eq!(found.policy.0, offsets, "{how}");
                    let checkpoints = &found.spans.checkpoints;
                    assert_eq!(checkpoints.len(), offsets.len(), "{how}");
                    for (checkpoint, &(position, offset)) in
                        checkpoints.iter().zip(&expected.candidates)
                    {
                        let bit = checkpoint.compressed.0 * 8 - u64::from(checkpoint.bits);
                        assert_eq!((bit, checkpoint.uncompressed.0), (position, offset), "{how}");
                        let before = &expected.output[..offset as usize];
                        assert!(checkpoint.window == Window::ending_with(before), "{how}: {bit}");
                    }
                }
                (found, expected) => {
                    panic!("{how}: {:?}, expected {:?}", found.err(), expected.as_ref().err())
                }
            }
        }
    }
}

fn literals(bytes: &[u8]) -> Vec<Token> {
    bytes.iter().copied().map(Token::Literal).collect()
}

const DYNAMIC: Codes = Codes::Dynamic {
    litlen: Shape { skew: 0, reversed: false, unused: 3 },
    distance: Shape { skew: 0, reversed: false, unused: 3 },
};

/// Deterministic bytes that do not compress.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn pipeline_when_level_varies_then_equals_one_thread() {
    let data = mixed_data(1_500_000, 1);
    for level in [0, 1, 6, 9] {
        let layer = zlib_gzip(&data, level);
        check(&format!("level {level}"), &layer, &[1_000, 4_096, 50_000, 1 << 20]);
    }
}

#[test]
fn pipeline_when_input_is_tiny_then_equals_one_thread() {
    for len in [0, 1, 2, 10, 300] {
        check(&format!("{len} bytes"), &zlib_gzip(&mixed_data(len, 3), 6), &[1, 2, 7, 64]);
    }
    check("nothing", b"", &[1, 100]);
    check("one byte", &[0x1f], &[1, 100]);
    check("not gzip", b"not a gzip stream at all", &[1, 7]);
}

#[test]
fn pipeline_when_window_stays_unresolved_then_equals_one_thread() {
    // Every match has the largest distance, so no marker is ever replaced by a byte.
    let period = noise(32_768, 5);
    let mut stream = BitWriter::new();
    stream = block(stream, &literals(&period), DYNAMIC, false);
    let far = [Token::Match { len: 258, distance: 32_768 }; 400];
    for index in 0..20 {
        stream = block(stream, &far, DYNAMIC, index == 19);
    }
    let data: Vec<u8> = period.iter().copied().cycle().take(32_768 + 20 * 400 * 258).collect();
    check("far matches", &member(&stream.finish(), &data), &[64, 100, 1_000]);
}

#[test]
fn pipeline_when_one_giant_block_then_equals_one_thread() {
    let data = noise(600_000, 7);
    let layer = member(&block(BitWriter::new(), &literals(&data), DYNAMIC, true).finish(), &data);
    check("giant block", &layer, &[1_000, 30_000]);
}

#[test]
fn pipeline_when_compression_ratio_is_1000_then_equals_one_thread() {
    check("zeros", &zlib_gzip(&vec![0; 20_000_000], 9), &[100, 1_000, 7_000]);
}

#[test]
fn pipeline_when_stored_blocks_hold_deflate_data_then_not_misled() {
    let inner = zlib_gzip(&mixed_data(400_000, 11), 6);
    let mut stream = BitWriter::new();
    let mut data = Vec::new();
    for (index, piece) in inner.chunks(20_000).cycle().take(30).enumerate() {
        stream = stored(stream, piece, index == 29);
        data.extend_from_slice(piece);
    }
    check("stored deflate", &member(&stream.finish(), &data), &[1_000, 5_000, 30_000]);
}

#[test]
fn pipeline_when_stream_is_full_of_false_starts_then_not_misled() {
    // Each run of literals encodes a whole dynamic block, including its header, in code words of
    // eight bits.
    let text = literals(&mixed_data(900, 13));
    let false_block = block(BitWriter::new(), &text, DYNAMIC, false).finish();
    let mut stream = BitWriter::new();
    let mut data = Vec::new();
    for index in 0..60 {
        let piece = false_block.repeat(8);
        let is_last = index == 59;
        stream = if index % 2 == 0 {
            stored(stream, &piece, is_last)
        } else {
            block(stream, &literals(&piece), DYNAMIC, is_last)
        };
        data.extend(piece);
    }
    check("false starts", &member(&stream.finish(), &data), &[500, 3_000, 20_000]);
}

#[test]
fn pipeline_when_thousands_of_blocks_are_empty_then_equals_one_thread() {
    let data = mixed_data(60_000, 17);
    let mut stream = BitWriter::new();
    for (index, piece) in data.chunks(1_000).enumerate() {
        for _ in 0..50 {
            stream = stored(stream, b"", false);
            stream = block(stream, &[], Codes::Fixed, false);
        }
        stream = block(stream, &literals(piece), DYNAMIC, index == 59);
    }
    check("empty blocks", &member(&stream.finish(), &data), &[300, 5_000]);
}

#[test]
fn pipeline_when_members_are_small_then_equals_one_thread() {
    let mut layer = Vec::new();
    for index in 0..600 {
        layer.extend(zlib_gzip(&mixed_data(index % 40, index as u64), 6));
    }
    check("members of a few bytes", &layer, &[100, 1_000, 10_000]);

    let data = mixed_data(2_000_000, 19);
    let blocks: Vec<u8> = data.chunks(65_280).flat_map(|piece| zlib_gzip(piece, 6)).collect();
    check("members of 64 KiB", &blocks, &[5_000, 40_000, 100_000]);
}

#[test]
fn pipeline_when_distance_reaches_into_previous_member_then_same_error() {
    // Speculative decoding would accept it, since its window has bytes there.
    let first = mixed_data(300_000, 23);
    let mut layer = zlib_gzip(&first, 6);
    let mut stream = block(BitWriter::new(), &literals(b"a start"), DYNAMIC, false);
    stream = block(stream, &[Token::Match { len: 10, distance: 500 }], DYNAMIC, false);
    stream = block(stream, &literals(&noise(50_000, 29)), DYNAMIC, true);
    layer.extend(member(&stream.finish(), b""));
    check("too far", &layer, &[500, 5_000, 60_000]);
}

#[test]
fn pipeline_when_truncated_or_corrupt_then_same_error_and_position() {
    let data = mixed_data(400_000, 31);
    let layer = zlib_gzip(&data, 6);
    // Offsets around boundaries of ranges and of units, and elsewhere.
    let offsets = [3_000, 4_000, 8_000, 12_000, 16_000, 40_000];
    for offset in offsets.into_iter().filter(|offset| offset + 20 < layer.len()) {
        for at in [offset - 1, offset, offset + 1, offset + 17] {
            check(&format!("cut at {at}"), &layer[..at], &[1_000]);
            let mut corrupt = layer.clone();
            corrupt[at] ^= 0x10;
            check(&format!("corrupt at {at}"), &corrupt, &[1_000]);
        }
    }
    let trailer = layer.len() - 8;
    for at in [trailer, trailer + 5] {
        let mut corrupt = layer.clone();
        corrupt[at] ^= 1;
        check(&format!("trailer at {at}"), &corrupt, &[1_000, 1 << 20]);
    }
    let mut trailing = layer;
    trailing.extend([0; 3_000]);
    check("trailing bytes", &trailing, &[1_000]);
}

/// Fails or panics after `left` bytes of output. `alive` counts the instances.
#[derive(Debug)]
struct Failing {
    left: usize,
    panics: bool,
    alive: Arc<AtomicUsize>,
}

impl Failing {
    fn new(left: usize, panics: bool, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Self { left, panics, alive: Arc::clone(alive) }
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

fn refusal() -> Error {
    Error::Tar { kind: TarError::Truncated("a test"), at: UncompressedOffset(1) }
}

impl OutputConsumer for Failing {
    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        match self.left.checked_sub(bytes.len()) {
            Some(left) => self.left = left,
            None if self.panics => panic!("a worker fails"),
            None => return Err(refusal()),
        }
        Ok(())
    }
}

/// Consumers that keep everything except the output.
#[derive(Debug)]
enum KeepingUntilFailure {}

impl Consumers for KeepingUntilFailure {
    type Policy = Everywhere;
    type Spans = Collected;
    type Blob = Bytes;
    type Output = Failing;
}

fn failing_consumers(output: Failing) -> ConsumerSet<KeepingUntilFailure> {
    ConsumerSet {
        policy: Everywhere::default(),
        spans: Collected::default(),
        blob: Bytes::default(),
        output,
    }
}

fn run_failing(layer: &[u8], threads: usize, output: Failing) -> Result<()> {
    let consumers = failing_consumers(output);
    let mut pipeline =
        Pipeline::new(Settings { threads, unit_len: 4_096, traces: false }, consumers);
    layer.chunks(10_000).try_for_each(|piece| pipeline.push(piece))?;
    pipeline.finish().map(drop)
}

#[test]
fn pipeline_when_a_consumer_fails_then_returns_its_error_and_drops_all() {
    let layer = zlib_gzip(&mixed_data(1_000_000, 37), 6);
    let alive = Arc::new(AtomicUsize::new(0));
    for threads in THREADS {
        for left in [0, 300_000, 999_999] {
            let found = run_failing(&layer, threads, Failing::new(left, false, &alive));
            assert_eq!(found, Err(refusal()), "{threads} threads, {left}");
            assert_eq!(alive.load(Ordering::SeqCst), 0, "{threads} threads, {left}");
        }
    }
}

#[test]
fn pipeline_when_a_worker_panics_then_the_caller_panics() {
    let layer = zlib_gzip(&mixed_data(1_000_000, 41), 6);
    let alive = Arc::new(AtomicUsize::new(0));
    for threads in THREADS {
        let output = Failing::new(500_000, true, &alive);
        let panic = catch_unwind(AssertUnwindSafe(|| run_failing(&layer, threads, output)));
        let panic = panic.expect_err("the panic is rethrown");
        assert_eq!(panic.downcast_ref(), Some(&"a worker fails"), "{threads} threads");
        assert_eq!(alive.load(Ordering::SeqCst), 0, "{threads} threads");
    }
}

#[test]
fn pipeline_when_dropped_in_the_middle_then_its_threads_end() {
    let layer = zlib_gzip(&mixed_data(3_000_000, 43), 6);
    let alive = Arc::new(AtomicUsize::new(0));
    for threads in THREADS {
        for part in 1..6 {
            let consumers = failing_consumers(Failing::new(usize::MAX, false, &alive));
            let mut pipeline =
                Pipeline::new(Settings { threads, unit_len: 4_096, traces: false }, consumers);
            pipeline.push(&layer[..layer.len() * part / 6]).unwrap();
            drop(pipeline);
            // The threads share what the pipeline owned, so all of them have ended.
            assert_eq!(alive.load(Ordering::SeqCst), 0, "{threads} threads, part {part}");
        }
    }
}

#[test]
fn pipeline_when_there_are_two_errors_then_reports_the_first() {
    // Two errors: the checksum of the first member, and a block of the second.
    let first = zlib_gzip(&mixed_data(200_000, 47), 6);
    let mut layer = first.clone();
    layer[first.len() - 6] ^= 1;
    layer.extend(zlib_gzip(&mixed_data(200_000, 53), 6));
    let middle = first.len() + 5_000;
    layer[middle..middle + 50].fill(0xff);
    check("two errors", &layer, &[1_000, 20_000]);
    let error = run(&layer, 2, 1_000).err().unwrap();
    assert!(matches!(error, Error::Gzip { kind: GzipError::Crc { .. }, .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 24 }))]

    #[test]
    fn pipeline_when_damaged_then_equals_one_thread(
        seed in 1_u64..1000,
        len in 0_usize..400_000,
        level in 0_u32..10,
        unit_len in 200_usize..20_000,
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut layer = zlib_gzip(&mixed_data(len, seed), level);
        for (index, bits) in flips {
            let at = index.index(layer.len());
            layer[at] ^= bits;
        }
        check("damaged", &layer, &[unit_len]);
    }

    #[test]
    fn index_when_damaged_then_same_result_on_any_number_of_threads(
        seed in 1_u64..1000,
        len in 0_usize..300_000,
        tar_damage in proptest::option::of((any::<proptest::sample::Index>(), any::<u8>())),
        gzip_damage in proptest::option::of((any::<proptest::sample::Index>(), any::<u8>())),
        span_size in prop_oneof![Just(0), Just(1_000), Just(60_000), Just(4 << 20)],
        unit_len in 200_usize..20_000,
    ) {
        // Several entries, so that the tar can be damaged early or late.
        let tar: Vec<u8> = mixed_data(len, seed).chunks(9_000).flat_map(tar_entry).collect();
        let mut tar = [tar, vec![0; 1_024]].concat();
        if let Some((index, bits)) = tar_damage {
            let at = index.index(tar.len());
            tar[at] ^= bits;
        }
        let mut layer = zlib_gzip(&tar, 6);
        if let Some((index, bits)) = gzip_damage {
            let at = index.index(layer.len());
            layer[at] ^= bits;
        }
        let index = |threads| {
            let options =
                IndexOptions { threads, unit_len, span_size, diff_id: true, ..IndexOptions::default() };
            let mut indexer = LayerIndexer::new(options)?;
            layer.chunks(7_000).try_for_each(|piece| indexer.push(piece))?;
            indexer.finish()
        };
        let alone = index(1);
        for threads in [2, 3, 8] {
            let found = index(threads);
            prop_assert_eq!(found.as_ref().err(), alone.as_ref().err(), "{} threads", threads);
            prop_assert!(found == alone, "{} threads", threads);
        }
    }
}

fn tar_entry(data: &[u8]) -> Vec<u8> {
    let mut entry = tar_of(data);
    entry.truncate(entry.len() - 1_024);
    entry
}
