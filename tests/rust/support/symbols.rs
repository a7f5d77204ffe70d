//! A slow decoder of its own that keeps everything: each symbol with its bit position, and for each
//! byte the last match that refers to it. It judges which checkpoint is the cheapest, byte by byte,
//! without any code of the core.
#![allow(clippy::panic, clippy::expect_used, reason = "a test may stop at once")]

/// The longest distance (RFC 1951 §3.2.5).
pub const WINDOW: usize = 32_768;

/// What begins at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    Member,
    Block,
    /// A symbol, or a byte of a stored block.
    Symbol,
    StoredByte,
}

/// A decoded layer.
#[derive(Debug, Default)]
pub struct Symbols {
    pub output: Vec<u8>,
    /// What begins at each output position, where in bits, and in which block. The first of each
    /// kind.
    pub begins: Vec<(usize, Begins, u64, usize)>,
    /// For each block: the bits of its header, from and to.
    pub headers: Vec<(u64, u64)>,
    /// Matches: position and source range, without overlap.
    pub matches: Vec<(usize, usize, usize)>,
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: u64,
}

impl Bits<'_> {
    fn peek(&self, count: u32) -> u32 {
        (0..count).fold(0, |value, index| {
            let at = self.at + u64::from(index);
            let byte = self.bytes.get((at / 8) as usize).copied().unwrap_or(0);
            value | u32::from(byte >> (at % 8) & 1) << index
        })
    }

    fn take(&mut self, count: u32) -> u32 {
        let value = self.peek(count);
        self.at += u64::from(count);
        value
    }
}

/// A canonical code: for each length the first code word, and the symbols in order (§3.2.2).
struct Code {
    first: [u32; 17],
    symbols: Vec<Vec<u16>>,
}

impl Code {
    fn new(lengths: &[u8]) -> Self {
        let mut symbols = vec![Vec::new(); 16];
        for (symbol, &len) in (0..).zip(lengths) {
            if len > 0 {
                symbols[usize::from(len)].push(symbol);
            }
        }
        let mut first = [0; 17];
        for len in 1..16 {
            first[len + 1] = (first[len] + symbols[len].len() as u32) << 1;
        }
        Self { first, symbols }
    }

    fn next(&self, bits: &mut Bits<'_>) -> u16 {
        let mut word = 0;
        for len in 1..16 {
            word = word << 1 | bits.take(1);
            let index = word.wrapping_sub(self.first[len]) as usize;
            if word >= self.first[len] && index < self.symbols[len].len() {
                return self.symbols[len][index];
            }
        }
        panic!("not a code word");
    }
}

const LENGTHS: [(u32, u32); 29] = {
    let mut values = [(0, 0); 29];
    let (mut base, mut index) = (3, 0);
    while index < 28 {
        let extra = if index < 8 { 0 } else { index as u32 / 4 - 1 };
        values[index] = (base, extra);
        base += 1 << extra;
        index += 1;
    }
    values[28] = (258, 0);
    values
};

const DISTANCES: [(u32, u32); 30] = {
    let mut values = [(0, 0); 30];
    let (mut base, mut index) = (1, 0);
    while index < 30 {
        let extra = if index < 4 { 0 } else { index as u32 / 2 - 1 };
        values[index] = (base, extra);
        base += 1 << extra;
        index += 1;
    }
    values
};

const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Decodes a layer that is known to be valid.
pub fn symbols(layer: &[u8]) -> Symbols {
    let mut found = Symbols::default();
    let mut bits = Bits { bytes: layer, at: 0 };
    while bits.at < layer.len() as u64 * 8 {
        found.begin(Begins::Member, bits.at);
        skip_header(&mut bits);
        while !found.block(&mut bits) {}
        bits.at = bits.at.div_ceil(8) * 8 + 64;
    }
    found
}

fn skip_header(bits: &mut Bits<'_>) {
    bits.take(24);
    let flags = bits.take(8);
    bits.at += 48;
    if flags & 4 != 0 {
        let len = bits.take(16);
        bits.at += u64::from(len) * 8;
    }
    for flag in [8, 16] {
        while flags & flag != 0 && bits.take(8) != 0 {}
    }
    if flags & 2 != 0 {
        bits.at += 16;
    }
}

impl Symbols {
    fn begin(&mut self, what: Begins, at: u64) {
        let place = self.output.len();
        self.begins.push((place, what, at, self.headers.len().wrapping_sub(1)));
    }

    /// Decodes a block and returns whether it is the last one of its member.
    fn block(&mut self, bits: &mut Bits<'_>) -> bool {
        let start = bits.at;
        self.headers.push((start, start));
        self.begin(Begins::Block, start);
        let is_last = bits.take(1) != 0;
        let (litlen, distance) = match bits.take(2) {
            0 => {
                bits.at = bits.at.div_ceil(8) * 8;
                let len = bits.take(32) & 0xffff;
                if let Some(header) = self.headers.last_mut() {
                    header.1 = bits.at;
                }
                for _ in 0..len {
                    self.begin(Begins::StoredByte, bits.at);
                    let byte = bits.take(8) as u8;
                    self.output.push(byte);
                }
                return is_last;
            }
            1 => {
                let mut lengths = [8; 288];
                lengths[144..256].fill(9);
                lengths[256..280].fill(7);
                (Code::new(&lengths), Code::new(&[5; 30]))
            }
            _ => codes(bits),
        };
        if let Some(header) = self.headers.last_mut() {
            header.1 = bits.at;
        }
        loop {
            let at = bits.at;
            let symbol = litlen.next(bits);
            if symbol == 256 {
                return is_last;
            }
            self.begin(Begins::Symbol, at);
            if symbol < 256 {
                self.output.push(symbol as u8);
                continue;
            }
            let (base, extra) = LENGTHS[usize::from(symbol) - 257];
            let len = (base + bits.take(extra)) as usize;
            let (base, extra) = DISTANCES[usize::from(distance.next(bits))];
            let distance = (base + bits.take(extra)) as usize;
            let place = self.output.len();
            let source = place - distance;
            self.matches.push((place, source, source + len.min(distance)));
            for index in 0..len {
                self.output.push(self.output[source + index]);
            }
        }
    }

    /// Whether the blocks from the start of a zone to 32 KiB after its end take too many compressed
    /// bytes.
    fn is_too_long(&self, zone: &std::ops::RangeInclusive<usize>, limit: u64) -> bool {
        let end = zone.end() + WINDOW;
        let mut boundaries = self.begins.iter().filter(|begins| {
            begins.0 >= *zone.start() && matches!(begins.1, Begins::Member | Begins::Block)
        });
        let first = boundaries.clone().map(|begins| begins.2).next();
        let last = boundaries
            .rfind(|begins| begins.1 == Begins::Block && begins.0 < end)
            .map(|begins| self.headers[begins.3].1);
        first.zip(last).is_some_and(|(first, last)| last > first + 8 * limit)
    }

    /// The output positions of the checkpoints of a seek table, each with the positions that its
    /// span refers to: by the rule itself, without any shortcut.
    pub fn checkpoints(&self, span_size: usize) -> Vec<(usize, Begins, u64, Vec<usize>)> {
        let len = self.output.len();
        // How long each byte is referred to: by matches that begin at most there.
        let mut until = vec![0; len + 1];
        for &(place, start, end) in &self.matches {
            until[start..end].fill(place);
        }
        let needed = |at: usize| {
            let window = at.saturating_sub(WINDOW)..at;
            window.filter(|&byte| until[byte] >= at && byte < at).collect::<Vec<_>>()
        };
        let mut found = vec![(0, Begins::Member, 0, Vec::new())];
        let quarter = span_size / 4;
        loop {
            let last = found.last().map_or(0, |found| found.0);
            let zone = last + 3 * quarter..=last + 5 * quarter;
            let is_too_long = self.is_too_long(&zone, 4 * span_size as u64);
            if len - last <= 5 * quarter && !is_too_long {
                return found;
            }
            // The number of needed bytes before each position, by differences.
            let first = zone.start().saturating_sub(2 * WINDOW);
            let mut differences = vec![0_i64; zone.end() + 2 - first];
            for byte in first..*zone.end() {
                if until[byte] > byte {
                    differences[byte + 1 - first] += 1;
                    let end = (until[byte] + 1).min(zone.end() + 1);
                    differences[end - first] -= 1;
                }
            }
            let counts: Vec<i64> = differences
                .iter()
                .scan(0, |sum, step| {
                    *sum += step;
                    Some(*sum)
                })
                .collect();
            let from = self.begins.partition_point(|begins| begins.0 < *zone.start());
            let candidates =
                self.begins[from..].iter().take_while(|begins| begins.0 <= *zone.end());
            let cost = |begins: &(usize, Begins, u64, usize)| {
                counts[begins.0 - first]
                    + match begins.1 {
                        Begins::Member | Begins::Block => 0,
                        Begins::Symbol => 60,
                        Begins::StoredByte => 4,
                    }
            };
            let rank = |begins: &(usize, Begins, u64, usize)| match begins.1 {
                Begins::Member => 0,
                Begins::Block => 1,
                Begins::Symbol | Begins::StoredByte => 2,
            };
            if is_too_long {
                let first = candidates.min_by_key(|begins| (begins.0, rank(begins), begins.2));
                let &(at, what, position, _) = first.expect("a block begins in the zone");
                let window = if what == Begins::Member { at } else { at.saturating_sub(WINDOW) };
                found.push((at, what, position, (window..at).collect()));
                continue;
            }
            let best =
                candidates.min_by_key(|begins| (cost(begins), begins.0, rank(begins), begins.2));
            let &(at, what, position, _) = best.expect("a symbol begins in every zone");
            found.push((at, what, position, needed(at)));
        }
    }
}

fn codes(bits: &mut Bits<'_>) -> (Code, Code) {
    let (litlen, distance, count) = (bits.take(5) + 257, bits.take(5) + 1, bits.take(4) + 4);
    let mut lengths = [0; 19];
    for &index in &ORDER[..count as usize] {
        lengths[index] = bits.take(3) as u8;
    }
    let code = Code::new(&lengths);
    let mut lengths = Vec::new();
    while lengths.len() < (litlen + distance) as usize {
        let (value, count) = match code.next(bits) {
            16 => (lengths[lengths.len() - 1], 3 + bits.take(2)),
            17 => (0, 3 + bits.take(3)),
            18 => (0, 11 + bits.take(7)),
            len => (len as u8, 1),
        };
        lengths.extend(std::iter::repeat_n(value, count as usize));
    }
    let (litlen, distance) = lengths.split_at(litlen as usize);
    (Code::new(litlen), Code::new(distance))
}
