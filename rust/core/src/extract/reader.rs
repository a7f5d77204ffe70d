//! A span that is read in pieces: verified once, and inflated only as far as it has been read.

use std::ops::Range;

use super::SpanTable;
use super::decoder::SpanDecoder;
use crate::error::{Error, Result};
use crate::span::{SpanId, UncompressedOffset};

/// A verified span, inflated only as far as it has been read.
///
/// The inflated bytes are kept, and the decoder can continue where it stopped. Once the whole span
/// is inflated, the decoder and the compressed bytes are dropped. `B` holds the compressed bytes
/// and must return the same ones at every call, since they are verified only once.
#[derive(Debug)]
pub struct SpanReader<B> {
    start: UncompressedOffset,
    end: UncompressedOffset,
    state: State<B>,
}

#[derive(Debug)]
enum State<B> {
    /// A span that needs no inflation: of a plain tar, or inflated before.
    Stored(B),
    Inflating(Box<Inflating<B>>),
    Inflated(Vec<u8>),
    /// The span failed to decode, and its data was dropped.
    Failed(Error),
}

/// A partly inflated span.
#[derive(Debug)]
struct Inflating<B> {
    compressed: B,
    decoder: SpanDecoder,
    output: Vec<u8>,
}

impl<B: AsRef<[u8]>> SpanReader<B> {
    /// Verifies the bytes of [`super::Span::compressed`]; inflates nothing yet.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchSpan`]; [`Error::Verification`] if the length or the digest of `compressed`
    /// differs from the table's.
    pub fn new(table: &(impl SpanTable + ?Sized), span_id: SpanId, compressed: B) -> Result<Self> {
        let span = table.span(span_id)?;
        span.verify(compressed.as_ref())?;
        let (start, end) = (span.start, span.needed_end);
        let state = match SpanDecoder::new(&span, compressed.as_ref()) {
            None => State::Stored(compressed),
            Some(_) if start == end => State::Inflated(Vec::new()),
            Some(decoder) => {
                State::Inflating(Box::new(Inflating { compressed, decoder, output: Vec::new() }))
            }
        };
        Ok(Self { start, end, state })
    }

    /// Takes a span that was inflated and verified before, `start` being the offset of its first byte.
    #[must_use]
    pub fn inflated_before(start: UncompressedOffset, bytes: B) -> Self {
        let end = UncompressedOffset(start.0.saturating_add(bytes.as_ref().len() as u64));
        Self { start, end, state: State::Stored(bytes) }
    }

    /// The offset of the span's first uncompressed byte.
    #[must_use]
    pub const fn start(&self) -> UncompressedOffset {
        self.start
    }

    /// The end of the span's uncompressed bytes. For the last span of a gzip layer with a zTOC it is
    /// the end of the tar, or the start of the span if the tar ends before it.
    #[must_use]
    pub const fn end(&self) -> UncompressedOffset {
        self.end
    }

    /// The number of uncompressed bytes that are available without inflating more.
    #[must_use]
    pub fn inflated_len(&self) -> usize {
        self.inflated().map_or(0, <[u8]>::len)
    }

    /// Bytes of memory held: compressed bytes, inflated bytes and the decoder's state.
    #[must_use]
    pub fn memory(&self) -> usize {
        match &self.state {
            State::Stored(bytes) => bytes.as_ref().len(),
            State::Inflating(span) => {
                let compressed = span.compressed.as_ref().len();
                compressed + span.output.capacity() + span.decoder.memory()
            }
            State::Inflated(output) => output.capacity(),
            State::Failed(_) => 0,
        }
    }

    /// The part of the span that lies in `wanted`, if it is already inflated.
    #[must_use]
    pub fn get(&self, wanted: &Range<UncompressedOffset>) -> Option<&[u8]> {
        let end = self.place(wanted.end);
        let start = self.place(wanted.start).min(end);
        let place = |at: u64| usize::try_from(at).ok();
        self.inflated()?.get(place(start)?..place(end)?)
    }

    /// Inflates up to `end`, or to the end of the span if that comes first.
    ///
    /// It may inflate up to one block more, but no more than the decoder's buffer of 128 KiB.
    ///
    /// # Errors
    ///
    /// [`Error::Gzip`], or [`Error::Seek`] for a seek table, if the bytes cannot be decoded from the
    /// checkpoint, or decode to fewer bytes than the table says; either means that the table is
    /// wrong. Every later call returns the same error.
    pub fn inflate_to(&mut self, end: UncompressedOffset) -> Result<()> {
        let (wanted, whole) = (self.place(end), self.place(self.end));
        let outcome = match &mut self.state {
            State::Stored(_) | State::Inflated(_) => return Ok(()),
            State::Failed(error) => return Err(error.clone()),
            State::Inflating(span) => span.inflate_to(wanted, whole).map(|()| {
                let is_whole = span.output.len() as u64 == whole;
                is_whole.then(|| std::mem::take(&mut span.output))
            }),
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(output)) => self.state = State::Inflated(output),
            Err(error) => {
                self.state = State::Failed(error.clone());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Returns the part of the span that lies in `wanted`, and inflates it if necessary.
    ///
    /// # Errors
    ///
    /// Same as [`Self::inflate_to`]; the part of `wanted` beyond the span is not an error.
    pub fn read(&mut self, wanted: &Range<UncompressedOffset>) -> Result<&[u8]> {
        self.inflate_to(wanted.end)?;
        // Never `None`: the span is inflated to the end of `wanted`, or is a plain tar's.
        Ok(self.get(wanted).unwrap_or_default())
    }

    /// What has been inflated; all of the span after [`Self::inflate_to`] its end.
    #[must_use]
    pub fn into_inflated(self) -> Vec<u8> {
        match self.state {
            State::Stored(bytes) => bytes.as_ref().to_vec(),
            State::Inflating(span) => span.output,
            State::Inflated(output) => output,
            State::Failed(_) => Vec::new(),
        }
    }

    /// `at` relative to the start of the span, at most the span's length.
    fn place(&self, at: UncompressedOffset) -> u64 {
        at.min(self.end).0.saturating_sub(self.start.0)
    }

    fn inflated(&self) -> Option<&[u8]> {
        match &self.state {
            State::Stored(bytes) => Some(bytes.as_ref()),
            State::Inflating(span) => Some(&span.output),
            State::Inflated(output) => Some(output),
            State::Failed(_) => None,
        }
    }
}

impl<B: AsRef<[u8]>> Inflating<B> {
    /// Inflates until `output` has `wanted` bytes. `whole` is the span's length according to the
    /// table.
    fn inflate_to(&mut self, wanted: u64, whole: u64) -> Result<()> {
        let Self { compressed, decoder, output } = self;
        while (output.len() as u64) < wanted {
            let more = decoder.step(compressed.as_ref(), |bytes| {
                let missing = whole.saturating_sub(output.len() as u64);
                let missing = usize::try_from(missing).unwrap_or(usize::MAX);
                let bytes = &bytes[..bytes.len().min(missing)];
                // Double the capacity each time, up to the span's length. Memory follows the actual
                // output, since the length in the table is untrusted.
                if output.capacity() - output.len() < bytes.len() {
                    output.reserve_exact(bytes.len().max(output.len()).min(missing));
                }
                output.extend_from_slice(bytes);
            })?;
            if !more && (output.len() as u64) < wanted {
                return Err(decoder.truncated());
            }
        }
        Ok(())
    }
}
