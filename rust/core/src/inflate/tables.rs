//! The meaning of DEFLATE's symbols (RFC 1951 §3.2.5–3.2.7), and how a decode table encodes it.
//!
//! A decode table entry is one `u32`, so that one lookup returns everything about a symbol:
//!
//! | bits | content |
//! |---|---|
//! | 0–7 | bits to consume: code word and extra bits (or the main table's width, for a subtable) |
//! | 8–11 | length of the (first) code word; for a subtable, its width in bits |
//! | 12–13 | number of literals: 0, 1 or 2 |
//! | 14 | pointer to a subtable |
//! | 15 | exceptional: a pointer to a subtable, an end of block, or an invalid pattern |
//! | 16–31 | literal bytes, base length, base distance, or a subtable's first index |

/// Number of symbols in the literal/length code, two of which are invalid.
pub(super) const LITLEN_SYMBOLS: usize = 288;
/// Number of literals, which come first; end of block follows.
pub(super) const LITERAL_SYMBOLS: usize = 256;
/// Number of symbols in the distance code, two of which are invalid.
pub(super) const DISTANCE_SYMBOLS: usize = 32;
/// Number of symbols in the code length code.
pub(super) const CODE_LENGTH_SYMBOLS: usize = 19;
/// Length of the longest code word in the literal/length and distance codes, in bits.
pub(super) const MAX_CODE_LEN: usize = 15;
/// Length of the longest match.
pub(super) const MAX_MATCH: usize = 258;

/// The order in which a dynamic block stores the lengths of the code length code.
pub(super) const CODE_LENGTH_ORDER: [usize; CODE_LENGTH_SYMBOLS] =
    [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Values of the literal count.
pub(super) const ONE_LITERAL: u32 = 1 << 12;
pub(super) const TWO_LITERALS: u32 = 2 << 12;
/// Mask of the literal count.
pub(super) const LITERALS: u32 = 3 << 12;
/// Mask of the first or only literal; the second one is above it.
pub(super) const LITERAL_BYTE: u32 = 0xff << 16;
pub(super) const EXCEPTIONAL: u32 = 1 << 15;
pub(super) const SUBTABLE: u32 = 1 << 14;
/// Set together with `EXCEPTIONAL`, and only if `SUBTABLE` is not set.
pub(super) const END_OF_BLOCK: u32 = 1 << 16;

/// The entry for a bit pattern that is not a code word.
pub(super) const NO_SYMBOL: u32 = EXCEPTIONAL | 1;

/// The number of bits to consume.
#[inline(always)]
pub(super) const fn consumed(entry: u32) -> u32 {
    entry & 0xff
}

/// The length of the code word, or the width of the subtable.
#[inline(always)]
pub(super) const fn code_len(entry: u32) -> u32 {
    entry >> 8 & 0xf
}

/// The number of literals.
#[inline(always)]
pub(super) const fn literal_count(entry: u32) -> u32 {
    entry >> 12 & 3
}

/// The literals, the base or the start of the subtable.
#[inline(always)]
pub(super) const fn payload(entry: u32) -> u32 {
    entry >> 16
}

/// The entry of each literal/length symbol without its code word; add `len << 8 | len`.
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

/// The entry of each distance symbol without its code word.
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

/// The entry of each symbol of the code length code, which is the symbol itself.
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
