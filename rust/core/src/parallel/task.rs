//! Running tasks, without holding the lock.

use std::ops::Range;
use std::sync::Arc;

use super::join::{Joined, Joiner, Pieces, Sink, Slot};
use super::piece::{CheckedPiece, MarkKind, Piece, Resolver};
use super::source::Stretch;
use super::speculate::{Speculation, speculate};
use super::tools::Tools;
use super::{BlobConsumer, Consumers, OutputConsumer, SpanConsumer};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::gzip::{GzipDecoder, MemberCheck};
use crate::inflate::Filled;
use crate::span::BitOffset;
use crate::trace::Trace;

/// A task, with everything that it needs.
pub(super) enum Task<C: Consumers> {
    Scan(Box<Scanner<C::Output>>, Vec<Slot>),
    /// Resolves the slot with this number.
    Resolve(u64, Piece<u16>, Arc<Resolver>),
    Accept(Box<Joiner<C::Policy>>, Box<Speculation>),
    /// Decodes to the end of the stretch, or to the first header at or after the bit. The output
    /// goes directly to the scanner if one is given: it must be idle, with no earlier slot waiting.
    Decode(Box<Joiner<C::Policy>>, Option<Box<Scanner<C::Output>>>, Stretch, Option<BitOffset>),
    Finish(Box<Joiner<C::Policy>>),
    Hash(Hashing<C>, Vec<HashWork>),
    Speculate {
        first_unit: usize,
        stretch: Stretch,
        range: Range<u64>,
    },
}

/// The consumers of compressed bytes that a task uses.
pub(super) enum Hashing<C: Consumers> {
    Both(Box<C::Spans>, Box<C::Blob>),
    Spans(Box<C::Spans>),
    Blob(Box<C::Blob>),
}

/// A unit to be hashed.
pub(super) struct HashWork {
    pub(super) start: u64,
    pub(super) unit: Arc<Vec<u8>>,
    /// The checkpoints whose first byte is in the unit; empty if only the blob is hashed.
    pub(super) checkpoints: Vec<Checkpoint>,
}

/// The outcome of a task, including what the task took from the state.
pub(super) enum Outcome<C: Consumers> {
    Scanned(Box<Scanner<C::Output>>, Result<()>),
    Resolved(u64, CheckedPiece),
    Joined(Box<Joiner<C::Policy>>, Option<Box<Scanner<C::Output>>>, Joined),
    Hashed(Hashing<C>, Vec<HashWork>),
    /// The result for the range that begins with this unit.
    Speculated(usize, Option<Box<Speculation>>),
}

impl<C: Consumers> Task<C> {
    /// Runs the task.
    pub(super) fn run(self, tools: &Tools) -> Outcome<C> {
        match self {
            Self::Scan(mut scanner, slots) => {
                let result = slots.into_iter().try_for_each(|slot| scanner.scan(slot, tools));
                Outcome::Scanned(scanner, result)
            }
            Self::Resolve(number, piece, resolver) => {
                let mut buffer = tools.byte_buffers.take();
                let range = piece.filled.range.clone();
                resolver.resolve(piece.filled.output(), &mut buffer[range.clone()]);
                tools.unit_buffers.give(piece.filled.buffer);
                let filled = Filled { buffer, range };
                let piece = Piece { filled, marks: piece.marks, trace: piece.trace };
                Outcome::Resolved(number, CheckedPiece::new(piece))
            }
            Self::Accept(mut joiner, speculation) => {
                let joined = joiner.accept(*speculation);
                Outcome::Joined(joiner, None, joined)
            }
            Self::Decode(mut joiner, None, stretch, stop) => {
                let mut pieces = Pieces::new(tools);
                let (checkpoints, outcome) = joiner.decode(&stretch, stop, &mut pieces);
                let mut slots = pieces.into_slots();
                slots.extend(outcome.err().map(Slot::Failed));
                Outcome::Joined(joiner, None, Joined { slots, checkpoints })
            }
            Self::Decode(mut joiner, Some(mut scanner), stretch, stop) => {
                let (checkpoints, outcome) = joiner.decode(&stretch, stop, &mut *scanner);
                let slots = outcome.err().map(Slot::Failed).into_iter().collect();
                Outcome::Joined(joiner, Some(scanner), Joined { slots, checkpoints })
            }
            Self::Finish(mut joiner) => {
                let joined = joiner.finish();
                Outcome::Joined(joiner, None, joined)
            }
            Self::Hash(mut hashing, mut work) => {
                for HashWork { start, unit, checkpoints } in &mut work {
                    let checkpoints = std::mem::take(checkpoints);
                    match &mut hashing {
                        Hashing::Both(spans, blob) => {
                            spans.push_with(blob, *start, unit, checkpoints);
                        }
                        Hashing::Spans(spans) => spans.push(*start, unit, checkpoints),
                        Hashing::Blob(blob) => blob.push(unit),
                    }
                }
                Outcome::Hashed(hashing, work)
            }
            Self::Speculate { first_unit, stretch, range } => {
                Outcome::Speculated(first_unit, speculate(&stretch, range, tools).map(Box::new))
            }
        }
    }
}

/// Consumes the joiner's output immediately, while it is in the cache and without a copy.
impl<O: OutputConsumer> Sink for Scanner<O> {
    fn take(&mut self, decoder: &mut GzipDecoder) -> Result<u64> {
        let mut trace = std::mem::take(&mut self.trace);
        decoder.take_trace(&mut trace);
        let taken = decoder.take_output(|bytes| {
            self.check.update(bytes);
            self.output.push(bytes)?;
            self.output.trace(bytes, &mut trace);
            Ok(bytes.len() as u64)
        });
        self.trace = trace;
        taken
    }

    fn end_member(&mut self, decoder: &mut GzipDecoder) -> Result<u64> {
        let len = self.take(decoder)?;
        let check = std::mem::take(&mut self.check);
        let at = decoder.position();
        check.compare(decoder.trailer()).map_err(|kind| Error::Gzip { kind, at })?;
        Ok(len)
    }

    fn is_full(&self) -> bool {
        false
    }
}

/// Passes output to its consumer and checks members.
#[derive(Debug)]
pub(super) struct Scanner<O> {
    output: O,
    check: MemberCheck,
    /// Reused for one piece after another.
    trace: Trace,
}

impl<O: OutputConsumer> Scanner<O> {
    /// `check` covers the current member's output so far.
    pub(super) fn new(output: O, check: MemberCheck) -> Self {
        Self { output, check, trace: Trace::default() }
    }

    /// Whether consuming takes as long as decoding, and should run in parallel.
    pub(super) fn is_heavy(&self) -> bool {
        self.output.is_heavy()
    }

    pub(super) fn into_output(self) -> O {
        self.output
    }

    fn scan(&mut self, slot: Slot, tools: &Tools) -> Result<()> {
        let checked = match slot {
            Slot::Checked(checked) => checked,
            Slot::Failed(error) => return Err(error),
            // Unreachable: only slots that are ready are passed to the scanner.
            Slot::Marked(..) | Slot::Resolving => return Ok(()),
        };
        let CheckedPiece { mut piece, checks } = checked;
        let output = piece.filled.output();
        let mut done = 0;
        let ends = piece.marks.iter().filter_map(|mark| match mark.kind {
            MarkKind::MemberEnd(trailer) => Some((mark, trailer)),
            MarkKind::Block | MarkKind::MemberStart => None,
        });
        let mut checks = checks.into_iter();
        for (mark, trailer) in ends {
            self.output.push(&output[done..mark.offset])?;
            done = mark.offset;
            if let Some(check) = checks.next() {
                self.check.append(&check);
            }
            let check = std::mem::take(&mut self.check);
            check.compare(trailer).map_err(|kind| Error::Gzip { kind, at: mark.position })?;
        }
        self.output.push(&output[done..])?;
        if let Some(check) = checks.next() {
            self.check.append(&check);
        }
        if tools.traces {
            self.output.trace(piece.filled.output(), &mut piece.trace);
        }
        tools.byte_buffers.give(piece.filled.buffer);
        Ok(())
    }
}
