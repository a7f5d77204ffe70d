//! Building decode tables from code lengths (RFC 1951 §3.2.2).
//!
//! A table of 2^`table_bits` entries is indexed with the next bits of the stream; longer code words
//! continue in a subtable. Images average one dynamic block per 20–60 KiB of output, so a table
//! must be built in a few microseconds: symbols are sorted by length in one pass, short codes are
//! written once, and the table is then doubled by copying it for each further bit of the index.
//!
//! Two literals whose code words together fit in the index share an entry. Such pairs are also
//! written once, when the table has been doubled to the combined length.

use crate::error::{CodeName, GzipError};
use crate::inflate::tables::{
    self, CODE_LENGTH_SYMBOLS, CODE_LENGTH_TEMPLATES, DISTANCE_SYMBOLS, DISTANCE_TEMPLATES,
    EXCEPTIONAL, FIXED_DISTANCE_LENGTHS, FIXED_LITLEN_LENGTHS, LITERAL_BYTE, LITERAL_SYMBOLS,
    LITLEN_SYMBOLS, LITLEN_TEMPLATES, MAX_CODE_LEN, NO_SYMBOL, SUBTABLE, TWO_LITERALS,
};

/// Index width of the literal/length table: 11 bits cover most literals, and the table still fits
/// in the L1 cache.
pub(super) const LITLEN_BITS: u32 = 11;
/// Index width of the distance table.
pub(super) const DISTANCE_BITS: u32 = 8;
/// Index width of the code length table, the length of its longest code word.
const CODE_LENGTH_BITS: u32 = 7;

/// Entries in the literal/length table. A complete code of 288 symbols needs at most 2,342,
/// including subtables (zlib's `enough`). A power of two, so that an index can be masked instead of
/// checked.
pub(super) const LITLEN_LEN: usize = 4096;
/// Entries in the distance table; at most 402 are needed.
pub(super) const DISTANCE_LEN: usize = 512;
const CODE_LENGTH_LEN: usize = 1 << CODE_LENGTH_BITS;

/// The tables of one block.
#[derive(Debug, Clone)]
pub(super) struct BlockTables {
    pub(super) litlen: [u32; LITLEN_LEN],
    pub(super) distance: [u32; DISTANCE_LEN],
    /// Whether these are the tables of a fixed block, which need not be built again.
    fixed: bool,
}

impl BlockTables {
    pub(super) fn new() -> Box<Self> {
        Box::new(Self {
            litlen: [NO_SYMBOL; LITLEN_LEN],
            distance: [NO_SYMBOL; DISTANCE_LEN],
            fixed: false,
        })
    }

    /// Builds both tables of a dynamic block.
    pub(super) fn build(&mut self, litlen: &[u8], distance: &[u8]) -> Result<(), GzipError> {
        self.fixed = false;
        if litlen.get(256).is_none_or(|&len| len == 0) {
            return Err(GzipError::NoEndOfBlock);
        }
        build(&mut self.litlen, LITLEN_BITS, litlen, &LITLEN_TEMPLATES, CodeName::LitLen)?;
        build(&mut self.distance, DISTANCE_BITS, distance, &DISTANCE_TEMPLATES, CodeName::Distance)
    }

    /// Builds the tables of a fixed block, unless they are already built.
    pub(super) fn build_fixed(&mut self) -> Result<(), GzipError> {
        if !self.fixed {
            self.build(&FIXED_LITLEN_LENGTHS, &FIXED_DISTANCE_LENGTHS)?;
            self.fixed = true;
        }
        Ok(())
    }

    /// The entry for the next literal/length symbol, found from the low bits of `bits`.
    #[inline(always)]
    pub(super) fn litlen(&self, bits: u64) -> u32 {
        let entry = self.litlen[low_bits(bits, LITLEN_BITS)];
        if entry & SUBTABLE == 0 { entry } else { self.litlen_subtable(entry, bits) }
    }

    /// Follows a pointer to a subtable; `bits` still start with the whole code word.
    #[inline(always)]
    pub(super) fn litlen_subtable(&self, entry: u32, bits: u64) -> u32 {
        self.litlen[subtable_index(entry, bits >> LITLEN_BITS) & (LITLEN_LEN - 1)]
    }

    /// The entry for the next distance symbol, found from the low bits of `bits`.
    #[inline(always)]
    pub(super) fn distance(&self, bits: u64) -> u32 {
        let entry = self.distance[low_bits(bits, DISTANCE_BITS)];
        if entry & SUBTABLE == 0 { entry } else { self.distance_subtable(entry, bits) }
    }

    /// Follows a pointer to a subtable; `bits` still start with the whole code word.
    #[inline(always)]
    pub(super) fn distance_subtable(&self, entry: u32, bits: u64) -> u32 {
        self.distance[subtable_index(entry, bits >> DISTANCE_BITS) & (DISTANCE_LEN - 1)]
    }
}

/// The table of the code length code, which encodes a dynamic block's code lengths.
#[derive(Debug, Clone)]
pub(super) struct CodeLengthTable([u32; CODE_LENGTH_LEN]);

impl CodeLengthTable {
    pub(super) const fn new() -> Self {
        Self([NO_SYMBOL; CODE_LENGTH_LEN])
    }

    pub(super) fn build(&mut self, lengths: &[u8; CODE_LENGTH_SYMBOLS]) -> Result<(), GzipError> {
        let code = CodeName::CodeLength;
        build(&mut self.0, CODE_LENGTH_BITS, lengths, &CODE_LENGTH_TEMPLATES, code)
    }

    /// The next symbol (0 to 18) and the length of its code word.
    #[inline(always)]
    pub(super) fn symbol(&self, bits: u64) -> (u32, u32) {
        let entry = self.0[low_bits(bits, CODE_LENGTH_BITS)];
        (tables::payload(entry), tables::consumed(entry))
    }
}

#[inline(always)]
pub(super) const fn low_bits(bits: u64, count: u32) -> usize {
    (bits & ((1 << count) - 1)) as usize
}

/// The index of a subtable entry, from the `pointer` and the bits after the main table's index.
#[inline(always)]
const fn subtable_index(pointer: u32, bits: u64) -> usize {
    tables::payload(pointer) as usize + low_bits(bits, tables::code_len(pointer))
}

/// Fills `table` with the code that `lengths` describe; symbol `i` has the entry `templates[i]`.
///
/// Only complete codes are accepted, with zlib's exceptions: a single code of one bit is valid for
/// literals and lengths, and also for distances, which may have no codes at all.
fn build(
    table: &mut [u32],
    table_bits: u32,
    lengths: &[u8],
    templates: &[u32],
    code: CodeName,
) -> Result<(), GzipError> {
    // Only the literal/length code has literals, and they come first.
    let literal_count = if code == CodeName::LitLen { LITERAL_SYMBOLS } else { 0 };
    let (literals, others) = lengths.split_at(literal_count.min(lengths.len()));
    let literal_counts = count_lengths(literals);
    let mut counts = count_lengths(others);
    for (count, literal_count) in counts.iter_mut().zip(literal_counts) {
        *count += literal_count;
    }

    // The unused part of the code space (Kraft's inequality), scaled to the current length.
    let mut left = 1_i32;
    // Where the symbols of each length start when sorted; unused symbols come first.
    let mut starts = [0_u16; MAX_CODE_LEN + 2];
    starts[1] = counts[0];
    for len in 1..=MAX_CODE_LEN {
        left = (left << 1) - i32::from(counts[len]);
        if left < 0 {
            return Err(GzipError::OverSubscribed(code));
        }
        starts[len + 1] = starts[len] + counts[len];
    }
    if left > 0 {
        let used = starts[MAX_CODE_LEN + 1] - counts[0];
        let lone = used == 1 && counts[1] == 1 && code != CodeName::CodeLength;
        let absent = used == 0 && code == CodeName::Distance;
        if !(lone || absent) {
            return Err(GzipError::Incomplete(code));
        }
        table[..1 << table_bits].fill(NO_SYMBOL);
        if let Some(symbol) = lengths.iter().position(|&len| len != 0) {
            // The code word is a single 0 bit; a 1 bit is invalid.
            let entry = with_code_len(templates[symbol], 1);
            table[..1 << table_bits].iter_mut().step_by(2).for_each(|slot| *slot = entry);
        }
        return Ok(());
    }

    // The templates in code word order: by length, then by symbol. Sorting the unused symbols too
    // costs less than a branch.
    let mut sorted = [0; LITLEN_SYMBOLS];
    let mut next = starts;
    for (&len, &template) in lengths.iter().zip(templates) {
        let slot = &mut next[usize::from(len & 15)];
        sorted[usize::from(*slot)] = template;
        *slot = slot.wrapping_add(1);
    }

    fill(table, table_bits, &counts, &literal_counts, &sorted[usize::from(counts[0])..]);
    Ok(())
}

/// The number of symbols of each length; `[0]` counts the unused ones.
type LengthCounts = [u16; MAX_CODE_LEN + 1];

fn count_lengths(lengths: &[u8]) -> LengthCounts {
    // Two alternating sets of counters: neighbours often have the same length, and a single counter
    // would wait for its own last store. Counters cannot wrap, since there are at most
    // `LITLEN_SYMBOLS` symbols.
    let mut counts: LengthCounts = [0; MAX_CODE_LEN + 1];
    let mut others = counts;
    let (pairs, rest) = lengths.as_chunks::<2>();
    for &[first, second] in pairs {
        let slot = &mut counts[usize::from(first & 15)];
        *slot = slot.wrapping_add(1);
        let slot = &mut others[usize::from(second & 15)];
        *slot = slot.wrapping_add(1);
    }
    for &len in rest {
        counts[usize::from(len & 15)] += 1;
    }
    for (count, other) in counts.iter_mut().zip(others) {
        *count += other;
    }
    counts
}

/// Writes the entries of a complete code. Code words are bit-reversed, as they appear in the
/// stream.
fn fill(
    table: &mut [u32],
    table_bits: u32,
    counts: &LengthCounts,
    literal_counts: &LengthCounts,
    sorted: &[u32],
) {
    let mut sorted = sorted.iter();
    let mut literals = ShortLiterals::new();
    let mut reversed = 0_usize;
    // The size of the table so far: all patterns of `len` bits.
    let mut written = 1_usize;
    for len in 1..=table_bits {
        // Double the table: entries for `len - 1` bits are valid for either value of the next bit.
        table.copy_within(0..written, written);
        written *= 2;
        let literal_count = literal_counts[len as usize];
        for &template in sorted.by_ref().take(usize::from(literal_count)) {
            table[reversed] = with_code_len(template, len);
            literals.push(reversed, template);
            reversed = next_reversed(reversed, len);
        }
        for &template in sorted.by_ref().take(usize::from(counts[len as usize] - literal_count)) {
            table[reversed] = with_code_len(template, len);
            reversed = next_reversed(reversed, len);
        }
        literals.end_len(len);
        literals.write_pairs(&mut table[..written], len);
    }

    // Longer code words: those with the same first `table_bits` bits share a subtable.
    let mut free = 1_usize << table_bits;
    let mut subtable = (usize::MAX, 0_usize, 0_u32); // (index in the main table, start, width)
    for len in table_bits + 1..=MAX_CODE_LEN as u32 {
        let mut remaining = counts[len as usize];
        while remaining > 0 {
            let index = low_bits(reversed as u64, table_bits);
            if index != subtable.0 {
                let width = subtable_width(counts, len, remaining, table_bits);
                subtable = (index, free, width);
                table[index] =
                    EXCEPTIONAL | SUBTABLE | (free as u32) << 16 | width << 8 | table_bits;
                free += 1 << width;
            }
            let (_, start, width) = subtable;
            let Some(&template) = sorted.next() else { return };
            let entry = with_code_len(template, len);
            let first = reversed >> table_bits;
            let step = 1 << (len - table_bits);
            table[start..start + (1 << width)][first..]
                .iter_mut()
                .step_by(step)
                .for_each(|slot| *slot = entry);
            reversed = next_reversed(reversed, len);
            remaining -= 1;
        }
    }
}

/// Adds one to a bit-reversed code word of `len` bits; the last one wraps to 0.
#[inline(always)]
const fn next_reversed(code: usize, len: u32) -> usize {
    let ones = (1_usize << len) - 1;
    let zeros = code ^ ones;
    if zeros == 0 {
        return 0;
    }
    let top_zero = 1_usize << (usize::BITS - 1 - zeros.leading_zeros());
    code & (top_zero - 1) | top_zero
}

/// The index width of a subtable whose first code word has `len` bits: wide enough for the longest
/// code word in it. `remaining` code words of `len` bits have not been assigned yet.
fn subtable_width(counts: &LengthCounts, len: u32, remaining: u16, table_bits: u32) -> u32 {
    let mut width = len - table_bits;
    let mut room = (1_i32 << width) - i32::from(remaining);
    while room > 0 && ((width + table_bits) as usize) < MAX_CODE_LEN {
        width += 1;
        room = (room << 1) - i32::from(counts[(table_bits + width) as usize]);
    }
    width
}

const fn with_code_len(template: u32, len: u32) -> u32 {
    template + (len << 8 | len)
}

/// The literals with code words seen so far, from which pairs are made.
struct ShortLiterals {
    /// The reversed code word of each literal, and its byte from bit 16 on.
    literals: [u32; LITERAL_SYMBOLS],
    /// Where the literals of each length end.
    ends: [usize; MAX_CODE_LEN + 1],
    count: usize,
}

impl ShortLiterals {
    const fn new() -> Self {
        Self { literals: [0; LITERAL_SYMBOLS], ends: [0; MAX_CODE_LEN + 1], count: 0 }
    }

    /// Adds a literal, whose code word must not be shorter than the previous ones.
    fn push(&mut self, reversed: usize, template: u32) {
        // A mask instead of a bounds check: there are at most 256 literals.
        self.literals[self.count & (LITERAL_SYMBOLS - 1)] =
            reversed as u32 | template & LITERAL_BYTE;
        self.count += 1;
    }

    /// Ends the literals with code words of `len` bits.
    fn end_len(&mut self, len: u32) {
        self.ends[len as usize] = self.count;
    }

    fn of_len(&self, len: u32) -> &[u32] {
        &self.literals[self.ends[len as usize - 1]..self.ends[len as usize]]
    }

    /// Writes the entries of pairs of literals whose code words have `both_len` bits together,
    /// replacing the entries of the first literal alone. `table` covers all patterns of `both_len`
    /// bits.
    fn write_pairs(&self, table: &mut [u32], both_len: u32) {
        for len in 1..both_len {
            for &first in self.of_len(len) {
                for &second in self.of_len(both_len - len) {
                    let bytes = (first & LITERAL_BYTE) | (second & LITERAL_BYTE) << 8;
                    let index = (first & !LITERAL_BYTE) | (second & !LITERAL_BYTE) << len;
                    table[index as usize] = TWO_LITERALS | bytes | len << 8 | both_len;
                }
            }
        }
    }
}

const _: () = assert!(DISTANCE_SYMBOLS <= LITLEN_SYMBOLS && CODE_LENGTH_SYMBOLS <= LITLEN_SYMBOLS);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inflate::tables::{END_OF_BLOCK, LITERALS, ONE_LITERAL};

    /// The code lengths of literals, followed by those of end of block and of one length.
    fn litlen(literals: impl IntoIterator<Item = u8>, others: [u8; 2]) -> Vec<u8> {
        let mut lengths: Vec<u8> = literals.into_iter().collect();
        lengths.resize(LITERAL_SYMBOLS, 0);
        lengths.extend(others);
        lengths
    }

    #[test]
    fn test_entry_when_two_literals_fit_in_the_index_then_holds_both() {
        let codes = [
            litlen(1..=10, [11, 11]),
            litlen((1..=10).rev(), [11, 11]),
            litlen([5; 16].into_iter().chain([6; 30]), [6, 6]),
            litlen(1..=14, [15, 15]),
            litlen([], [1, 1]),
            FIXED_LITLEN_LENGTHS.to_vec(),
        ];
        let mut tables = BlockTables::new();
        for lengths in codes {
            tables.build(&lengths, &[1, 1]).unwrap();
            for bits in 0..1_u64 << LITLEN_BITS {
                let entry = tables.litlen[low_bits(bits, LITLEN_BITS)];
                if entry & LITERALS == 0 {
                    continue;
                }
                // Check the first literal on its own; the entry after its bits has the second.
                let (byte, len) = (tables::payload(entry) & 0xff, tables::code_len(entry));
                assert_eq!(u32::from(lengths[byte as usize]), len);
                let next = tables.litlen[low_bits(bits >> len, LITLEN_BITS)];
                let both = len + tables::code_len(next);
                let wanted = if next & LITERALS != 0 && both <= LITLEN_BITS {
                    TWO_LITERALS | (byte | (tables::payload(next) & 0xff) << 8) << 16 | both
                } else {
                    ONE_LITERAL | byte << 16 | len
                };
                assert_eq!(entry, wanted | len << 8, "{bits:011b} of {lengths:?}");
            }
        }
    }

    #[test]
    fn test_entry_when_not_a_literal_then_literal_count_is_0() {
        let mut tables = BlockTables::new();
        tables.build(&litlen([], [1, 1]), &[1, 1]).unwrap();
        assert_eq!(tables.litlen[0] & (LITERALS | END_OF_BLOCK), END_OF_BLOCK);
        assert_eq!(tables.litlen[1] & (LITERALS | EXCEPTIONAL), 0);
    }
}
