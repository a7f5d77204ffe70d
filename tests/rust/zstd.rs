//! Decoding zstd frames written field by field (RFC 8878), and the error for each broken rule.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]
#![allow(clippy::cast_possible_truncation, reason = "test data is small")]

use tocsin_core::Error;
use tocsin_core::error::ZstdError;
use tocsin_core::span::CompressedOffset;
use tocsin_core::zstd::{MAX_WINDOW_LEN, ZstdDecoder};

const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
const CHECKSUM: u8 = 1 << 2;
const RESERVED: u8 = 1 << 3;
/// A window of 1 KiB: exponent 0, mantissa 0.
const SMALLEST_WINDOW: u8 = 0;
/// Exponent 17, mantissa 0: 2^27.
const LARGEST_WINDOW: u8 = 17 << 3;
const RAW: u32 = 0;
const RLE: u32 = 1;
const RESERVED_BLOCK: u32 = 3;

/// A frame header without a content size or a dictionary.
fn header(flags: u8, window: u8) -> Vec<u8> {
    [&MAGIC[..], &[flags, window]].concat()
}

fn block(last: bool, kind: u32, size: u32, content: &[u8]) -> Vec<u8> {
    let header = (size << 3 | kind << 1 | u32::from(last)).to_le_bytes();
    [&header[..3], content].concat()
}

fn raw(last: bool, content: &[u8]) -> Vec<u8> {
    block(last, RAW, content.len() as u32, content)
}

fn skippable(content: &[u8]) -> Vec<u8> {
    let magic = 0x184d_2a5b_u32.to_le_bytes();
    [&magic[..], &(content.len() as u32).to_le_bytes(), content].concat()
}

/// Feeds pieces of `piece_len` bytes and reads at most `max` bytes at a time.
fn decode(stream: &[u8], piece_len: usize, max: usize) -> Result<Vec<u8>, Error> {
    let mut decoder = ZstdDecoder::new();
    let mut output = Vec::new();
    for piece in stream.chunks(piece_len) {
        decoder.feed(piece);
        loop {
            let bytes = decoder.read(max)?;
            assert!(bytes.len() <= max);
            if bytes.is_empty() {
                break;
            }
            output.extend(bytes);
        }
    }
    decoder.finish()?;
    Ok(output)
}

/// The error for an invalid stream, which must not depend on the pieces.
fn failure(stream: &[u8]) -> (ZstdError, u64) {
    let error = decode(stream, usize::MAX, usize::MAX).unwrap_err();
    for piece_len in [1, 5, 1000] {
        assert_eq!(decode(stream, piece_len, 3).unwrap_err(), error);
    }
    let Error::Zstd { kind, at } = error else { unreachable!("{error}") };
    (kind, at.0)
}

#[test]
fn read_when_several_frames_then_returns_all_their_bytes() {
    // XXH64 of no bytes, from its specification: 0xef46db3751d8e999.
    let checksum = 0x51d8_e999_u32.to_le_bytes();
    let stream = [
        skippable(b"to be skipped"),
        header(0, SMALLEST_WINDOW),
        raw(false, b"first"),
        block(false, RLE, 900, b"x"),
        raw(true, b"last"),
        skippable(b""),
        [header(CHECKSUM, SMALLEST_WINDOW), raw(true, b""), checksum.to_vec()].concat(),
        // A single segment of 3 bytes.
        [&MAGIC[..], &[1 << 5, 3]].concat(),
        raw(true, b"end"),
        skippable(&[7; 300]),
    ]
    .concat();
    let expected = [&b"first"[..], &[b'x'; 900], b"last", b"end"].concat();
    for piece_len in [1, 2, 3, 7, 100, usize::MAX] {
        for max in [1, 10, usize::MAX] {
            assert_eq!(decode(&stream, piece_len, max).unwrap(), expected, "{piece_len} {max}");
        }
    }
}

#[test]
fn read_when_compression_ratio_is_huge_then_decodes_only_as_needed() {
    // 16 GiB from half a megabyte.
    let blocks = block(false, RLE, 128 << 10, b"0").repeat(128 << 10);
    let mut decoder = ZstdDecoder::new();
    // Exponent 7: 128 KiB.
    decoder.feed(&[header(0, 7 << 3), blocks].concat());
    for _ in 0..100 {
        assert_eq!(decoder.read(1000).unwrap(), [b'0'; 1000]);
    }
}

#[test]
fn read_when_a_rule_is_broken_then_error_has_the_rule_and_the_offset() {
    let good = [header(0, SMALLEST_WINDOW), raw(true, b"good")].concat();
    let after = good.len() as u64;

    let (kind, at) = failure(b"\x1f\x8b\x08\x00 no frame");
    assert_eq!((kind, at), (ZstdError::Magic(0x0008_8b1f), 0));
    let (kind, at) = failure(&[good.clone(), b"junk".to_vec()].concat());
    assert_eq!((kind, at), (ZstdError::Magic(u32::from_le_bytes(*b"junk")), after));

    let (kind, at) = failure(&[good.clone(), header(RESERVED, 0), raw(true, b"")].concat());
    assert_eq!((kind, at), (ZstdError::ReservedBit(RESERVED), after));

    // A dictionary id of one byte.
    let (kind, _) = failure(&[&MAGIC[..], &[1, 0, 42], &raw(true, b"")].concat());
    assert_eq!(kind, ZstdError::Dictionary(42));

    let blocks = [block(false, RESERVED_BLOCK, 0, b""), raw(true, b"")].concat();
    let (kind, at) = failure(&[header(0, 0), blocks].concat());
    assert!(matches!(kind, ZstdError::Block(_)), "{kind}");
    assert_eq!(at, 6);

    // Longer than the window.
    let (kind, _) = failure(&[header(0, 0), raw(true, &[0; 1025])].concat());
    assert!(matches!(kind, ZstdError::Block(_)), "{kind}");
    // Larger than any valid block; rejected before its 2 MiB arrive.
    let (kind, _) = failure(&[header(0, 7 << 3), block(true, RAW, (1 << 21) - 1, b"")].concat());
    assert!(matches!(kind, ZstdError::Block(_)), "{kind}");

    let (kind, _) =
        failure(&[header(CHECKSUM, 0), raw(true, b""), 9_u32.to_le_bytes().to_vec()].concat());
    assert_eq!(kind, ZstdError::Checksum { actual: 0x51d8_e999, stored: 9 });

    // A window descriptor and a content size of 2 bytes, which counts from 256.
    let sized = |size: u16| [&MAGIC[..], &[1 << 6, 0], &(size - 256).to_le_bytes()].concat();
    let content = raw(true, &[5; 300]);
    assert_eq!(decode(&[sized(300), content.clone()].concat(), 9, 9).unwrap(), [5; 300]);
    let (kind, _) = failure(&[sized(301), content.clone()].concat());
    assert_eq!(kind, ZstdError::ContentSize { actual: 300, stored: 301 });
    let error = decode(&[sized(299), content].concat(), 9, 1000).unwrap_err();
    let kind = ZstdError::ContentSize { actual: 300, stored: 299 };
    assert_eq!(error, Error::Zstd { kind, at: CompressedOffset(8 + 303) });
}

#[test]
fn read_when_window_exceeds_the_limit_then_rejected() {
    let empty = raw(true, b"");
    assert_eq!(decode(&[header(0, LARGEST_WINDOW), empty.clone()].concat(), 9, 9).unwrap(), b"");
    let limit = MAX_WINDOW_LEN;
    let (kind, at) = failure(&[header(0, LARGEST_WINDOW | 1), empty.clone()].concat());
    assert_eq!((kind, at), (ZstdError::Window { size: limit / 8 * 9, limit }, 0));
    let (kind, _) = failure(&[header(0, 0xff), empty.clone()].concat());
    assert!(matches!(kind, ZstdError::Window { .. }), "{kind}");
    // A single segment is its own window: 8 bytes of size.
    let single = [&MAGIC[..], &[0b1110_0000], &(limit + 1).to_le_bytes()].concat();
    let (kind, _) = failure(&[single, empty].concat());
    assert_eq!(kind, ZstdError::Window { size: limit + 1, limit });
}

#[test]
fn finish_when_stream_does_not_end_between_frames_then_truncated() {
    let frame = [header(0, 0), raw(false, b"one"), raw(true, b"two")].concat();
    let skip = skippable(b"skip");
    let stream = [frame.clone(), skip.clone(), frame.clone()].concat();
    let ends = [frame.len(), frame.len() + skip.len(), stream.len()];
    for len in 0..=stream.len() {
        let outcome = decode(&stream[..len], 4, 100);
        if ends.contains(&len) {
            outcome.unwrap();
            continue;
        }
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::Zstd { kind: ZstdError::Truncated(_), .. }), "{error}");
    }
}

#[test]
fn read_when_it_has_failed_then_returns_the_same_error() {
    let mut decoder = ZstdDecoder::new();
    decoder.feed(b"junk at the start");
    let error = decoder.read(10).unwrap_err();
    decoder.feed(&[header(0, 0), raw(true, b"good")].concat());
    assert_eq!(decoder.read(10).unwrap_err(), error);
    assert_eq!(decoder.finish().unwrap_err(), error);
}
