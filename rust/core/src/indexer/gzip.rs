//! Indexing a gzip layer, on one thread or on many.

use super::output::TarOutput;
use super::spans::{CheckpointSelector, Hashed, LayerDigest, Spans};
use super::{IndexOptions, WalkResult};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::gzip::{Event, GzipDecoder};
use crate::inflate::Speed;
use crate::parallel::{
    CheckpointPolicy, ConsumerSet, Consumers, OutputConsumer, Pipeline, Progress, Settings,
};
use crate::span::UncompressedOffset;

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
}

impl GzipWalk {
    pub(super) fn new(options: &IndexOptions) -> Self {
        Self {
            decoder: GzipDecoder::new(Speed::Fast),
            selector: CheckpointSelector::new(options.span_size),
            spans: Spans::new(options),
            layer: LayerDigest::default(),
            output: TarOutput::new(options),
            chunk_start: 0,
        }
    }

    /// Takes the next bytes. The digests of the layer and of the span are computed together.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<()> {
        let outcome = self.push_chunk(chunk);
        if outcome.is_err() {
            // If two things are wrong, report the earlier one: a tar error in the pending output
            // comes before the gzip error.
            let output = &mut self.output;
            self.decoder.take_output(|bytes| output.push(bytes))?;
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
                    let output = &mut self.output;
                    self.decoder.take_output(|bytes| output.push(bytes))?;
                }
            }
        }
        self.spans.hash(Some(&mut self.layer), chunk, &mut hashed, chunk.len());
        self.chunk_start += chunk.len() as u64;
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
    pub(super) fn into_parallel(self, options: &IndexOptions) -> ParallelWalk {
        let settings = Settings { threads: options.threads, unit_len: options.unit_len };
        let from = Progress { decoder: self.decoder, written: self.output.len };
        let consumers = ConsumerSet {
            policy: self.selector,
            spans: self.spans,
            blob: self.layer,
            output: self.output,
        };
        ParallelWalk(Pipeline::resume(settings, from, consumers))
    }

    pub(super) fn finish(mut self, span_size: u64) -> Result<WalkResult> {
        if let Err(error) = self.decoder.finish() {
            let output = &mut self.output;
            self.decoder.take_output(|bytes| output.push(bytes))?;
            return Err(error);
        }
        walk_result(self.spans, self.layer, self.output, span_size)
    }
}

/// The result of a walk over a whole gzip layer.
fn walk_result(
    spans: Spans,
    layer: LayerDigest,
    output: TarOutput,
    span_size: u64,
) -> Result<WalkResult> {
    let (diff_id, uncompressed_size) = (output.diff_id, output.len);
    Ok(WalkResult {
        // First, so that an error in the tar is reported before any other.
        toc: output.scanner.finish()?,
        diff_id: diff_id.map(|mut hasher| hasher.finish_reset()),
        uncompressed_size,
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

    pub(super) fn finish(self, span_size: u64) -> Result<WalkResult> {
        let found = self.0.finish()?;
        walk_result(found.spans, found.blob, found.output, span_size)
    }
}
