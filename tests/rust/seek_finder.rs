//! The checkpoints of a seek table are the cheapest ones according to a slow decoder that counts byte
//! by byte; every span can be decoded from its checkpoint; and the result does not depend on threads
//! or on how the layer is pushed.
#![allow(clippy::cast_possible_truncation, reason = "test data is small")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test may stop at once")]

use crate::support::deflate::{Codes, Shape, Token, block, stored};
use crate::support::layers::tar_of;
use crate::support::symbols::{Begins, WINDOW, symbols};
use crate::support::{BitWriter, golden, member, mixed_data, zlib_gunzip, zlib_gzip};
use proptest::prelude::*;
use tocsin_core::bytes::SharedBytes;
use tocsin_core::checkpoint::{PointStart, SeekPoint};
use tocsin_core::digest::Digest;
use tocsin_core::error::{Error, SeekError};
use tocsin_core::gzip::{Event, GzipDecoder};
use tocsin_core::indexer::{IndexOptions, LayerIndexer};
use tocsin_core::inflate::Speed;
use tocsin_core::seek::{SeekLayer, SeekSpans};
use tocsin_core::span::SpanId;
use tocsin_core::trace::Trace;

const KIB: usize = 1 << 10;

/// How a layer is indexed; the result must not depend on it.
#[derive(Debug, Clone, Copy)]
struct How {
    threads: usize,
    unit_len: usize,
    push_len: usize,
}

const SIMPLE: How = How { threads: 1, unit_len: 256 * KIB, push_len: 1 << 20 };

fn seek_layer(layer: &[u8], span_size: usize, how: How) -> SeekLayer {
    let options = IndexOptions {
        threads: how.threads,
        unit_len: how.unit_len,
        seek_span_size: Some(span_size as u64),
        ..IndexOptions::default()
    };
    let mut indexer = LayerIndexer::new(options).unwrap();
    layer.chunks(how.push_len).try_for_each(|piece| indexer.push(piece)).unwrap();
    indexer.finish().unwrap().seek.unwrap()
}

/// The checkpoints of a seek blob, each with the digest of its span.
fn points(layer: &SeekLayer) -> Vec<(SeekPoint, Digest)> {
    let digests = layer.chunk_digests().collect();
    let spans = SeekSpans::new(layer.positions().clone(), digests);
    for chunk in 0..layer.chunk_count() {
        let data = layer.chunk(chunk).unwrap().to_vec();
        spans.add_chunk(chunk as u32, SharedBytes::new(data)).unwrap();
    }
    let count = layer.positions().span_count() as u32;
    (0..count).map(|id| spans.point(SpanId(id)).unwrap()).collect()
}

/// The output from a checkpoint on, up to `len` bytes.
fn decode_from(
    point: &SeekPoint,
    layer: &[u8],
    len: usize,
    speed: Speed,
) -> Result<Vec<u8>, Error> {
    let first = (point.position.0 / 8) as usize;
    let mut decoder = GzipDecoder::resume_at(speed, point, layer[first]);
    let mut input = &layer[point.position.0.div_ceil(8) as usize..];
    let mut output = Vec::new();
    while output.len() < len {
        let event = decoder.step(&mut input)?;
        decoder.take_output(|bytes| output.extend_from_slice(bytes));
        if event == Event::NeedInput {
            break;
        }
    }
    output.truncate(len);
    Ok(output)
}

/// Compares all checkpoints with those of the slow decoder, and decodes every span.
fn check(layer: &[u8], span_size: usize) -> SeekLayer {
    let found = seek_layer(layer, span_size, SIMPLE);
    let points = points(&found);
    let judge = symbols(layer);
    let expected = judge.checkpoints(span_size);
    let positions = |at: &[(SeekPoint, Digest)]| -> Vec<usize> {
        at.iter().map(|(point, _)| point.uncompressed.0 as usize).collect()
    };
    let wanted: Vec<usize> = expected.iter().map(|wanted| wanted.0).collect();
    assert_eq!(positions(&points), wanted);
    for (index, ((point, digest), (at, what, position, needed))) in
        points.iter().zip(&expected).enumerate()
    {
        assert_eq!(point.position.0, *position, "checkpoint {index} at {at}");
        let known: Vec<usize> = (point.window.runs.iter())
            .flat_map(|run| usize::from(run.start)..usize::from(run.start) + usize::from(run.len))
            .map(|place| at + place - WINDOW)
            .collect();
        assert_eq!(known, *needed, "window of checkpoint {index} at {at}");
        let bytes: Vec<u8> = needed.iter().map(|&place| judge.output[place]).collect();
        assert_eq!(point.window.bytes[..], bytes, "window of checkpoint {index} at {at}");
        match (&point.start, what) {
            (PointStart::Member, Begins::Member)
            | (PointStart::Block, Begins::Block)
            | (PointStart::Stored { .. }, Begins::StoredByte) => {}
            (PointStart::Huffman(header), Begins::Symbol) => {
                let bits = judge.headers.iter().rfind(|bits| bits.1 <= *position).unwrap();
                let stored: Vec<u8> = (bits.0..bits.1)
                    .map(|bit| layer[(bit / 8) as usize] >> (bit % 8) & 1)
                    .collect();
                let header: Vec<u8> = (0..usize::from(header.len))
                    .map(|bit| header.bytes[bit / 8] >> (bit % 8) & 1)
                    .collect();
                assert_eq!(header, stored, "header of checkpoint {index} at {at}");
            }
            other => panic!("checkpoint {index} at {at}: {other:?}"),
        }
        let end = expected.get(index + 1);
        let compressed_end = end.map_or(layer.len(), |end| end.2.div_ceil(8) as usize);
        assert_eq!(*digest, Digest::of(&layer[(position / 8) as usize..compressed_end]));
        let end = end.map_or(judge.output.len(), |end| end.0);
        assert!(end - at <= span_size / 4 * 5);
        for speed in [Speed::Fast, Speed::Plain] {
            let output = decode_from(point, layer, end - at, speed).unwrap();
            assert!(output == judge.output[*at..end], "span {index} at {at}");
        }
    }
    found
}

/// Greedy matches, found with a table of the last position of each sequence of four bytes.
fn tokens(data: &[u8]) -> Vec<Token> {
    let mut last = std::collections::HashMap::new();
    let mut found = Vec::new();
    let mut at = 0;
    while at < data.len() {
        let key = data.get(at..at + 4).map(<[u8]>::to_vec);
        let earlier = key.and_then(|key| last.insert(key, at));
        let len = earlier.filter(|&from| at - from <= WINDOW).map_or(0, |from: usize| {
            let pairs = data[at..].iter().zip(&data[from..]);
            pairs.take(258).take_while(|(one, other)| one == other).count()
        });
        if let Some(from) = earlier
            && len >= 4
        {
            found.push(Token::Match { len, distance: at - from });
            at += len;
        } else {
            found.push(Token::Literal(data[at]));
            at += 1;
        }
    }
    found
}

/// The length of the output of tokens.
fn output_len(tokens: &[Token]) -> usize {
    let len = |token: &Token| match token {
        Token::Literal(_) => 1,
        Token::Match { len, .. } => *len,
    };
    tokens.iter().map(len).sum()
}

/// A layer with blocks of the given numbers of tokens, of every kind in turn, and empty blocks between them.
fn odd_blocks(data: &[u8], lens: &[usize]) -> Vec<u8> {
    let tokens = tokens(data);
    let mut stream = BitWriter::new();
    let (mut rest, mut done) = (&tokens[..], 0);
    let skewed = Shape { skew: 4, reversed: true, unused: 9 };
    for (index, len) in lens.iter().cycle().enumerate() {
        if rest.is_empty() {
            break;
        }
        let (now, after) = rest.split_at((*len).min(rest.len()));
        let len = output_len(now);
        stream = match index % 5 {
            0 => block(stream, now, Codes::Fixed, false),
            1 if len < 65_536 => stored(stream, &data[done..done + len], false),
            2 => {
                let stream = stored(stream, &[], false);
                block(block(stream, &[], Codes::Fixed, false), now, Codes::Fixed, false)
            }
            _ => {
                let codes = Codes::Dynamic { litlen: skewed, distance: Shape::default() };
                block(stream, now, codes, false)
            }
        };
        (rest, done) = (after, done + len);
    }
    member(&stored(stream, &[], true).finish(), data)
}

fn members(data: &[u8], lens: &[usize]) -> Vec<u8> {
    let mut layer = Vec::new();
    let (mut rest, mut lens) = (data, lens.iter().cycle());
    while !rest.is_empty() {
        let (now, after) = rest.split_at((*lens.next().unwrap()).min(rest.len()));
        layer.extend(zlib_gzip(now, 6));
        if now.len() % 3 == 0 {
            layer.extend(zlib_gzip(&[], 1));
        }
        rest = after;
    }
    layer
}

#[test]
fn seek_when_compressed_by_zlib_then_cheapest_checkpoints() {
    let data = tar_of(&mixed_data(1_500_000, 1));
    for level in [1, 6, 9] {
        let layer = zlib_gzip(&data, level);
        for span_size in [64 * KIB, 256 * KIB, 1 << 20] {
            check(&layer, span_size);
        }
    }
}

#[test]
fn seek_when_stored_then_cheapest_checkpoints() {
    let data = tar_of(&mixed_data(700_000, 2));
    check(&zlib_gzip(&data, 0), 64 * KIB);
}

/// Two spans that are larger than what may wait are hashed one after the other.
#[test]
fn seek_when_spans_have_a_mebibyte_then_right_digests() {
    let data = tar_of(&mixed_data(4_500_000, 13));
    let layer = zlib_gzip(&data, 0);
    let wanted = check(&layer, 1 << 20);
    assert!(wanted.positions().span_count() > 3);
    for push_len in [1_000, 300_000] {
        assert!(seek_layer(&layer, 1 << 20, How { push_len, ..SIMPLE }) == wanted);
    }
}

#[test]
fn seek_when_blocks_are_odd_then_cheapest_checkpoints() {
    let data = tar_of(&mixed_data(600_000, 3));
    for lens in [&[3, 1, 200, 7][..], &[1], &[30_000, 1, 5_000], &[usize::MAX]] {
        let layer = odd_blocks(&data, lens);
        assert!(zlib_gunzip(&layer).unwrap() == data);
        check(&layer, 64 * KIB);
    }
}

#[test]
fn seek_when_many_members_then_cheapest_checkpoints() {
    let data = tar_of(&mixed_data(900_000, 4));
    for lens in [&[100_000, 7][..], &[999, 30_000, 1], &[65_280]] {
        check(&members(&data, lens), 64 * KIB);
    }
}

#[test]
fn seek_when_highly_compressible_then_cheapest_checkpoints() {
    let mut data = vec![0; 1_000_000];
    data.extend(mixed_data(100_000, 5));
    data.extend(vec![7; 500_000]);
    let layer = zlib_gzip(&tar_of(&data), 9);
    let wanted = check(&layer, 64 * KIB);
    // Several checkpoints are found from one symbol.
    for push_len in [1, 50, 700] {
        assert!(seek_layer(&layer, 64 * KIB, How { push_len, ..SIMPLE }) == wanted);
    }
}

/// All matches, as (start, end), that a decoder records when told to record from an offset on.
fn recorded_from(layer: &[u8], start: u64) -> Vec<(u64, u64)> {
    let mut decoder = GzipDecoder::new(Speed::Fast);
    decoder.trace(start..u64::MAX);
    let (mut input, mut done, mut found) = (layer, 0_u64, Vec::new());
    loop {
        let event = decoder.step(&mut input).unwrap();
        let mut trace = Trace::default();
        decoder.take_trace(&mut trace);
        let matches = trace.matches.iter().map(|found| done + u64::from(found.offset()));
        let lens = trace.matches.iter().map(|found| u64::from(found.len()));
        found.extend(matches.zip(lens).map(|(at, len)| (at, at + len)));
        decoder.take_output(|bytes| done += bytes.len() as u64);
        if event == Event::NeedInput {
            return found;
        }
    }
}

/// With matches of 258 bytes, one step of the fast decoder and one symbol of the plain one begin far
/// before the range and end inside it.
#[test]
fn trace_when_a_match_lies_across_the_start_of_the_range_then_recorded() {
    let mut data = mixed_data(20_000, 3);
    for at in 0..20 {
        data.extend_from_within(data.len() - 9_000 - 577 * at..data.len() - 5_000 - 577 * at);
    }
    let layer = zlib_gzip(&data, 6);
    let all = recorded_from(&layer, 0);
    for start in 60_000..60_600 {
        let across = all.iter().find(|(from, end)| (from + 1..*end).contains(&start));
        let found = recorded_from(&layer, start);
        assert!(across.is_none_or(|across| found.contains(across)), "{across:?} across {start}");
    }
}

#[test]
fn seek_when_smaller_than_a_span_then_one_checkpoint() {
    for len in [0, 1, 79_000, 80_000] {
        let layer = zlib_gzip(&tar_of(&mixed_data(len, 6)), 6);
        check(&layer, 64 * KIB);
    }
}

/// A block starts at the first or the last position of the zone, and nothing before it is needed.
#[test]
fn seek_when_block_starts_at_an_end_of_the_zone_then_found() {
    let data = tar_of(&mixed_data(300_000, 12));
    let tokens = tokens(&data);
    for place in [48 * KIB, 80 * KIB] {
        let mut ends = tokens.iter().scan(0, |sum, token| {
            *sum += output_len(&[*token]);
            Some(*sum)
        });
        // Matches up to about that place, then stored bytes up to it, then literals.
        let count = ends.position(|end| end > place).unwrap();
        let done = output_len(&tokens[..count]);
        let stream = block(BitWriter::new(), &tokens[..count], Codes::Fixed, false);
        let stream = stored(stream, &data[done..place], false);
        let rest: Vec<Token> = data[place..].iter().map(|byte| Token::Literal(*byte)).collect();
        let stream = block(stream, &rest, Codes::Fixed, true);
        check(&member(&stream.finish(), &data), 64 * KIB);
    }
}

#[test]
fn seek_when_golden_layers_then_cheapest_checkpoints() {
    let mut count = 0;
    for entry in std::fs::read_dir(golden("layers")).unwrap() {
        let layer = std::fs::read(entry.unwrap().path()).unwrap();
        if layer.starts_with(&[0x1f, 0x8b])
            && zlib_gunzip(&layer).is_ok()
            && LayerIndexer::new(IndexOptions::default())
                .and_then(|mut indexer| indexer.push(&layer).and_then(|()| indexer.finish()))
                .is_ok()
        {
            check(&layer, 64 * KIB);
            count += 1;
        }
    }
    assert!(count > 0);
}

#[test]
fn seek_when_threads_and_pushes_differ_then_same_blob() {
    let data = tar_of(&mixed_data(2_000_000, 7));
    let layers = [
        zlib_gzip(&data, 6),
        zlib_gzip(&data, 0),
        members(&data, &[300_000, 5, 10_000]),
        odd_blocks(&data, &[900, 40_000, 2]),
    ];
    for layer in &layers {
        for span_size in [64 * KIB, 128 * KIB, 256 * KIB] {
            let wanted = seek_layer(layer, span_size, SIMPLE);
            for threads in [1, 2, 3] {
                for (unit_len, push_len) in [(300, 1_000), (4_096, 77), (30_000, 1 << 20)] {
                    let how = How { threads, unit_len, push_len };
                    let found = seek_layer(layer, span_size, how);
                    assert!(found == wanted, "{how:?}, {span_size}");
                }
            }
        }
    }
}

/// Blocks without output take no memory, so the checkpoint is chosen early, with its whole window.
#[test]
fn seek_when_zone_has_too_many_empty_blocks_then_whole_window() {
    let data = tar_of(&mixed_data(400_000, 8));
    let mut stream = BitWriter::new();
    for (index, piece) in data.chunks(60_000).enumerate() {
        stream = stored(stream, piece, false);
        let count = if index == 1 { 60_000 } else { 1 };
        for _ in 0..count {
            stream = stored(stream, &[], false);
        }
    }
    let layer = member(&stored(stream, &[], true).finish(), &data);
    let wanted = seek_layer(&layer, 64 * KIB, SIMPLE);
    let points = points(&wanted);
    for (index, (point, _)) in points.iter().enumerate() {
        let (at, end) = (point.uncompressed.0 as usize, points.get(index + 1));
        let end = end.map_or(data.len(), |end| end.0.uncompressed.0 as usize);
        assert!(decode_from(point, &layer, end - at, Speed::Fast).unwrap() == data[at..end]);
    }
    assert!(points.iter().any(|(point, _)| point.window.bytes.len() == WINDOW));
    for threads in [1, 2, 3] {
        for (unit_len, push_len) in [(3_000, 1_000), (30_000, 1 << 20)] {
            let how = How { threads, unit_len, push_len };
            assert!(seek_layer(&layer, 64 * KIB, how) == wanted, "{how:?}");
        }
    }
}

#[test]
fn seek_when_plain_tar_then_spans_of_the_same_size() {
    let tar = tar_of(&mixed_data(300_000, 9));
    let layer = seek_layer(&tar, 64 * KIB, How { push_len: 999, ..SIMPLE });
    let points = points(&layer);
    assert_eq!(points.len(), tar.len().div_ceil(64 * KIB));
    for ((point, digest), span) in points.iter().zip(tar.chunks(64 * KIB)) {
        assert_eq!(point.position.0, point.uncompressed.0 * 8);
        assert_eq!(*digest, Digest::of(span));
    }
}

#[test]
fn resume_when_a_window_byte_is_missing_then_error() {
    let data = tar_of(&mixed_data(400_000, 10));
    let layer = zlib_gzip(&data, 6);
    let mut missing = 0;
    for (point, _) in points(&seek_layer(&layer, 64 * KIB, SIMPLE)) {
        let window = &point.window;
        for (index, run) in window.runs.iter().enumerate() {
            let before: usize = window.runs[..index].iter().map(|run| usize::from(run.len)).sum();
            let len = usize::from(run.len);
            let mut broken = point.clone();
            broken.window.runs = window.runs.iter().copied().filter(|other| other != run).collect();
            broken.window.bytes =
                [&window.bytes[..before], &window.bytes[before + len..]].concat().into();
            for speed in [Speed::Fast, Speed::Plain] {
                let error = decode_from(&broken, &layer, 60_000, speed).unwrap_err();
                let Error::Seek { kind: SeekError::MissingWindowByte(byte), .. } = error else {
                    panic!("{error}");
                };
                let place = WINDOW - byte as usize;
                let start = usize::from(run.start);
                assert!((start..start + len).contains(&place), "{place} in {run:?}");
                missing += 1;
            }
        }
    }
    assert!(missing > 100);
}

#[test]
fn resume_when_stored_header_is_invalid_then_error() {
    let data = tar_of(&mixed_data(400_000, 11));
    let layer = zlib_gzip(&data, 6);
    let points = points(&seek_layer(&layer, 64 * KIB, SIMPLE));
    let point = points.iter().find(|(point, _)| matches!(point.start, PointStart::Huffman(_)));
    let (point, _) = point.unwrap();
    let PointStart::Huffman(header) = &point.start else { return };
    let mut shorter = header.clone();
    shorter.len -= 1;
    let mut stored = header.clone();
    stored.bytes[0] &= !0b110;
    let mut longer = header.clone();
    longer.bytes = [&header.bytes[..], &[0]].concat().into();
    for header in [shorter, stored, longer] {
        let broken = SeekPoint { start: PointStart::Huffman(header), ..point.clone() };
        let error = decode_from(&broken, &layer, 10, Speed::Fast).unwrap_err();
        assert_eq!(error.code(), "seek.block-header");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn seek_when_any_blocks_then_cheapest_checkpoints(
        seed in any::<u64>(),
        lens in prop::collection::vec(1_usize..9_000, 1..6),
        threads in 1_usize..4,
        unit_len in 500_usize..40_000,
        is_members: bool,
    ) {
        let data = tar_of(&mixed_data(300_000, seed));
        let layer = if is_members { members(&data, &lens) } else { odd_blocks(&data, &lens) };
        let found = check(&layer, 64 * KIB);
        let how = How { threads, unit_len, push_len: unit_len / 2 + 1 };
        prop_assert!(seek_layer(&layer, 64 * KIB, how) == found);
    }
}
