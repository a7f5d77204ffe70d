//! The cheapest position in a zone: where the fewest bytes before it are referred to after it.
//!
//! The matches are gone through backwards, with a bitmap of the bytes that they refer to. Before
//! each match is added, the bits below a position are the bytes that a checkpoint there needs. To
//! count them at every match would take longer than to decode it, so a whole step of positions is
//! passed over if already its lower bound is worse than the best position found: the bytes before
//! the step that are referred to after it.

use std::ops::Range;

use crate::checkpoint::{Run, SparseWindow, WINDOW_LEN};
use crate::inflate::words;

/// Positions in a step. Counting the bits of a window costs as much as going through the matches of
/// about 2 KiB one by one.
const STEP_LEN: u64 = 4 << 10;

/// What a checkpoint inside a block with Huffman codes costs for its stored header, in bytes.
pub(super) const HUFFMAN_COST: u64 = 60;
/// What a checkpoint inside a stored block costs.
pub(super) const STORED_COST: u64 = 4;

/// A match, by output positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reference {
    /// Where it is.
    pub(super) at: u64,
    pub(super) len: u64,
    /// What it refers to.
    pub(super) source: u64,
    pub(super) source_len: u64,
}

impl Reference {
    const fn end(&self) -> u64 {
        self.at + self.len
    }
}

/// A candidate, and what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Best {
    cost: u64,
    at: u64,
}

/// What is known about a zone.
pub(super) struct Zone<R, B> {
    /// The positions that may become the checkpoint; both ends may.
    pub(super) start: u64,
    pub(super) end: u64,
    /// The matches that begin in the zone and at most 32 KiB after it, backwards. Earlier ones may
    /// follow.
    pub(super) references: R,
    /// The boundaries in the zone, backwards.
    pub(super) boundaries: B,
    /// The first position in the zone at which something begins.
    pub(super) first: u64,
    /// What a checkpoint there costs for its header.
    pub(super) first_cost: u64,
}

impl<R, B> Zone<R, B>
where
    R: Iterator<Item = Reference>,
    B: Iterator<Item = u64>,
{
    /// The cheapest position; the first of several.
    pub(super) fn cheapest(self) -> u64 {
        let mut references = self.references.peekable();
        let mut boundaries = self.boundaries.peekable();
        let mut bits = Bits::new(self.start, self.end);
        while let Some(next) = references.next_if(|next| next.at >= self.end) {
            bits.set(&next);
        }
        let mut best = Best { cost: u64::MAX, at: self.first };
        // The end of the zone belongs to the last step.
        let mut step_end = self.end + 1;
        while step_end > self.start {
            let step = self.start.max(step_end.saturating_sub(STEP_LEN))..step_end;
            step_end = step.start;
            if bits.count_below(step.start) > best.cost {
                while let Some(next) = references.next_if(|next| next.at >= step.start) {
                    bits.set(&next);
                }
                while boundaries.next_if(|&next| next >= step.start).is_some() {}
                continue;
            }
            let mut sweep = Sweep::new(&mut bits, &step, &mut best);
            loop {
                let end = references.peek().map_or(0, Reference::end);
                while let Some(at) = boundaries.next_if(|&at| at >= end.max(step.start)) {
                    sweep.offer(at, 0);
                }
                if end >= step.start && end < step.end && end >= self.start {
                    sweep.offer(end, HUFFMAN_COST);
                }
                let Some(next) = references.next_if(|next| next.at >= step.start) else { break };
                sweep.add(&next);
            }
        }
        let cost = bits.count_below(self.first) + self.first_cost;
        if cost <= best.cost { self.first } else { best.at }
    }
}

/// A backward pass over the positions of one step.
struct Sweep<'a> {
    bits: &'a mut Bits,
    best: &'a mut Best,
    at: u64,
    /// The number of bits below `at`.
    count: u64,
}

impl<'a> Sweep<'a> {
    fn new(bits: &'a mut Bits, step: &Range<u64>, best: &'a mut Best) -> Self {
        let count = bits.count_below(step.end);
        Self { bits, best, at: step.end, count }
    }

    /// Goes back to a candidate, all references after which were added.
    #[inline]
    fn offer(&mut self, at: u64, extra: u64) {
        self.count -= self.bits.count(at..self.at);
        self.at = at;
        let cost = self.count + extra;
        if cost <= self.best.cost {
            *self.best = Best { cost, at };
        }
    }

    /// Adds the reference that comes before all others.
    #[inline]
    fn add(&mut self, reference: &Reference) {
        // Its source ends before it, and so do all positions that follow.
        self.count -= self.bits.count(reference.at..self.at);
        self.at = reference.at;
        self.count += self.bits.set_counting(reference);
    }
}

/// The bytes that are referred to, one bit each.
struct Bits {
    words: Vec<u64>,
    /// The position of the first bit.
    start: u64,
    end: u64,
}

impl Bits {
    /// Bits for the window before `start`, and up to `end`.
    fn new(start: u64, end: u64) -> Self {
        let first = start.saturating_sub(WINDOW_LEN as u64);
        let len = usize::try_from(end - first).unwrap_or(0);
        Self { words: vec![0; len / 64 + 1], start: first, end }
    }

    /// The bits of a range of positions.
    #[inline]
    fn place(&self, start: u64, end: u64) -> Range<usize> {
        let place = |at: u64| at.clamp(self.start, self.end) - self.start;
        #[allow(clippy::cast_possible_truncation, reason = "at most the length of the vector")]
        let range = place(start) as usize..place(end) as usize;
        range
    }

    #[inline]
    fn set(&mut self, reference: &Reference) {
        let range = self.place(reference.source, reference.source + reference.source_len);
        if range.is_empty() {
            return;
        }
        let (first, shift, len) = (range.start / 64, range.start % 64, range.len());
        if len < 64 {
            let mask = (1_u64 << len) - 1;
            self.words[first] |= mask << shift;
            if shift + len > 64 {
                self.words[first + 1] |= mask >> (64 - shift);
            }
            return;
        }
        for (index, mask) in words(range) {
            self.words[index] |= mask;
        }
    }

    /// Sets the bits and returns how many were not set before.
    #[inline]
    fn set_counting(&mut self, reference: &Reference) -> u64 {
        let range = self.place(reference.source, reference.source + reference.source_len);
        let mut count = 0;
        for (index, mask) in words(range) {
            let word = &mut self.words[index];
            count += (mask & !*word).count_ones();
            *word |= mask;
        }
        u64::from(count)
    }

    #[inline]
    fn count(&self, range: Range<u64>) -> u64 {
        let range = self.place(range.start, range.end);
        words(range).map(|(index, mask)| u64::from((self.words[index] & mask).count_ones())).sum()
    }

    /// The number of bits in the window before `at`.
    fn count_below(&self, at: u64) -> u64 {
        let range = self.place(at.saturating_sub(WINDOW_LEN as u64), at);
        let (first, last) = (range.start.div_ceil(64), range.end / 64);
        if first >= last {
            return self.count(at.saturating_sub(WINDOW_LEN as u64)..at);
        }
        // Whole words in one loop, which is vectorized.
        let whole: u64 =
            self.words[first..last].iter().map(|word| u64::from(word.count_ones())).sum();
        let edges = words(range.start..first * 64).chain(words(last * 64..range.end));
        whole
            + edges
                .map(|(index, mask)| u64::from((self.words[index] & mask).count_ones()))
                .sum::<u64>()
    }
}

/// The bytes before `at` that the given references, which begin at or after it, need. `byte`
/// returns the output at a position.
pub(super) fn sparse_window(
    at: u64,
    references: impl Iterator<Item = Reference>,
    bytes: impl Fn(Range<u64>) -> Vec<u8>,
) -> SparseWindow {
    let mut bits = Bits::new(at, at);
    references.for_each(|reference| bits.set(&reference));
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
