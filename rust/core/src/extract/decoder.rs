//! Inflates one span from its checkpoint, for single reads and for [`super::SpanReader`].

use crate::checkpoint::Checkpoint;
use crate::error::{Error, GzipError, Result};
use crate::gzip::{Event, GzipDecoder};
use crate::inflate::Speed;
use crate::span::{BitOffset, CompressedOffset};

/// A decoder inside a span. The caller holds all compressed bytes of the span.
#[derive(Debug)]
pub(super) struct SpanDecoder {
    decoder: GzipDecoder,
    /// Bytes of the span that the decoder has taken.
    taken: usize,
    /// Where the span ends in the layer.
    end: BitOffset,
}

impl SpanDecoder {
    /// Starts at the checkpoint at the beginning of `compressed`.
    pub(super) fn new(checkpoint: &Checkpoint, compressed: &[u8]) -> Self {
        // If the checkpoint has bits, the byte that contains them comes first and is consumed here.
        let (first, taken) = match compressed.first() {
            Some(first) if checkpoint.bits != 0 => (*first, 1),
            _ => (0, 0),
        };
        // The offset comes from the zTOC, so the position in bits may overflow.
        let len = BitOffset::from(CompressedOffset(compressed.len() as u64));
        let end = BitOffset(BitOffset::from(checkpoint.compressed).0.saturating_add(len.0));
        Self { decoder: GzipDecoder::resume(Speed::Fast, checkpoint, first), taken, end }
    }

    /// Decodes at most one block, or as much as fits in the output buffer, passes the output to
    /// `consume`, and returns whether there may be more. `compressed` must be the same at every
    /// call.
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

    /// The error for a span that has less output than its zTOC says.
    pub(super) fn truncated(&self) -> Error {
        Error::Gzip { kind: GzipError::Truncated("a span"), at: self.end }
    }

    /// Bytes of memory held, without the compressed bytes.
    pub(super) fn memory(&self) -> usize {
        self.decoder.memory()
    }
}
