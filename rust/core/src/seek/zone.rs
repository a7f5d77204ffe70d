//! The cheapest position in a zone: where the fewest bytes before it are referred to after it.
//!
//! The matches are gone through backwards, with a bitmap of the bytes that they refer to. Before
//! each match is added, the bits below a position are the bytes that a checkpoint there needs. To
//! count them at every match would take longer than to decode it, so a whole step of positions is
//! passed over if already its lower bound is worse than the best position found: the bytes before
//! the step that are referred to after it.

use std::ops::Range;

use crate::checkpoint::{Run, SparseWindow, WINDOW_LEN};
use crate::inflate::{Match, words};

/// Positions in a step. Counting the bits of a window costs as much as going through the matches of
/// about 2 KiB one by one.
const STEP_LEN: usize = 2 << 10;

/// What a checkpoint inside a block with Huffman codes costs for its stored header, in bytes.
pub(super) const HUFFMAN_COST: u32 = 60;
/// What a checkpoint inside a stored block costs.
pub(super) const STORED_COST: u32 = 4;

/// Matches of one piece of output, by position.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    /// The output position that their offsets count from.
    pub(super) base: u64,
    pub(super) matches: &'a [Match],
}

impl<'a> Piece<'a> {
    /// The matches that begin in `range`.
    pub(super) fn within(self, range: &Range<u64>) -> Self {
        let place = |at: u64| {
            let is_before = |found: &Match| self.base + u64::from(found.offset()) < at;
            self.matches.partition_point(is_before)
        };
        let end = place(range.end);
        Self { base: self.base, matches: &self.matches[place(range.start).min(end)..end] }
    }
}

/// A candidate, and what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Best {
    cost: u32,
    at: usize,
}

/// What is known about a zone.
#[derive(Debug)]
pub(super) struct Zone<'a> {
    /// The positions that may become the checkpoint; both ends may.
    pub(super) start: u64,
    pub(super) end: u64,
    /// The matches that begin in the zone, or at most 32 KiB after it.
    pub(super) pieces: &'a [Piece<'a>],
    /// Where the last match before the zone ends.
    pub(super) match_end: u64,
    /// The boundaries in the zone.
    pub(super) boundaries: &'a [u64],
    /// What a checkpoint at the first position costs for its header. That is the start of the zone,
    /// or the end of a match across it.
    pub(super) first_cost: u32,
}

impl Zone<'_> {
    /// The cheapest position; the first of several.
    pub(super) fn cheapest(&self) -> u64 {
        let mut bits = Bits::new(self.start, self.end + WINDOW_LEN as u64);
        let origin = bits.start;
        let [start, end, first] = [self.start, self.end, self.match_end.max(self.start)]
            .map(|at| usize::try_from(at - origin).unwrap_or(usize::MAX));
        let mut search = Search {
            pieces: self.pieces.to_vec(),
            boundaries: self.boundaries,
            origin,
            start,
            // A match that ends where the zone starts, if none does later.
            match_end: usize::try_from(self.match_end.saturating_sub(origin)).unwrap_or(0),
            best: Best { cost: u32::MAX, at: first },
        };
        while let Some((matches, delta)) = search.next_matches(end) {
            bits.set_all(matches, delta);
        }
        // The end of the zone belongs to the last step.
        let mut step_end = end + 1;
        let mut after = None;
        while step_end > start {
            let step = start.max(step_end.saturating_sub(STEP_LEN))..step_end;
            step_end = step.start;
            // The bytes before the step that are referred to after it.
            let count = after.take().unwrap_or_else(|| bits.count_below(step.end));
            if count - bits.count(step.start, step.end) > search.best.cost {
                search.skip(&mut bits, step.start);
            } else {
                after = Some(search.sweep(&mut bits, &step, count));
            }
        }
        let cost = bits.count_below(first) + self.first_cost;
        let at = if cost <= search.best.cost { first } else { search.best.at };
        origin + at as u64
    }
}

/// A backward search. Positions count from `origin`.
struct Search<'a> {
    /// What has not been taken yet.
    pieces: Vec<Piece<'a>>,
    boundaries: &'a [u64],
    origin: u64,
    start: usize,
    match_end: usize,
    best: Best,
}

impl<'a> Search<'a> {
    /// The last matches that have not been taken and begin at or after `limit`, those of one piece,
    /// and what to add to their offsets.
    fn next_matches(&mut self, limit: usize) -> Option<(&'a [Match], usize)> {
        while let Some(piece) = self.pieces.last_mut() {
            let delta = delta(piece, self.origin);
            let is_before = |found: &Match| delta.wrapping_add(found.offset() as usize) < limit;
            let count = piece.matches.partition_point(is_before);
            let (before, found) = piece.matches.split_at(count);
            piece.matches = before;
            if before.is_empty() {
                self.pieces.pop();
            }
            if !found.is_empty() {
                return Some((found, delta));
            }
            if !before.is_empty() {
                return None;
            }
        }
        None
    }

    /// Where the last match ends that has not been taken.
    fn last_end(&self) -> usize {
        let last = self.pieces.last().and_then(|piece| {
            let found = piece.matches.last()?;
            let at = delta(piece, self.origin).wrapping_add(found.offset() as usize);
            Some(at + usize::from(found.len()))
        });
        last.unwrap_or(self.match_end)
    }

    /// Takes the last boundary if it is at or after `limit`.
    #[inline]
    fn next_boundary(&mut self, limit: usize) -> Option<usize> {
        let (last, rest) = self.boundaries.split_last()?;
        let at = usize::try_from(last - self.origin).unwrap_or(usize::MAX);
        if at < limit {
            return None;
        }
        self.boundaries = rest;
        Some(at)
    }

    /// Passes over the matches that begin at or after `limit`.
    fn skip(&mut self, bits: &mut Bits, limit: usize) {
        while let Some((matches, delta)) = self.next_matches(limit) {
            bits.set_all(matches, delta);
        }
        while self.next_boundary(limit).is_some() {}
    }

    /// Goes through the candidates of a step. `count` is the number of bits below its end; returns
    /// that below its start.
    fn sweep(&mut self, bits: &mut Bits, step: &Range<usize>, count: u32) -> u32 {
        let mut place = Place { at: step.end, count };
        while let Some((matches, delta)) = self.next_matches(step.start) {
            for found in matches.iter().rev() {
                let at = delta.wrapping_add(found.offset() as usize);
                let end = at + usize::from(found.len());
                while let Some(boundary) = self.next_boundary(end) {
                    place.go(bits, boundary);
                    self.offer(&place, 0);
                }
                if end < step.end {
                    place.go(bits, end);
                    self.offer(&place, HUFFMAN_COST);
                }
                // The source of a match ends before it, and so do all positions that follow.
                place.go(bits, at);
                place.count += bits.set_counting(*found, delta);
            }
        }
        let end = self.last_end();
        while let Some(boundary) = self.next_boundary(end.max(step.start)) {
            place.go(bits, boundary);
            self.offer(&place, 0);
        }
        if step.contains(&end) && end >= self.start {
            place.go(bits, end);
            self.offer(&place, HUFFMAN_COST);
        }
        while let Some(boundary) = self.next_boundary(step.start) {
            place.go(bits, boundary);
            self.offer(&place, 0);
        }
        place.go(bits, step.start);
        place.count
    }

    #[inline]
    fn offer(&mut self, place: &Place, extra: u32) {
        let cost = place.count + extra;
        if cost <= self.best.cost {
            self.best = Best { cost, at: place.at };
        }
    }
}

/// What to add to the offsets of a piece's matches. It wraps if the piece begins before the origin;
/// adding an offset wraps back.
#[allow(clippy::cast_possible_truncation, reason = "wraps")]
const fn delta(piece: &Piece<'_>, origin: u64) -> usize {
    piece.base.wrapping_sub(origin) as usize
}

/// A position, and the number of bits below it.
struct Place {
    at: usize,
    count: u32,
}

impl Place {
    /// Goes back to `at`. All matches that begin between the two must have been added.
    #[inline]
    fn go(&mut self, bits: &Bits, at: usize) {
        self.count -= bits.count(at, self.at);
        self.at = at;
    }
}

/// The bytes that are referred to, one bit each. Positions count from `start`.
struct Bits {
    words: Vec<u64>,
    start: u64,
}

impl Bits {
    /// Bits for the window before `start`, and up to `end`.
    fn new(start: u64, end: u64) -> Self {
        let first = start.saturating_sub(WINDOW_LEN as u64);
        let len = usize::try_from(end - first).unwrap_or(0);
        // One more, so that two words can be changed at any position.
        Self { words: vec![0; len / 64 + 2], start: first }
    }

    /// Sets the bits of what matches refer to; `delta` is added to their offsets.
    fn set_all(&mut self, matches: &[Match], delta: usize) {
        for found in matches {
            let start = source(*found, delta);
            let len = usize::from(found.source_len());
            if len < 64
                && let Some([first, second]) = self.words.get_mut(start / 64..start / 64 + 2)
            {
                let mask = (1_u64 << len) - 1;
                *first |= mask << (start % 64);
                *second |= mask >> 1 >> (63 - start % 64);
            } else {
                self.set_long(start, len);
            }
        }
    }

    #[cold]
    fn set_long(&mut self, start: usize, len: usize) {
        for (index, mask) in words(start..start + len) {
            if let Some(word) = self.words.get_mut(index) {
                *word |= mask;
            }
        }
    }

    /// Sets the bits of what a match refers to and returns how many were not set before.
    #[inline]
    fn set_counting(&mut self, found: Match, delta: usize) -> u32 {
        let start = source(found, delta);
        let len = usize::from(found.source_len());
        if len < 64
            && let Some([first, second]) = self.words.get_mut(start / 64..start / 64 + 2)
        {
            let mask = (1_u64 << len) - 1;
            let low = (mask << (start % 64)) & !*first;
            let high = (mask >> 1 >> (63 - start % 64)) & !*second;
            *first |= low;
            *second |= high;
            // `low` has no bits below the start, and `high` none from there on.
            return (low | high).count_ones();
        }
        let before = self.count(start, start + len);
        self.set_long(start, len);
        u32::from(found.source_len()) - before
    }

    /// The number of bits from `start` up to `end`.
    #[inline]
    fn count(&self, start: usize, end: usize) -> u32 {
        if start / 64 == end / 64 {
            let word = self.words.get(start / 64).copied().unwrap_or(0);
            let found = word & ((1_u64 << (end % 64)) - (1_u64 << (start % 64)));
            // Mostly, nothing so recent is referred to.
            return if found == 0 { 0 } else { found.count_ones() };
        }
        if start / 64 + 1 == end / 64
            && let Some([first, second]) = self.words.get(start / 64..start / 64 + 2)
        {
            let first = first >> (start % 64);
            let second = second & ((1_u64 << (end % 64)) - 1);
            return if first | second == 0 { 0 } else { first.count_ones() + second.count_ones() };
        }
        self.count_long(start, end)
    }

    fn count_long(&self, start: usize, end: usize) -> u32 {
        let (first, last) = (start / 64, end / 64);
        let word = |index: usize| self.words.get(index).copied().unwrap_or(0);
        let edges = (word(first) >> (start % 64)).count_ones()
            + (word(last) & ((1_u64 << (end % 64)) - 1)).count_ones();
        // Whole words in one loop, which is vectorized.
        let whole = self.words.get(first + 1..last).unwrap_or_default();
        edges + whole.iter().map(|word| word.count_ones()).sum::<u32>()
    }

    /// The number of bits in the window before `at`.
    fn count_below(&self, at: usize) -> u32 {
        self.count(at.saturating_sub(WINDOW_LEN), at)
    }
}

/// Where the source of a match begins.
#[inline]
fn source(found: Match, delta: usize) -> usize {
    delta.wrapping_add(found.offset() as usize).wrapping_sub(usize::from(found.distance()))
}

/// The bytes before `at` that the matches of `pieces`, which begin at or after it, refer to. `bytes`
/// returns a range of the output.
pub(super) fn sparse_window(
    at: u64,
    pieces: &[Piece<'_>],
    bytes: impl Fn(Range<u64>) -> Vec<u8>,
) -> SparseWindow {
    let mut bits = Bits::new(at, at + WINDOW_LEN as u64);
    for piece in pieces {
        bits.set_all(piece.matches, delta(piece, bits.start));
    }
    let first = bits.start;
    // Where the window would start in front of the output.
    let missing = WINDOW_LEN as u64 - (at - first);
    let is_set = |position: u64| {
        let index = position - first;
        bits.words[(index / 64) as usize] >> (index % 64) & 1 != 0
    };
    let (mut runs, mut contents) = (Vec::new(), Vec::new());
    let mut position = first;
    while position < at {
        let rest = bits.words[((position - first) / 64) as usize] >> ((position - first) % 64);
        if rest == 0 {
            position = (position - first) / 64 * 64 + 64 + first;
            continue;
        }
        let start = position + u64::from(rest.trailing_zeros());
        let mut end = start;
        while end < at && is_set(end) {
            end += 1;
        }
        let place = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
        runs.push(Run { start: place(start - first + missing), len: place(end - start) });
        contents.extend_from_slice(&bytes(start..end));
        position = end;
    }
    SparseWindow { runs: runs.into(), bytes: contents.into() }
}

/// The whole window before `at`.
pub(super) fn full_window(at: u64, bytes: impl Fn(Range<u64>) -> Vec<u8>) -> SparseWindow {
    let len = at.min(WINDOW_LEN as u64);
    if len == 0 {
        return SparseWindow::default();
    }
    let place = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
    let run = Run { start: place(WINDOW_LEN as u64 - len), len: place(len) };
    SparseWindow { runs: [run].into(), bytes: bytes(at - len..at).into() }
}
