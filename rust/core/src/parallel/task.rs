//! What a worker does once it has been told what to do: no lock is held here.

use std::ops::Range;
use std::sync::Arc;

use super::join::{Joined, Joiner, Pieces, Sink, Slot};
use super::piece::{CheckedPiece, MarkKind, Piece, Resolver};
use super::source::Stretch;
use super::speculate::{Speculation, speculate};
use super::tools::Tools;
use super::{Boundaries, Compressed, Output, Whole};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::gzip::{GzipDecoder, MemberCheck};
use crate::inflate::Filled;
use crate::span::BitOffset;

/// A piece of work, with all it needs.
pub(super) enum Task<B, C, W, O> {
    Scan(Box<Scanner<O>>, Vec<Slot>),
    Resolve(u64, Piece<u16>, Arc<Resolver>),
    Accept(Box<Joiner<B>>, Box<Speculation>),
    /// Straight into the scanner, if it is free and nothing comes before.
    Decode(Box<Joiner<B>>, Option<Box<Scanner<O>>>, Stretch, Option<BitOffset>),
    Finish(Box<Joiner<B>>),
    /// With one consumer or both.
    Hash(Option<Box<C>>, Option<Box<W>>, Vec<HashWork>),
    Speculate {
        first_unit: usize,
        stretch: Stretch,
        range: Range<u64>,
    },
}

/// A unit for the compressed bytes' consumers.
pub(super) struct HashWork {
    pub(super) start: u64,
    pub(super) unit: Arc<Vec<u8>>,
    pub(super) checkpoints: Vec<Checkpoint>,
}

/// What a task came to.
pub(super) enum Outcome<B, C, W, O> {
    Scanned(Box<Scanner<O>>, Result<()>),
    Resolved(u64, CheckedPiece),
    Joined(Box<Joiner<B>>, Option<Box<Scanner<O>>>, Joined),
    Hashed(Option<Box<C>>, Option<Box<W>>, Vec<HashWork>),
    Speculated(usize, Option<Box<Speculation>>),
}

impl<B: Boundaries, C: Compressed<W>, W: Whole, O: Output> Task<B, C, W, O> {
    /// Does it.
    pub(super) fn run(self, tools: &Tools) -> Outcome<B, C, W, O> {
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
                let piece = Piece { filled, marks: piece.marks };
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
            Self::Hash(mut compressed, mut whole, mut work) => {
                for HashWork { start, unit, checkpoints } in &mut work {
                    let checkpoints = std::mem::take(checkpoints);
                    match (&mut compressed, &mut whole) {
                        (Some(compressed), Some(whole)) => {
                            compressed.push_with(whole, *start, unit, checkpoints);
                        }
                        (Some(compressed), None) => compressed.push(*start, unit, checkpoints),
                        (None, Some(whole)) => whole.push(unit),
                        (None, None) => {}
                    }
                }
                Outcome::Hashed(compressed, whole, work)
            }
            Self::Speculate { first_unit, stretch, range } => {
                Outcome::Speculated(first_unit, speculate(&stretch, range, tools).map(Box::new))
            }
        }
    }
}

/// What the joiner decodes is consumed at once, while it is in the cache and without a copy.
impl<O: Output> Sink for Scanner<O> {
    fn take(&mut self, decoder: &mut GzipDecoder) -> Result<u64> {
        decoder.take_output(|bytes| {
            self.check.update(bytes);
            self.output.push(bytes)?;
            Ok(bytes.len() as u64)
        })
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

/// Hands output to its consumer and checks members.
#[derive(Debug)]
pub(super) struct Scanner<O> {
    output: O,
    check: MemberCheck,
}

impl<O: Output> Scanner<O> {
    /// `check` has seen the member's output so far.
    pub(super) const fn new(output: O, check: MemberCheck) -> Self {
        Self { output, check }
    }

    /// Whether consuming takes as long as decoding, and is better done beside it.
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
            // Only what is ready is given here.
            Slot::Marked(..) | Slot::Resolving => return Ok(()),
        };
        let CheckedPiece { piece, checks } = checked;
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
        tools.byte_buffers.give(piece.filled.buffer);
        Ok(())
    }
}
