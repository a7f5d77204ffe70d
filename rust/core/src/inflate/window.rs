//! The sliding buffer that inflation writes to: 32 KiB of history, then room for new output.
//!
//! Small enough to stay in the L2 cache, so that what is written there is still hot when the CRC and
//! the tar scanner read it.

use std::ops::Range;

use crate::checkpoint::WINDOW_LEN;
use crate::inflate::tables::MAX_MATCH;
use crate::inflate::unit::Unit;

/// New output between two slides. Larger buffers take more of the L2 cache, smaller ones slide more: 64
/// and 256 KiB are up to 1 % slower.
const OUTPUT_LEN: usize = 128 << 10;
/// Bytes behind the last position at which a match may start: its length, and what a word-wise copy
/// may write beyond it.
pub(super) const SLACK_LEN: usize = MAX_MATCH + COPY_OVERRUN;
/// What a match copy may write beyond the match: one step of five 8-byte words. In units, which have
/// one byte at least.
pub(super) const COPY_OVERRUN: usize = 5 * 8;

/// A buffer for `output_len` units of new output, to go on in when another is handed over.
#[must_use]
pub fn new_buffer<U: Unit>(output_len: usize) -> Box<[U]> {
    vec![U::default(); WINDOW_LEN + output_len + SLACK_LEN].into_boxed_slice()
}

/// A buffer that was handed over: output, and the history before it.
#[derive(Debug)]
pub struct Filled<U> {
    /// As [`new_buffer`] made it.
    pub buffer: Box<[U]>,
    /// Where the output lies; at least `WINDOW_LEN` units of history come before it.
    pub range: Range<usize>,
}

impl<U> Filled<U> {
    /// The output.
    #[must_use]
    pub fn output(&self) -> &[U] {
        &self.buffer[self.range.clone()]
    }

    /// The `WINDOW_LEN` units before `len` units of the output.
    #[must_use]
    pub fn window_at(&self, len: usize) -> &[U] {
        let end = self.range.start + len;
        &self.buffer[end - WINDOW_LEN..end]
    }
}

/// History and output of one stream. The last `WINDOW_LEN` bytes before `end` always exist: zeros
/// stand for what came before the stream began.
#[derive(Debug, Clone)]
pub(super) struct OutputWindow<U> {
    buffer: Box<[U]>,
    /// Where the history that distances may reach begins.
    floor: usize,
    /// Bytes from here to `end` have not been handed out.
    taken: usize,
    end: usize,
}

impl<U: Unit> OutputWindow<U> {
    pub(super) fn new() -> Self {
        Self {
            buffer: new_buffer(OUTPUT_LEN),
            floor: WINDOW_LEN,
            taken: WINDOW_LEN,
            end: WINDOW_LEN,
        }
    }

    /// Starts over behind `window`, of which distances may reach the last `history_len` units. What
    /// was not taken is lost.
    pub(super) fn restart(&mut self, window: &[U], history_len: usize) {
        self.buffer[..WINDOW_LEN].copy_from_slice(window);
        self.floor = WINDOW_LEN - history_len.min(WINDOW_LEN);
        (self.taken, self.end) = (WINDOW_LEN, WINDOW_LEN);
    }

    /// Hands out the whole buffer with what was written since the last call, and goes on in `next`.
    pub(super) fn hand_over(&mut self, mut next: Box<[U]>) -> Filled<U> {
        let shift = self.end - WINDOW_LEN;
        next[..WINDOW_LEN].copy_from_slice(self.history());
        let buffer = std::mem::replace(&mut self.buffer, next);
        let range = self.taken..self.end;
        self.floor = self.floor.saturating_sub(shift);
        (self.taken, self.end) = (WINDOW_LEN, WINDOW_LEN);
        Filled { buffer, range }
    }

    /// Forgets the history as far as distances go: a new member begins.
    pub(super) fn start_member(&mut self) {
        self.floor = self.end;
    }

    /// Bytes a distance may reach back, at most `WINDOW_LEN`.
    pub(super) fn history_len(&self) -> usize {
        (self.end - self.floor).min(WINDOW_LEN)
    }

    /// The 32 Ki units before `end`.
    pub(super) fn history(&self) -> &[U] {
        &self.buffer[self.end - WINDOW_LEN..self.end]
    }

    /// Bytes of history and output that there is memory for.
    pub(super) const fn capacity(&self) -> usize {
        self.buffer.len() * size_of::<U>()
    }

    /// Units written and not yet handed out.
    pub(super) fn pending_len(&self) -> usize {
        self.end - self.taken
    }

    /// Hands out what was written since the last call, once.
    pub(super) fn take(&mut self) -> &[U] {
        let from = std::mem::replace(&mut self.taken, self.end);
        &self.buffer[from..self.end]
    }

    /// Whether another match may be written.
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
        self.end = WINDOW_LEN;
        self.taken = WINDOW_LEN;
    }

    /// Writes one literal; there is room.
    #[inline]
    pub(super) fn push(&mut self, literal: u8) {
        self.buffer[self.end] = U::literal(literal);
        self.end += 1;
    }

    /// Writes as much of `bytes` as there is room for; says how many.
    pub(super) fn extend(&mut self, bytes: &[u8]) -> usize {
        let room = (self.buffer.len() - SLACK_LEN + 1).saturating_sub(self.end);
        let len = bytes.len().min(room);
        for (to, &byte) in self.buffer[self.end..self.end + len].iter_mut().zip(bytes) {
            *to = U::literal(byte);
        }
        self.end += len;
        len
    }

    /// Repeats `len` bytes from `distance` back, byte by byte so that they may overlap; there is room
    /// and history.
    pub(super) fn repeat(&mut self, distance: usize, len: usize) {
        for at in self.end..self.end + len {
            self.buffer[at] = self.buffer[at - distance];
        }
        self.end += len;
    }

    /// The buffer, the write position and the floor, for the fast decoder.
    pub(super) fn raw_parts(&mut self) -> (&mut [U], usize, usize) {
        (&mut self.buffer, self.end, self.floor)
    }

    /// Takes over what the fast decoder wrote.
    pub(super) fn advance_to(&mut self, end: usize) {
        debug_assert!(end >= self.end && end <= self.buffer.len(), "fast decoder left the buffer");
        self.end = end;
    }
}
