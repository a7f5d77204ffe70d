//! Decoding the layer in order, and accepting speculations.
//!
//! Only the joiner knows where blocks really begin, so it alone reports checkpoints and errors. It
//! takes over speculations that begin at its position, and decodes everything else itself.

use std::sync::Arc;

use super::CheckpointPolicy;
use super::piece::{CheckedPiece, Mark, MarkKind, Piece, Resolver};
use super::probe::{Match, Start};
use super::source::Stretch;
use super::speculate::Speculation;
use super::tools::Tools;
use crate::checkpoint::{Checkpoint, WINDOW_LEN, Window};
use crate::error::{Error, Result};
use crate::gzip::{Event, GzipDecoder, Next, ResumePoint};
use crate::span::{BitOffset, UncompressedOffset};
use crate::trace::Trace;

/// Maximum number of pieces that one step of decoding produces. Output may be a thousand times as
/// large as its input, so input alone does not bound a step.
const MAX_PIECES: usize = 16;

/// Output in stream order, or the error at its end. The state table is in `schedule`.
#[derive(Debug)]
pub(super) enum Slot {
    /// Bytes with their checksums.
    Checked(CheckedPiece),
    /// Bytes mixed with markers, and the resolver for the markers.
    Marked(Piece<u16>, Arc<Resolver>),
    /// A worker is replacing the markers.
    Resolving,
    /// The layer has an error here; nothing follows.
    Failed(Error),
}

/// The result of one step of joining.
#[derive(Debug, Default)]
pub(super) struct Joined {
    pub(super) slots: Vec<Slot>,
    pub(super) checkpoints: Vec<Checkpoint>,
}

/// The destination of the joiner's own output.
pub(super) trait Sink {
    /// Takes the pending output of the decoder and returns its length.
    fn take(&mut self, decoder: &mut GzipDecoder) -> Result<u64>;

    /// Ends a member at the decoder's position. Pending output belongs to that member. Returns the
    /// length of the output taken.
    fn end_member(&mut self, decoder: &mut GzipDecoder) -> Result<u64>;

    /// Whether it has enough output for one step.
    fn is_full(&self) -> bool;
}

/// Collects pieces for the scanner, used when the scanner is busy or must wait for earlier output.
#[derive(Debug)]
pub(super) struct Pieces<'a> {
    tools: &'a Tools,
    slots: Vec<Slot>,
    /// The marks of the piece that is being written.
    marks: Vec<Mark>,
}

impl<'a> Pieces<'a> {
    pub(super) const fn new(tools: &'a Tools) -> Self {
        Self { tools, slots: Vec::new(), marks: Vec::new() }
    }

    pub(super) fn into_slots(self) -> Vec<Slot> {
        self.slots
    }
}

impl Sink for Pieces<'_> {
    fn take(&mut self, decoder: &mut GzipDecoder) -> Result<u64> {
        let mut trace = Trace::default();
        decoder.take_trace(&mut trace);
        let is_traced = !trace.notes.is_empty();
        if decoder.inflater().pending_len() == 0 && self.marks.is_empty() && !is_traced {
            return Ok(0);
        }
        let filled = decoder.hand_over(self.tools.byte_buffers.take());
        let piece = Piece { filled, marks: std::mem::take(&mut self.marks), trace };
        let len = piece.len() as u64;
        self.slots.push(Slot::Checked(CheckedPiece::new(piece)));
        Ok(len)
    }

    fn end_member(&mut self, decoder: &mut GzipDecoder) -> Result<u64> {
        let (offset, position) = (decoder.inflater().pending_len(), decoder.position());
        let kind = MarkKind::MemberEnd(decoder.trailer());
        self.marks.push(Mark { offset, position, kind });
        Ok(0)
    }

    fn is_full(&self) -> bool {
        self.slots.len() >= MAX_PIECES
    }
}

/// Decodes the layer in order.
#[derive(Debug)]
pub(super) struct Joiner<P> {
    decoder: GzipDecoder,
    state: JoinerState,
    policy: P,
    /// Bytes of output before the piece that is being written.
    written: u64,
}

/// The state of the joiner. The state table is in `schedule`.
#[derive(Debug)]
enum JoinerState {
    /// Inside a block, a header or a trailer: only the decoder can continue.
    Inside,
    /// Like `Inside`, with all input used.
    Starved,
    /// The decoder is at the header of a block or a member.
    AtHeader,
    /// At the header after an accepted speculation. The decoder is still where the speculation
    /// began.
    Accepted(SpeculationEnd),
    /// At the end of the layer or at an error.
    Finished,
}

/// The end of an accepted speculation.
#[derive(Debug)]
struct SpeculationEnd {
    position: BitOffset,
    window: Window,
    history_len: usize,
    next: Next,
}

impl<P: CheckpointPolicy> Joiner<P> {
    /// Continues from `decoder`, whose first `written` bytes of output have already been taken.
    pub(super) const fn new(decoder: GzipDecoder, written: u64, policy: P) -> Self {
        Self { decoder, state: JoinerState::Inside, policy, written }
    }

    /// The position of the first unused bit.
    pub(super) fn position(&self) -> BitOffset {
        match &self.state {
            JoinerState::Accepted(end) => end.position,
            _ => self.decoder.position(),
        }
    }

    /// The offset of the first byte that has not been taken.
    pub(super) fn taken(&self) -> u64 {
        match &self.state {
            JoinerState::Accepted(end) => end.position.0.div_ceil(8),
            _ => self.decoder.taken(),
        }
    }

    /// Whether [`Self::position`] is that of a block header or a member header.
    pub(super) const fn is_at_header(&self) -> bool {
        matches!(self.state, JoinerState::AtHeader | JoinerState::Accepted(_))
    }

    /// Whether decoding needs more input.
    pub(super) const fn is_starved(&self) -> bool {
        matches!(self.state, JoinerState::Starved)
    }

    /// Whether the layer has ended, normally or with an error.
    pub(super) const fn is_finished(&self) -> bool {
        matches!(self.state, JoinerState::Finished)
    }

    pub(super) fn into_policy(self) -> P {
        self.policy
    }

    /// Compares a guess with the current header.
    pub(super) fn compare(&self, start: Start, stretch: &Stretch) -> Match {
        let (is_member, history_len) = match &self.state {
            JoinerState::Accepted(end) => (end.next == Next::Member, end.history_len),
            _ => (self.decoder.is_between_members(), self.decoder.history_len()),
        };
        match start.compare(self.position(), is_member, stretch) {
            // With markers, a distance beyond the start of the member would go unnoticed.
            Match::Here if !is_member && history_len < WINDOW_LEN => Match::Never,
            found => found,
        }
    }

    /// Takes over a speculation that starts at the current position.
    pub(super) fn accept(&mut self, speculation: Speculation) -> Joined {
        let window = match std::mem::replace(&mut self.state, JoinerState::Inside) {
            JoinerState::Accepted(end) => end.window,
            _ => self.decoder.inflater().window(),
        };
        let resolver = Arc::new(Resolver::new(&window));
        let mut joined = Joined::default();
        let mut end_window = None;
        let mut member_start = None;
        for mut piece in speculation.marked {
            let view = |len| resolver.window(piece.filled.window_at(len));
            if let Err((len, error)) = self.take_marks(&piece.marks, view, &mut joined) {
                piece.truncate(len);
                joined.slots.push(Slot::Marked(piece, resolver));
                return self.fail(joined, error);
            }
            end_window = Some(view(piece.len()));
            member_start = self.last_member_start(&piece.marks).or(member_start);
            self.written += piece.len() as u64;
            joined.slots.push(Slot::Marked(piece, Arc::clone(&resolver)));
        }
        for checked in speculation.plain {
            let view = |len| Window::ending_with(checked.piece.filled.window_at(len));
            if let Err((len, error)) = self.take_marks(&checked.piece.marks, view, &mut joined) {
                let mut piece = checked.piece;
                piece.truncate(len);
                joined.slots.push(Slot::Checked(CheckedPiece::new(piece)));
                return self.fail(joined, error);
            }
            end_window = Some(view(checked.piece.len()));
            member_start = self.last_member_start(&checked.piece.marks).or(member_start);
            self.written += checked.piece.len() as u64;
            joined.slots.push(Slot::Checked(checked));
        }
        let since = |start| usize::try_from(self.written - start).unwrap_or(WINDOW_LEN);
        self.state = JoinerState::Accepted(SpeculationEnd {
            position: speculation.end,
            window: end_window.unwrap_or(window),
            history_len: member_start.map_or(WINDOW_LEN, since).min(WINDOW_LEN),
            next: speculation.next,
        });
        joined
    }

    /// Decodes to the end of the stretch, to the first header at or after `stop`, or until `sink`
    /// is full.
    ///
    /// # Errors
    ///
    /// The error that ends the layer. `sink` has all output before it.
    pub(super) fn decode(
        &mut self,
        stretch: &Stretch,
        stop: Option<BitOffset>,
        sink: &mut impl Sink,
    ) -> (Vec<Checkpoint>, Result<()>) {
        let state = std::mem::replace(&mut self.state, JoinerState::Inside);
        if let JoinerState::Accepted(end) = state {
            self.decoder.restart(&ResumePoint {
                position: end.position,
                first: stretch.byte_of(end.position),
                window: &end.window,
                history_len: end.history_len,
                next: end.next,
            });
        }
        let mut checkpoints = Vec::new();
        let outcome = self.decode_on(stretch, stop, sink, &mut checkpoints);
        // An error follows the output that was decoded before it.
        let outcome = self.hand_out(sink).and(outcome);
        if outcome.is_err() {
            self.state = JoinerState::Finished;
        }
        (checkpoints, outcome)
    }

    fn decode_on(
        &mut self,
        stretch: &Stretch,
        stop: Option<BitOffset>,
        sink: &mut impl Sink,
        checkpoints: &mut Vec<Checkpoint>,
    ) -> Result<()> {
        loop {
            match stretch.step(&mut self.decoder)? {
                Event::NeedInput => {
                    self.state = JoinerState::Starved;
                    return Ok(());
                }
                Event::Output => {
                    self.hand_out(sink)?;
                    if sink.is_full() {
                        return Ok(());
                    }
                    continue;
                }
                Event::Candidate => checkpoints.extend(self.candidate()?),
                Event::MemberEnd => self.written += sink.end_member(&mut self.decoder)?,
            }
            if stop.is_some_and(|stop| self.decoder.position() >= stop) {
                self.state = JoinerState::AtHeader;
                return Ok(());
            }
        }
    }

    fn hand_out(&mut self, sink: &mut impl Sink) -> Result<()> {
        self.written += sink.take(&mut self.decoder)?;
        Ok(())
    }

    /// Ends the layer; everything has been decoded.
    pub(super) fn finish(&mut self) -> Joined {
        match self.decoder.finish() {
            Ok(()) => {
                self.state = JoinerState::Finished;
                Joined::default()
            }
            Err(error) => self.fail(Joined::default(), error),
        }
    }

    fn candidate(&mut self) -> Result<Option<Checkpoint>> {
        let inflater = self.decoder.inflater();
        let uncompressed = UncompressedOffset(self.written + inflater.pending_len() as u64);
        let is_taken = self.policy.take(uncompressed)?;
        let position = self.decoder.position();
        Ok(is_taken.then(|| Checkpoint::at(position, uncompressed, inflater.window())))
    }

    /// Creates the checkpoints at a speculation's marks. `window_before` returns the window before
    /// an offset in the piece. An error comes with the length of the valid part of the piece.
    fn take_marks(
        &mut self,
        marks: &[Mark],
        window_before: impl Fn(usize) -> Window,
        joined: &mut Joined,
    ) -> std::result::Result<(), (usize, Error)> {
        for mark in marks.iter().filter(|mark| !matches!(mark.kind, MarkKind::MemberEnd(_))) {
            let uncompressed = UncompressedOffset(self.written + mark.offset as u64);
            if self.policy.take(uncompressed).map_err(|error| (mark.offset, error))? {
                let window = window_before(mark.offset);
                joined.checkpoints.push(Checkpoint::at(mark.position, uncompressed, window));
            }
        }
        Ok(())
    }

    /// The output offset of the last member that starts in a piece.
    fn last_member_start(&self, marks: &[Mark]) -> Option<u64> {
        let start = marks.iter().rfind(|mark| mark.kind == MarkKind::MemberStart);
        start.map(|mark| self.written + mark.offset as u64)
    }

    fn fail(&mut self, mut joined: Joined, error: Error) -> Joined {
        joined.slots.push(Slot::Failed(error));
        self.state = JoinerState::Finished;
        joined
    }
}
