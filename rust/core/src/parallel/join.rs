//! The one place where the layer is walked in order: exact decoding, and the acceptance of speculations.
//!
//! Only the joiner knows where blocks really begin, so it alone reports checkpoints and errors. It takes over
//! a speculation that begins where it is, and decodes everything else itself.

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

/// Pieces that exact decoding hands out before it looks around again: compressed bytes may stand for a
/// thousand times as many.
const MAX_PIECES: usize = 16;

/// Output in stream order, or the error at its end; `schedule` says what follows.
#[derive(Debug)]
pub(super) enum Slot {
    /// Bytes.
    Checked(CheckedPiece),
    /// Bytes among markers, and what these stand for.
    Marked(Piece<u16>, Arc<Resolver>),
    /// A worker is replacing the markers.
    Resolving,
    /// Nothing can follow.
    Failed(Error),
}

/// What one step of joining found.
#[derive(Debug, Default)]
pub(super) struct Joined {
    pub(super) slots: Vec<Slot>,
    pub(super) checkpoints: Vec<Checkpoint>,
}

/// Where the output of exact decoding goes.
pub(super) trait Sink {
    /// Takes the output that waits in the decoder; says how much it was.
    fn take(&mut self, decoder: &mut GzipDecoder) -> Result<u64>;

    /// A member has ended, before the decoder's position. Output may wait to be taken, which belongs to it;
    /// says how much was taken.
    fn end_member(&mut self, decoder: &mut GzipDecoder) -> Result<u64>;

    /// Whether it has taken enough for once.
    fn is_full(&self) -> bool;
}

/// Makes pieces for the scanner, which waits for something before them.
#[derive(Debug)]
pub(super) struct Pieces<'a> {
    tools: &'a Tools,
    slots: Vec<Slot>,
    /// Those of the piece that is being written.
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
        if decoder.inflater().pending_len() == 0 && self.marks.is_empty() {
            return Ok(0);
        }
        let filled = decoder.hand_over(self.tools.byte_buffers.take());
        let piece = Piece { filled, marks: std::mem::take(&mut self.marks) };
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

/// Walks the layer in order.
#[derive(Debug)]
pub(super) struct Joiner<P> {
    decoder: GzipDecoder,
    state: JoinerState,
    policy: P,
    /// Output before the piece that is being written.
    written: u64,
}

/// Where the joiner is; `schedule` says what follows.
#[derive(Debug)]
enum JoinerState {
    /// Inside a block, a header or a trailer: only the decoder can continue.
    Inside,
    /// Inside, with all input used.
    Starved,
    /// The decoder is at the header of a block or a member.
    AtHeader,
    /// At the header behind an accepted speculation; the decoder is still where that began.
    Accepted(SpeculationEnd),
    /// At the end of the layer, or at an error.
    Finished,
}

/// The place that an accepted speculation has come to.
#[derive(Debug)]
struct SpeculationEnd {
    position: BitOffset,
    window: Window,
    history_len: usize,
    next: Next,
}

impl<P: CheckpointPolicy> Joiner<P> {
    /// Continues where `decoder` is, with `written` bytes of output taken from it.
    pub(super) const fn new(decoder: GzipDecoder, written: u64, policy: P) -> Self {
        Self { decoder, state: JoinerState::Inside, policy, written }
    }

    /// The first bit not used yet.
    pub(super) fn position(&self) -> BitOffset {
        match &self.state {
            JoinerState::Accepted(end) => end.position,
            _ => self.decoder.position(),
        }
    }

    /// The first byte not taken yet.
    pub(super) fn taken(&self) -> u64 {
        match &self.state {
            JoinerState::Accepted(end) => end.position.0.div_ceil(8),
            _ => self.decoder.taken(),
        }
    }

    /// Whether [`Self::position`] is that of a block's or a member's header.
    pub(super) const fn is_at_header(&self) -> bool {
        matches!(self.state, JoinerState::AtHeader | JoinerState::Accepted(_))
    }

    /// Whether nothing more can be decoded without more input.
    pub(super) const fn is_starved(&self) -> bool {
        matches!(self.state, JoinerState::Starved)
    }

    /// Whether the layer has ended, by its end or by an error.
    pub(super) const fn is_finished(&self) -> bool {
        matches!(self.state, JoinerState::Finished)
    }

    pub(super) fn into_policy(self) -> P {
        self.policy
    }

    /// Compares a guess with the header here.
    pub(super) fn compare(&self, start: Start, stretch: &Stretch) -> Match {
        let (is_member, history_len) = match &self.state {
            JoinerState::Accepted(end) => (end.next == Next::Member, end.history_len),
            _ => (self.decoder.is_between_members(), self.decoder.history_len()),
        };
        match start.compare(self.position(), is_member, stretch) {
            // With markers, a distance that reaches beyond the start of the member goes unnoticed.
            Match::Here if !is_member && history_len < WINDOW_LEN => Match::Never,
            found => found,
        }
    }

    /// Takes over a speculation that starts here.
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

    /// Decodes to the end of the stretch, to the first header at or behind `stop`, or until `sink` has enough
    /// for once.
    ///
    /// # Errors
    ///
    /// The error that ends the layer; `sink` has all output before it.
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

    /// Makes checkpoints at a speculation's marks where they are due; `window_before` gives the window before
    /// so many units of the piece. An error comes with how far the piece is good.
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

    /// How much output comes before the last member that starts in a piece.
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
