//! Where a block or a member might begin: guesses, from cheap filters, in stream order.
//!
//! Of random bits, one position in nine could begin a dynamic block by its first 13 bits, and one in some
//! thousands by its code length code, which must be complete. What passes is tried by decoding, and the
//! joiner accepts no guess that the block before does not end at.

use std::collections::VecDeque;
use std::ops::Range;

use super::source::Stretch;
use crate::gzip;
use crate::span::BitOffset;

/// Bytes looked at together.
const STEP_LEN: usize = 4 << 10;
/// A header that starts in a step may end behind it: 17 bits and 19 lengths of 3 bits, from any bit on.
const OVERLAP_LEN: usize = 16;
/// Bit positions tried with one load: 17 bits follow the last of them.
const POSITIONS: u32 = 40;
/// Code lengths that one look-up adds up.
const LENGTHS: u32 = 4;
/// Kraft's sum of a complete code length code, whose longest word has 7 bits.
const COMPLETE: u32 = 1 << 7;
/// Bits of a stored block's header before its padding.
const STORED_HEADER: u64 = 3;

/// What Kraft's sum gains by four code lengths, in units of a word of 7 bits.
static KRAFT: [u16; 1 << (3 * LENGTHS)] = {
    let mut sums = [0; 1 << (3 * LENGTHS)];
    let mut index = 0;
    while index < sums.len() {
        let mut lengths = index;
        while lengths > 0 {
            if lengths & 7 != 0 {
                sums[index] += 128 >> (lengths & 7);
            }
            lengths >>= 3;
        }
        index += 1;
    }
    sums
};

/// A guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// A dynamic block's header.
    Dynamic(BitOffset),
    /// A stored block whose LEN is at this byte. Where in the ten bits before its header begins is not to
    /// be seen: all bits are zero.
    Stored(u64),
    /// A member's header, at this byte.
    Member(u64),
}

/// How a guess stands to a place where a header is known to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// The guess was right.
    Here,
    /// Perhaps right, further on.
    Ahead,
    /// Wrong.
    Never,
}

impl Start {
    /// A bit at which decoding can start.
    pub(super) const fn position(self) -> BitOffset {
        match self {
            Self::Dynamic(position) => position,
            Self::Stored(len_at) => BitOffset((len_at * 8).saturating_sub(STORED_HEADER)),
            Self::Member(byte) => BitOffset(byte * 8),
        }
    }

    /// No header that the guess means begins before this bit.
    pub(super) const fn earliest(self) -> BitOffset {
        match self {
            Self::Stored(len_at) => BitOffset((len_at * 8).saturating_sub(STORED_HEADER + 7)),
            _ => self.position(),
        }
    }

    /// Compares with a header that begins at `at`: a member's, or a block's.
    pub(super) fn compare(self, at: BitOffset, is_member: bool, stretch: &Stretch) -> Match {
        let is_here = match self {
            Self::Dynamic(position) => !is_member && at == position,
            Self::Member(byte) => is_member && at.0 == byte * 8,
            Self::Stored(len_at) => {
                let header = stretch.word_at(at.byte().0) >> at.bit_in_byte();
                let is_stored = header & ((1 << STORED_HEADER) - 1) == 0;
                !is_member && is_stored && (at.0 + STORED_HEADER).div_ceil(8) == len_at
            }
        };
        if is_here {
            Match::Here
        } else if at < self.position() {
            Match::Ahead
        } else {
            Match::Never
        }
    }
}

/// Looks for guesses in a range of a stretch.
#[derive(Debug)]
pub(super) struct Probe<'a> {
    stretch: &'a Stretch,
    /// The byte at which the next step starts.
    next: u64,
    end: u64,
    found: VecDeque<Start>,
}

impl<'a> Probe<'a> {
    /// `range` counts the bytes of the layer.
    pub(super) const fn new(stretch: &'a Stretch, range: Range<u64>) -> Self {
        Self { stretch, next: range.start, end: range.end, found: VecDeque::new() }
    }

    /// Looks at the next bytes.
    fn step(&mut self) {
        let start = self.next;
        let mut bytes = [0; 1 + STEP_LEN + OVERLAP_LEN];
        // One byte before too, for a stored block's header.
        let mut filled = usize::from(start == 0);
        while filled < bytes.len() {
            let piece = self.stretch.bytes_at((start + filled as u64).saturating_sub(1));
            let len = piece.len().min(bytes.len() - filled);
            if len == 0 {
                break;
            }
            bytes[filled..filled + len].copy_from_slice(&piece[..len]);
            filled += len;
        }
        let len = usize::try_from(self.end - start).unwrap_or(STEP_LEN).min(STEP_LEN);
        self.next = start + len as u64;

        let mut found = Vec::new();
        let mut at = 0;
        while at < len {
            let mut possible = possible_headers(word(&bytes[1 + at..]));
            while possible != 0 {
                let bit = at * 8 + possible.trailing_zeros() as usize;
                possible &= possible - 1;
                if bit < len * 8 && has_complete_code(&bytes[1..], bit) {
                    found.push(Start::Dynamic(BitOffset(start * 8 + bit as u64)));
                }
            }
            at += POSITIONS as usize / 8;
        }
        for at in 0..len {
            let window = &bytes[at..];
            if let [before, a, b, c, d, ..] = *window {
                let is_stored = before >> (8 - STORED_HEADER) == 0 && a == !c && b == !d;
                if is_stored && self.may_follow(start + at as u64, u16::from_le_bytes([a, b])) {
                    found.push(Start::Stored(start + at as u64));
                }
                if [a, b] == gzip::MAGIC && c == 8 && d & 0xe0 == 0 {
                    found.push(Start::Member(start + at as u64));
                }
            }
        }
        found.sort_by_key(|start| start.position().0);
        self.found.extend(found);
    }

    /// Whether what follows a stored block with this LEN could be a block's header.
    fn may_follow(&self, len_at: u64, len: u16) -> bool {
        let next = len_at + 4 + u64::from(len);
        if !self.stretch.has(next + OVERLAP_LEN as u64) {
            return true;
        }
        let header = self.stretch.word_at(next);
        match header >> 1 & 3 {
            0 => {
                let lengths = header >> 8;
                (lengths ^ lengths >> 16) & 0xffff == 0xffff
            }
            1 => true,
            2 => {
                let mut bytes = [0; OVERLAP_LEN];
                bytes[..8].copy_from_slice(&header.to_le_bytes());
                bytes[8..].copy_from_slice(&self.stretch.word_at(next + 8).to_le_bytes());
                possible_headers(header & !1) & 1 != 0 && has_complete_code(&bytes, 0)
            }
            _ => false,
        }
    }
}

impl Iterator for Probe<'_> {
    type Item = Start;

    fn next(&mut self) -> Option<Start> {
        while self.found.is_empty() && self.next < self.end && self.stretch.has(self.next) {
            self.step();
        }
        self.found.pop_front()
    }
}

/// The positions among the first `POSITIONS` bits of `bits` at which a header of a dynamic block, not the
/// last of its member, could begin by its first 13 bits (RFC 1951 §3.2.7): one bit for each.
const fn possible_headers(bits: u64) -> u64 {
    let is_dynamic = !bits & !(bits >> 1) & (bits >> 2);
    // HLIT and HDIST above 29 have their four high bits set.
    let high_litlen = (bits >> 4) & (bits >> 5) & (bits >> 6) & (bits >> 7);
    let high_distance = (bits >> 9) & (bits >> 10) & (bits >> 11) & (bits >> 12);
    is_dynamic & !high_litlen & !high_distance & ((1 << POSITIONS) - 1)
}

/// Whether the code length code of the header at `bit` uses up all its code words.
fn has_complete_code(bytes: &[u8], bit: usize) -> bool {
    let counts_at = bit + 13;
    let (at, shift) = (counts_at / 8, counts_at % 8);
    let low = word(&bytes[at..]) >> shift;
    let count = (low & 0xf) as u32 + 4;
    let lengths_at = counts_at + 4;
    let (at, shift) = (lengths_at / 8, lengths_at % 8);
    // Up to 57 bits from any bit on: a word less 7 bits.
    let lengths = word(&bytes[at..]) >> shift & ((1 << (3 * count)) - 1);
    let mut sum = 0;
    let mut group = 0;
    while group * LENGTHS < 19 {
        sum += u32::from(KRAFT[(lengths >> (3 * LENGTHS * group) & 0xfff) as usize]);
        group += 1;
    }
    sum == COMPLETE
}

/// The next eight bytes, the first one lowest; zeros beyond the end.
fn word(bytes: &[u8]) -> u64 {
    if let Some(word) = bytes.first_chunk::<8>() {
        return u64::from_le_bytes(*word);
    }
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}
