//! A span that is read bit by bit: verified once, inflated as far as someone has read.

use std::ops::Range;

use super::decoder::SpanDecoder;
use super::{no_such_span, verify_span};
use crate::error::{Error, Result};
use crate::span::{SpanId, UncompressedOffset};
use crate::ztoc::{Zinfo, Ztoc};

/// One verified span, inflated no further than what was read needs.
///
/// What was inflated is kept, and the decoder waits where it stopped; once the whole span is inflated,
/// the decoder and the compressed bytes are dropped. `B` holds the compressed bytes and must give the
/// same ones at every call, since they are verified only once.
#[derive(Debug)]
pub struct SpanReader<B> {
    start: UncompressedOffset,
    end: UncompressedOffset,
    state: State<B>,
}

#[derive(Debug)]
enum State<B> {
    /// A plain tar's span is its own data.
    Stored(B),
    Inflating(Box<Inflating<B>>),
    Inflated(Vec<u8>),
    /// Everything was dropped: of a span whose zTOC lies nothing is worth keeping.
    Failed(Error),
}

/// A span whose output is known as far as `output` goes.
#[derive(Debug)]
struct Inflating<B> {
    compressed: B,
    decoder: SpanDecoder,
    output: Vec<u8>,
}

impl<B: AsRef<[u8]>> SpanReader<B> {
    /// Takes the bytes that [`Ztoc::span_compressed_range`] names and verifies them; inflates nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchSpan`]; [`Error::Verification`] when `compressed` has another length or digest
    /// than the zTOC says.
    pub fn new(ztoc: &Ztoc, span_id: SpanId, compressed: B) -> Result<Self> {
        let (start, end) = ztoc.span_uncompressed_range(span_id)?;
        // What follows the tar in a gzip layer's last span is padding, which no entry lies in.
        let end = end.unwrap_or(UncompressedOffset(ztoc.uncompressed_archive_size)).max(start);
        verify_span(ztoc, span_id, compressed.as_ref())?;
        let state = match &ztoc.zinfo {
            Zinfo::Tar(_) => State::Stored(compressed),
            Zinfo::Gzip(_) if start == end => State::Inflated(Vec::new()),
            Zinfo::Gzip(zinfo) => {
                let checkpoint = zinfo.checkpoints.get(span_id.0 as usize);
                let checkpoint = checkpoint.ok_or_else(|| no_such_span(ztoc, span_id))?;
                let decoder = SpanDecoder::new(checkpoint, compressed.as_ref());
                State::Inflating(Box::new(Inflating { compressed, decoder, output: Vec::new() }))
            }
        };
        Ok(Self { start, end, state })
    }

    /// The span's first uncompressed byte.
    #[must_use]
    pub const fn start(&self) -> UncompressedOffset {
        self.start
    }

    /// Where the span's uncompressed bytes end; for a gzip layer's last span where the tar does, or its
    /// start when the tar ended before it.
    #[must_use]
    pub const fn end(&self) -> UncompressedOffset {
        self.end
    }

    /// How many of the span's uncompressed bytes are there.
    #[must_use]
    pub fn inflated_len(&self) -> usize {
        self.inflated().map_or(0, <[u8]>::len)
    }

    /// Bytes of memory held now: compressed, inflated and the decoder's state.
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

    /// The part of the span that lies in `wanted`, if all of it is inflated already.
    #[must_use]
    pub fn get(&self, wanted: &Range<UncompressedOffset>) -> Option<&[u8]> {
        let end = self.place(wanted.end);
        let start = self.place(wanted.start).min(end);
        let place = |at: u64| usize::try_from(at).ok();
        self.inflated()?.get(place(start)?..place(end)?)
    }

    /// Inflates as far as `end`, or the span's own end if that comes first.
    ///
    /// Goes at most one block beyond, and no more than the decoder's buffer holds: 128 KiB.
    ///
    /// # Errors
    ///
    /// [`Error::Gzip`] when the bytes do not decode from the checkpoint, or to fewer bytes than the
    /// zTOC says, which means that it lies; the same error at every later call.
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

    /// Gives the part of the span that lies in `wanted`, inflating what is not yet.
    ///
    /// # Errors
    ///
    /// As [`Self::inflate_to`]; bytes of `wanted` beyond the span are left out without an error.
    pub fn read(&mut self, wanted: &Range<UncompressedOffset>) -> Result<&[u8]> {
        self.inflate_to(wanted.end)?;
        // Inflated to its end, so there; a plain tar's span is.
        Ok(self.get(wanted).unwrap_or_default())
    }

    /// Bytes from the span's start to `at`, no more than it has.
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
    /// Inflates until `output` has `wanted` bytes of the `whole` that the zTOC says there are.
    fn inflate_to(&mut self, wanted: u64, whole: u64) -> Result<()> {
        let Self { compressed, decoder, output } = self;
        while (output.len() as u64) < wanted {
            let more = decoder.step(compressed.as_ref(), |bytes| {
                let missing = whole.saturating_sub(output.len() as u64);
                let missing = usize::try_from(missing).unwrap_or(usize::MAX);
                let bytes = &bytes[..bytes.len().min(missing)];
                // Twice as much each time, but never more than the span has: the claim of a zTOC earns
                // no memory, only output does.
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
