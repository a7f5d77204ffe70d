//! Many cores on one gzip stream.
//!
//! A [`Pipeline`] takes the layer's compressed bytes in order, cuts them into units that its workers share,
//! and gives its consumers what one thread would give them, in the same order: the [`CheckpointPolicy`]
//! every place where a checkpoint could be, the [`SpanConsumer`] the compressed bytes with the checkpoints
//! in them, the [`BlobConsumer`] the same bytes alone, the [`OutputConsumer`] the uncompressed bytes. What
//! the workers do:
//!
//! * *join*: walk the layer in order, decode it, report checkpoints and errors (`join`). One at a time.
//! * *speculate*: decode a range further on, before the joiner gets there, with markers in place of the
//!   unknown window (`probe` guesses where a block begins, `speculate` decodes). The joiner takes the range
//!   over when it arrives at just that block.
//! * *resolve*: replace a piece's markers with the bytes of the window, which the joiner now knows (`piece`).
//! * *scan*: hand output to its consumer, compare each member's checksum. One at a time.
//! * *hash*: hand compressed bytes to their consumers, to both at once or, when the others wait for that, to
//!   each by a worker of its own.
//!
//! The result depends neither on the number of threads nor on their timing: the joiner verifies every guess,
//! and every error is found where one thread would find it. `schedule` decides who does what next, `task`
//! does it, `worker` is the threads' loop around both.
//!
//! Sources: Kerbiriou & Chikhi, "Parallel decompression of gzip-compressed files and random access to DNA
//! sequences" (2019); Knespel & Brunst, "Rapidgzip" (2023).

mod join;
mod piece;
mod probe;
mod schedule;
mod source;
mod speculate;
#[doc(hidden)]
pub mod stages;
mod task;
mod tools;
mod worker;

use std::fmt::Debug;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::gzip::GzipDecoder;
use crate::inflate::Speed;
use crate::span::UncompressedOffset;
use schedule::State;
use worker::Shared;

/// Compressed bytes in a unit: a millisecond's work or less, so that no worker waits for long.
pub const UNIT_LEN: usize = 256 << 10;

/// Decides which candidates become checkpoints.
pub trait CheckpointPolicy: Send + Debug + 'static {
    /// Whether the candidate at `at` becomes a checkpoint; candidates come in stream order.
    ///
    /// # Errors
    ///
    /// Fails the layer, once all output before the candidate has been consumed without an error.
    fn take(&mut self, at: UncompressedOffset) -> Result<bool>;
}

/// Takes the layer's compressed bytes, cut into spans at checkpoints; `B` takes them uncut.
pub trait SpanConsumer<B>: Send + Debug + 'static {
    /// Takes the next bytes, the first of which is byte `start` of the layer, and all checkpoints whose
    /// [first byte](Checkpoint::first_byte) is among them.
    fn push(&mut self, start: u64, bytes: &[u8], checkpoints: Vec<Checkpoint>);

    /// Does the same, and gives the bytes to `blob` too: two digests side by side cost less than one after
    /// the other.
    fn push_with(&mut self, blob: &mut B, start: u64, bytes: &[u8], checkpoints: Vec<Checkpoint>);
}

/// Takes the layer's compressed bytes as one sequence.
pub trait BlobConsumer: Send + Debug + 'static {
    /// Takes the next bytes.
    fn push(&mut self, bytes: &[u8]);
}

/// Takes the layer's uncompressed bytes.
pub trait OutputConsumer: Send + Debug + 'static {
    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// Fails the layer.
    fn push(&mut self, bytes: &[u8]) -> Result<()>;

    /// Whether this takes about as long as decoding: a thread of its own is then worth a copy.
    fn is_heavy(&self) -> bool {
        false
    }
}

/// The types of a pipeline's consumers; an implementation only names them and needs no values.
pub trait Consumers: Debug + 'static {
    /// Asked about every candidate.
    type Policy: CheckpointPolicy;
    /// Given all compressed bytes, once their checkpoints are known.
    type Spans: SpanConsumer<Self::Blob>;
    /// Given all compressed bytes too, perhaps long before.
    type Blob: BlobConsumer;
    /// Given all uncompressed bytes.
    type Output: OutputConsumer;
}

/// The consumers of one pipeline.
#[derive(Debug)]
pub struct ConsumerSet<C: Consumers> {
    /// See [`Consumers::Policy`].
    pub policy: C::Policy,
    /// See [`Consumers::Spans`].
    pub spans: C::Spans,
    /// See [`Consumers::Blob`].
    pub blob: C::Blob,
    /// See [`Consumers::Output`].
    pub output: C::Output,
}

/// How a pipeline works; the result does not depend on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Number of threads that work, including the caller's.
    pub threads: usize,
    /// Compressed bytes in a unit, at least 1.
    pub unit_len: usize,
}

/// How far one thread has come.
#[derive(Debug)]
pub struct Progress {
    /// Has used all bytes so far; all output that it could make of them may be waiting in it.
    pub decoder: GzipDecoder,
    /// Bytes of output taken from the decoder and given to the consumer.
    pub written: u64,
}

/// One gzip layer on its way through many threads.
///
/// The threads start when the first unit is full and end with the pipeline. The caller works too whenever it
/// would have to wait.
#[derive(Debug)]
pub struct Pipeline<C: Consumers> {
    settings: Settings,
    shared: Arc<Shared<C>>,
    threads: Vec<JoinHandle<()>>,
    has_started: bool,
    /// The unit that is being filled.
    unit: Vec<u8>,
}

impl<C: Consumers> Pipeline<C> {
    /// Starts before the first byte of a layer.
    #[must_use]
    pub fn new(settings: Settings, consumers: ConsumerSet<C>) -> Self {
        let from = Progress { decoder: GzipDecoder::new(Speed::Fast), written: 0 };
        Self::resume(settings, from, consumers)
    }

    /// Continues a layer that one thread has begun; the next bytes follow those that it has used.
    #[must_use]
    pub fn resume(settings: Settings, from: Progress, consumers: ConsumerSet<C>) -> Self {
        let settings =
            Settings { threads: settings.threads.max(1), unit_len: settings.unit_len.max(1) };
        let shared = Arc::new(Shared::new(settings, from, consumers));
        Self { settings, shared, threads: Vec::new(), has_started: false, unit: Vec::new() }
    }

    /// Takes the next compressed bytes; returns when there is room for more.
    ///
    /// # Errors
    ///
    /// The first error in the layer, if it has been found by now; what a consumer returns. The pipeline must
    /// not be used further.
    ///
    /// # Panics
    ///
    /// If a consumer panicked, on whatever thread.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            if self.unit.capacity() == 0 {
                self.unit = self.shared.new_unit();
            }
            let room = self.settings.unit_len - self.unit.len();
            let (head, rest) = bytes.split_at(room.min(bytes.len()));
            self.unit.extend_from_slice(head);
            bytes = rest;
            if self.unit.len() == self.settings.unit_len {
                self.start_threads();
                self.shared.add_unit(std::mem::take(&mut self.unit));
                self.shared.work_until(State::has_room)?;
            }
        }
        Ok(())
    }

    /// Ends the layer and returns the consumers, which then have everything.
    ///
    /// # Errors
    ///
    /// As [`Self::push`]; also when the layer ends too early.
    ///
    /// # Panics
    ///
    /// If a consumer panicked, on whatever thread.
    pub fn finish(mut self) -> Result<ConsumerSet<C>> {
        self.shared.end(std::mem::take(&mut self.unit));
        self.shared.work_until(State::is_finished)?;
        self.stop_threads();
        self.shared.take_consumers()
    }

    /// Starts one thread less than asked for, since the caller works too; if none can be started, the caller
    /// does everything.
    fn start_threads(&mut self) {
        if std::mem::replace(&mut self.has_started, true) {
            return;
        }
        for _ in 1..self.settings.threads {
            let shared = Arc::clone(&self.shared);
            let work = move || shared.work();
            match std::thread::Builder::new().name("tocsin-layer".into()).spawn(work) {
                Ok(thread) => self.threads.push(thread),
                Err(_) => break,
            }
        }
    }

    fn stop_threads(&mut self) {
        self.shared.stop();
        for thread in self.threads.drain(..) {
            // Workers catch their own panics.
            let _ = thread.join();
        }
    }
}

impl<C: Consumers> Drop for Pipeline<C> {
    fn drop(&mut self) {
        self.stop_threads();
    }
}
