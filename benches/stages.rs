//! The cost of each stage of the parallel decoder, run alone: the input of `scaling.py`.
//!
//! The figures of a layer, in nanoseconds on one core:
//!
//! - `exact_ns_per_byte`: decoding into bytes, without CRC;
//! - `marked_ns_per_byte`: decoding into markers, from block starts as far apart as the ranges;
//! - `resolve_ns_per_byte`: replacing markers with bytes;
//! - `crc_ns_per_byte`, `scan_ns_per_byte`: the CRC and the tar scan, of bytes in the cache;
//! - `sha_pair_ns_per_compressed_byte`, `sha_single_ns_per_compressed_byte`: both digests together,
//!   and one alone, of bytes in the cache;
//! - `feed_ns_per_compressed_byte`: copying what a caller pushes;
//! - `probe_ns_per_compressed_bit`: the probe's filters, without trying the guesses;
//! - `join_ns_per_range`: accepting a range, which resolves its last window.
//!
//! Bytes are uncompressed unless the name says otherwise. The other figures are `ratio`
//! (uncompressed over compressed size), `bits_per_probe` (from the start of a range to its first
//! block), `marked_share` (the share of a range's output before a window without markers; the rest
//! is decoded exactly), and `measured_ns`, the wall time of the whole indexer by number of threads.
//! `cycles_per_ns` is for all layers.
#![allow(clippy::cast_possible_truncation, reason = "64-bit machines; units that are bytes")]
#![allow(clippy::cast_precision_loss, reason = "sizes of layers")]
#![allow(clippy::print_stdout, reason = "benchmarks print their results")]
#![allow(clippy::unwrap_used, reason = "an invalid corpus is fatal")]

mod measurement;
mod rounds;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::measurement::Measurement;
use measurement::CpuTime;
use rounds::{Layer, Part};
use serde_json::{Map, Value, json};
use tocsin_core::checkpoint::{WINDOW_LEN, Window};
use tocsin_core::digest::Hasher;
use tocsin_core::gzip::{Event, GzipDecoder};
use tocsin_core::indexer::{IndexOptions, LayerIndexer};
use tocsin_core::inflate::{FIRST_MARKER, Inflater, Speed, Stop};
use tocsin_core::parallel::UNIT_LEN;
use tocsin_core::parallel::stages::{self, Resolver};
use tocsin_core::tar::TocScanner;

/// Compressed bytes in a range that one task decodes into markers.
const RANGE_LEN: u64 = 6 * UNIT_LEN as u64;
const PIECE_LEN: usize = 1 << 20;
/// Number of ranges accepted in one measurement.
const JOINS: usize = 100;
/// Number of passes over cached data in one measurement.
const TIMES: usize = 64;
/// Bytes that stay in the cache between one stage and the next.
const CACHED_LEN: usize = 256 << 10;

/// The blocks of one range, in bits from the start of the layer.
#[derive(Debug, Clone, Copy)]
struct Range {
    start: u64,
    end: u64,
}

/// The blocks of a member, in bytes of the layer.
#[derive(Debug, Clone, Copy)]
struct Member {
    start: usize,
    end: usize,
}

/// The members and ranges of a layer.
#[derive(Debug, Default)]
struct Survey {
    members: Vec<Member>,
    ranges: Vec<Range>,
    /// Bits from each multiple of `RANGE_LEN` to the next block.
    probed: Vec<u64>,
}

/// Cuts each member at the first block at or after each multiple of `RANGE_LEN`.
fn survey(layer: &[u8]) -> Survey {
    const TRAILER_LEN: usize = 8;
    const RANGE_BITS: u64 = 8 * RANGE_LEN;
    let mut decoder = GzipDecoder::new(Speed::Fast);
    let (mut input, mut survey) = (layer, Survey::default());
    let (mut member, mut range) = (None, None);
    let mut due = RANGE_BITS;
    loop {
        let event = decoder.step(&mut input).unwrap();
        let at = decoder.position().0;
        match event {
            Event::NeedInput => return survey,
            Event::Output => decoder.take_output(|_| ()),
            Event::Candidate => {
                if member.is_none() {
                    member = Some((at / 8) as usize);
                }
                if at >= due {
                    survey.probed.push(at - due);
                    survey.ranges.extend(range.map(|start| Range { start, end: at }));
                    range = Some(at);
                    due = (at / RANGE_BITS + 1) * RANGE_BITS;
                }
            }
            Event::MemberEnd => {
                let end = (at / 8) as usize - TRAILER_LEN;
                survey.members.push(Member { start: member.take().unwrap(), end });
                range = None;
            }
        }
    }
}

fn exact(layer: &[u8], members: &[Member]) -> u64 {
    let mut total = 0;
    for member in members {
        let mut inflater = Inflater::new(Speed::Fast);
        let mut input = &layer[member.start..member.end];
        loop {
            match inflater.run(&mut input).unwrap() {
                Stop::NeedInput => unreachable!("a member that ends before its last block"),
                Stop::OutputFull => inflater.take_output(|bytes| total += bytes.len() as u64),
                Stop::BlockEnd { last: false } | Stop::BlockHeader | Stop::Pause => {}
                Stop::BlockEnd { last: true } => break,
            }
        }
        inflater.take_output(|bytes| total += bytes.len() as u64);
    }
    total
}

/// Decodes ranges into markers, each without the window before it.
fn marked(layer: &[u8], ranges: &[Range], mut consume: impl FnMut(usize, &[u16])) {
    for (index, range) in ranges.iter().enumerate() {
        let (byte, bit) = ((range.start / 8) as usize, (range.start % 8) as u8);
        let (first, count) = if bit == 0 { (0, 0) } else { (layer[byte] >> bit, 8 - bit) };
        let mut inflater = Inflater::marked(Speed::Fast, first, count);
        let all = &layer[byte + usize::from(bit > 0)..];
        let mut input = all;
        loop {
            match inflater.run(&mut input).unwrap() {
                Stop::NeedInput => unreachable!("a range ends inside the layer"),
                Stop::OutputFull => inflater.take_output(|units| consume(index, units)),
                Stop::BlockHeader | Stop::Pause => {}
                Stop::BlockEnd { .. } => {
                    let taken = (layer.len() - input.len()) as u64 * 8;
                    if taken - u64::from(inflater.unused_bits()) >= range.end {
                        break;
                    }
                }
            }
        }
        inflater.take_output(|units| consume(index, units));
    }
}

/// The output of some ranges, and the share of it before a window without markers.
fn sample(layer: &[u8], ranges: &[Range]) -> (Vec<u16>, f64) {
    let some: Vec<_> = ranges.iter().copied().step_by((ranges.len() / 16).max(1)).collect();
    let (mut units, mut lens, mut marked_lens) =
        (Vec::new(), vec![0; some.len()], vec![0; some.len()]);
    marked(layer, &some, |index, piece| {
        if let Some(last) = piece.iter().rposition(|unit| *unit >= FIRST_MARKER) {
            marked_lens[index] = lens[index] + last + 1;
        }
        lens[index] += piece.len();
        units.extend_from_slice(piece);
    });
    let until_clean = marked_lens.iter().zip(&lens).map(|(len, all)| (len + WINDOW_LEN).min(*all));
    let share = until_clean.sum::<usize>() as f64 / units.len().max(1) as f64;
    (units, share)
}

/// Wall nanoseconds of the whole indexer: the minimum of a few runs, since other programs only add
/// time.
fn whole(layer: &[u8], threads: usize) -> f64 {
    let run = || {
        let start = Instant::now();
        let options = IndexOptions { threads, ..IndexOptions::default() };
        let mut indexer = LayerIndexer::new(options).unwrap();
        layer.chunks(PIECE_LEN).try_for_each(|piece| indexer.push(piece)).unwrap();
        black_box(indexer.finish().unwrap());
        start.elapsed().as_secs_f64() * 1e9
    };
    (0..5).map(|_| run()).fold(f64::INFINITY, f64::min)
}

fn measure(layer: &Layer) -> Value {
    let (compressed, tar) = (&layer.compressed[..], &layer.tar[..]);
    let Survey { members, ranges, probed } = survey(compressed);
    // A layer whose members are shorter than a range has no ranges.
    let marked_len = {
        let mut len = 0;
        marked(compressed, &ranges, |_, units| len += units.len());
        len
    };
    let (units, marked_share) = sample(compressed, &ranges);
    let window = Window::ending_with(&tar[..tar.len().min(1 << 20)]);
    let resolver = Resolver::new(&window);
    let shared = Arc::new(compressed.to_vec());
    let mut bytes = vec![0; CACHED_LEN];
    // Compressed bytes in the cache, as in the indexer, which prefetches what another core has
    // written.
    let piece = &compressed[..compressed.len().min(CACHED_LEN)];
    let per_byte = |len: usize| move |ns: f64| json!((len > 0).then(|| ns / len as f64));

    let mut parts: [Part<'_>; 10] = [
        ("exact_ns_per_byte", {
            Box::new(|| assert_eq!(exact(black_box(compressed), &members), tar.len() as u64))
        }),
        ("marked_ns_per_byte", {
            Box::new(|| marked(black_box(compressed), &ranges, |_, units| _ = black_box(units)))
        }),
        ("resolve_ns_per_byte", {
            Box::new(|| {
                for units in units.chunks(CACHED_LEN) {
                    resolver.resolve(black_box(units), &mut bytes[..units.len()]);
                    black_box(&bytes);
                }
            })
        }),
        ("crc_ns_per_byte", {
            Box::new(|| {
                let cached = &tar[..tar.len().min(CACHED_LEN)];
                for _ in 0..TIMES {
                    let mut crc = crc32fast::Hasher::new();
                    crc.update(black_box(cached));
                    black_box(crc.finalize());
                }
            })
        }),
        ("scan_ns_per_byte", {
            Box::new(|| {
                let mut scanner = TocScanner::default();
                tar.chunks(CACHED_LEN).try_for_each(|piece| scanner.push(piece)).unwrap();
                black_box(scanner.finish().unwrap());
            })
        }),
        ("sha_pair_ns_per_compressed_byte", {
            Box::new(|| {
                let (mut one, mut other) = (Hasher::new(), Hasher::new());
                for _ in 0..TIMES {
                    one.update_with(black_box(piece), &mut other, black_box(piece));
                }
                black_box((one.finish_reset(), other.finish_reset()));
            })
        }),
        ("sha_single_ns_per_compressed_byte", {
            Box::new(|| {
                let mut hasher = Hasher::new();
                (0..TIMES).for_each(|_| hasher.update(black_box(piece)));
                black_box(hasher.finish_reset());
            })
        }),
        ("probe_ns_per_compressed_bit", {
            Box::new(|| _ = black_box(stages::probe(Arc::clone(&shared))))
        }),
        ("join_ns_per_range", {
            Box::new(|| {
                let last = &units[units.len().saturating_sub(WINDOW_LEN)..];
                for _ in 0..JOINS {
                    black_box(Resolver::new(black_box(&window)).window(black_box(last)));
                }
            })
        }),
        ("feed_ns_per_compressed_byte", {
            Box::new(|| {
                compressed.chunks(CACHED_LEN).for_each(|piece| drop(black_box(piece.to_vec())));
            })
        }),
    ];
    let lens = [
        tar.len(),
        marked_len,
        units.len(),
        TIMES * tar.len().min(CACHED_LEN),
        tar.len(),
        TIMES * piece.len(),
        TIMES * piece.len(),
        8 * compressed.len(),
        JOINS,
        compressed.len(),
    ];
    let medians = rounds::medians(&mut parts);
    let mut found = Map::new();
    for (((name, _), ns), len) in parts.iter().zip(medians).zip(lens) {
        found.insert((*name).to_owned(), per_byte(len)(ns));
    }
    drop(parts);
    let bits_per_probe = probed.iter().sum::<u64>() as f64 / probed.len() as f64;
    found
        .insert("bits_per_probe".to_owned(), json!((!probed.is_empty()).then_some(bits_per_probe)));
    found.insert("bytes".to_owned(), json!(tar.len()));
    found.insert("compressed_bytes".to_owned(), json!(compressed.len()));
    found.insert("ratio".to_owned(), json!(tar.len() as f64 / compressed.len() as f64));
    found.insert("marked_share".to_owned(), json!(marked_share));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let measured: Map<_, _> = (1..=cores)
        .map(|threads| (threads.to_string(), json!(whole(compressed, threads))))
        .collect();
    found.insert("measured_ns".to_owned(), Value::Object(measured));
    Value::Object(found)
}

/// The clock rate, measured with a chain of dependent multiplications: 3 cycles each on all x86-64
/// cores and most aarch64 cores since 2010.
fn cycles_per_ns() -> f64 {
    const COUNT: u64 = 1 << 26;
    let mut value = black_box(3_u64);
    let start = CpuTime.start();
    for _ in 0..COUNT {
        value = value.wrapping_mul(value);
    }
    black_box(value);
    (3 * COUNT) as f64 / CpuTime.to_f64(&CpuTime.end(start))
}

fn main() {
    let mut found = Map::new();
    for layer in rounds::layers() {
        let measured = measure(&layer);
        println!("{} {measured:#}", layer.name);
        found.insert(layer.name, measured);
    }
    if !found.is_empty() {
        let clock = (0..3).map(|_| cycles_per_ns()).fold(0.0, f64::max);
        found.insert("cycles_per_ns".to_owned(), json!(clock));
    }
    rounds::save("stages", &Value::Object(found));
}
