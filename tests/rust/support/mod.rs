//! Helpers shared by test crates: running the decoder over pieces, writing streams bit by bit, and
//! zlib as an independent implementation.
#![allow(dead_code, unreachable_pub, reason = "each test crate uses its own part")]
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test may stop at once")]

pub mod deflate;
pub mod layers;
pub mod seek;
pub mod symbols;

use std::io::{Read, Write};
use std::path::PathBuf;

use tocsin_core::Error;
use tocsin_core::gzip::{Event, GzipDecoder};
use tocsin_core::inflate::Speed;

/// The result of decoding a layer.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded {
    pub output: Vec<u8>,
    /// (bit position, output length) of each candidate.
    pub candidates: Vec<(u64, u64)>,
}

/// Decodes `layer` in pieces of `piece_len` bytes.
pub fn decode(layer: &[u8], piece_len: usize, speed: Speed) -> Result<Decoded, Error> {
    decode_pieces(layer.chunks(piece_len), speed)
}

/// Decodes the pieces of a layer.
pub fn decode_pieces<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    speed: Speed,
) -> Result<Decoded, Error> {
    let mut decoder = GzipDecoder::new(speed);
    let mut decoded = Decoded { output: Vec::new(), candidates: Vec::new() };
    for piece in pieces {
        let mut input = piece;
        loop {
            let event = decoder.step(&mut input)?;
            let pending = decoder.inflater().pending_len();
            match event {
                Event::NeedInput => break,
                Event::Output | Event::MemberEnd => {
                    decoder.take_output(|bytes| decoded.output.extend_from_slice(bytes));
                }
                Event::Candidate => decoded
                    .candidates
                    .push((decoder.position().0, (decoded.output.len() + pending) as u64)),
            }
        }
    }
    decoder.finish()?;
    Ok(decoded)
}

/// Decompresses all members of a gzip file with zlib's C code.
pub fn zlib_gunzip(layer: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut output = Vec::new();
    flate2::read::MultiGzDecoder::new(layer).read_to_end(&mut output)?;
    Ok(output)
}

/// Inflates a raw DEFLATE stream with zlib's C code; `None` if zlib rejects it.
pub fn zlib_inflate(stream: &[u8]) -> Option<Vec<u8>> {
    let mut output = Vec::new();
    flate2::read::DeflateDecoder::new(stream).read_to_end(&mut output).ok().map(|_| output)
}

/// Compresses `data` as one gzip member with zlib.
pub fn zlib_gzip(data: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// A gzip file with `stream` as its only member, whose trailer matches `data`.
pub fn member(stream: &[u8], data: &[u8]) -> Vec<u8> {
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    file.extend_from_slice(stream);
    file.extend_from_slice(&crc32fast::hash(data).to_le_bytes());
    file.extend_from_slice(&(data.len() as u32).to_le_bytes());
    file
}

/// A DEFLATE stream written field by field, lowest bit first (RFC 1951 §3.1.1).
#[derive(Debug, Default, Clone)]
pub struct BitWriter {
    bytes: Vec<u8>,
    used: u32,
}

impl BitWriter {
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes the low `count` bits of `value`. `_field` documents what they are.
    pub fn put(mut self, count: u32, value: u32, _field: &str) -> Self {
        let mut done = 0;
        while done < count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let free = 8 - self.used % 8;
            let len = free.min(count - done);
            let bits = value >> done & ((1 << len) - 1);
            *self.bytes.last_mut().unwrap() |= (bits << (8 - free)) as u8;
            self.used += len;
            done += len;
        }
        self
    }

    /// Writes a Huffman code word, which is packed starting with its highest bit.
    pub fn code(self, count: u32, word: u32, field: &str) -> Self {
        self.put(count, word.reverse_bits() >> (32 - count), field)
    }

    /// Pads the current byte with zeros.
    pub fn align(mut self) -> Self {
        self.used = self.used.next_multiple_of(8);
        self
    }

    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// A file of `tests/golden`.
pub fn golden(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(path)
}

/// Deterministic data that compresses like a mix of text, runs and noise.
pub fn mixed_data(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut data = Vec::with_capacity(len + 512);
    while data.len() < len {
        let draw = next();
        let run = (draw >> 8 & 0x1ff) as usize + 1;
        match draw & 7 {
            0 => data.extend((0..run).map(|_| next() as u8)),
            1 => data.extend(std::iter::repeat_n((draw >> 32) as u8, run)),
            2 if data.len() > 40_000 => {
                let from = data.len() - 1 - (draw >> 20) as usize % 32_768;
                for at in from..from + run {
                    data.push(data[at]);
                }
            }
            _ => data.extend((0..run).map(|_| b"etaoin shrdlu{}();\n"[next() as usize % 19])),
        }
    }
    data.truncate(len);
    data
}
