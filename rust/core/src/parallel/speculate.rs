//! Decoding a range of the layer before anything is known of what comes before it.
//!
//! Starts at a guess of the probe, with markers for the window; goes on in bytes once the last 32 KiB
//! have none. Whatever is doubtful is left out: the result ends between two blocks, and an error shows
//! only as an early end. The joiner decodes what is missing and tells what is wrong.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use super::piece::{CheckedPiece, Mark, MarkKind, Piece, Pool, clean_tail_len, narrow};
use super::probe::{Probe, Start};
use super::source::Stretch;
use crate::checkpoint::{WINDOW_LEN, Window};
use crate::gzip::{Event, GzipDecoder, Next, Place};
use crate::inflate::{Inflater, Speed, Stop};
use crate::span::BitOffset;

/// Guesses tried in one range, at most: a stream may be full of false ones.
const MAX_TRIALS: usize = 256;
/// Bytes of buffers that all false guesses of a range may cost.
const MAX_WASTE: usize = 4 << 20;

/// What a worker made of a range.
#[derive(Debug)]
pub(super) struct Speculation {
    pub(super) start: Start,
    /// Output that may refer to the window before the range.
    pub(super) marked: Vec<Piece<u16>>,
    /// What follows it and does not.
    pub(super) plain: Vec<CheckedPiece>,
    /// Where it ends, between two blocks or members.
    pub(super) end: BitOffset,
    pub(super) next: Next,
}

/// What workers work with, beside the state.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) byte_buffers: Pool<Box<[u8]>>,
    pub(super) unit_buffers: Pool<Box<[u16]>>,
    pub(super) units: Pool<Vec<u8>>,
    pub(super) decoders: Pool<Box<Decoders>>,
    /// Set when nothing is wanted any more.
    pub(super) is_stopped: AtomicBool,
    /// Bytes of buffers that one speculation may fill.
    pub(super) max_len: usize,
}

#[derive(Debug)]
pub(super) struct Decoders {
    marked: Inflater<u16>,
    plain: GzipDecoder,
}

impl Decoders {
    fn new() -> Self {
        Self {
            marked: Inflater::marked(Speed::Fast, 0, 0),
            plain: GzipDecoder::unchecked(Speed::Fast),
        }
    }
}

impl Tools {
    pub(super) const fn new(max_len: usize) -> Self {
        Self {
            byte_buffers: Pool::new(),
            unit_buffers: Pool::new(),
            units: Pool::new(),
            decoders: Pool::new(),
            is_stopped: AtomicBool::new(false),
            max_len,
        }
    }
}

/// Decodes from a start in `range`, in bytes of the layer, to the first block or member at or behind its
/// end; `None` when no start was found.
pub(super) fn speculate(
    stretch: &Stretch,
    range: Range<u64>,
    tools: &Tools,
) -> Option<Speculation> {
    let decoders = tools.decoders.take().unwrap_or_else(|| Box::new(Decoders::new()));
    let mut attempt = Attempt {
        stretch,
        stop: BitOffset(range.end.saturating_mul(8)),
        tools,
        decoders,
        marked: Vec::new(),
        plain: Vec::new(),
        marks: Vec::new(),
        len: 0,
        wasted: 0,
    };
    let mut probe = Probe::new(stretch, range);
    let found = probe.by_ref().take(MAX_TRIALS).find_map(|start| {
        if attempt.wasted > MAX_WASTE || tools.is_stopped.load(Ordering::Relaxed) {
            return Some(None);
        }
        attempt.run(start).map(Some)
    });
    tools.decoders.give(attempt.decoders);
    found.flatten()
}

/// How an attempt came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Where the range, the input, or the memory given to it ends.
    Stopped,
    /// At something that is no DEFLATE.
    Broken,
    /// The window has no markers any more; this comes next.
    Clean(BitOffset, Next),
}

struct Attempt<'a> {
    stretch: &'a Stretch,
    stop: BitOffset,
    tools: &'a Tools,
    decoders: Box<Decoders>,
    marked: Vec<Piece<u16>>,
    plain: Vec<CheckedPiece>,
    /// Those of the piece that is being written.
    marks: Vec<Mark>,
    /// Bytes of buffers filled by this attempt.
    len: usize,
    /// Bytes of buffers filled by attempts that failed.
    wasted: usize,
}

impl Attempt<'_> {
    /// What decoding from `start` gives, if it looks like a stream.
    fn run(&mut self, start: Start) -> Option<Speculation> {
        let position = match start {
            Start::Member(byte) => self.start_member(byte)?,
            Start::Dynamic(position) => self.start_block(position),
            Start::Stored(_) => self.start_block(start.position()),
        };
        let mut outcome = self.run_marked(position);
        self.flush_marked();
        if let Outcome::Clean(position, next) = outcome {
            outcome = self.run_plain(position, next);
            self.flush_plain();
        }
        let speculation = self.finish(start, outcome);
        self.wasted = self.wasted.saturating_add(std::mem::take(&mut self.len));
        speculation
    }

    fn start_block(&mut self, position: BitOffset) -> BitOffset {
        let (bits, count) = self.first_bits(position);
        self.decoders.marked.restart_marked(bits, count);
        position
    }

    /// Reads a member's header. Its output refers to nothing before, but windows of its first checkpoints
    /// reach back, so it is decoded with markers too.
    fn start_member(&mut self, byte: u64) -> Option<BitOffset> {
        let decoder = &mut self.decoders.plain;
        let place = Place {
            position: BitOffset(byte * 8),
            first: 0,
            window: &Window::zeros(),
            history_len: 0,
            next: Next::Member,
        };
        decoder.restart(&place);
        let event = self.stretch.step(decoder);
        let position = decoder.position();
        if !matches!(event, Ok(Event::Candidate)) {
            return None;
        }
        self.start_block(position);
        self.decoders.marked.start_stream();
        self.marks.push(Mark { offset: 0, position, kind: MarkKind::MemberStart });
        Some(position)
    }

    /// The bits of the byte at `position` that are not before it, as the low bits, and how many they are
    /// when some are before it.
    fn first_bits(&self, position: BitOffset) -> (u8, u8) {
        let used = position.bit_in_byte();
        (self.stretch.byte_of(position) >> used, (8 - used) % 8)
    }

    fn run_marked(&mut self, start: BitOffset) -> Outcome {
        let mut taken = start.0.div_ceil(8);
        // Output since the window was last looked through.
        let mut unseen = 0;
        loop {
            let mut input = self.stretch.bytes_at(taken);
            let len = input.len();
            let before = self.decoders.marked.pending_len();
            let stop = self.decoders.marked.run(&mut input);
            unseen += self.decoders.marked.pending_len() - before;
            taken += (len - input.len()) as u64;
            match stop {
                Ok(Stop::NeedInput) if len > 0 => {}
                Ok(Stop::NeedInput) => return Outcome::Stopped,
                Ok(Stop::OutputFull) => {
                    self.flush_marked();
                    if self.has_enough() {
                        return Outcome::Stopped;
                    }
                }
                Ok(Stop::BlockEnd { last }) => {
                    let unused = u64::from(self.decoders.marked.unused_bits());
                    let position = BitOffset(taken * 8 - unused);
                    if !last {
                        let offset = self.decoders.marked.pending_len();
                        self.marks.push(Mark { offset, position, kind: MarkKind::Block });
                        if position >= self.stop {
                            return Outcome::Stopped;
                        }
                    }
                    if unseen >= WINDOW_LEN / 2 || last {
                        unseen = 0;
                        if clean_tail_len(self.decoders.marked.history()) == WINDOW_LEN {
                            let next = if last { Next::Trailer } else { Next::Block };
                            return Outcome::Clean(position, next);
                        }
                    }
                    if last {
                        return Outcome::Stopped;
                    }
                }
                Err(_) => return Outcome::Broken,
            }
        }
    }

    fn run_plain(&mut self, position: BitOffset, next: Next) -> Outcome {
        let mut window = [0; WINDOW_LEN];
        narrow(self.decoders.marked.history(), &mut window);
        self.decoders.plain.restart(&Place {
            position,
            first: self.stretch.byte_of(position),
            window: &Window::ending_with(&window),
            history_len: WINDOW_LEN,
            next,
        });
        let mut kind = MarkKind::Block;
        loop {
            let decoder = &mut self.decoders.plain;
            let event = self.stretch.step(decoder);
            let (offset, position) = (decoder.inflater().pending_len(), decoder.position());
            match event {
                Ok(Event::NeedInput) => return Outcome::Stopped,
                Ok(Event::Output) => {
                    self.flush_plain();
                    if self.has_enough() {
                        return Outcome::Stopped;
                    }
                    continue;
                }
                Ok(Event::Candidate) => {
                    self.marks.push(Mark { offset, position, kind });
                    kind = MarkKind::Block;
                }
                Ok(Event::MemberEnd) => {
                    let end = MarkKind::MemberEnd(decoder.trailer());
                    self.marks.push(Mark { offset, position, kind: end });
                    kind = MarkKind::MemberStart;
                }
                Err(_) => return Outcome::Broken,
            }
            if position >= self.stop {
                return Outcome::Stopped;
            }
        }
    }

    /// Whether nothing more is wanted, or may be kept.
    fn has_enough(&self) -> bool {
        self.len > self.tools.max_len || self.tools.is_stopped.load(Ordering::Relaxed)
    }

    fn flush_marked(&mut self) {
        let marks = std::mem::take(&mut self.marks);
        if self.decoders.marked.pending_len() == 0 && marks.is_empty() {
            return;
        }
        let next = self.tools.unit_buffers.take_buffer();
        self.len = self.len.saturating_add(size_of_val(&*next));
        let filled = self.decoders.marked.hand_over(next);
        self.marked.push(Piece { filled, marks });
    }

    fn flush_plain(&mut self) {
        let marks = std::mem::take(&mut self.marks);
        if self.decoders.plain.inflater().pending_len() == 0 && marks.is_empty() {
            return;
        }
        let next = self.tools.byte_buffers.take_buffer();
        self.len = self.len.saturating_add(size_of_val(&*next));
        let filled = self.decoders.plain.hand_over(next);
        self.plain.push(CheckedPiece::new(Piece { filled, marks }));
    }

    /// Cuts off what is not known to be whole.
    fn finish(&mut self, start: Start, outcome: Outcome) -> Option<Speculation> {
        let mut marked = std::mem::take(&mut self.marked);
        let mut plain = std::mem::take(&mut self.plain);
        let marks = marked.iter().map(|piece| piece.marks.len()).sum::<usize>()
            + plain.iter().map(|checked| checked.piece.marks.len()).sum::<usize>();
        // Something that breaks after a block or two was none.
        let least = if outcome == Outcome::Broken { 3 } else { 1 };
        let mut end = None;
        if marks >= least {
            while end.is_none()
                && let Some(last) = plain.pop()
            {
                end = last.piece.marks.last().copied();
                match end {
                    Some(mark) if mark.offset < last.piece.len() => {
                        let mut piece = last.piece;
                        piece.truncate(mark.offset);
                        plain.push(CheckedPiece::new(piece));
                    }
                    Some(_) => plain.push(last),
                    None => self.tools.byte_buffers.give(last.piece.filled.buffer),
                }
            }
            while end.is_none()
                && let Some(mut last) = marked.pop()
            {
                end = last.marks.last().copied();
                match end {
                    Some(mark) => {
                        last.truncate(mark.offset);
                        marked.push(last);
                    }
                    None => self.tools.unit_buffers.give(last.filled.buffer),
                }
            }
        }
        let Some(end) = end.filter(|end| end.position > start.position()) else {
            marked.into_iter().for_each(|piece| self.tools.unit_buffers.give(piece.filled.buffer));
            let bytes = plain.into_iter().map(|checked| checked.piece.filled.buffer);
            bytes.for_each(|buffer| self.tools.byte_buffers.give(buffer));
            return None;
        };
        let next = match end.kind {
            MarkKind::MemberEnd(_) => Next::Member,
            MarkKind::Block | MarkKind::MemberStart => Next::Block,
        };
        Some(Speculation { start, marked, plain, end: end.position, next })
    }
}
