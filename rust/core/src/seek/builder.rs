//! Turns chosen checkpoints and the compressed bytes of a layer into its seek blob: finds the exact
//! position of each checkpoint, and computes the digests of the spans between them.

use std::collections::VecDeque;

use super::finder::{Choice, Choices, Place};
use super::{LayerCompression, LayerWriter, SeekLayer};
use crate::checkpoint::{PointStart, SeekPoint};
use crate::digest::Hasher;
use crate::error::Result;
use crate::inflate::SymbolFinder;
use crate::span::{BitOffset, UncompressedOffset};

/// Used bytes are dropped only when there are more than this, so that the rest is rarely moved.
const DROPPED_LEN: usize = 256 << 10;

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
    hasher: Hasher,
    /// The offset of the first byte that is not hashed.
    hashed: u64,
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
            hasher: Hasher::new(),
            hashed: 0,
            has_span: false,
            symbols: SymbolFinder::new(),
        }
    }

    /// Takes the next compressed bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        // Hashed bytes may still be needed: the symbol to search from may be before the last
        // checkpoint, if little compressed data expands to much output.
        let used = self.hashed.min(self.settled.byte().0).saturating_sub(self.start);
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
                    self.hash_to(from.byte().0);
                }
                self.choices.push_front(choice);
                return;
            };
            self.hash_to(position.0.div_ceil(8));
            if std::mem::replace(&mut self.has_span, true) {
                self.writer.push_digest(self.hasher.finish_reset());
            } else {
                self.hasher = Hasher::new();
            }
            self.hashed = position.byte().0;
            self.writer.push_point(SeekPoint {
                uncompressed: UncompressedOffset(choice.uncompressed),
                position,
                start,
                window: choice.window,
            });
        }
        self.hash_to(self.settled.byte().0);
    }

    /// The offset after the last byte that has arrived.
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Hashes the bytes before `end`, as far as they have arrived.
    fn hash_to(&mut self, end: u64) {
        let end = end.min(self.end());
        if end > self.hashed {
            let place = |at: u64| usize::try_from(at - self.start).unwrap_or(usize::MAX);
            let range = place(self.hashed)..place(end);
            self.hasher.update(&self.bytes[range]);
            self.hashed = end;
        }
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
            self.writer.push_digest(self.hasher.finish_reset());
        }
        self.writer.finish(LayerCompression::Gzip, compressed_size, uncompressed_size)
    }
}
