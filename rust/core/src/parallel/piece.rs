//! Pieces of output, and resolving the markers in them.

use crate::checkpoint::Window;
use crate::gzip::{MemberCheck, Trailer};
use crate::inflate::{FIRST_MARKER, Filled};
use crate::span::BitOffset;
use crate::trace::Trace;

/// A boundary between blocks or members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Its offset in the output of the piece.
    pub(super) offset: usize,
    /// Where the next header begins in the layer.
    pub(super) position: BitOffset,
    pub(super) kind: MarkKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MarkKind {
    /// After a block that is not the last of its member.
    Block,
    /// After a member's header.
    MemberStart,
    /// After a member's trailer.
    MemberEnd(Trailer),
}

/// A piece of output, with its boundaries in stream order.
#[derive(Debug)]
pub(super) struct Piece<U> {
    pub(super) filled: Filled<U>,
    pub(super) marks: Vec<Mark>,
    /// Empty unless the pipeline traces.
    pub(super) trace: Trace,
}

impl<U> Piece<U> {
    pub(super) fn len(&self) -> usize {
        self.filled.range.len()
    }

    /// Keeps the first `len` units, and the marks up to there.
    pub(super) fn truncate(&mut self, len: usize) {
        self.filled.range.end = self.filled.range.start + len.min(self.len());
        self.marks.retain(|mark| mark.offset <= len);
        self.trace.truncate(len);
    }
}

/// A piece of bytes with their checksums.
#[derive(Debug)]
pub(super) struct CheckedPiece {
    pub(super) piece: Piece<u8>,
    /// One check for the output up to each member end, and one for the output after the last.
    pub(super) checks: Vec<MemberCheck>,
}

impl CheckedPiece {
    /// Computes the checksums, preferably while the bytes are in the cache.
    pub(super) fn new(piece: Piece<u8>) -> Self {
        let mut checks = Vec::with_capacity(1);
        let mut done = 0;
        let output = piece.filled.output();
        let ends = piece.marks.iter().filter(|mark| matches!(mark.kind, MarkKind::MemberEnd(_)));
        for end in ends.map(|mark| mark.offset).chain([output.len()]) {
            let mut check = MemberCheck::new();
            check.update(&output[done..end]);
            checks.push(check);
            done = end;
        }
        Self { piece, checks }
    }
}

/// Number of units that are searched for markers together.
const BLOCK_LEN: usize = 32;
/// Number of units resolved in one step.
const STEP_LEN: usize = 4 << 10;

/// Maps each unit to its byte, given the window. Most output has few markers, and resolving one
/// costs one lookup.
#[derive(Debug)]
pub(super) struct Resolver(Box<[u8; 1 << 16]>);

impl Resolver {
    pub(super) fn new(window: &Window) -> Self {
        let mut bytes = Box::new([0; 1 << 16]);
        for (byte, value) in bytes.iter_mut().zip(0..=u8::MAX) {
            *byte = value;
        }
        bytes[usize::from(FIRST_MARKER)..].copy_from_slice(window.as_bytes());
        Self(bytes)
    }

    /// Replaces markers with bytes of the window.
    pub(super) fn resolve(&self, marked: &[u16], bytes: &mut [u8]) {
        // First convert all units as if they were bytes, which is vectorized, then fix the markers.
        // The steps are small enough to stay in the L1 cache.
        for (marked, bytes) in marked.chunks(STEP_LEN).zip(bytes.chunks_mut(STEP_LEN)) {
            narrow(marked, bytes);
            let (blocks, rest) = marked.as_chunks::<BLOCK_LEN>();
            let (byte_blocks, rest_bytes) = bytes.as_chunks_mut::<BLOCK_LEN>();
            for (block, bytes) in blocks.iter().zip(byte_blocks) {
                if has_marker(block) {
                    self.resolve_each(block, bytes);
                }
            }
            self.resolve_each(rest, rest_bytes);
        }
    }

    #[inline(always)]
    fn resolve_each(&self, marked: &[u16], bytes: &mut [u8]) {
        for (byte, &unit) in bytes.iter_mut().zip(marked) {
            *byte = self.0[usize::from(unit)];
        }
    }

    /// Resolves a window that contains markers of the window before it.
    pub(super) fn window(&self, marked: &[u16]) -> Window {
        let mut bytes = vec![0; marked.len()];
        self.resolve(marked, &mut bytes);
        Window::ending_with(&bytes)
    }
}

/// Whether any unit is a marker. Examines all units, without an early exit, so that it is
/// vectorized.
#[inline(always)]
fn has_marker(units: &[u16]) -> bool {
    units.iter().fold(0, |all, unit| all | unit) >= FIRST_MARKER
}

/// Converts units to bytes, as if none were a marker.
#[inline(always)]
pub(super) fn narrow(units: &[u16], bytes: &mut [u8]) {
    for (byte, &unit) in bytes.iter_mut().zip(units) {
        *byte = low_byte(unit);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the high half of a byte unit is zero")]
const fn low_byte(unit: u16) -> u8 {
    unit as u8
}

/// The number of units at the end of `units` that are not markers.
pub(super) fn clean_tail_len(units: &[u16]) -> usize {
    let mut len = 0;
    for block in units.rchunks(BLOCK_LEN) {
        if has_marker(block) {
            return len + block.iter().rev().take_while(|unit| **unit < FIRST_MARKER).count();
        }
        len += block.len();
    }
    len
}
