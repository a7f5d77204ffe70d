//! Writes DEFLATE streams token by token, with Huffman codes of any shape (RFC 1951 §3.2): streams
//! that no compressor would produce but every decoder must accept. [`expand`] computes the output
//! of tokens, so that tests need no other inflate.

use super::BitWriter;

/// One symbol of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    Literal(u8),
    /// `len` is 3 to 258, `distance` 1 to 32,768.
    Match {
        len: usize,
        distance: usize,
    },
}

/// The Huffman codes of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codes {
    Fixed,
    Dynamic { litlen: Shape, distance: Shape },
}

/// The lengths of the code words in a code, which is always complete, or has a single word of one
/// bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shape {
    /// Number of symbols that have words of 1, 2, 3... bits; the others share the rest evenly.
    /// Reduced if words would be longer than 15 bits.
    pub skew: usize,
    /// Whether the last symbols have the short words instead of the first.
    pub reversed: bool,
    /// Number of symbols that have a word although they do not occur.
    pub unused: usize,
}

const END_OF_BLOCK: usize = 256;
const LITLEN_SYMBOLS: usize = 286;
const DISTANCE_SYMBOLS: usize = 30;
const LONGEST_WORD: usize = 15;

/// Appends the output of `tokens`. Stops and returns false if a distance is too far.
pub fn expand(tokens: &[Token], output: &mut Vec<u8>) -> bool {
    for token in tokens {
        match *token {
            Token::Literal(byte) => output.push(byte),
            Token::Match { distance, .. } if distance > output.len() => return false,
            Token::Match { mut len, distance } => {
                while len > 0 {
                    let step = len.min(distance);
                    let from = output.len() - distance;
                    output.extend_from_within(from..from + step);
                    len -= step;
                }
            }
        }
    }
    true
}

/// Writes a stored block of at most 65,535 bytes.
pub fn stored(stream: BitWriter, data: &[u8], is_last: bool) -> BitWriter {
    let len = data.len() as u32;
    let stream = stream
        .put(1, u32::from(is_last), "BFINAL")
        .put(2, 0, "BTYPE: stored")
        .align()
        .put(16, len, "LEN")
        .put(16, !len & 0xffff, "NLEN");
    data.iter().fold(stream, |stream, byte| stream.put(8, u32::from(*byte), "data"))
}

/// Writes a block with Huffman codes.
pub fn block(stream: BitWriter, tokens: &[Token], codes: Codes, is_last: bool) -> BitWriter {
    let stream = stream.put(1, u32::from(is_last), "BFINAL");
    let (mut stream, litlen, distance) = match codes {
        Codes::Fixed => {
            let litlen = (0..288).map(|symbol| match symbol {
                0..144 => 8,
                144..256 => 9,
                256..280 => 7,
                _ => 8,
            });
            (stream.put(2, 1, "BTYPE: fixed"), litlen.collect::<Vec<u8>>(), vec![5; 32])
        }
        Codes::Dynamic { litlen, distance } => {
            let (used_litlen, used_distance) = used_symbols(tokens);
            let litlen = lengths(&used_litlen, litlen);
            let distance = lengths(&used_distance, distance);
            let stream = stream.put(2, 2, "BTYPE: dynamic");
            (dynamic_header(stream, &litlen, &distance), litlen, distance)
        }
    };
    let (litlen, distance) = (words(&litlen), words(&distance));
    for token in tokens {
        stream = match *token {
            Token::Literal(byte) => put_word(stream, litlen[usize::from(byte)], "literal"),
            Token::Match { len, distance: back } => {
                let (symbol, count, extra) = length_symbol(len);
                let stream = put_word(stream, litlen[symbol], "length").put(count, extra, "extra");
                let (symbol, count, extra) = distance_symbol(back);
                put_word(stream, distance[symbol], "distance").put(count, extra, "extra")
            }
        };
    }
    put_word(stream, litlen[END_OF_BLOCK], "end of block")
}

/// Symbol, number of extra bits and their value (§3.2.5).
fn length_symbol(len: usize) -> (usize, u32, u32) {
    if len == 258 {
        return (285, 0, 0);
    }
    let extra_bits = |index: usize| if index < 8 { 0 } else { index / 4 - 1 };
    symbol_of(len, 3, 28, extra_bits)
        .map(|(index, count, extra)| (257 + index, count, extra))
        .unwrap()
}

fn distance_symbol(distance: usize) -> (usize, u32, u32) {
    let extra_bits = |symbol: usize| if symbol < 4 { 0 } else { symbol / 2 - 1 };
    symbol_of(distance, 1, DISTANCE_SYMBOLS, extra_bits).unwrap()
}

fn symbol_of(
    value: usize,
    first: usize,
    count: usize,
    extra_bits: impl Fn(usize) -> usize,
) -> Option<(usize, u32, u32)> {
    let mut base = first;
    for index in 0..count {
        let bits = extra_bits(index);
        if value < base + (1 << bits) {
            return Some((index, bits as u32, (value - base) as u32));
        }
        base += 1 << bits;
    }
    None
}

/// The symbols that occur.
fn used_symbols(tokens: &[Token]) -> ([bool; LITLEN_SYMBOLS], [bool; DISTANCE_SYMBOLS]) {
    let (mut litlen, mut distance) = ([false; LITLEN_SYMBOLS], [false; DISTANCE_SYMBOLS]);
    litlen[END_OF_BLOCK] = true;
    for token in tokens {
        match *token {
            Token::Literal(byte) => litlen[usize::from(byte)] = true,
            Token::Match { len, distance: back } => {
                litlen[length_symbol(len).0] = true;
                distance[distance_symbol(back).0] = true;
            }
        }
    }
    (litlen, distance)
}

/// Code lengths by symbol, up to the last symbol with a word.
fn lengths(is_used: &[bool], shape: Shape) -> Vec<u8> {
    let mut unused = shape.unused;
    let mut used: Vec<usize> = (0..is_used.len())
        .filter(|symbol| {
            let is_extra = !is_used[*symbol] && unused > 0;
            unused -= usize::from(is_extra);
            is_used[*symbol] || is_extra
        })
        .collect();
    if shape.reversed {
        used.reverse();
    }
    let mut lengths = vec![0; used.iter().max().map_or(1, |last| last + 1)];
    for (symbol, len) in used.iter().zip(complete(used.len(), shape.skew, LONGEST_WORD)) {
        lengths[*symbol] = len;
    }
    lengths
}

/// Lengths of a complete code of `count` words; a single word has one bit.
fn complete(count: usize, skew: usize, longest: usize) -> Vec<u8> {
    if count < 2 {
        return vec![1; count];
    }
    let width = |count: usize| count.next_power_of_two().trailing_zeros() as usize;
    let mut skew = skew.min(count - 1);
    while skew + width(count - skew) > longest {
        skew -= 1;
    }
    let rest = count - skew;
    let width = width(rest);
    let short = (1 << width) - rest;
    let even = (0..rest).map(|index| skew + width - usize::from(index < short));
    (1..=skew).chain(even).map(|len| len as u8).collect()
}

/// (code word, length in bits) by symbol (§3.2.2).
fn words(lengths: &[u8]) -> Vec<(u32, u32)> {
    let mut words = vec![(0, 0); lengths.len()];
    let mut next = 0_u32;
    for len in 1..=LONGEST_WORD as u8 {
        next <<= 1;
        for (word, _) in words.iter_mut().zip(lengths).filter(|(_, of)| **of == len) {
            *word = (next, u32::from(len));
            next += 1;
        }
    }
    words
}

fn put_word(stream: BitWriter, (word, bits): (u32, u32), field: &str) -> BitWriter {
    stream.code(bits, word, field)
}

/// Writes HLIT to the last code length (§3.2.7).
fn dynamic_header(stream: BitWriter, litlen: &[u8], distance: &[u8]) -> BitWriter {
    const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let litlen_count = litlen.len().max(257);
    let mut all = litlen.to_vec();
    all.resize(litlen_count, 0);
    all.extend_from_slice(distance);
    let runs = runs(&all);

    let mut used: Vec<usize> = runs.iter().map(|(symbol, ..)| *symbol).chain([0, 18]).collect();
    used.sort_unstable();
    used.dedup();
    let mut code = vec![0; 19];
    for (symbol, len) in used.iter().zip(complete(used.len(), 1, 7)) {
        code[*symbol] = len;
    }
    let mut stream = stream
        .put(5, litlen_count as u32 - 257, "HLIT")
        .put(5, distance.len() as u32 - 1, "HDIST")
        .put(4, 15, "HCLEN: all 19");
    for symbol in ORDER {
        stream = stream.put(3, u32::from(code[symbol]), "length of a code length code");
    }
    let words = words(&code);
    for (symbol, count, repeat) in runs {
        stream = put_word(stream, words[symbol], "code length").put(count, repeat, "repeat");
    }
    stream
}

/// Encodes code lengths as (code length symbol, number of repeat bits, their value).
fn runs(lengths: &[u8]) -> Vec<(usize, u32, u32)> {
    let mut runs = Vec::new();
    for same in lengths.chunk_by(|a, b| a == b) {
        let (len, mut left) = (usize::from(same[0]), same.len());
        if len != 0 {
            runs.push((len, 0, 0));
            left -= 1;
        }
        while left > 0 {
            let (run, taken) = match (len, left) {
                (0, 11..) => ((18, 7, left.min(138) as u32 - 11), left.min(138)),
                (0, 3..) => ((17, 3, left as u32 - 3), left),
                (_, 3..) => ((16, 2, left.min(6) as u32 - 3), left.min(6)),
                _ => ((len, 0, 0), 1),
            };
            runs.push(run);
            left -= taken;
        }
    }
    runs
}
