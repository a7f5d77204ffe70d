//! Decoding one gzip stream on many cores.
//!
//! A [`Pipeline`] takes the layer's compressed bytes in order and cuts them into units for its
//! workers. Its consumers receive exactly what a single thread would pass to them, in the same order:
//! the [`CheckpointPolicy`] every candidate for a checkpoint, the [`SpanConsumer`] the compressed
//! bytes with their checkpoints, the [`BlobConsumer`] the compressed bytes alone, and the
//! [`OutputConsumer`] the uncompressed bytes. The workers' tasks are:
//!
//! * *join*: decode the layer in order and report checkpoints and errors (`join`). One at a time.
//! * *speculate*: decode a later range before the joiner gets there, with markers in place of the
//!   unknown window (`probe` guesses where a block begins, `speculate` decodes). The joiner takes over
//!   the result if it arrives at exactly that block.
//! * *resolve*: replace the markers in a piece with bytes of the window, once the joiner knows it
//!   (`piece`).
//! * *scan*: pass output to its consumer and compare each member's checksum. One at a time.
//! * *hash*: pass compressed bytes to their consumers, to both at once or, if hashing falls behind,
//!   to each on a worker of its own.
//!
//! The result depends neither on the number of threads nor on their timing: the joiner verifies every
//! guess, and errors are reported exactly as a single thread would report them. `schedule` chooses the
//! tasks, `task` runs them, and `worker` is the loop of each thread around both.
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
use crate::trace::Trace;
use schedule::State;
use worker::Shared;

/// Compressed bytes in a unit: at most a millisecond of work, so that no worker waits for long.
pub const UNIT_LEN: usize = 256 << 10;

/// Selects the candidates that become checkpoints.
pub trait CheckpointPolicy: Send + Debug + 'static {
    /// Returns whether the candidate at `at` becomes a checkpoint. Called in stream order.
    ///
    /// # Errors
    ///
    /// An error fails the layer, unless consuming the output before the candidate fails first.
    fn take(&mut self, at: UncompressedOffset) -> Result<bool>;
}

/// Consumes the layer's compressed bytes, divided into spans at checkpoints. `B` consumes them
/// undivided.
pub trait SpanConsumer<B>: Send + Debug + 'static {
    /// Takes the next bytes, which are at offset `start` of the layer, and all checkpoints whose
    /// [first byte](Checkpoint::first_byte) is among them.
    fn push(&mut self, start: u64, bytes: &[u8], checkpoints: Vec<Checkpoint>);

    /// Like [`Self::push`], but also passes the bytes to `blob`: computing two digests together is
    /// faster than one after the other.
    fn push_with(&mut self, blob: &mut B, start: u64, bytes: &[u8], checkpoints: Vec<Checkpoint>);
}

/// Consumes the layer's compressed bytes as one sequence.
pub trait BlobConsumer: Send + Debug + 'static {
    /// Takes the next bytes.
    fn push(&mut self, bytes: &[u8]);
}

/// Consumes the layer's uncompressed bytes.
pub trait OutputConsumer: Send + Debug + 'static {
    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// An error fails the layer.
    fn push(&mut self, bytes: &[u8]) -> Result<()>;

    /// Takes the trace of output that has just been pushed, once for each piece. Called only if the
    /// pipeline traces.
    fn trace(&mut self, _bytes: &[u8], _trace: &mut Trace) {}

    /// Whether consuming takes about as long as decoding, so that running it on another thread is
    /// worth a copy.
    fn is_heavy(&self) -> bool {
        false
    }
}

/// The types of a pipeline's consumers. Implementations only name the types and need no values.
pub trait Consumers: Debug + 'static {
    /// Selects checkpoints.
    type Policy: CheckpointPolicy;
    /// Receives all compressed bytes, once their checkpoints are known.
    type Spans: SpanConsumer<Self::Blob>;
    /// Receives all compressed bytes too, possibly much earlier.
    type Blob: BlobConsumer;
    /// Receives all uncompressed bytes.
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

/// The settings of a pipeline, which do not affect its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Number of threads, including the caller's.
    pub threads: usize,
    /// Compressed bytes in a unit, at least 1.
    pub unit_len: usize,
    /// Whether the output's consumer also gets traces.
    pub traces: bool,
}

/// The progress of a single thread, from which a pipeline can continue.
#[derive(Debug)]
pub struct Progress {
    /// The decoder, which has used all bytes so far. It may hold output that has not been taken.
    pub decoder: GzipDecoder,
    /// Bytes of output taken from the decoder and given to the consumer.
    pub written: u64,
}

/// A gzip layer being processed by many threads.
///
/// The threads start when the first unit is full and end with the pipeline. The caller's thread
/// works too whenever it would have to wait.
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
    /// Starts at the first byte of a layer.
    #[must_use]
    pub fn new(settings: Settings, consumers: ConsumerSet<C>) -> Self {
        let from = Progress { decoder: GzipDecoder::new(Speed::Fast), written: 0 };
        Self::resume(settings, from, consumers)
    }

    /// Continues a layer that one thread has begun. The next bytes must follow those that it has
    /// used.
    #[must_use]
    pub fn resume(settings: Settings, from: Progress, consumers: ConsumerSet<C>) -> Self {
        let settings = Settings {
            threads: settings.threads.max(1),
            unit_len: settings.unit_len.max(1),
            ..settings
        };
        let shared = Arc::new(Shared::new(settings, from, consumers));
        Self { settings, shared, threads: Vec::new(), has_started: false, unit: Vec::new() }
    }

    /// Takes the next compressed bytes, and returns once there is room for more.
    ///
    /// # Errors
    ///
    /// The first error in the layer, if it has been found by now, or the error of a consumer. The
    /// pipeline must not be used afterwards.
    ///
    /// # Panics
    ///
    /// If a consumer panicked on any thread.
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

    /// Ends the layer and returns the consumers, which have received everything.
    ///
    /// # Errors
    ///
    /// Same as [`Self::push`]; also fails if the layer is truncated.
    ///
    /// # Panics
    ///
    /// If a consumer panicked on any thread.
    pub fn finish(mut self) -> Result<ConsumerSet<C>> {
        self.shared.end(std::mem::take(&mut self.unit));
        self.shared.work_until(State::is_finished)?;
        self.stop_threads();
        self.shared.take_consumers()
    }

    /// Starts one thread fewer than requested, since the caller works too. If no thread can be
    /// started, the caller does everything.
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
