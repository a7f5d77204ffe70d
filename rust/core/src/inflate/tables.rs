//! What the symbols of DEFLATE mean (RFC 1951 §3.2.5–3.2.7), and how a decode table says it.
//!
//! A decode entry is one `u32`, so that one look-up tells all about a symbol:
//!
//! | bits | holds |
//! |---|---|
//! | 0–7 | bits to consume: code word and extra bits (or the main table's width, for a subtable) |
//! | 8–11 | length of the code word, the first of two; for a subtable, its width in bits |
//! | 12–13 | how many literals: none, one or two |
//! | 14 | pointer to a subtable |
//! | 15 | exceptional: a pointer to a subtable, end of block, or no symbol at all |
//! | 16–31 | literal bytes, base length, base distance, or a subtable's first index |

/// Symbols of the literal/length code, two of them without meaning.
pub(super) const LITLEN_SYMBOLS: usize = 288;
/// The first of them, which are literals; end of block follows.
pub(super) const LITERAL_SYMBOLS: usize = 256;
/// Symbols of the distance code, two of them without meaning.
pub(super) const DISTANCE_SYMBOLS: usize = 32;
/// Symbols of the code length code.
pub(super) const CODE_LENGTH_SYMBOLS: usize = 19;
/// The longest code word of the literal/length and distance codes.
pub(super) const MAX_CODE_LEN: usize = 15;
/// The longest match.
pub(super) const MAX_MATCH: usize = 258;

/// The order in which a dynamic block stores the lengths of the code length code.
pub(super) const CODE_LENGTH_ORDER: [usize; CODE_LENGTH_SYMBOLS] =
    [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Counts of literals.
pub(super) const ONE_LITERAL: u32 = 1 << 12;
pub(super) const TWO_LITERALS: u32 = 2 << 12;
/// Where the count of literals is.
pub(super) const LITERALS: u32 = 3 << 12;
/// Where the first or only literal is; the second one is above it.
pub(super) const LITERAL_BYTE: u32 = 0xff << 16;
pub(super) const EXCEPTIONAL: u32 = 1 << 15;
pub(super) const SUBTABLE: u32 = 1 << 14;
/// With `EXCEPTIONAL` and without `SUBTABLE`.
pub(super) const END_OF_BLOCK: u32 = 1 << 16;

/// An entry for a bit pattern that no symbol has.
pub(super) const NO_SYMBOL: u32 = EXCEPTIONAL | 1;

/// Bits to consume.
#[inline(always)]
pub(super) const fn consumed(entry: u32) -> u32 {
    entry & 0xff
}

/// Length of the code word, or width of the subtable.
#[inline(always)]
pub(super) const fn code_len(entry: u32) -> u32 {
    entry >> 8 & 0xf
}

/// How many literals.
#[inline(always)]
pub(super) const fn literal_count(entry: u32) -> u32 {
    entry >> 12 & 3
}

/// Literals, base or subtable start.
#[inline(always)]
pub(super) const fn payload(entry: u32) -> u32 {
    entry >> 16
}

/// Entry of each literal/length symbol, without its code word: add `len << 8 | len`.
pub(super) const LITLEN_TEMPLATES: [u32; LITLEN_SYMBOLS] = {
    let mut entries = [EXCEPTIONAL; LITLEN_SYMBOLS];
    let mut symbol = 0;
    while symbol < LITERAL_SYMBOLS {
        entries[symbol] = ONE_LITERAL | (symbol as u32) << 16;
        symbol += 1;
    }
    entries[LITERAL_SYMBOLS] = EXCEPTIONAL | END_OF_BLOCK;
    // §3.2.5: eight lengths without extra bits, then four for each number of extra bits.
    let mut base = 3;
    symbol = 257;
    while symbol < 285 {
        let extra = if symbol < 265 { 0 } else { (symbol as u32 - 261) / 4 };
        entries[symbol] = base << 16 | extra;
        base += 1 << extra;
        symbol += 1;
    }
    entries[285] = (MAX_MATCH as u32) << 16;
    entries
};

/// Entry of each distance symbol, without its code word.
pub(super) const DISTANCE_TEMPLATES: [u32; DISTANCE_SYMBOLS] = {
    let mut entries = [EXCEPTIONAL; DISTANCE_SYMBOLS];
    // §3.2.5: four distances without extra bits, then two for each number of extra bits.
    let mut base = 1;
    let mut symbol = 0;
    while symbol < 30 {
        let extra = if symbol < 4 { 0 } else { symbol as u32 / 2 - 1 };
        entries[symbol] = base << 16 | extra;
        base += 1 << extra;
        symbol += 1;
    }
    entries
};

/// Entry of each symbol of the code length code: the symbol itself.
pub(super) const CODE_LENGTH_TEMPLATES: [u32; CODE_LENGTH_SYMBOLS] = {
    let mut entries = [0; CODE_LENGTH_SYMBOLS];
    let mut symbol = 0;
    while symbol < CODE_LENGTH_SYMBOLS {
        entries[symbol] = (symbol as u32) << 16;
        symbol += 1;
    }
    entries
};

/// Code lengths of a fixed block's literal/length code (§3.2.6).
pub(super) const FIXED_LITLEN_LENGTHS: [u8; LITLEN_SYMBOLS] = {
    let mut lengths = [8; LITLEN_SYMBOLS];
    let mut symbol = 144;
    while symbol < 280 {
        lengths[symbol] = if symbol < 256 { 9 } else { 7 };
        symbol += 1;
    }
    lengths
};

/// Code lengths of a fixed block's distance code (§3.2.6).
pub(super) const FIXED_DISTANCE_LENGTHS: [u8; DISTANCE_SYMBOLS] = [5; DISTANCE_SYMBOLS];
