//! Indexing a gzip layer, on one thread or on many.

use super::output::TarOutput;
use super::spans::{CheckpointSelector, Hashed, LayerDigest, Spans};
use super::{IndexOptions, WalkResult, seek};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::gzip::{Event, GzipDecoder};
use crate::inflate::Speed;
use crate::parallel::{
    CheckpointPolicy, ConsumerSet, Consumers, OutputConsumer, Pipeline, Progress, Settings,
};
use crate::span::UncompressedOffset;
use crate::trace::Trace;

/// The state of indexing a gzip layer on one thread.
#[derive(Debug)]
pub(super) struct GzipWalk {
    decoder: GzipDecoder,
    selector: CheckpointSelector,
    spans: Spans,
    layer: LayerDigest,
    output: TarOutput,
    /// Compressed bytes before the current chunk.
    chunk_start: u64,
    trace: Trace,
}

impl GzipWalk {
    pub(super) fn new(options: &IndexOptions) -> Self {
        let mut decoder = GzipDecoder::new(Speed::Fast);
        let (seek_output, seek_input) = options.seek_span_size.map(seek::sides).unzip();
        if let Some(seek) = &seek_output {
            decoder.trace(seek.finder.wanted());
        }
        Self {
            decoder,
            selector: CheckpointSelector::new(options.span_size),
            spans: Spans::new(options, seek_input),
            layer: LayerDigest::default(),
            output: TarOutput::new(options, seek_output),
            chunk_start: 0,
            trace: Trace::default(),
        }
    }

    /// Takes the next bytes. The digests of the layer and of the span are computed together.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<()> {
        let outcome = self.push_chunk(chunk);
        if outcome.is_err() {
            // If two things are wrong, report the earlier one: a tar error in the pending output
            // comes before the gzip error.
            self.take_output()?;
        }
        outcome
    }

    fn push_chunk(&mut self, chunk: &[u8]) -> Result<()> {
        let mut input = chunk;
        let mut hashed = Hashed::default();
        loop {
            let event = self.decoder.step(&mut input)?;
            match event {
                Event::NeedInput => break,
                Event::Candidate => self.candidate(chunk, &mut hashed)?,
                Event::Output | Event::MemberEnd => {
                    self.take_output()?;
                }
            }
        }
        if self.output.seek.is_some() {
            // The trace grows with the input, even where there is no output.
            self.take_output()?;
        }
        self.spans.hash(Some(&mut self.layer), chunk, &mut hashed, chunk.len());
        if let (Some(output), Some(input)) = (&mut self.output.seek, &mut self.spans.seek) {
            output.reach(self.decoder.position());
            input.push(chunk);
        }
        self.chunk_start += chunk.len() as u64;
        Ok(())
    }

    fn take_output(&mut self) -> Result<()> {
        let Self { decoder, output, trace, .. } = self;
        if output.seek.is_none() {
            return decoder.take_output(|bytes| output.push(bytes));
        }
        decoder.take_trace(trace);
        decoder.take_output(|bytes| {
            output.trace(bytes, trace);
            output.push(bytes)
        })?;
        if let Some(seek) = &output.seek {
            decoder.trace(seek.finder.wanted());
        }
        Ok(())
    }

    fn candidate(&mut self, chunk: &[u8], hashed: &mut Hashed) -> Result<()> {
        let inflater = self.decoder.inflater();
        let uncompressed = UncompressedOffset(self.output.len + inflater.pending_len() as u64);
        if !self.selector.take(uncompressed)? {
            return Ok(());
        }
        let checkpoint = Checkpoint::at(self.decoder.position(), uncompressed, inflater.window());
        // The decoder reports the end of a block as soon as it has the last bit, so the byte that
        // holds that bit is in this chunk.
        let layer = Some(&mut self.layer);
        self.spans.start_span(layer, checkpoint, self.chunk_start, chunk, hashed);
        Ok(())
    }

    /// Continues with many threads.
    pub(super) fn into_parallel(mut self, options: &IndexOptions) -> ParallelWalk {
        let settings = Settings {
            threads: options.threads,
            unit_len: options.unit_len,
            traces: options.seek_span_size.is_some(),
        };
        if self.output.seek.is_some() {
            // Other threads do not know where the zones are.
            self.decoder.trace(0..u64::MAX);
        }
        let from = Progress { decoder: self.decoder, written: self.output.len };
        let consumers = ConsumerSet {
            policy: self.selector,
            spans: self.spans,
            blob: self.layer,
            output: self.output,
        };
        ParallelWalk(Pipeline::resume(settings, from, consumers))
    }

    pub(super) fn finish(mut self, options: &IndexOptions, size: u64) -> Result<WalkResult> {
        if let Err(error) = self.decoder.finish() {
            self.take_output()?;
            return Err(error);
        }
        walk_result(self.spans, self.layer, self.output, options.span_size, size)
    }
}

/// The result of a walk over a whole gzip layer.
fn walk_result(
    mut spans: Spans,
    layer: LayerDigest,
    mut output: TarOutput,
    span_size: u64,
    size: u64,
) -> Result<WalkResult> {
    let (diff_id, uncompressed_size) = (output.diff_id, output.len);
    let seek = output.seek.take().zip(spans.seek.take());
    Ok(WalkResult {
        // First, so that an error in the tar is reported before any other.
        toc: output.scanner.finish()?,
        diff_id: diff_id.map(|mut hasher| hasher.finish_reset()),
        uncompressed_size,
        seek: match seek {
            Some((output, input)) => Some(seek::finish(output, input, size, uncompressed_size)?),
            None => None,
        },
        ..spans.finish(layer, span_size)
    })
}

/// The state of indexing a gzip layer on many threads.
#[derive(Debug)]
pub(super) struct ParallelWalk(Pipeline<IndexConsumers>);

/// The consumers of a pipeline that indexes a layer.
#[derive(Debug)]
enum IndexConsumers {}

impl Consumers for IndexConsumers {
    type Policy = CheckpointSelector;
    type Spans = Spans;
    type Blob = LayerDigest;
    type Output = TarOutput;
}

impl ParallelWalk {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.push(bytes)
    }

    pub(super) fn finish(self, options: &IndexOptions, size: u64) -> Result<WalkResult> {
        let found = self.0.finish()?;
        walk_result(found.spans, found.blob, found.output, options.span_size, size)
    }
}
