//! Builds raw DEFLATE streams from instructions, with any blocks, codes and matches.

use crate::decode::Inflated;
use crate::instructions::{Instructions, damage};
use crate::support::deflate::{Codes, Shape, Token, block, expand, stored};
use crate::support::{BitWriter, member, mixed_data};

/// Maximum output of a stream in bytes: more than the decoder's buffer holds before it slides.
const MAX_OUTPUT_LEN: usize = 400 << 10;

/// A raw DEFLATE stream: either the instructions themselves, or built from them and possibly
/// damaged.
pub fn stream(instructions: &mut Instructions<'_>) -> Vec<u8> {
    if instructions.flag() {
        return instructions.rest().to_vec();
    }
    let may_reach_too_far = instructions.rarely();
    let changes = instructions.clone();
    let mut output = Vec::new();
    let mut bits = BitWriter::new();
    for _ in 0..1 + instructions.below(6) {
        bits = any_block(bits, instructions, &mut output, false, may_reach_too_far);
    }
    let mut stream = any_block(bits, instructions, &mut output, true, may_reach_too_far).finish();
    if instructions.rarely() {
        damage(&mut stream, &mut changes.clone());
    }
    stream.extend_from_slice(instructions.take(24));
    stream
}

/// The stream as the only member of a layer. The trailer matches the output of tocsin's decoder, so
/// only the stream decides whether the layer is valid. Bytes after the stream are left out.
pub fn as_layer(stream: &[u8], inflated: &Inflated) -> Vec<u8> {
    let len = inflated.end.map_or(stream.len(), |bits| bits.div_ceil(8) as usize);
    member(&stream[..len], &inflated.output)
}

fn any_block(
    bits: BitWriter,
    instructions: &mut Instructions<'_>,
    output: &mut Vec<u8>,
    is_last: bool,
    may_reach_too_far: bool,
) -> BitWriter {
    let kind = instructions.below(8);
    if kind == 0 {
        let data = data(instructions);
        output.extend_from_slice(&data);
        return stored(bits, &data, is_last);
    }
    let tokens = tokens(instructions, output, may_reach_too_far);
    let codes = if kind == 1 {
        Codes::Fixed
    } else {
        Codes::Dynamic { litlen: shape(instructions), distance: shape(instructions) }
    };
    block(bits, &tokens, codes, is_last)
}

pub fn shape(instructions: &mut Instructions<'_>) -> Shape {
    let byte = usize::from(instructions.byte());
    let unused = if byte & 32 == 0 { 0 } else { instructions.below(256) };
    Shape { skew: byte & 15, reversed: byte & 16 != 0, unused }
}

/// At most 65,535 bytes, usually far fewer.
pub fn data(instructions: &mut Instructions<'_>) -> Vec<u8> {
    match instructions.below(16) {
        0..=3 => {
            let len = instructions.below(64);
            instructions.take(len).to_vec()
        }
        4..=7 => vec![instructions.byte(); instructions.below(3000)],
        8..=14 => mixed_data(instructions.below(1500), u64::from(instructions.byte())),
        _ => mixed_data(instructions.below(65_536), u64::from(instructions.byte())),
    }
}

fn tokens(
    instructions: &mut Instructions<'_>,
    output: &mut Vec<u8>,
    may_reach_too_far: bool,
) -> Vec<Token> {
    let mut tokens = Vec::new();
    for _ in 0..instructions.below(32) {
        let kind = instructions.byte();
        let times = if kind & 0x40 == 0 { 1 } else { 1 + instructions.below(256) };
        for index in 0..times {
            let token = match kind & 7 {
                0 | 1 => Token::Literal(instructions.byte()),
                2 => Token::Literal(kind.wrapping_mul(3).wrapping_add(index as u8)),
                _ if output.is_empty() && !may_reach_too_far => Token::Literal(kind),
                _ => {
                    let len = match kind >> 3 & 7 {
                        0..=4 => 3 + instructions.below(256),
                        5 => 258,
                        _ => 3 + usize::from(kind >> 3 & 15),
                    };
                    let reach = output.len().clamp(1, 32_768);
                    let distance = match kind & 7 {
                        3 => 1 + instructions.below(20),
                        4 => reach,
                        5 => 1 + instructions.below(1024),
                        _ => 1 + instructions.below(32_768),
                    };
                    Token::Match {
                        len,
                        distance: if may_reach_too_far { distance } else { distance.min(reach) },
                    }
                }
            };
            if output.len() > MAX_OUTPUT_LEN {
                return tokens;
            }
            // After a distance that is too far, the output is meaningless.
            expand(&[token], output);
            tokens.push(token);
        }
    }
    tokens
}
