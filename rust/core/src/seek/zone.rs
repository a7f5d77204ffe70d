//! The cheapest position in a zone: where the fewest bytes before it are referred to after it.
//!
//! The matches are visited from last to first, and the bytes that they refer to are marked in a
//! bitmap. Once all matches after a position have been added, the bits set below it are the bytes
//! that a checkpoint at that position needs. Looking at every position would take longer than decoding
//! it. But going back from a position drops only the bits passed, so if a position needs more bytes
//! than the best one found, the search jumps to where enough bits have been passed. That is decided a
//! block of positions at a time.

use std::ops::Range;

use crate::checkpoint::{Run, SparseWindow, WINDOW_LEN};
use crate::inflate::{BitWork, Match, with_bit_instructions, words};

/// Number of positions in a block, a multiple of 64.
const BLOCK_LEN: usize = 256;
/// After a jump over at least this many positions, the bits of the window are counted again. After a
/// shorter one it is faster to have counted those that the matches add.
const LONG_JUMP: usize = 4 << 10;

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
    /// The positions that may become the checkpoint, including both ends.
    pub(super) start: u64,
    pub(super) end: u64,
    /// The matches that begin in the zone, or at most 32 KiB after it.
    pub(super) pieces: &'a [Piece<'a>],
    /// Where the last match before the zone ends.
    pub(super) match_end: u64,
    /// The boundaries in the zone.
    pub(super) boundaries: &'a [u64],
    /// What a checkpoint at the first position costs for its header. The first position is the start
    /// of the zone, or the end of a match that crosses it.
    pub(super) first_cost: u32,
}

impl Zone<'_> {
    /// The cheapest position; the first one if several cost the same.
    pub(super) fn cheapest(&self) -> u64 {
        with_bit_instructions(self)
    }
}

impl BitWork for &Zone<'_> {
    type Output = u64;

    /// [`Zone::cheapest`].
    #[inline(always)]
    fn run(self) -> u64 {
        let mut bits = Bits::new(self.start, self.end + WINDOW_LEN as u64);
        let origin = bits.start;
        let [start, end, first] = [self.start, self.end, self.match_end.max(self.start)]
            .map(|at| usize::try_from(at - origin).unwrap_or(usize::MAX));
        let mut search = Search {
            pieces: self.pieces.to_vec(),
            boundaries: self.boundaries,
            origin,
            // Used once no match in the zone is left.
            match_end: usize::try_from(self.match_end.saturating_sub(origin)).unwrap_or(0),
            best: Best { cost: u32::MAX, at: first },
        };
        search.add_matches(&mut bits, end);
        // The end of the zone is a candidate too.
        let mut place = Place { at: end + 1, count: bits.count_below(end + 1) };
        while place.at > start {
            // However far back the search goes, all bits but those passed are still needed.
            let limit = match place.count.checked_sub(search.best.cost.saturating_add(1)) {
                Some(room) => bits.back_over(place.at, start, room),
                None => place.at,
            };
            if limit < place.at {
                search.jump(&mut bits, limit, &mut place);
            } else {
                let limit = start.max((place.at - 1) / BLOCK_LEN * BLOCK_LEN);
                search.sweep(&mut bits, limit, &mut place);
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
    match_end: usize,
    best: Best,
}

impl<'a> Search<'a> {
    /// Where the last match that has not been taken ends.
    #[inline(always)]
    fn last_end(&self) -> usize {
        let last = self.pieces.last().and_then(|piece| {
            let found = piece.matches.last()?;
            let at = delta(piece, self.origin).wrapping_add(found.offset() as usize);
            Some(at + usize::from(found.len()))
        });
        last.unwrap_or(self.match_end)
    }

    /// Takes the last boundary if it is at or after `limit`.
    #[inline(always)]
    fn next_boundary(&mut self, limit: usize) -> Option<usize> {
        let (last, rest) = self.boundaries.split_last()?;
        let at = usize::try_from(last - self.origin).unwrap_or(usize::MAX);
        if at < limit {
            return None;
        }
        self.boundaries = rest;
        Some(at)
    }

    /// Adds the matches that begin at or after `limit`.
    #[inline(always)]
    fn add_matches(&mut self, bits: &mut Bits, limit: usize) {
        self.take_matches::<false>(bits, limit);
    }

    /// Goes back from `place` to `limit`, between which no candidate is better than the best one.
    #[inline(always)]
    fn jump(&mut self, bits: &mut Bits, limit: usize, place: &mut Place) {
        if place.at - limit < LONG_JUMP {
            place.count += self.take_matches::<true>(bits, limit);
            place.go(bits, limit);
        } else {
            self.add_matches(bits, limit);
            *place = Place { at: limit, count: bits.count_below(limit) };
        }
        while self.next_boundary(limit).is_some() {}
    }

    /// Adds the matches that begin at or after `limit`, from last to first. With `COUNT`, returns how
    /// many bits they add.
    #[inline(always)]
    fn take_matches<const COUNT: bool>(&mut self, bits: &mut Bits, limit: usize) -> u32 {
        let mut added = 0;
        while let Some(piece) = self.pieces.last_mut() {
            let delta = delta(piece, self.origin);
            let mut matches = piece.matches;
            while let Some((found, before)) = matches.split_last() {
                if delta.wrapping_add(found.offset() as usize) < limit {
                    break;
                }
                if COUNT {
                    added += bits.set_counting(*found, delta);
                } else {
                    bits.set(*found, delta);
                }
                matches = before;
            }
            piece.matches = matches;
            if !matches.is_empty() {
                break;
            }
            self.pieces.pop();
        }
        added
    }

    /// Goes back through the candidates from `place` to `limit`.
    #[inline(always)]
    fn sweep(&mut self, bits: &mut Bits, limit: usize, place: &mut Place) {
        let first = place.at;
        while let Some(&piece) = self.pieces.last() {
            let delta = delta(&piece, self.origin);
            let mut matches = piece.matches;
            while let Some((found, before)) = matches.split_last() {
                let at = delta.wrapping_add(found.offset() as usize);
                if at < limit {
                    break;
                }
                let end = at + usize::from(found.len());
                while let Some(boundary) = self.next_boundary(end) {
                    place.go(bits, boundary);
                    self.offer(place, 0);
                }
                if end < first {
                    place.go(bits, end);
                    self.offer(place, HUFFMAN_COST);
                }
                // The source of a match ends before it, and so do all positions that follow.
                place.go(bits, at);
                place.count += bits.set_counting(*found, delta);
                matches = before;
            }
            if let Some(last) = self.pieces.last_mut() {
                last.matches = matches;
            }
            if !matches.is_empty() {
                break;
            }
            self.pieces.pop();
        }
        let end = self.last_end();
        while let Some(boundary) = self.next_boundary(end.max(limit)) {
            place.go(bits, boundary);
            self.offer(place, 0);
        }
        if (limit..first).contains(&end) {
            place.go(bits, end);
            self.offer(place, HUFFMAN_COST);
        }
        while let Some(boundary) = self.next_boundary(limit) {
            place.go(bits, boundary);
            self.offer(place, 0);
        }
        place.go(bits, limit);
    }

    #[inline(always)]
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
    #[inline(always)]
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

    /// Sets the bits of what a match refers to; `delta` is added to its offset.
    #[inline(always)]
    fn set(&mut self, found: Match, delta: usize) {
        let start = source(found, delta);
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

    /// The earliest start of a block, or `start` if that is later, with at most `room` bits from there
    /// up to `at`; `at` if there is none.
    #[inline(always)]
    fn back_over(&self, at: usize, start: usize, mut room: u32) -> usize {
        let mut found = at;
        while found > start {
            let next = start.max((found - 1) / BLOCK_LEN * BLOCK_LEN);
            let count = self.count(next, found);
            if count > room {
                break;
            }
            room -= count;
            found = next;
        }
        found
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
    #[inline(always)]
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
    #[inline(always)]
    fn count(&self, start: usize, end: usize) -> u32 {
        if start / 64 == end / 64 {
            let word = self.words.get(start / 64).copied().unwrap_or(0);
            let found = word & ((1_u64 << (end % 64)) - (1_u64 << (start % 64)));
            // Usually, nothing this recent is referred to.
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

    #[inline(always)]
    fn count_long(&self, start: usize, end: usize) -> u32 {
        let (first, last) = (start / 64, end / 64);
        let word = |index: usize| self.words.get(index).copied().unwrap_or(0);
        let edges = (word(first) >> (start % 64)).count_ones()
            + (word(last) & ((1_u64 << (end % 64)) - 1)).count_ones();
        // Whole words in one loop, which is vectorized.
        let whole = self.words.get(first + 1..last).unwrap_or_default();
        edges + whole.iter().map(|word| word.count_ones()).sum::<u32>()
    }

    /// The first position from `start` up to `end` whose bit is `value`; `end` if there is none.
    fn next(&self, start: usize, end: usize, value: bool) -> usize {
        let mut at = start;
        while at < end {
            let word = self.words.get(at / 64).copied().unwrap_or(0);
            let word = if value { word } else { !word };
            let rest = word >> (at % 64);
            if rest != 0 {
                return end.min(at + rest.trailing_zeros() as usize);
            }
            at = at / 64 * 64 + 64;
        }
        end
    }

    /// The number of bits in the window before `at`.
    #[inline(always)]
    fn count_below(&self, at: usize) -> u32 {
        self.count(at.saturating_sub(WINDOW_LEN), at)
    }
}

/// Where the source of a match begins.
#[inline(always)]
fn source(found: Match, delta: usize) -> usize {
    delta.wrapping_add(found.offset() as usize).wrapping_sub(usize::from(found.distance()))
}

/// The bytes before `at` that matches refer to. `pieces` are the matches from `at` on; `bytes` returns
/// a range of the output.
pub(super) fn sparse_window<'a>(
    at: u64,
    pieces: &[Piece<'_>],
    bytes: impl FnOnce(Range<u64>) -> &'a [u8],
) -> SparseWindow {
    let mut bits = Bits::new(at, at + WINDOW_LEN as u64);
    for piece in pieces {
        let delta = delta(piece, bits.start);
        piece.matches.iter().for_each(|found| bits.set(*found, delta));
    }
    let first = bits.start;
    let place = |value: u64| usize::try_from(value - first).unwrap_or(usize::MAX);
    let end = place(at);
    let known = bytes(first..at);
    // The length of the window that would be before the start of the output.
    let missing = WINDOW_LEN - end;
    let (mut runs, mut contents) = (Vec::new(), Vec::new());
    let mut start = bits.next(0, end, true);
    while start < end {
        let run_end = bits.next(start, end, false);
        let place = |value: usize| u16::try_from(value).unwrap_or(u16::MAX);
        runs.push(Run { start: place(start + missing), len: place(run_end - start) });
        contents.extend_from_slice(known.get(start..run_end).unwrap_or_default());
        start = bits.next(run_end, end, true);
    }
    SparseWindow { runs: runs.into(), bytes: contents.into() }
}

/// The whole window before `at`.
pub(super) fn full_window<'a>(at: u64, bytes: impl FnOnce(Range<u64>) -> &'a [u8]) -> SparseWindow {
    let len = at.min(WINDOW_LEN as u64);
    if len == 0 {
        return SparseWindow::default();
    }
    let place = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
    let run = Run { start: place(WINDOW_LEN as u64 - len), len: place(len) };
    SparseWindow { runs: [run].into(), bytes: bytes(at - len..at).into() }
}
