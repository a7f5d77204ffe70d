//! Chooses the checkpoints of a seek table while a layer is decoded.
//!
//! After a checkpoint at q, the next one lies in its *zone*, from q + 3/4 S to q + 5/4 S. It is
//! chosen once the output is 32 KiB past the zone, since no match after that can refer to a byte
//! before the zone's end.
//!
//! Only data about the current zone is kept, so memory is proportional to the span size. What is
//! kept per byte of output is bounded too: a match has at least 3 bytes, and of all blocks and
//! members that begin at one position only the first of each kind is kept. Only empty blocks and
//! members take compressed bytes without producing output, and the caller has to keep these bytes
//! until the checkpoint is chosen. So if the blocks from the zone to the choice take more than
//! [`max_zone_len`] compressed bytes, the checkpoint is the first position of the zone, with its
//! whole window.

use std::collections::VecDeque;
use std::ops::Range;

use super::zone::{HUFFMAN_COST, Piece, STORED_COST, Zone, full_window, sparse_window};
use crate::checkpoint::{BlockHeader, SparseWindow, WINDOW_LEN};
use crate::inflate::{Body, EARLY_LEN, Match};
use crate::span::BitOffset;
use crate::trace::{Note, NoteKind, Trace};

const WINDOW: u64 = WINDOW_LEN as u64;

/// A chosen checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The number of uncompressed bytes before it.
    pub(crate) uncompressed: u64,
    pub(crate) place: Place,
    pub(crate) window: SparseWindow,
}

/// Where a checkpoint is in the layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Member(BitOffset),
    Block(BitOffset),
    /// Inside a stored block.
    Stored {
        position: BitOffset,
        remaining: u16,
        last: bool,
    },
    /// A symbol of a block with this header, to be found from an earlier symbol.
    Symbol {
        header: BlockHeader,
        /// The position of that symbol.
        from: BitOffset,
        /// The number of bytes of output between the two.
        distance: u64,
    },
}

/// Checkpoints, and how far the layer is settled.
#[derive(Debug, Clone, Default)]
pub(crate) struct Choices {
    /// In stream order.
    pub(crate) chosen: Vec<Choice>,
    /// No other checkpoint will come before this position.
    pub(crate) settled: BitOffset,
}

/// What begins at an output position.
#[derive(Debug, Clone)]
struct Mark {
    at: u64,
    position: BitOffset,
    kind: NoteKind,
}

/// The matches of one piece of output.
#[derive(Debug)]
struct Matches {
    /// The output position that their offsets count from.
    base: u64,
    matches: Vec<Match>,
}

/// Chooses checkpoints. The choices do not depend on how the output is divided.
#[derive(Debug)]
pub(crate) struct Finder {
    span_size: u64,
    /// The zone; both ends may become the checkpoint.
    zone: Range<u64>,
    /// The length of the output so far.
    len: u64,
    /// The output that windows may need, from `kept_start` on.
    kept: Vec<u8>,
    kept_start: u64,
    pieces: VecDeque<Matches>,
    /// What begins in or after the zone.
    marks: VecDeque<Mark>,
    /// The block that contains the start of the zone.
    body: Option<Mark>,
    /// The last symbol noted in it before the zone.
    symbol: Option<Mark>,
    chosen: Vec<Choice>,
    /// A position that the decoder has reached.
    reached: BitOffset,
    /// Free buffers.
    spare: Vec<Vec<Match>>,
}

/// Largest number of compressed bytes between the first block of a zone and the last one before the
/// choice. Even DEFLATE's longest code words take at most twice as many bytes as their output, so
/// only thousands of empty blocks, or of blocks with a few bytes each, exceed it.
const fn max_zone_len(span_size: u64) -> u64 {
    4 * span_size
}

impl Finder {
    /// Starts at the beginning of a layer, where the first checkpoint is.
    pub(crate) fn new(span_size: u64) -> Self {
        let mut this = Self {
            span_size,
            zone: 0..0,
            len: 0,
            kept: Vec::new(),
            kept_start: 0,
            pieces: VecDeque::new(),
            marks: VecDeque::new(),
            body: None,
            symbol: None,
            chosen: Vec::new(),
            reached: BitOffset(0),
            spare: Vec::new(),
        };
        this.chosen.push(Choice {
            uncompressed: 0,
            place: Place::Member(BitOffset(0)),
            window: SparseWindow::default(),
        });
        this.start_zone(0);
        this
    }

    /// The range of output whose matches are needed next.
    pub(crate) fn wanted(&self) -> Range<u64> {
        self.zone.start..self.zone.end.saturating_add(WINDOW)
    }

    /// Records that the decoder is at `position`. All output before it must have been pushed.
    pub(crate) fn reach(&mut self, position: BitOffset) {
        self.reached = position;
    }

    /// The checkpoints chosen since the last call.
    pub(crate) fn take_choices(&mut self) -> Choices {
        let settled = if self.len.saturating_add(EARLY_LEN) < self.zone.start {
            self.reached
        } else {
            let marks = [self.symbol.as_ref(), self.body.as_ref(), self.marks.front()];
            let first = marks.into_iter().flatten().next();
            first.map_or(self.reached, |mark| mark.position.min(self.reached))
        };
        Choices { chosen: std::mem::take(&mut self.chosen), settled }
    }

    /// Takes the next output with its trace. `trace` is left empty.
    pub(crate) fn push(&mut self, bytes: &[u8], trace: &mut Trace) {
        let base = self.len;
        self.keep(bytes);
        self.len += bytes.len() as u64;
        if trace.matches.is_empty() {
            trace.matches.clear();
        } else {
            let next = self.spare.pop().unwrap_or_default();
            let matches = std::mem::replace(&mut trace.matches, next);
            self.pieces.push_back(Matches { base, matches });
        }
        for note in trace.notes.drain(..) {
            self.add(base, note);
        }
        while self.len >= self.zone.end.saturating_add(WINDOW) {
            self.choose();
        }
    }

    /// Ends the layer.
    pub(crate) fn finish(&mut self) {
        while self.len > self.zone.end {
            self.choose();
        }
    }

    /// Keeps the output that a window may need: the current zone's, or the next one's, which begins
    /// at least 6/4 S after the last checkpoint.
    fn keep(&mut self, bytes: &[u8]) {
        let start = self.len;
        let end = start + bytes.len() as u64;
        let first = self.zone.start.saturating_sub(WINDOW).max(self.kept_start);
        if self.kept.is_empty() {
            self.kept_start = first.max(start);
        }
        if end > self.kept_start {
            let skipped = usize::try_from(self.kept_start.saturating_sub(start)).unwrap_or(0);
            self.kept.extend_from_slice(&bytes[skipped.min(bytes.len())..]);
        }
    }

    fn bytes(&self, range: Range<u64>) -> &[u8] {
        let place = |at: u64| usize::try_from(at.saturating_sub(self.kept_start)).unwrap_or(0);
        self.kept.get(place(range.start)..place(range.end)).unwrap_or_default()
    }

    /// Adds a mark, by the same rules as [`crate::trace::Notes`].
    fn add(&mut self, base: u64, note: Note) {
        let Note { offset, position, kind } = note;
        self.reached = position;
        let mark = Mark { at: base + u64::from(offset), position, kind };
        if mark.at < self.zone.start {
            self.pass(mark);
            return;
        }
        if mark.kind.is_boundary() {
            let is_useless = |last: &Mark| last.at == mark.at && !last.kind.is_boundary();
            while self.marks.back().is_some_and(is_useless) {
                self.marks.pop_back();
            }
            let mut same = self.marks.iter().rev().take_while(|last| last.at == mark.at);
            if same.any(|last| last.kind == mark.kind) {
                return;
            }
        }
        self.marks.push_back(mark);
        while self.is_too_long() {
            self.choose_first();
        }
    }

    /// Updates the current block and symbol for a mark before the zone.
    fn pass(&mut self, mark: Mark) {
        match mark.kind {
            NoteKind::Member | NoteKind::Block => (self.body, self.symbol) = (None, None),
            NoteKind::Body(_) => self.body = Some(mark),
            NoteKind::Symbol => self.symbol = Some(mark),
        }
    }

    /// Whether the last mark is more than `max_zone_len` after the first block of the zone.
    fn is_too_long(&self) -> bool {
        let Some(last) = self.marks.back() else { return false };
        if !matches!(last.kind, NoteKind::Body(_)) {
            return false;
        }
        let is_over = |first: &Mark, last: &Mark| {
            last.position.0.saturating_sub(first.position.0) > 8 * max_zone_len(self.span_size)
        };
        // A cheap test that rules out nearly all marks: no boundary is before the first mark.
        if !self.marks.front().is_some_and(|first| is_over(first, last)) {
            return false;
        }
        let end = self.zone.end.saturating_add(WINDOW);
        let first = self.marks.iter().find(|mark| mark.kind.is_boundary());
        let is_in_zone = |mark: &&Mark| mark.at < end && matches!(mark.kind, NoteKind::Body(_));
        let last = self.marks.iter().rev().find(is_in_zone);
        first.zip(last).is_some_and(|(first, last)| is_over(first, last))
    }

    /// The matches that begin in `range`.
    fn matches(&self, range: &Range<u64>) -> Vec<Piece<'_>> {
        let pieces = self.pieces.iter();
        let pieces =
            pieces.map(|piece| Piece { base: piece.base, matches: &piece.matches }.within(range));
        pieces.filter(|piece| !piece.matches.is_empty()).collect()
    }

    /// Where the last match before the zone ends.
    fn match_end(&self) -> u64 {
        let end = |piece: Piece<'_>| {
            let last = piece.matches.last()?;
            Some(piece.base + u64::from(last.offset()) + u64::from(last.len()))
        };
        self.matches(&(0..self.zone.start)).pop().and_then(end).unwrap_or(0)
    }

    /// The first position in the zone at which a symbol or a stored byte begins.
    fn first(&self) -> u64 {
        self.match_end().max(self.zone.start)
    }

    /// Chooses the cheapest position of the zone.
    fn choose(&mut self) {
        let first = self.first();
        let first_cost = match self.place(first) {
            Some(Place::Stored { .. }) => STORED_COST,
            Some(Place::Symbol { .. }) | None => HUFFMAN_COST,
            Some(Place::Block(_) | Place::Member(_)) => 0,
        };
        let is_boundary = |mark: &&Mark| mark.kind.is_boundary() && mark.at <= self.zone.end;
        let boundaries = self.marks.iter().filter(is_boundary).map(|mark| mark.at);
        let Range { start, end } = self.zone;
        let zone = Zone {
            start,
            end,
            pieces: &self.matches(&(start..end.saturating_add(WINDOW))),
            match_end: self.match_end(),
            boundaries: &boundaries.collect::<Vec<_>>(),
            first_cost,
        };
        let at = zone.cheapest();
        let pieces = self.matches(&(at..at.saturating_add(WINDOW)));
        let window = sparse_window(at, &pieces, |range| self.bytes(range));
        self.take(at, window);
    }

    /// Chooses the first position of a zone that takes too many compressed bytes.
    fn choose_first(&mut self) {
        let at = self.first();
        let window = match self.place(at) {
            Some(Place::Member(_)) => SparseWindow::default(),
            _ => full_window(at, |range| self.bytes(range)),
        };
        self.take(at, window);
    }

    fn take(&mut self, at: u64, window: SparseWindow) {
        // There is a place for every position that has been decoded.
        if let Some(place) = self.place(at) {
            self.chosen.push(Choice { uncompressed: at, place, window });
        }
        self.start_zone(at);
    }

    /// What begins at a position in the zone.
    fn place(&self, at: u64) -> Option<Place> {
        let (mut body, mut symbol) = (self.body.as_ref(), self.symbol.as_ref());
        let mut block = None;
        for mark in self.marks.iter().take_while(|mark| mark.at <= at) {
            match &mark.kind {
                NoteKind::Member if mark.at == at => return Some(Place::Member(mark.position)),
                NoteKind::Block if mark.at == at => {
                    block = block.or(Some(Place::Block(mark.position)));
                }
                NoteKind::Member | NoteKind::Block => (body, symbol) = (None, None),
                NoteKind::Body(_) => body = Some(mark),
                NoteKind::Symbol => symbol = Some(mark),
            }
        }
        if block.is_some() {
            return block;
        }
        let body = body?;
        let NoteKind::Body(kind) = &body.kind else { return None };
        Some(match kind {
            Body::Stored { len, last } => {
                let done = at - body.at;
                Place::Stored {
                    position: BitOffset(body.position.0 + 8 * done),
                    remaining: u16::try_from(u64::from(*len).checked_sub(done)?).ok()?,
                    last: *last,
                }
            }
            Body::Huffman(header) => {
                let from = symbol.unwrap_or(body);
                Place::Symbol {
                    header: header.clone(),
                    from: from.position,
                    distance: at - from.at,
                }
            }
        })
    }

    /// Begins the zone after a checkpoint.
    fn start_zone(&mut self, checkpoint: u64) {
        let quarter = self.span_size / 4;
        let start = checkpoint.saturating_add(3 * quarter);
        self.zone = start..checkpoint.saturating_add(5 * quarter);
        while let Some(piece) = self.pieces.front()
            && piece.matches.last().is_none_or(|last| {
                piece.base + u64::from(last.offset()) + u64::from(last.len()) <= start
            })
        {
            let Some(Matches { mut matches, .. }) = self.pieces.pop_front() else { break };
            matches.clear();
            self.spare.push(matches);
        }
        while self.marks.front().is_some_and(|mark| mark.at < start) {
            let Some(mark) = self.marks.pop_front() else { break };
            self.pass(mark);
        }
        let needed = start.saturating_sub(WINDOW);
        let dropped = usize::try_from(needed.saturating_sub(self.kept_start)).unwrap_or(0);
        if dropped >= self.kept.len() {
            self.kept.clear();
        } else {
            self.kept.drain(..dropped);
            self.kept_start += dropped as u64;
        }
        if self.kept.is_empty() {
            self.kept_start = needed.max(self.len);
        }
    }
}
