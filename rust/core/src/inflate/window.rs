//! The sliding buffer that inflation writes to: 32 KiB of history, then room for new output.
//!
//! It is small enough to stay in the L2 cache, so the output is still cached when the CRC and the
//! tar scanner read it.

use std::ops::Range;

use crate::checkpoint::WINDOW_LEN;
use crate::inflate::tables::MAX_MATCH;
use crate::inflate::unit::Unit;

/// Bytes of new output between two slides. Larger buffers take more of the L2 cache, smaller ones
/// slide more often: 64 and 256 KiB are up to 1 % slower.
const OUTPUT_LEN: usize = 128 << 10;
/// Units after the last position at which a match may start: its length, and what a word-wise copy
/// may write beyond it.
pub(super) const SLACK_LEN: usize = MAX_MATCH + COPY_OVERRUN;
/// What copying a match may write beyond it: one step of five 8-byte words. Used as a number of
/// units too, since a unit has at least one byte.
pub(super) const COPY_OVERRUN: usize = 5 * 8;

/// Allocates a buffer for `output_len` units of new output, to replace one that is handed over.
#[must_use]
pub fn new_buffer<U: Unit>(output_len: usize) -> Box<[U]> {
    vec![U::default(); WINDOW_LEN + output_len + SLACK_LEN].into_boxed_slice()
}

/// A buffer that was handed over, with output and the history before it.
#[derive(Debug)]
pub struct Filled<U> {
    /// A buffer from [`new_buffer`].
    pub buffer: Box<[U]>,
    /// The range of the output; at least `WINDOW_LEN` units of history come before it.
    pub range: Range<usize>,
}

impl<U> Filled<U> {
    /// The output.
    #[must_use]
    pub fn output(&self) -> &[U] {
        &self.buffer[self.range.clone()]
    }

    /// The `WINDOW_LEN` units before position `len` of the output.
    #[must_use]
    pub fn window_at(&self, len: usize) -> &[U] {
        let end = self.range.start + len;
        &self.buffer[end - WINDOW_LEN..end]
    }
}

/// The history and output of one stream. There are always `WINDOW_LEN` units before `end`: zeros
/// stand for what precedes the stream.
#[derive(Debug, Clone)]
pub(super) struct OutputWindow<U> {
    buffer: Box<[U]>,
    /// Start of the history that distances may reach.
    floor: usize,
    /// Start of the output that has not been taken; it ends at `end`.
    taken: usize,
    end: usize,
    /// The number of units output before the start of the buffer; wraps below 0 at first.
    origin: u64,
}

/// The value of `origin` before any output.
const FIRST_ORIGIN: u64 = 0_u64.wrapping_sub(WINDOW_LEN as u64);

impl<U: Unit> OutputWindow<U> {
    pub(super) fn new() -> Self {
        Self {
            buffer: new_buffer(OUTPUT_LEN),
            floor: WINDOW_LEN,
            taken: WINDOW_LEN,
            end: WINDOW_LEN,
            origin: FIRST_ORIGIN,
        }
    }

    /// Starts over after `window`, of which distances may reach the last `history_len` units.
    /// Output that was not taken is lost.
    pub(super) fn restart(&mut self, window: &[U], history_len: usize) {
        self.buffer[..WINDOW_LEN].copy_from_slice(window);
        self.floor = WINDOW_LEN - history_len.min(WINDOW_LEN);
        (self.taken, self.end) = (WINDOW_LEN, WINDOW_LEN);
        self.origin = FIRST_ORIGIN;
    }

    /// Hands over the whole buffer with the output since the last call, and continues in `next`.
    pub(super) fn hand_over(&mut self, mut next: Box<[U]>) -> Filled<U> {
        let shift = self.end - WINDOW_LEN;
        next[..WINDOW_LEN].copy_from_slice(self.history());
        let buffer = std::mem::replace(&mut self.buffer, next);
        let range = self.taken..self.end;
        self.floor = self.floor.saturating_sub(shift);
        self.origin = self.origin.wrapping_add(shift as u64);
        (self.taken, self.end) = (WINDOW_LEN, WINDOW_LEN);
        Filled { buffer, range }
    }

    /// Starts a new member, whose distances cannot reach the history.
    pub(super) fn start_member(&mut self) {
        self.floor = self.end;
    }

    /// The largest valid distance in units, at most `WINDOW_LEN`.
    pub(super) fn history_len(&self) -> usize {
        (self.end - self.floor).min(WINDOW_LEN)
    }

    /// The 32 Ki units before `end`.
    pub(super) fn history(&self) -> &[U] {
        &self.buffer[self.end - WINDOW_LEN..self.end]
    }

    /// Size of the buffer in bytes.
    pub(super) const fn capacity(&self) -> usize {
        self.buffer.len() * size_of::<U>()
    }

    /// Number of units written but not taken yet.
    pub(super) fn pending_len(&self) -> usize {
        self.end - self.taken
    }

    /// Returns the output since the last call.
    pub(super) fn take(&mut self) -> &[U] {
        let from = std::mem::replace(&mut self.taken, self.end);
        &self.buffer[from..self.end]
    }

    /// Whether there is room for another match.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.end + SLACK_LEN <= self.buffer.len()
    }

    /// Makes room by moving the last 32 KiB to the front; all output must have been taken.
    pub(super) fn slide(&mut self) {
        debug_assert_eq!(self.taken, self.end, "output was lost");
        let shift = self.end - WINDOW_LEN;
        self.buffer.copy_within(shift..self.end, 0);
        self.floor = self.floor.saturating_sub(shift);
        self.origin = self.origin.wrapping_add(shift as u64);
        self.end = WINDOW_LEN;
        self.taken = WINDOW_LEN;
    }

    /// Writes one literal; there must be room.
    #[inline]
    pub(super) fn push(&mut self, literal: u8) {
        self.buffer[self.end] = U::literal(literal);
        self.end += 1;
    }

    /// Writes as much of `bytes` as there is room for and returns the number of bytes written.
    pub(super) fn extend(&mut self, bytes: &[u8]) -> usize {
        let room = (self.buffer.len() - SLACK_LEN + 1).saturating_sub(self.end);
        let len = bytes.len().min(room);
        for (to, &byte) in self.buffer[self.end..self.end + len].iter_mut().zip(bytes) {
            *to = U::literal(byte);
        }
        self.end += len;
        len
    }

    /// Copies `len` units from `distance` units back, one by one since they may overlap. There must
    /// be enough room and history.
    pub(super) fn repeat(&mut self, distance: usize, len: usize) {
        for at in self.end..self.end + len {
            self.buffer[at] = self.buffer[at - distance];
        }
        self.end += len;
    }

    /// The number of units output so far, taken or not.
    #[inline]
    pub(super) const fn position(&self) -> u64 {
        self.origin.wrapping_add(self.end as u64)
    }

    /// The buffer, the write position and the floor, for the fast decoder.
    pub(super) fn raw_parts(&mut self) -> (&mut [U], usize, usize) {
        (&mut self.buffer, self.end, self.floor)
    }

    /// The index of the first unit that has not been taken.
    pub(super) const fn taken(&self) -> usize {
        self.taken
    }

    /// Accounts for what the fast decoder has written.
    pub(super) fn advance_to(&mut self, end: usize) {
        debug_assert!(end >= self.end && end <= self.buffer.len(), "fast decoder left the buffer");
        self.end = end;
    }
}
