//! Builds gzip layers from instructions.

use flate2::FlushCompress;
use tocsin_core::inflate::Speed;

use crate::archives;
use crate::decode;
use crate::instructions::{Instructions, damage};
use crate::streams::{self, data, shape};
use crate::support::BitWriter;
use crate::support::deflate::{Codes, Token, block, stored};
use crate::zlib::{self, Part};

/// Any layer: the bytes themselves, any stream in a member with a correct trailer, or an archive
/// compressed in any way.
pub fn any(instructions: &mut Instructions<'_>) -> Vec<u8> {
    match instructions.below(4) {
        0 => instructions.rest().to_vec(),
        1 => {
            let stream = streams::stream(instructions);
            streams::as_layer(&stream, &decode::inflate(&stream, Speed::Fast))
        }
        2 => {
            let archive = archives::any(&mut instructions.clone());
            gzip(&archive, instructions)
        }
        _ => {
            let mut layer = gzip(&data(instructions), instructions);
            damage(&mut layer, instructions);
            layer
        }
    }
}

/// Compresses `data` into a valid layer of one or more members, with any kinds of blocks.
pub fn gzip(data: &[u8], instructions: &mut Instructions<'_>) -> Vec<u8> {
    let mut layer = Vec::new();
    let mut rest = data;
    for _ in 0..instructions.below(4) {
        let (part, after) = rest.split_at(instructions.below(65_536).min(rest.len()));
        member(&mut layer, part, instructions);
        rest = after;
    }
    member(&mut layer, rest, instructions);
    layer
}

fn member(layer: &mut Vec<u8>, data: &[u8], instructions: &mut Instructions<'_>) {
    let start = layer.len();
    let flags = if instructions.rarely() { instructions.byte() & 0b1_1110 } else { 0 };
    layer.extend([0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 255]);
    if flags & 1 << 2 != 0 {
        let extra = instructions.take(16);
        layer.extend((extra.len() as u16).to_le_bytes());
        layer.extend_from_slice(extra);
    }
    for text in [1 << 3, 1 << 4] {
        if flags & text != 0 {
            layer.resize(layer.len() + instructions.below(512), b'n');
            layer.push(0);
        }
    }
    if flags & 1 << 1 != 0 {
        let crc = crc32fast::hash(&layer[start..]) & 0xffff;
        layer.extend((crc as u16).to_le_bytes());
    }
    let stream =
        if instructions.flag() { by_zlib(data, instructions) } else { by_hand(data, instructions) };
    layer.extend(stream);
    layer.extend(crc32fast::hash(data).to_le_bytes());
    layer.extend((data.len() as u32).to_le_bytes());
}

/// Cuts data into at most 32 parts, which may be empty.
fn parts<'a>(data: &'a [u8], instructions: &mut Instructions<'_>) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    let mut rest = data;
    for _ in 0..instructions.below(32) {
        let len = match instructions.below(4) {
            0 => 0,
            1 => instructions.below(256),
            _ => instructions.below(20_000),
        };
        let (part, after) = rest.split_at(len.min(rest.len()));
        parts.push(part);
        rest = after;
    }
    parts.push(rest);
    parts
}

fn by_zlib(data: &[u8], instructions: &mut Instructions<'_>) -> Vec<u8> {
    let level = instructions.below(10) as u32;
    let parts: Vec<Part<'_>> = parts(data, instructions)
        .into_iter()
        .map(|data| {
            let flush = [
                FlushCompress::None,
                FlushCompress::Partial,
                FlushCompress::Sync,
                FlushCompress::Full,
            ];
            Part { data, flush: instructions.pick(&flush) }
        })
        .collect();
    zlib::deflate(level, &parts)
}

/// Blocks that may end at any bit and have any code. All matches in a block have the same distance.
fn by_hand(data: &[u8], instructions: &mut Instructions<'_>) -> Vec<u8> {
    let mut bits = BitWriter::new();
    let mut start = 0;
    for part in parts(data, instructions) {
        let kind = instructions.below(8);
        let end = start + part.len();
        if kind == 0 {
            for stored_part in part.chunks(65_535) {
                bits = stored(bits, stored_part, false);
            }
            if part.is_empty() {
                bits = stored(bits, b"", false);
            }
        } else {
            let distance = instructions.pick(&[1, 2, 3, 5, 8, 13, 19, 64, 512, 1024, 32_768]);
            let tokens = matches(data, start, end, distance);
            let codes = match kind {
                1 | 2 => Codes::Fixed,
                _ => Codes::Dynamic { litlen: shape(instructions), distance: shape(instructions) },
            };
            bits = block(bits, &tokens, codes, false);
        }
        start = end;
    }
    block(bits, &[], Codes::Fixed, true).finish()
}

fn matches(data: &[u8], start: usize, end: usize, distance: usize) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut at = start;
    while at < end {
        let longest = (end - at).min(258);
        let repeats = |len: &usize| data[at + len] == data[at + len - distance];
        let len = if at < distance { 0 } else { (0..longest).take_while(repeats).count() };
        if len < 3 {
            tokens.push(Token::Literal(data[at]));
            at += 1;
        } else {
            tokens.push(Token::Match { len, distance });
            at += len;
        }
    }
    tokens
}
