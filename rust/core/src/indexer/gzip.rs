//! A gzip layer's bytes through all steps: on one thread, or on many.

use super::output::TarOutput;
use super::spans::{Hashed, LayerDigest, Places, Spans};
use super::{IndexOptions, Walked};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::gzip::{Event, GzipDecoder};
use crate::inflate::Speed;
use crate::parallel::{
    CheckpointPolicy, ConsumerSet, Consumers, OutputConsumer, Pipeline, Progress, Settings,
};
use crate::span::UncompressedOffset;

/// A gzip layer on its way, on one thread.
#[derive(Debug)]
pub(super) struct GzipWalk {
    decoder: GzipDecoder,
    places: Places,
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
            places: Places::new(options.span_size),
            spans: Spans::new(options),
            layer: LayerDigest::default(),
            output: TarOutput::new(options),
            chunk_start: 0,
        }
    }

    /// Takes the next bytes, for all digests too: the layer's and the span's are made together.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<()> {
        let outcome = self.push_chunk(chunk);
        if outcome.is_err() {
            // Of two things that are wrong, the first in the stream is told.
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
        if !self.places.take(uncompressed)? {
            return Ok(());
        }
        let checkpoint = Checkpoint::at(self.decoder.position(), uncompressed, inflater.window());
        // The decoder reports a block's end as soon as it has its last bit, so the byte that holds
        // it is in this chunk.
        let layer = Some(&mut self.layer);
        self.spans.start_span(layer, checkpoint, self.chunk_start, chunk, hashed);
        Ok(())
    }

    /// Goes on with many threads.
    pub(super) fn share(self, options: &IndexOptions) -> ParallelWalk {
        let settings = Settings { threads: options.threads, unit_len: options.unit_len };
        let from = Progress { decoder: self.decoder, written: self.output.len };
        let consumers = ConsumerSet {
            policy: self.places,
            spans: self.spans,
            blob: self.layer,
            output: self.output,
        };
        ParallelWalk(Pipeline::resume(settings, from, consumers))
    }

    pub(super) fn finish(mut self, span_size: u64) -> Result<Walked> {
        if let Err(error) = self.decoder.finish() {
            let output = &mut self.output;
            self.decoder.take_output(|bytes| output.push(bytes))?;
            return Err(error);
        }
        walked(self.spans, self.layer, self.output, span_size)
    }
}

/// What a walk over a whole gzip layer has found.
fn walked(spans: Spans, layer: LayerDigest, output: TarOutput, span_size: u64) -> Result<Walked> {
    let (diff_id, uncompressed_size) = (output.diff_id, output.len);
    Ok(Walked {
        // What is wrong with the tar comes before anything that could be wrong with its digests.
        toc: output.scanner.finish()?,
        diff_id: diff_id.map(|mut hasher| hasher.finish_reset()),
        uncompressed_size,
        ..spans.finish(layer, span_size)
    })
}

/// A gzip layer on its way, on many threads.
#[derive(Debug)]
pub(super) struct ParallelWalk(Pipeline<IndexConsumers>);

/// What a pipeline feeds when it indexes a layer.
#[derive(Debug)]
enum IndexConsumers {}

impl Consumers for IndexConsumers {
    type Policy = Places;
    type Spans = Spans;
    type Blob = LayerDigest;
    type Output = TarOutput;
}

impl ParallelWalk {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.push(bytes)
    }

    pub(super) fn finish(self, span_size: u64) -> Result<Walked> {
        let found = self.0.finish()?;
        walked(found.spans, found.blob, found.output, span_size)
    }
}
