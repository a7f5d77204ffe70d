//! The block headers of a layer alone: its dynamic blocks (RFC 1951 §3.2.7), each with only an end
//! of block. Inflating them measures the cost of reading headers and building tables.

use tocsin_core::inflate::{Inflater, Speed, Stop};

/// The order in which a header stores the lengths of the code length code.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const END_OF_BLOCK: usize = 256;

/// A DEFLATE stream of block headers.
pub(crate) struct Headers {
    pub(crate) stream: Vec<u8>,
    pub(crate) count: u64,
}

/// Takes the headers of at most `limit` blocks from the start of a layer.
pub(crate) fn of(layer: &[u8], limit: u64) -> Headers {
    let mut inflater = Inflater::new(Speed::Fast);
    let mut writer = Writer::default();
    let (mut count, mut rest) = (0, layer);
    while let Some(&flags) = rest.get(3)
        && count < limit
    {
        // A gzip header without optional fields, or bgzip's with an extra field of 6 bytes and its
        // length.
        let stream = &rest[if flags == 0 { 10 } else { 18 }..];
        let (mut input, mut start) = (stream, 0);
        inflater.start_stream();
        while let Ok(stop) = inflater.run(&mut input) {
            inflater.take_output(|_| ());
            if let Stop::BlockEnd { last } = stop {
                count += u64::from(copy_header(&mut Reader { stream, at: start }, &mut writer));
                start = 8 * (stream.len() - input.len()) - inflater.unused_bits() as usize;
                if last || count == limit {
                    break;
                }
            }
        }
        // CRC-32 and length follow the last block.
        rest = stream.get(start.div_ceil(8) + 8..).unwrap_or_default();
        while inflater.unused_bits() > 0 {
            inflater.next_byte(&mut &[][..]);
        }
    }
    // An empty fixed block ends the stream.
    writer.put(0b011, 3);
    writer.put(0, 7 + 7);
    Headers { stream: writer.bytes, count }
}

/// Copies a dynamic block's header and adds an end of block. Returns whether the block was dynamic.
fn copy_header(from: &mut Reader<'_>, to: &mut Writer) -> bool {
    let start = from.at;
    if from.take(3) >> 1 != 2 {
        return false;
    }
    let (litlen, distance) = (from.take(5) + 257, from.take(5) + 1);
    let count = from.take(4) + 4;
    let mut code_lengths = [0; 19];
    for &symbol in &ORDER[..count] {
        code_lengths[symbol] = from.take(3);
    }
    let words = words(&code_lengths);
    let mut lengths = Vec::new();
    while lengths.len() < litlen + distance {
        let symbol = from.symbol(&words);
        let (len, run) = match symbol {
            16 => (lengths.last().copied().unwrap_or(0), from.take(2) + 3),
            17 => (0, from.take(3) + 3),
            18 => (0, from.take(7) + 11),
            len => (len, 1),
        };
        lengths.resize(lengths.len() + run, len);
    }
    // The header, except BFINAL.
    let end = from.at;
    to.put(0, 1);
    from.at = start + 1;
    while from.at < end {
        to.put(from.take(1), 1);
    }
    let (word, len) = self::words(&lengths[..litlen])[END_OF_BLOCK];
    to.put(word, len);
    true
}

/// Reversed code word and length of each symbol (§3.2.2).
fn words(lengths: &[usize]) -> Vec<(usize, usize)> {
    let mut words = vec![(0, 0); lengths.len()];
    let mut next = 0_usize;
    for len in 1..=15 {
        next <<= 1;
        for symbol in (0..lengths.len()).filter(|&symbol| lengths[symbol] == len) {
            words[symbol] = (next.reverse_bits() >> (usize::BITS as usize - len), len);
            next += 1;
        }
    }
    words
}

struct Reader<'a> {
    stream: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, count: usize) -> usize {
        let bit = |at: usize| usize::from(self.stream[at / 8] >> (at % 8) & 1);
        let bits = (0..count).fold(0, |bits, i| bits | bit(self.at + i) << i);
        self.at += count;
        bits
    }

    fn symbol(&mut self, words: &[(usize, usize)]) -> usize {
        let (start, mut word) = (self.at, 0);
        for len in 1..=15 {
            word |= self.take(1) << (len - 1);
            if let Some(symbol) = words.iter().position(|&known| known == (word, len)) {
                return symbol;
            }
        }
        unreachable!("no code word at bit {start}")
    }
}

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    len: usize,
}

impl Writer {
    fn put(&mut self, bits: usize, count: usize) {
        for i in 0..count {
            if self.len.is_multiple_of(8) {
                self.bytes.push(0);
            }
            self.bytes[self.len / 8] |= ((bits >> i & 1) as u8) << (self.len % 8);
            self.len += 1;
        }
    }
}
