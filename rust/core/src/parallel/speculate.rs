//! Decoding a range of the layer without knowing what precedes it.
//!
//! Decoding starts at a guess of the probe, with markers for the window, and continues with plain
//! bytes once the last 32 KiB contain no markers. Anything doubtful is left out: the result always
//! ends between two blocks, and an error only makes it end early. The joiner decodes the rest and
//! reports the error.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::piece::{CheckedPiece, Mark, MarkKind, Piece, clean_tail_len, narrow};
use super::probe::{Probe, Start};
use super::source::Stretch;
use super::tools::{Decoders, Tools};
use crate::checkpoint::{WINDOW_LEN, Window};
use crate::gzip::{Event, Next, ResumePoint};
use crate::inflate::Stop;
use crate::span::BitOffset;
use crate::trace::{NoteKind, Notes, Trace};

/// Maximum number of guesses tried in a range, since a stream may be full of false ones.
const MAX_GUESSES: usize = 256;
/// Maximum bytes of output spent on false guesses in a range.
const MAX_WASTE: usize = 4 << 20;

/// The result of decoding a range.
#[derive(Debug)]
pub(super) struct Speculation {
    pub(super) start: Start,
    /// The first output, which may refer to the window before the range.
    pub(super) marked: Vec<Piece<u16>>,
    /// The remaining output, which does not.
    pub(super) plain: Vec<CheckedPiece>,
    /// Where the result ends, between two blocks or members.
    pub(super) end: BitOffset,
    pub(super) next: Next,
}

/// Decodes from the first block or member found in `range` to the first one at or after its end.
/// Returns `None` if nothing was found. `range` is in bytes of the layer.
pub(super) fn speculate(
    stretch: &Stretch,
    range: Range<u64>,
    tools: &Tools,
) -> Option<Speculation> {
    let decoders = tools.decoders.take().unwrap_or_else(|| Box::new(Decoders::new(tools.traces)));
    let mut attempt = Attempt {
        stretch,
        stop: BitOffset(range.end.saturating_mul(8)),
        tools,
        decoders,
        marked: Vec::new(),
        plain: Vec::new(),
        marks: Vec::new(),
        notes: Notes::default(),
        len: 0,
        wasted: 0,
    };
    let mut found = None;
    for start in Probe::new(stretch, range).take(MAX_GUESSES) {
        if attempt.wasted > MAX_WASTE || tools.is_stopped.load(Ordering::Relaxed) {
            break;
        }
        found = attempt.run(start);
        if found.is_some() {
            break;
        }
    }
    tools.decoders.give(attempt.decoders);
    found
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// At the end of the range, of the input, or of the allowed memory.
    Stopped,
    /// At invalid DEFLATE data.
    Broken,
    /// The window no longer contains markers. Decoding can continue here, with this element of the
    /// stream.
    Clean(BitOffset, Next),
}

struct Attempt<'a> {
    stretch: &'a Stretch,
    stop: BitOffset,
    tools: &'a Tools,
    decoders: Box<Decoders>,
    marked: Vec<Piece<u16>>,
    plain: Vec<CheckedPiece>,
    /// The marks of the piece that is being written.
    marks: Vec<Mark>,
    /// The notes of the marked piece that is being written.
    notes: Notes,
    /// Bytes of buffers filled by this attempt.
    len: usize,
    /// Bytes of buffers filled by attempts that failed.
    wasted: usize,
}

impl Attempt<'_> {
    /// Decodes from `start`, and returns the result if it looks like a real stream.
    fn run(&mut self, start: Start) -> Option<Speculation> {
        self.notes = Notes::default();
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

    /// Reads a member's header. The member's output does not refer to earlier output, but the
    /// windows of its first checkpoints contain some, so it is decoded with markers too.
    fn start_member(&mut self, byte: u64) -> Option<BitOffset> {
        let decoder = &mut self.decoders.plain;
        let point = ResumePoint {
            position: BitOffset(byte * 8),
            first: 0,
            window: &Window::zeros(),
            history_len: 0,
            next: Next::Member,
        };
        decoder.restart(&point);
        let event = self.stretch.step(decoder);
        let position = decoder.position();
        if !matches!(event, Ok(Event::Candidate)) {
            return None;
        }
        self.start_block(position);
        self.decoders.marked.start_stream();
        self.marks.push(Mark { offset: 0, position, kind: MarkKind::MemberStart });
        self.note(BitOffset(byte * 8), NoteKind::Member);
        Some(position)
    }

    /// If `position` is inside a byte, the remaining bits of that byte as low bits, and their
    /// number.
    fn first_bits(&self, position: BitOffset) -> (u8, u8) {
        let used = position.bit_in_byte();
        (self.stretch.byte_of(position) >> used, (8 - used) % 8)
    }

    fn run_marked(&mut self, start: BitOffset) -> Outcome {
        let mut taken = start.0.div_ceil(8);
        // Units of output since the window was last searched for markers.
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
                Ok(Stop::BlockHeader) => {
                    if let Some(body) = self.decoders.marked.body() {
                        self.note(self.marked_position(taken), NoteKind::Body(body));
                    }
                }
                Ok(Stop::Pause) => self.note(self.marked_position(taken), NoteKind::Symbol),
                Ok(Stop::NeedInput) => return Outcome::Stopped,
                Ok(Stop::OutputFull) => {
                    self.flush_marked();
                    if self.has_enough() {
                        return Outcome::Stopped;
                    }
                }
                Ok(Stop::BlockEnd { last }) => {
                    let position = self.marked_position(taken);
                    if !last {
                        self.note(position, NoteKind::Block);
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

    /// The position of the marked decoder, which has taken the bytes before `taken`.
    fn marked_position(&self, taken: u64) -> BitOffset {
        BitOffset(taken * 8 - u64::from(self.decoders.marked.unused_bits()))
    }

    /// Notes that something begins at `position`, where the marked decoder is.
    fn note(&mut self, position: BitOffset, kind: NoteKind) {
        if self.tools.traces {
            self.notes.push(self.decoders.marked.pending_len(), position, kind);
        }
    }

    fn run_plain(&mut self, position: BitOffset, next: Next) -> Outcome {
        let mut window = [0; WINDOW_LEN];
        narrow(self.decoders.marked.history(), &mut window);
        self.decoders.plain.restart(&ResumePoint {
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

    /// Whether to stop, because the result is large enough or no longer needed.
    fn has_enough(&self) -> bool {
        self.len > self.tools.max_len || self.tools.is_stopped.load(Ordering::Relaxed)
    }

    fn flush_marked(&mut self) {
        let marks = std::mem::take(&mut self.marks);
        if self.decoders.marked.pending_len() == 0 && marks.is_empty() {
            return;
        }
        let next = self.tools.unit_buffers.take();
        let mut trace = Trace::default();
        self.decoders.marked.take_matches(&mut trace.matches);
        self.notes.take(&mut trace.notes);
        self.len = self.len.saturating_add(size_of_val(&*next)).saturating_add(trace.memory());
        let filled = self.decoders.marked.hand_over(next);
        self.marked.push(Piece { filled, marks, trace });
    }

    fn flush_plain(&mut self) {
        let marks = std::mem::take(&mut self.marks);
        if self.decoders.plain.inflater().pending_len() == 0 && marks.is_empty() {
            return;
        }
        let next = self.tools.byte_buffers.take();
        let mut trace = Trace::default();
        self.decoders.plain.take_trace(&mut trace);
        self.len = self.len.saturating_add(size_of_val(&*next)).saturating_add(trace.memory());
        let filled = self.decoders.plain.hand_over(next);
        self.plain.push(CheckedPiece::new(Piece { filled, marks, trace }));
    }

    /// Cuts the result at the last mark, since the part after it may be incomplete.
    fn finish(&mut self, start: Start, outcome: Outcome) -> Option<Speculation> {
        let mut marked = std::mem::take(&mut self.marked);
        let mut plain = std::mem::take(&mut self.plain);
        let marks = marked.iter().map(|piece| piece.marks.len()).sum::<usize>()
            + plain.iter().map(|checked| checked.piece.marks.len()).sum::<usize>();
        // Data that becomes invalid after one or two blocks was probably not DEFLATE.
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop at once")]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use super::*;
    use crate::parallel::piece::Resolver;

    const UNIT_LEN: usize = 10_000;

    /// Random words: many short matches, and blocks of about ten thousand bytes.
    fn text(len: usize) -> Vec<u8> {
        let words: [&[u8]; 7] =
            [b"layer ", b"blob ", b"span ", b"window ", b"of ", b"the ", b"0123"];
        let mut state = 1_u32;
        let mut data = Vec::new();
        while data.len() < len {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            data.extend_from_slice(words[(state >> 16) as usize % words.len()]);
            data.push((state >> 24) as u8);
        }
        data
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn stretch(layer: &[u8]) -> Stretch {
        let units = layer.chunks(UNIT_LEN).map(|unit| Arc::new(unit.to_vec())).collect();
        Stretch::new(0, UNIT_LEN, units)
    }

    /// The length of the output before the block at `position`.
    fn output_before(layer: &[u8], position: BitOffset) -> usize {
        let mut decoder = crate::gzip::GzipDecoder::new(crate::inflate::Speed::Plain);
        let (mut input, mut len) = (layer, 0);
        loop {
            let event = decoder.step(&mut input).unwrap();
            if event == Event::Candidate && decoder.position() == position {
                return len + decoder.inflater().pending_len();
            }
            assert!(event != Event::NeedInput, "no block begins at {position}");
            if event == Event::Output {
                decoder.take_output(|bytes| len += bytes.len());
            }
        }
    }

    fn output(found: &Speculation, window: &Window) -> Vec<u8> {
        let resolver = Resolver::new(window);
        let mut output = Vec::new();
        for piece in &found.marked {
            let mut bytes = vec![0; piece.len()];
            resolver.resolve(piece.filled.output(), &mut bytes);
            output.extend(bytes);
        }
        found.plain.iter().for_each(|checked| output.extend(checked.piece.filled.output()));
        output
    }

    #[test]
    fn speculate_when_a_block_starts_in_the_range_then_returns_its_output() {
        let data = text(3_000_000);
        let layer = gzip(&data);
        let tools = Tools::new(usize::MAX, false);
        let range = 100_000..200_000;
        let found = speculate(&stretch(&layer), range.clone(), &tools).unwrap();
        let (start, end) = (found.start.position().0 / 8, found.end.0 / 8);
        assert!(range.contains(&start) && start < 130_000, "starts at {start}");
        assert!((range.end..range.end + 40_000).contains(&end), "ends at {end}");

        let first = output_before(&layer, found.start.position());
        let resolved = output(&found, &Window::ending_with(&data[..first]));
        assert!(resolved == data[first..first + resolved.len()]);
    }

    #[test]
    fn speculate_when_members_start_in_the_range_then_starts_at_the_first() {
        let data = text(400_000);
        let layer: Vec<u8> = data.chunks(40_000).flat_map(gzip).collect();
        let starts: Vec<u64> = data
            .chunks(40_000)
            .scan(0, |at, piece| Some(std::mem::replace(at, *at + gzip(piece).len() as u64)))
            .collect();
        let tools = Tools::new(usize::MAX, false);
        let range = starts[2] - 10..starts[5];
        let found = speculate(&stretch(&layer), range, &tools).unwrap();
        assert_eq!(found.start, Start::Member(starts[2]));
        assert_eq!((found.end, found.next), (BitOffset(starts[5] * 8), Next::Member));
        assert!(output(&found, &Window::zeros()) == data[80_000..200_000]);
    }

    #[test]
    fn speculate_when_data_is_random_then_none() {
        let noise: Vec<u8> = (0..200_000_u32)
            .map(|index| index.wrapping_mul(2_654_435_761).rotate_left(9).to_le_bytes()[1])
            .collect();
        let tools = Tools::new(usize::MAX, false);
        assert!(speculate(&stretch(&noise), 10_000..150_000, &tools).is_none());
    }
}
