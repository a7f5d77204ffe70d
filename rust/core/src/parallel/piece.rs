//! Pieces of output on their way to the consumer, and how markers in them become bytes.

use crate::checkpoint::Window;
use crate::gzip::{MemberCheck, Trailer};
use crate::inflate::{FIRST_MARKER, Filled};
use crate::span::BitOffset;

/// A place between blocks or members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Output of the piece before it.
    pub(super) offset: usize,
    /// Where the next header begins.
    pub(super) position: BitOffset,
    pub(super) kind: MarkKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MarkKind {
    /// Behind a block that is not the last of its member.
    Block,
    /// Behind a member's header.
    MemberStart,
    /// Behind a member's trailer.
    MemberEnd(Trailer),
}

/// Some output, with the places in it, in stream order.
#[derive(Debug)]
pub(super) struct Piece<U> {
    pub(super) filled: Filled<U>,
    pub(super) marks: Vec<Mark>,
}

impl<U> Piece<U> {
    pub(super) fn len(&self) -> usize {
        self.filled.range.len()
    }

    /// Drops what comes after the first `len` units, and the marks beyond them.
    pub(super) fn truncate(&mut self, len: usize) {
        self.filled.range.end = self.filled.range.start + len.min(self.len());
        self.marks.retain(|mark| mark.offset <= len);
    }
}

/// Bytes whose checksums are known.
#[derive(Debug)]
pub(super) struct CheckedPiece {
    pub(super) piece: Piece<u8>,
    /// Of the output up to each member's end, and of the output behind the last.
    pub(super) checks: Vec<MemberCheck>,
}

impl CheckedPiece {
    /// Looks at all bytes, best while they are in the cache.
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

/// Units that are looked at together for markers.
const BLOCK_LEN: usize = 32;
/// Units whose markers are resolved together.
const STEP_LEN: usize = 4 << 10;

/// What each unit stands for behind one window: most output behind a range's start has few markers, but
/// where they are, one look-up a unit is what they cost.
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

    /// Puts the bytes of the window in the place of their markers.
    pub(super) fn resolve(&self, marked: &[u16], bytes: &mut [u8]) {
        // First all units as if they were bytes, which vector instructions do, then the markers again; in
        // steps that stay in the first-level cache.
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

    /// A window some of whose bytes are markers of places in the window before.
    pub(super) fn window(&self, marked: &[u16]) -> Window {
        let mut bytes = vec![0; marked.len()];
        self.resolve(marked, &mut bytes);
        Window::ending_with(&bytes)
    }
}

/// Whether any unit is a marker; all of them are looked at, which vector instructions can do at once.
#[inline(always)]
fn has_marker(units: &[u16]) -> bool {
    units.iter().fold(0, |all, unit| all | unit) >= FIRST_MARKER
}

/// Units as bytes, as if none were a marker.
#[inline(always)]
pub(super) fn narrow(units: &[u16], bytes: &mut [u8]) {
    for (byte, &unit) in bytes.iter_mut().zip(units) {
        *byte = low_byte(unit);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a byte has nothing in the high half")]
const fn low_byte(unit: u16) -> u8 {
    unit as u8
}

/// How many units at the end of `units` are no markers.
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
