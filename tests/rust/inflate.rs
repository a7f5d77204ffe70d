//! Compares inflate and gzip with zlib, and the fast decoder with the plain one, and checks the
//! error for every broken rule.
#![allow(clippy::cast_possible_truncation, reason = "test data is small")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test may stop at once")]

use crate::support::{
    BitWriter, Decoded, decode, decode_pieces, member, mixed_data, zlib_gunzip, zlib_gzip,
    zlib_inflate,
};
use proptest::prelude::*;
use tocsin_core::Error;
use tocsin_core::error::{CodeName, GzipError};
use tocsin_core::gzip::{Event, GzipDecoder};
use tocsin_core::inflate::{Inflater, Speed, Stop};

fn kind_of(layer: &[u8]) -> GzipError {
    let plain = decode(layer, usize::MAX, Speed::Plain).unwrap_err();
    for piece_len in [1, 7, usize::MAX] {
        assert_eq!(decode(layer, piece_len, Speed::Fast), Err(plain.clone()), "at {piece_len}");
    }
    match plain {
        Error::Gzip { kind, .. } => kind,
        other => panic!("not a gzip error: {other}"),
    }
}

fn kind_of_stream(stream: BitWriter) -> GzipError {
    // Enough data after the error for the fast decoder to run.
    let mut bytes = stream.finish();
    bytes.extend([0x55; 64]);
    kind_of(&member(&bytes, b""))
}

#[test]
fn decode_when_level_and_piece_length_vary_then_equals_zlib() {
    for (seed, len) in [(1, 0), (2, 1), (3, 300), (4, 70_000), (5, 1_500_000)] {
        let data = mixed_data(len, seed);
        for level in [0, 1, 6, 9] {
            let layer = zlib_gzip(&data, level);
            let whole = decode(&layer, usize::MAX, Speed::Plain).unwrap();
            assert!(whole.output == data, "seed {seed} level {level}");
            for piece_len in [1, 7, 4096, usize::MAX] {
                let fast = decode(&layer, piece_len, Speed::Fast).unwrap();
                assert!(fast == whole, "seed {seed} level {level} piece {piece_len}");
            }
        }
    }
}

#[test]
fn decode_when_several_members_then_output_and_candidates_continue() {
    let (first, second) = (mixed_data(100_000, 6), mixed_data(50_000, 7));
    let mut layer = zlib_gzip(&first, 6);
    let second_start = layer.len() as u64;
    layer.extend(zlib_gzip(b"", 6));
    layer.extend(zlib_gzip(&second, 6));
    let decoded = decode(&layer, 1000, Speed::Fast).unwrap();
    assert!(decoded.output == [first.clone(), second].concat());
    assert_eq!(decoded.candidates[0], (80, 0));
    assert!(decoded.candidates.contains(&((second_start + 10) * 8, first.len() as u64)));
}

#[test]
fn resume_when_at_any_candidate_then_same_output() {
    let data = mixed_data(900_000, 8);
    let layer = zlib_gzip(&data, 6);
    let Decoded { output, candidates } = decode(&layer, usize::MAX, Speed::Plain).unwrap();
    assert!(candidates.len() > 5);
    for (bit, out) in candidates {
        let (bit, out) = (bit as usize, out as usize);
        let window = tocsin_core::checkpoint::Window::ending_with(&output[..out]);
        let used = (bit % 8) as u32;
        let (bits, count) =
            if used == 0 { (0, 0) } else { (layer[bit / 8] >> used, (8 - used) as u8) };
        for speed in [Speed::Fast, Speed::Plain] {
            let mut inflater = Inflater::resume(speed, &window, bits, count);
            let mut input = &layer[bit.div_ceil(8)..];
            let mut rest = Vec::new();
            loop {
                let stop = inflater.run(&mut input).unwrap();
                inflater.take_output(|bytes| rest.extend_from_slice(bytes));
                if stop == (Stop::BlockEnd { last: true }) {
                    break;
                }
                assert_ne!(stop, Stop::NeedInput);
            }
            assert!(rest == output[out..], "bit {bit}");
        }
    }
}

#[test]
fn header_when_it_has_all_fields_then_accepted() {
    let stream = [3, 0]; // a fixed block with only an end of block
    let mut layer = vec![0x1f, 0x8b, 8, 0b1_1111, 1, 2, 3, 4, 2, 3];
    layer.extend([5, 0, b'a', b'b', 1, 0, 9]); // FEXTRA
    layer.extend(b"name\0comment\0");
    let crc = (crc32fast::hash(&layer) & 0xffff) as u16;
    layer.extend(crc.to_le_bytes());
    let first_block = layer.len() as u64;
    layer.extend(stream);
    layer.extend([0; 8]);
    let decoded = decode(&layer, 1, Speed::Fast).unwrap();
    assert_eq!(decoded.candidates, [(first_block * 8, 0)]);
    let at = first_block as usize - 1;
    layer[at] ^= 1;
    assert!(matches!(kind_of(&layer), GzipError::HeaderCrc { .. }));
}

#[test]
fn header_when_not_gzip_then_error_has_the_wrong_byte() {
    assert_eq!(kind_of(b"PK\x03\x04"), GzipError::Magic(b'P'));
    assert_eq!(kind_of(b"\x1f\x8c\x08\0"), GzipError::Magic(0x8c));
    assert_eq!(kind_of(b"\x1f\x8b\x07\0"), GzipError::Method(7));
    assert_eq!(kind_of(b"\x1f\x8b\x08\x20"), GzipError::ReservedFlags(0x20));
    let mut long = b"\x1f\x8b\x08\x08\0\0\0\0\0\0".to_vec();
    long.extend([b'n'; 512]);
    assert_eq!(kind_of(&long), GzipError::HeaderText(511));
    let end = long.len() - 1;
    long[end] = 0;
    assert_eq!(kind_of(&long), GzipError::Truncated("a deflate block"));
}

#[test]
fn layer_when_cut_anywhere_then_truncated() {
    let layer = zlib_gzip(&mixed_data(3000, 9), 6);
    for len in 0..layer.len() {
        assert!(matches!(kind_of(&layer[..len]), GzipError::Truncated(_)), "cut to {len}");
    }
}

#[test]
fn trailer_when_wrong_then_crc_or_size_mismatch() {
    let layer = zlib_gzip(b"hello", 6);
    for (from_end, wanted) in [(8, "CRC-32 mismatch"), (4, "uncompressed size mismatch")] {
        let mut bad = layer.clone();
        let at = bad.len() - from_end;
        bad[at] ^= 0x10;
        assert!(kind_of(&bad).to_string().starts_with(wanted));
        let second = [layer.clone(), bad].concat();
        assert!(kind_of(&second).to_string().starts_with(wanted), "in the second member");
    }
}

#[test]
fn layer_when_it_has_trailing_bytes_then_rejected() {
    for tail in [&b"\0"[..], b"\0\0\0\0", b"garbage", b"\x78\x9c"] {
        let layer = [zlib_gzip(b"hello", 6), tail.to_vec()].concat();
        assert_eq!(kind_of(&layer), GzipError::TrailingBytes);
    }
}

#[test]
fn block_when_type_is_reserved_then_rejected() {
    let stream = BitWriter::new().put(1, 1, "BFINAL").put(2, 3, "BTYPE: reserved");
    assert_eq!(kind_of_stream(stream), GzipError::ReservedBlockType);
}

#[test]
fn stored_when_complement_is_wrong_then_rejected() {
    let stream = BitWriter::new()
        .put(1, 1, "BFINAL")
        .put(2, 0, "BTYPE: stored")
        .align()
        .put(16, 5, "LEN")
        .put(16, 5, "NLEN: not the complement");
    assert_eq!(kind_of_stream(stream), GzipError::StoredLength { len: 5, nlen: 5 });
}

#[test]
fn fixed_when_distance_is_too_far_then_rejected() {
    let stream = BitWriter::new()
        .put(1, 1, "BFINAL")
        .put(2, 1, "BTYPE: fixed")
        .code(8, 0x30 + u32::from(b'a'), "literal a")
        .code(7, 1, "length 3")
        .code(5, 1, "distance 2");
    let kind = GzipError::DistanceTooFar { distance: 2, available: 1 };
    assert_eq!(kind_of_stream(stream), kind);
}

#[test]
fn member_when_distance_reaches_into_previous_member_then_rejected() {
    let mut layer = zlib_gzip(&[b'x'; 100], 6);
    let stream = BitWriter::new()
        .put(1, 1, "BFINAL")
        .put(2, 1, "BTYPE: fixed")
        .code(7, 1, "length 3")
        .code(5, 0, "distance 1")
        .put(32, 0, "room for the fast decoder");
    layer.extend(member(&stream.finish(), b""));
    let kind = GzipError::DistanceTooFar { distance: 1, available: 0 };
    assert_eq!(kind_of(&layer), kind);
}

#[test]
fn fixed_when_symbol_is_invalid_then_rejected() {
    let block = || BitWriter::new().put(1, 1, "BFINAL").put(2, 1, "BTYPE: fixed");
    for word in [0b1100_0110, 0b1100_0111] {
        let stream = block().code(8, word, "literal/length symbol 286 or 287");
        assert_eq!(kind_of_stream(stream), GzipError::InvalidSymbol(CodeName::LitLen));
    }
    for symbol in [30, 31] {
        let stream = block().code(8, 0x30, "literal 0").code(7, 1, "length 3").code(
            5,
            symbol,
            "invalid distance symbol",
        );
        assert_eq!(kind_of_stream(stream), GzipError::InvalidSymbol(CodeName::Distance));
    }
}

/// A dynamic block's header up to its code length code, in which symbols 0, 1, 2 and 18 have two
/// bits.
fn dynamic(litlen: u32, distance: u32) -> BitWriter {
    let order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1];
    let mut stream = BitWriter::new()
        .put(1, 1, "BFINAL")
        .put(2, 2, "BTYPE: dynamic")
        .put(5, litlen - 257, "HLIT")
        .put(5, distance - 1, "HDIST")
        .put(4, order.len() as u32 - 4, "HCLEN");
    for symbol in order {
        let len = if matches!(symbol, 0 | 1 | 2 | 18) { 2 } else { 0 };
        stream = stream.put(3, len, "length of a code length code");
    }
    stream
}

/// Code lengths in the code of [`dynamic`]; `Zeros(n)` is symbol 18.
#[derive(Clone, Copy)]
enum Len {
    Zero,
    One,
    Two,
    Zeros(u32),
}

fn lengths(mut stream: BitWriter, lens: &[Len]) -> BitWriter {
    for len in lens {
        stream = match len {
            Len::Zero => stream.code(2, 0, "0"),
            Len::One => stream.code(2, 1, "1"),
            Len::Two => stream.code(2, 2, "2"),
            Len::Zeros(count) => stream.code(2, 3, "18").put(7, count - 11, "repeat count"),
        };
    }
    stream
}

#[test]
fn dynamic_when_header_breaks_a_rule_then_rejected_with_its_error() {
    use Len::{One, Two, Zeros};
    let none = GzipError::NoEndOfBlock;
    let two_long_runs = [Zeros(138), Zeros(118)]; // symbols 0 to 255
    let cases: [(&str, BitWriter, GzipError); 7] = [
        ("too many codes", dynamic(257, 31), GzipError::TooManyCodes { litlen: 257, distance: 31 }),
        ("no end of block", lengths(dynamic(257, 1), &[Zeros(138), Zeros(119), One]), none),
        (
            "repeat past the end",
            lengths(dynamic(257, 1), &[Zeros(138), Zeros(138)]),
            GzipError::CodeLengthRepeat,
        ),
        (
            "over-subscribed",
            lengths(dynamic(257, 1), &[One, One, One, Zeros(138), Zeros(115), One, One]),
            GzipError::OverSubscribed(CodeName::LitLen),
        ),
        (
            "incomplete",
            lengths(dynamic(257, 1), &[two_long_runs[0], two_long_runs[1], Two, One]),
            GzipError::Incomplete(CodeName::LitLen),
        ),
        (
            "incomplete distances",
            lengths(dynamic(257, 2), &[One, Zeros(138), Zeros(117), One, Two, Two]),
            GzipError::Incomplete(CodeName::Distance),
        ),
        (
            "second of a lone distance code",
            lengths(dynamic(258, 1), &[Two, Zeros(138), Zeros(117), Two, One, One])
                .code(2, 2, "literal 0")
                .code(1, 0, "length 3")
                .code(1, 1, "a code word without a symbol"),
            GzipError::InvalidSymbol(CodeName::Distance),
        ),
    ];
    for (name, stream, kind) in cases {
        assert_eq!(kind_of_stream(stream), kind, "{name}");
    }
}

#[test]
fn dynamic_when_first_length_is_a_repeat_then_rejected() {
    let stream = BitWriter::new()
        .put(1, 1, "BFINAL")
        .put(2, 2, "BTYPE: dynamic")
        .put(5, 0, "HLIT")
        .put(5, 0, "HDIST")
        .put(4, 0, "HCLEN: 16, 17, 18, 0")
        .put(3, 1, "16 has one bit")
        .put(3, 0, "17")
        .put(3, 1, "18 has one bit")
        .put(3, 0, "0")
        .code(1, 0, "repeat without a previous length");
    assert_eq!(kind_of_stream(stream), GzipError::CodeLengthRepeat);
}

#[test]
fn dynamic_when_code_length_code_is_invalid_then_rejected() {
    let header = || {
        BitWriter::new()
            .put(1, 1, "BFINAL")
            .put(2, 2, "BTYPE: dynamic")
            .put(5, 0, "HLIT")
            .put(5, 0, "HDIST")
            .put(4, 0, "HCLEN: four lengths")
    };
    let over = header().put(3, 1, "16").put(3, 1, "17").put(3, 1, "18").put(3, 0, "0");
    assert_eq!(kind_of_stream(over), GzipError::OverSubscribed(CodeName::CodeLength));
    let incomplete = header().put(3, 1, "16").put(3, 0, "17").put(3, 0, "18").put(3, 0, "0");
    assert_eq!(kind_of_stream(incomplete), GzipError::Incomplete(CodeName::CodeLength));
}

#[test]
fn dynamic_when_it_has_no_distance_code_then_literals_decode() {
    use Len::{One, Zeros};
    let stream = lengths(dynamic(257, 1), &[One, Zeros(138), Zeros(117), One, Len::Zero])
        .code(1, 0, "literal 0")
        .code(1, 0, "literal 0")
        .code(1, 1, "end of block")
        .finish();
    let layer = member(&stream, &[0, 0]);
    assert_eq!(zlib_gunzip(&layer).unwrap(), [0, 0], "zlib agrees");
    assert_eq!(decode(&layer, 1, Speed::Fast).unwrap().output, [0, 0]);
}

#[test]
fn decoder_when_new_then_position_is_0_and_it_cannot_finish() {
    let mut decoder = GzipDecoder::new(Speed::Fast);
    assert_eq!(decoder.step(&mut &b""[..]).unwrap(), Event::NeedInput);
    assert_eq!(decoder.position().0, 0);
    assert!(decoder.finish().is_err());
}

/// Mostly valid layers: data compressed at any level, then damaged.
fn damaged_layer() -> impl Strategy<Value = Vec<u8>> {
    let data = (0_usize..60_000, any::<u64>()).prop_map(|(len, seed)| mixed_data(len, seed));
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (data, 0_u32..10, damage).prop_map(|(data, level, damage)| {
        let mut layer = zlib_gzip(&data, level);
        for (index, value) in damage {
            let at = index.index(layer.len());
            layer[at] ^= value;
        }
        layer
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn decode_when_damaged_then_fast_equals_plain_and_zlib(layer in damaged_layer()) {
        let plain = decode(&layer, usize::MAX, Speed::Plain);
        let fast = decode(&layer, usize::MAX, Speed::Fast);
        prop_assert!(plain == fast, "fast and plain differ");
        if let Ok(decoded) = plain {
            let zlib = zlib_gunzip(&layer);
            prop_assert!(zlib.is_ok_and(|output| output == decoded.output), "zlib differs");
        }
    }

    #[test]
    fn inflate_when_random_bits_then_fast_equals_plain_and_zlib(
        mut stream in prop::collection::vec(any::<u8>(), 1..400),
        kind in 0_u8..3,
    ) {
        stream[0] = stream[0] & !7 | 1 | kind << 1;
        let run = |speed| {
            let (mut inflater, mut input) = (Inflater::new(speed), &stream[..]);
            let mut output = Vec::new();
            loop {
                let stop = inflater.run(&mut input).ok()?;
                inflater.take_output(|bytes| output.extend_from_slice(bytes));
                match stop {
                    Stop::BlockEnd { last: true } => return Some(output),
                    Stop::NeedInput => return None,
                    _ => {}
                }
            }
        };
        let plain = run(Speed::Plain);
        prop_assert_eq!(&plain, &run(Speed::Fast));
        prop_assert_eq!(plain, zlib_inflate(&stream));
    }

    #[test]
    fn decode_when_split_anywhere_then_output_is_the_same(
        len in 0_usize..200_000,
        seed in any::<u64>(),
        level in 0_u32..10,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let layer = zlib_gzip(&mixed_data(len, seed), level);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(layer.len())).collect();
        cuts.extend([0, layer.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| &layer[cut[0]..cut[1]]);
        let split = decode_pieces(pieces, Speed::Fast).unwrap();
        prop_assert!(split == decode(&layer, usize::MAX, Speed::Plain).unwrap());
    }
}
