//! Inflation of one span, from its checkpoint on: what a single read and a reader that goes on share.

use crate::checkpoint::Checkpoint;
use crate::error::{Error, GzipError, Result};
use crate::gzip::{Event, GzipDecoder};
use crate::inflate::Speed;
use crate::span::{BitOffset, CompressedOffset};

/// A decoder somewhere in a span whose bytes are all there; the caller holds them.
#[derive(Debug)]
pub(super) struct SpanDecoder {
    decoder: GzipDecoder,
    /// Bytes of the span that the decoder has taken.
    taken: usize,
    /// Where the span's bytes end in the layer.
    end: BitOffset,
}

impl SpanDecoder {
    /// Stands at the checkpoint that `compressed` begins with.
    pub(super) fn new(checkpoint: &Checkpoint, compressed: &[u8]) -> Self {
        // With bits the checkpoint's own byte comes first and has already been looked at.
        let (first, taken) = match compressed.first() {
            Some(first) if checkpoint.bits != 0 => (*first, 1),
            _ => (0, 0),
        };
        // The checkpoint is where the zTOC says, which may be beyond what bits can be counted to.
        let len = BitOffset::from(CompressedOffset(compressed.len() as u64));
        let end = BitOffset(BitOffset::from(checkpoint.compressed).0.saturating_add(len.0));
        Self { decoder: GzipDecoder::resume(Speed::Fast, checkpoint, first), taken, end }
    }

    /// Goes on for at most a block or what the window holds, and hands the output to `consume`; whether
    /// there may be more. `compressed` is the same at every call.
    pub(super) fn step(&mut self, compressed: &[u8], consume: impl FnOnce(&[u8])) -> Result<bool> {
        let mut input = compressed.get(self.taken..).unwrap_or_default();
        let event = self.decoder.step(&mut input)?;
        self.taken = compressed.len() - input.len();
        self.decoder.take_output(consume);
        Ok(event != Event::NeedInput)
    }

    /// Whether the layer may end here.
    pub(super) fn may_end(&self) -> bool {
        self.decoder.finish().is_ok()
    }

    /// The error of a span that has less in it than its zTOC says.
    pub(super) fn truncated(&self) -> Error {
        Error::Gzip { kind: GzipError::Truncated("a span"), at: self.end }
    }

    /// Bytes held, without the span's own.
    pub(super) fn memory(&self) -> usize {
        self.decoder.memory()
    }
}
