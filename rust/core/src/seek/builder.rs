//! Turns chosen checkpoints and the compressed bytes of a layer into its seek blob: finds the exact
//! position of each checkpoint, and computes the digests of the spans between them.

use std::collections::VecDeque;
use std::ops::Range;

use super::finder::{Choice, Choices, Place};
use super::{LayerCompression, LayerWriter, SeekLayer};
use crate::checkpoint::{PointStart, SeekPoint};
use crate::digest::{Digest, Hasher};
use crate::error::Result;
use crate::inflate::SymbolFinder;
use crate::span::{BitOffset, UncompressedOffset};

/// Bytes of complete spans and of the current one that may wait to be hashed. Two spans are hashed
/// together, which takes little more than half the time, unless they are larger than this.
const MAX_WAITING_LEN: u64 = 1 << 20;
/// Used bytes are dropped only when there are more than this, so that the rest is rarely moved.
const DROPPED_LEN: usize = 256 << 10;

/// A span that is being hashed.
#[derive(Debug, Default)]
struct Part {
    hasher: Hasher,
    /// The offset of the first byte that is not hashed.
    hashed: u64,
}

/// A complete span that waits to be hashed together with later ones.
#[derive(Debug)]
struct Waiting {
    part: Part,
    end: u64,
    /// The digests of the spans after it, which were shorter than what is left of it.
    later: Vec<Digest>,
}

/// Builds the seek blob of a layer.
///
/// Compressed bytes may arrive before or after the checkpoints within them. Only bytes that may still
/// be needed are kept.
#[derive(Debug)]
pub(crate) struct LayerBuilder {
    writer: LayerWriter,
    /// Checkpoints whose exact position is not known yet.
    choices: VecDeque<Choice>,
    /// No checkpoint will follow before this position, besides those in `choices`.
    settled: BitOffset,
    /// Compressed bytes from `start` on.
    bytes: Vec<u8>,
    start: u64,
    waiting: Option<Waiting>,
    current: Part,
    has_span: bool,
    symbols: SymbolFinder,
}

impl LayerBuilder {
    pub(crate) fn new(span_size: u64) -> Self {
        Self {
            writer: LayerWriter::new(span_size),
            choices: VecDeque::new(),
            settled: BitOffset(0),
            bytes: Vec::new(),
            start: 0,
            waiting: None,
            current: Part::default(),
            has_span: false,
            symbols: SymbolFinder::new(),
        }
    }

    /// Takes the next compressed bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        // Hashed bytes may still be needed: the symbol to search from may be before the last
        // checkpoint, if little compressed data expands to much output.
        let used = self.unhashed().min(self.settled.byte().0).saturating_sub(self.start);
        let used = usize::try_from(used).unwrap_or(usize::MAX).min(self.bytes.len());
        if used == self.bytes.len() {
            self.bytes.clear();
            self.start += used as u64;
        } else if used > DROPPED_LEN {
            self.bytes.drain(..used);
            self.start += used as u64;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the next checkpoints.
    pub(crate) fn choose(&mut self, choices: Choices) {
        self.choices.extend(choices.chosen);
        self.settled = choices.settled;
    }

    /// Completes the checkpoints whose bytes have arrived, and hashes as far as possible.
    pub(crate) fn advance(&mut self) {
        while let Some(choice) = self.choices.pop_front() {
            let located = self.locate(&choice.place);
            let end = self.end();
            let Some((position, start)) =
                located.filter(|(position, _)| position.0.div_ceil(8) <= end)
            else {
                // Its bytes have not arrived yet. Everything before the symbol to search from
                // belongs to the current span.
                if let Place::Symbol { from, .. } = &choice.place {
                    self.hash_waiting(from.byte().0);
                }
                self.choices.push_front(choice);
                return;
            };
            if std::mem::replace(&mut self.has_span, true) {
                self.end_span(position.0.div_ceil(8));
            }
            self.current = Part { hasher: Hasher::new(), hashed: position.byte().0 };
            self.writer.push_point(SeekPoint {
                uncompressed: UncompressedOffset(choice.uncompressed),
                position,
                start,
                window: choice.window,
            });
        }
        self.hash_waiting(self.settled.byte().0);
    }

    /// The offset after the last byte that has arrived.
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// The offset of the first byte that is not hashed.
    fn unhashed(&self) -> u64 {
        self.waiting.as_ref().map_or(self.current.hashed, |waiting| waiting.part.hashed)
    }

    /// Hashes what waits and the current span up to `end`, as far as the bytes have arrived, if too
    /// many wait.
    fn hash_waiting(&mut self, end: u64) {
        let end = end.min(self.end());
        if end.saturating_sub(self.unhashed()) > MAX_WAITING_LEN {
            self.finish_waiting();
            let range = self.range(self.current.hashed, end);
            self.current.hasher.update(&self.bytes[range]);
            self.current.hashed = self.current.hashed.max(end);
        }
    }

    /// Ends the current span, all of whose bytes have arrived. Bytes are hashed two spans at a time;
    /// the rest of the longer one waits for the next span.
    fn end_span(&mut self, end: u64) {
        let mut current = std::mem::take(&mut self.current);
        let Some(mut waiting) = self.waiting.take() else {
            self.waiting = Some(Waiting { part: current, end, later: Vec::new() });
            return;
        };
        let part = &mut waiting.part;
        let len = waiting.end.saturating_sub(part.hashed).min(end.saturating_sub(current.hashed));
        let waiting_bytes = &self.bytes[self.range(part.hashed, part.hashed + len)];
        let bytes = &self.bytes[self.range(current.hashed, current.hashed + len)];
        part.hasher.update_with(waiting_bytes, &mut current.hasher, bytes);
        part.hashed += len;
        current.hashed += len;
        if current.hashed >= end {
            waiting.later.push(current.hasher.finish_reset());
            self.waiting = Some(waiting);
        } else {
            self.push_digests(waiting);
            self.waiting = Some(Waiting { part: current, end, later: Vec::new() });
        }
    }

    /// Hashes the complete span that waits, without another one.
    fn finish_waiting(&mut self) {
        if let Some(mut waiting) = self.waiting.take() {
            let range = self.range(waiting.part.hashed, waiting.end);
            waiting.part.hasher.update(&self.bytes[range]);
            self.push_digests(waiting);
        }
    }

    /// Passes on the digests of a span that has been hashed, and of those after it.
    fn push_digests(&mut self, mut waiting: Waiting) {
        self.writer.push_digest(waiting.part.hasher.finish_reset());
        waiting.later.into_iter().for_each(|digest| self.writer.push_digest(digest));
    }

    /// Where the bytes from `start` up to `end` are in `bytes`.
    fn range(&self, start: u64, end: u64) -> Range<usize> {
        let place = |at: u64| usize::try_from(at.saturating_sub(self.start)).unwrap_or(usize::MAX);
        place(start)..place(end.max(start))
    }

    /// The position of a checkpoint; `None` if its bytes have not arrived yet.
    fn locate(&mut self, place: &Place) -> Option<(BitOffset, PointStart)> {
        match place {
            Place::Member(position) => Some((*position, PointStart::Member)),
            Place::Block(position) => Some((*position, PointStart::Block)),
            Place::Stored { position, remaining, last } => {
                let start = PointStart::Stored { remaining: *remaining, last: *last };
                Some((*position, start))
            }
            Place::Symbol { header, from, distance } => {
                let first = usize::try_from(from.byte().0.checked_sub(self.start)?).ok()?;
                let bytes = self.bytes.get(first..)?;
                let bit = from.bit_in_byte();
                let bits = self.symbols.find(header, bytes, bit, *distance)?;
                let position = BitOffset(from.byte().0 * 8 + bits);
                Some((position, PointStart::Huffman(header.clone())))
            }
        }
    }

    /// Ends the layer, once all bytes and all checkpoints have been passed in.
    ///
    /// # Errors
    ///
    /// Same as [`LayerWriter::finish`].
    pub(crate) fn finish(
        mut self,
        compressed_size: u64,
        uncompressed_size: u64,
    ) -> Result<SeekLayer> {
        self.settled = BitOffset(compressed_size.saturating_mul(8));
        self.advance();
        if self.has_span {
            self.end_span(self.end());
            self.finish_waiting();
        }
        self.writer.finish(LayerCompression::Gzip, compressed_size, uncompressed_size)
    }
}
