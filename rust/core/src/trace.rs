//! A trace of decoding, from which the checkpoints of a seek table are chosen: the matches, and
//! where members, blocks and symbols begin.

use crate::inflate::{Body, Match};
use crate::span::BitOffset;

/// What was decoded, in stream order. Offsets count bytes of the output that the trace belongs to.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// All matches.
    pub matches: Vec<Match>,
    /// Everything else.
    pub notes: Vec<Note>,
}

impl Trace {
    /// Keeps what lies before offset `len`, and what begins there.
    pub fn truncate(&mut self, len: usize) {
        let matches = self.matches.partition_point(|found| (found.offset() as usize) < len);
        self.matches.truncate(matches);
        let notes = self.notes.partition_point(|note| note.offset as usize <= len);
        self.notes.truncate(notes);
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn memory(&self) -> usize {
        let headers = self.notes.iter().map(|note| match &note.kind {
            NoteKind::Body(Body::Huffman(header)) => header.bytes.len(),
            _ => 0,
        });
        size_of_val(&self.matches[..]) + size_of_val(&self.notes[..]) + headers.sum::<usize>()
    }
}

/// Something that begins at a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The offset in the output.
    pub offset: u32,
    /// The position of its first bit.
    pub position: BitOffset,
    /// What begins there.
    pub kind: NoteKind,
}

/// What begins at a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoteKind {
    /// A member header.
    Member,
    /// A block header, unless it is the first one of its member.
    Block,
    /// What follows a block header.
    Body(Body),
    /// A symbol.
    Symbol,
}

impl NoteKind {
    /// Whether this is a boundary between two blocks.
    #[must_use]
    pub const fn is_boundary(&self) -> bool {
        matches!(self, Self::Member | Self::Block)
    }
}

/// Collects notes. For each offset, it keeps only what a checkpoint there may need, so that empty
/// blocks and members take no memory, however many there are.
#[derive(Debug, Clone, Default)]
pub struct Notes(Vec<Note>);

impl Notes {
    /// Adds a note, whose offset must not be smaller than that of the last one.
    pub fn push(&mut self, offset: usize, position: BitOffset, kind: NoteKind) {
        let offset = u32::try_from(offset).unwrap_or(u32::MAX);
        if kind.is_boundary() {
            let is_here = |note: &Note| note.offset == offset;
            // The body of a block without output, and symbols before the end of a block.
            let is_useless = |note: &Note| is_here(note) && !note.kind.is_boundary();
            while self.0.last().is_some_and(is_useless) {
                self.0.pop();
            }
            // At most one boundary of each kind is kept, the first.
            let mut same = self.0.iter().rev().take_while(|note| is_here(note));
            if same.any(|note| note.kind == kind) {
                return;
            }
        }
        self.0.push(Note { offset, position, kind });
    }

    /// Moves all notes to the end of `to`.
    pub fn take(&mut self, to: &mut Vec<Note>) {
        to.append(&mut self.0);
    }
}
