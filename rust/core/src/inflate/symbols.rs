//! Finds the position of a symbol inside a block.

use super::bits::BitBuffer;
use super::tables::{self, EXCEPTIONAL, LITERALS};
use super::{Inflater, Speed, value};
use crate::checkpoint::BlockHeader;

/// Decodes symbols again, without output, to find the position of one of them.
#[derive(Debug)]
pub struct SymbolFinder(Box<Inflater>);

impl SymbolFinder {
    /// A finder for any number of searches.
    #[must_use]
    pub fn new() -> Self {
        Self(Box::new(Inflater::with(Speed::Plain)))
    }

    /// Decodes from bit `bit` of `bytes`, inside a block with this header, and returns the bit at
    /// which the symbol that follows `len` bytes of output begins. `None` if there is no such symbol
    /// in `bytes`.
    pub fn find(&mut self, header: &BlockHeader, bytes: &[u8], bit: u8, len: u64) -> Option<u64> {
        self.0.enter_block(header).ok()?;
        let (first, mut input) = bytes.split_first()?;
        let mut bits = BitBuffer::primed(first >> (bit & 7), 8 - (bit & 7));
        let tables = &self.0.tables;
        let mut left = len;
        while left > 0 {
            bits.fill(&mut input);
            let entry = tables.litlen(bits.peek());
            if entry & LITERALS != 0 {
                let count = tables::literal_count(entry);
                // The first of two literals, if the second is beyond the symbol or the input.
                let is_one = u64::from(count) > left || tables::consumed(entry) > bits.count();
                let used = if is_one { tables::code_len(entry) } else { tables::consumed(entry) };
                if used > bits.count() {
                    return None;
                }
                bits.consume(used);
                left -= if is_one { 1 } else { u64::from(count) };
                continue;
            }
            let used = tables::consumed(entry);
            if entry & EXCEPTIONAL != 0 || used > bits.count() {
                return None;
            }
            left = left.checked_sub(value(entry, bits.peek()) as u64)?;
            let distance = tables.distance(bits.peek() >> used);
            let used = used + tables::consumed(distance);
            if distance & EXCEPTIONAL != 0 || used > bits.count() {
                return None;
            }
            bits.consume(used);
        }
        let taken = 8 * (bytes.len() - input.len()) as u64;
        Some(taken - u64::from(bits.count()))
    }
}

impl Default for SymbolFinder {
    fn default() -> Self {
        Self::new()
    }
}
