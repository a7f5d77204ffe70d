//! Recording what the decoder does: matches, block headers, and places from which symbols can be
//! decoded again.
//!
//! A decoder records only if it is asked to, see [`Inflater::record`](super::Inflater::record).

use std::ops::Range;

use super::bits::BitBuffer;
use crate::checkpoint::{BlockHeader, WINDOW_LEN};

/// Compressed bytes between two pauses in a block: what has to be decoded again to find the bit
/// position of a symbol.
pub(super) const PAUSE_LEN: usize = 2 << 10;
/// Recording starts at most this many units early, so that the match across the start of the range
/// is recorded too. One iteration of the fast decoder and then one symbol of the plain one write at
/// most 6 + 258 + 258 units.
pub const EARLY_LEN: u64 = 1 << 10;

/// A match, packed into one word so that recording it costs one store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Match(u64);

impl Match {
    /// A match at `offset` in the output that has not been taken.
    #[inline(always)]
    #[must_use]
    pub const fn new(offset: usize, distance: usize, len: usize) -> Self {
        Self(offset as u64 & 0xffff_ffff | (distance as u64) << 32 | (len as u64) << 48)
    }

    /// Its offset in the output that had not been taken when it was recorded.
    #[inline(always)]
    #[must_use]
    pub const fn offset(self) -> u32 {
        self.0 as u32
    }

    /// Its distance, 1 to 32,768.
    #[inline(always)]
    #[must_use]
    pub const fn distance(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// Its length, 3 to 258.
    #[inline(always)]
    #[must_use]
    pub const fn len(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// Always false; a match has at least 3 bytes.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The number of distinct units that it refers to.
    #[inline(always)]
    #[must_use]
    pub const fn source_len(self) -> u16 {
        if self.len() < self.distance() { self.len() } else { self.distance() }
    }
}

impl std::fmt::Debug for Match {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Match({}: {} back, {} long)", self.offset(), self.distance(), self.len())
    }
}

/// What follows the header of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The bytes of a stored block.
    Stored {
        /// Their number.
        len: u16,
        /// Whether it is the last block of its stream.
        last: bool,
    },
    /// The symbols of a block with Huffman codes, and its header.
    Huffman(BlockHeader),
}

/// The state of recording.
#[derive(Debug, Clone)]
pub(super) struct Recorder {
    /// The output positions between which matches are recorded.
    pub(super) range: Range<u64>,
    /// Whether the decoder pauses after each block header, and every `PAUSE_LEN` while recording.
    pub(super) pauses: bool,
    /// Matches since they were last taken.
    pub(super) matches: Vec<Match>,
    /// Compressed bytes of symbols since the last pause.
    pub(super) since_pause: usize,
    /// Whether the end of the range has been reported.
    pub(super) is_over: bool,
    /// The header of the current block.
    pub(super) header: HeaderBits,
}

impl Recorder {
    pub(super) fn new(range: Range<u64>, pauses: bool) -> Self {
        Self {
            range,
            pauses,
            matches: Vec::new(),
            since_pause: PAUSE_LEN,
            is_over: false,
            header: HeaderBits::new(),
        }
    }

    /// What to do with symbols at this output position.
    #[inline]
    pub(super) fn mode(&self, position: u64) -> Mode {
        if position >= self.range.end {
            return Mode::Decode(u64::MAX);
        }
        match self.range.start.saturating_sub(position) {
            left if left > EARLY_LEN => Mode::Decode(left - EARLY_LEN),
            _ => Mode::Record,
        }
    }

    /// Bytes of heap memory held.
    pub(super) const fn heap_memory(&self) -> usize {
        size_of::<Self>() + self.matches.capacity() * size_of::<Match>()
    }
}

/// Whether symbols are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Symbols are recorded.
    Record,
    /// Symbols are not recorded for this number of units of output.
    Decode(u64),
}

/// Maximum length of a block header: counts, the code length code, and 316 code lengths of at most
/// 14 bits each (RFC 1951 §3.2.7).
pub(crate) const MAX_HEADER_BITS: usize = 3 + 14 + 19 * 3 + (286 + 30) * 14;

/// The bits of a block header, collected as they are used.
#[derive(Clone)]
pub(super) struct HeaderBits {
    bytes: [u8; MAX_HEADER_BITS.div_ceil(8) + 8],
    len: usize,
}

impl HeaderBits {
    const fn new() -> Self {
        Self { bytes: [0; MAX_HEADER_BITS.div_ceil(8) + 8], len: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.bytes[..self.len.div_ceil(8)].fill(0);
        self.len = 0;
    }

    /// Appends the first `count` of the bits that were held in `held`, then in `input`. Bits beyond
    /// the maximum are dropped; no valid header has them.
    pub(super) fn append(&mut self, held: BitBuffer, input: &[u8], count: usize) {
        let first = count.min(held.count() as usize);
        self.push(held.peek(), first);
        let mut left = count - first;
        for &byte in input {
            if left == 0 {
                return;
            }
            let taken = left.min(8);
            self.push(u64::from(byte), taken);
            left -= taken;
        }
    }

    /// Appends the low `count` (at most 63) bits of `bits`.
    fn push(&mut self, bits: u64, count: usize) {
        let count = count.min(MAX_HEADER_BITS - self.len);
        let mut bits = bits & ((1_u64 << count) - 1);
        let mut left = count;
        while left > 0 {
            let used = self.len % 8;
            let taken = left.min(8 - used);
            self.bytes[self.len / 8] |= ((bits << used) & 0xff) as u8;
            bits >>= taken;
            self.len += taken;
            left -= taken;
        }
    }

    pub(super) fn header(&self) -> BlockHeader {
        BlockHeader { bytes: self.bytes[..self.len.div_ceil(8)].into(), len: self.len as u16 }
    }
}

impl std::fmt::Debug for HeaderBits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HeaderBits({} bits)", self.len)
    }
}

/// The bytes of a sparse window that are known, one bit each.
#[derive(Debug, Clone)]
pub(super) struct KnownBytes(Box<[u64; WINDOW_LEN / 64]>);

impl KnownBytes {
    /// No known bytes.
    pub(super) fn none() -> Self {
        Self(Box::new([0; WINDOW_LEN / 64]))
    }

    /// Marks the bytes of `range` as known.
    pub(super) fn add(&mut self, range: Range<usize>) {
        let end = range.end.min(WINDOW_LEN);
        for (index, mask) in words(range.start.min(end)..end) {
            self.0[index] |= mask;
        }
    }

    /// The first byte in `range` that is not known.
    pub(super) fn first_missing(&self, range: Range<usize>) -> Option<usize> {
        let end = range.end.min(WINDOW_LEN);
        let mut words = words(range.start.min(end)..end);
        words.find_map(|(index, mask)| {
            let missing = mask & !self.0[index];
            (missing != 0).then(|| index * 64 + missing.trailing_zeros() as usize)
        })
    }
}

/// The words of a bitmap that contain the bits of `range`, each with a mask of those bits.
pub(crate) fn words(range: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    let Range { start, end } = range;
    let last = if start < end { end.div_ceil(64) } else { start / 64 };
    (start / 64..last).map(move |index| {
        let mut mask = !0_u64;
        if index == start / 64 {
            mask &= !0 << (start % 64);
        }
        if index == end / 64 {
            mask &= (1 << (end % 64)) - 1;
        }
        (index, mask)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_first_missing_when_runs_have_gaps_then_finds_each_gap() {
        let mut known = KnownBytes::none();
        known.add(10..100);
        known.add(128..192);
        assert_eq!(known.first_missing(10..100), None);
        assert_eq!(known.first_missing(9..100), Some(9));
        assert_eq!(known.first_missing(10..101), Some(100));
        assert_eq!(known.first_missing(128..192), None);
        assert_eq!(known.first_missing(90..193), Some(100));
        assert_eq!(known.first_missing(5..5), None);
        known.add(32_700..WINDOW_LEN);
        assert_eq!(known.first_missing(32_700..WINDOW_LEN), None);
    }

    #[test]
    fn test_header_bits_when_appended_in_parts_then_equal_to_the_whole() {
        let bytes: Vec<u8> = (0..40_u8).map(|index| index.wrapping_mul(57)).collect();
        let mut whole = HeaderBits::new();
        whole.append(BitBuffer::default(), &bytes, 301);
        let mut parts = HeaderBits::new();
        parts.append(BitBuffer::primed(bytes[0], 3), &[], 3);
        parts.append(BitBuffer::primed(bytes[0] >> 3, 5), &bytes[1..], 18);
        parts.append(BitBuffer::primed(bytes[2] >> 5, 3), &bytes[3..], 280);
        assert_eq!(parts.header(), whole.header());
        assert_eq!(whole.header().len, 301);
        whole.clear();
        assert_eq!(whole.header().bytes.len(), 0);
    }
}
