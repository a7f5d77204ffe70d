//! Guessing where a block or a member begins, with cheap filters, in stream order.
//!
//! In random data, one position in nine looks like a dynamic block by its first 13 bits, and one in
//! several thousand also by its code length code, which must be complete. Positions that pass are
//! tried by decoding. The joiner accepts a guess only if the previous block ends there.

use std::collections::VecDeque;
use std::ops::Range;

use super::source::Stretch;
use crate::gzip;
use crate::span::BitOffset;

/// Bytes searched in one step.
const STEP_LEN: usize = 4 << 10;
/// Bytes needed after a step, since a header that starts in the step may end after it: 17 bits and
/// 19 lengths of 3 bits, from any bit on.
const OVERLAP_LEN: usize = 16;
/// Bit positions tested with one load, which must include 17 more bits after the last one.
const POSITIONS: u32 = 40;
/// Number of code lengths that one lookup sums.
const LENGTHS: u32 = 4;
/// Kraft sum of a complete code length code, in units of a 7-bit code word.
const COMPLETE: u32 = 1 << 7;
/// Bits of a stored block's header, before its padding.
const STORED_HEADER: u64 = 3;

/// Kraft sum of four code lengths, in units of a 7-bit code word.
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

/// A guess at the start of a block or member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// A dynamic block's header.
    Dynamic(BitOffset),
    /// A stored block whose LEN is at this byte. The header begins somewhere in the ten bits
    /// before, but all of them are zero, so the exact position is unknown.
    Stored(u64),
    /// A member's header, at this byte.
    Member(u64),
}

/// How a guess compares with a position at which a header is known to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// The guess is right.
    Here,
    /// The guess is further on, and may be right.
    Ahead,
    /// The guess is wrong.
    Never,
}

impl Start {
    /// A bit position at which decoding can start.
    pub(super) const fn position(self) -> BitOffset {
        match self {
            Self::Dynamic(position) => position,
            Self::Stored(len_at) => BitOffset((len_at * 8).saturating_sub(STORED_HEADER)),
            Self::Member(byte) => BitOffset(byte * 8),
        }
    }

    /// The earliest bit at which the guessed header can begin.
    pub(super) const fn earliest(self) -> BitOffset {
        match self {
            Self::Stored(len_at) => BitOffset((len_at * 8).saturating_sub(STORED_HEADER + 7)),
            _ => self.position(),
        }
    }

    /// Compares the guess with a header that begins at `at`, of a member or of a block.
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

/// Searches a range of a stretch for guesses.
#[derive(Debug)]
pub(super) struct Probe<'a> {
    stretch: &'a Stretch,
    /// The byte at which the next step starts.
    next: u64,
    end: u64,
    found: VecDeque<Start>,
}

impl<'a> Probe<'a> {
    /// `range` is in bytes of the layer.
    pub(super) const fn new(stretch: &'a Stretch, range: Range<u64>) -> Self {
        Self { stretch, next: range.start, end: range.end, found: VecDeque::new() }
    }

    /// Searches the next bytes.
    fn step(&mut self) {
        let start = self.next;
        let mut bytes = [0; 1 + STEP_LEN + OVERLAP_LEN];
        // Include the byte before, for a stored block's header.
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

    /// Whether the data after a stored block with this LEN could be a block header.
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

/// A mask of the positions among the first `POSITIONS` bits at which the first 13 bits could be
/// those of a dynamic block that is not the last of its member (RFC 1951 §3.2.7).
const fn possible_headers(bits: u64) -> u64 {
    let is_dynamic = !bits & !(bits >> 1) & (bits >> 2);
    // HLIT and HDIST above 29 have their four high bits set.
    let high_litlen = (bits >> 4) & (bits >> 5) & (bits >> 6) & (bits >> 7);
    let high_distance = (bits >> 9) & (bits >> 10) & (bits >> 11) & (bits >> 12);
    is_dynamic & !high_litlen & !high_distance & ((1 << POSITIONS) - 1)
}

/// Whether the code length code of the header at `bit` is complete.
fn has_complete_code(bytes: &[u8], bit: usize) -> bool {
    let counts_at = bit + 13;
    let (at, shift) = (counts_at / 8, counts_at % 8);
    let low = word(&bytes[at..]) >> shift;
    let count = (low & 0xf) as u32 + 4;
    let lengths_at = counts_at + 4;
    let (at, shift) = (lengths_at / 8, lengths_at % 8);
    // Up to 57 bits from any bit on: a word minus 7 bits.
    let lengths = word(&bytes[at..]) >> shift & ((1 << (3 * count)) - 1);
    let mut sum = 0;
    let mut group = 0;
    while group * LENGTHS < 19 {
        sum += u32::from(KRAFT[(lengths >> (3 * LENGTHS * group) & 0xfff) as usize]);
        group += 1;
    }
    sum == COMPLETE
}

/// The next eight bytes, little-endian, with zeros beyond the end.
fn word(bytes: &[u8]) -> u64 {
    if let Some(word) = bytes.first_chunk::<8>() {
        return u64::from_le_bytes(*word);
    }
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}
