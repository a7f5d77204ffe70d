//! Inflates one span from its checkpoint, for single reads and for [`super::SpanReader`].

use super::{Span, SpanStart};
use crate::error::{Error, GzipError, Result, SeekError, SeekPart};
use crate::gzip::{Event, GzipDecoder};
use crate::inflate::Speed;
use crate::span::{BitOffset, CompressedOffset, SpanId};

/// A decoder inside a span. The caller holds all compressed bytes of the span.
#[derive(Debug)]
pub(super) struct SpanDecoder {
    decoder: GzipDecoder,
    /// Bytes of the span that the decoder has taken.
    taken: usize,
    /// Where the span ends in the layer.
    end: BitOffset,
    /// The number of the seek table's checkpoint, which errors name.
    seek_checkpoint: Option<SpanId>,
}

impl SpanDecoder {
    /// Starts at the beginning of a span; `None` if its bytes are not compressed.
    pub(super) fn new(span: &Span<'_>, compressed: &[u8]) -> Option<Self> {
        // If the span starts inside a byte, that byte comes first and is consumed here.
        let first = compressed.first().copied();
        let taken = |has_bits: bool| usize::from(has_bits && first.is_some());
        let first = first.unwrap_or(0);
        let (decoder, taken, seek_checkpoint) = match &span.from {
            SpanStart::Plain => return None,
            SpanStart::Checkpoint(checkpoint) => {
                let taken = taken(checkpoint.bits != 0);
                (GzipDecoder::resume(Speed::Fast, checkpoint, first), taken, None)
            }
            SpanStart::Point(point) => {
                let taken = taken(point.position.bit_in_byte() != 0);
                (GzipDecoder::resume_at(Speed::Fast, point, first), taken, Some(span.id))
            }
        };
        // The offset comes from the table, so the position in bits may overflow.
        let len = compressed.len() as u64;
        let end = CompressedOffset(span.compressed.start.0.saturating_add(len)).into();
        Some(Self { decoder, taken, end, seek_checkpoint })
    }

    /// Decodes at most one block, or as much as fits in the output buffer, passes the output to
    /// `consume`, and returns whether there may be more. `compressed` must be the same at every
    /// call.
    pub(super) fn step(&mut self, compressed: &[u8], consume: impl FnOnce(&[u8])) -> Result<bool> {
        let mut input = compressed.get(self.taken..).unwrap_or_default();
        let event = self.decoder.step(&mut input).map_err(|error| self.named(error))?;
        self.taken = compressed.len() - input.len();
        self.decoder.take_output(consume);
        Ok(event != Event::NeedInput)
    }

    /// Whether the layer may end here.
    pub(super) fn may_end(&self) -> bool {
        self.decoder.finish().is_ok()
    }

    /// The error for a span that has less output than its table says.
    pub(super) fn truncated(&self) -> Error {
        self.named(Error::Gzip { kind: GzipError::Truncated("a span"), at: self.end })
    }

    /// Names the seek table's checkpoint. The span's bytes were verified, so an error means that the
    /// checkpoint is wrong.
    fn named(&self, error: Error) -> Error {
        let Some(SpanId(number)) = self.seek_checkpoint else { return error };
        let kind = match error {
            Error::Gzip { kind, at } => SeekError::Span { kind, at },
            Error::Seek { kind, .. } => kind,
            other => return other,
        };
        Error::Seek { kind, part: SeekPart::Checkpoint(number) }
    }

    /// Bytes of memory held, not counting the compressed bytes.
    pub(super) fn memory(&self) -> usize {
        self.decoder.memory()
    }
}
