//! Many cores on one gzip stream.
//!
//! A [`Pipeline`] takes the layer's compressed bytes in order, cuts them into units that its workers share,
//! and gives its consumers what they would get from one thread, in the same order: [`Boundaries`] every
//! place where a checkpoint could be, [`Compressed`] the layer's bytes with the checkpoints in them,
//! [`Whole`] the same bytes alone, [`Output`] the uncompressed ones. What the workers do:
//!
//! * *join*: walk the layer in order, decode it, tell checkpoints and errors (`join`). One at a time.
//! * *speculate*: decode a range further on, before the joiner comes there, with markers in the place of
//!   the window that nobody knows yet (`probe` guesses where a block begins, `speculate` decodes). The
//!   joiner takes the range over when it arrives at just that block.
//! * *resolve*: replace a piece's markers by the bytes of the window, which the joiner now knows (`piece`).
//! * *scan*: hand output to its consumer, compare each member's checksum. One at a time.
//! * *hash*: hand compressed bytes to theirs, both at once or, when that is what all wait for, one by one.
//!
//! Nothing of this shows in the result, whatever the number of threads and whoever comes first: every
//! guess is verified by the joiner, every error is found where one thread would find it. `schedule`
//! decides who does what next, `task` does it, `worker` is the threads' loop around both.
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

/// Decides which places become checkpoints.
pub trait Boundaries: Send + std::fmt::Debug {
    /// Whether the candidate at `at` becomes one; they come in stream order.
    ///
    /// # Errors
    ///
    /// The layer is given up, once all output before the candidate has been consumed without an error.
    fn take(&mut self, at: UncompressedOffset) -> Result<bool>;
}

/// Takes the layer's compressed bytes, cut at checkpoints.
pub trait Compressed<W>: Send + std::fmt::Debug {
    /// Takes the next bytes, of which `start` is the first's place in the layer, and all checkpoints whose
    /// [first byte](Checkpoint::first_byte) is among them.
    fn push(&mut self, start: u64, bytes: &[u8], checkpoints: Vec<Checkpoint>);

    /// As [`Self::push`], and gives the bytes to `whole` too: two digests side by side cost less than one
    /// after the other.
    fn push_with(&mut self, whole: &mut W, start: u64, bytes: &[u8], checkpoints: Vec<Checkpoint>);
}

/// Takes the layer's compressed bytes as one sequence.
pub trait Whole: Send + std::fmt::Debug {
    /// Takes the next bytes.
    fn push(&mut self, bytes: &[u8]);
}

/// Takes the layer's uncompressed bytes.
pub trait Output: Send + std::fmt::Debug {
    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// The layer is given up.
    fn push(&mut self, bytes: &[u8]) -> Result<()>;

    /// Whether this takes about as long as decoding: a thread of its own is then worth a copy.
    fn is_heavy(&self) -> bool {
        false
    }
}

/// Who gets what a pipeline finds.
#[derive(Debug)]
pub struct Consumers<B, C, W, O> {
    /// Asked for every candidate.
    pub boundaries: B,
    /// Given all compressed bytes.
    pub compressed: C,
    /// Given all compressed bytes too, perhaps long before.
    pub whole: W,
    /// Given all uncompressed bytes.
    pub output: O,
}

/// How a pipeline works; the result does not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Threads that work, the caller's own among them.
    pub threads: usize,
    /// Compressed bytes in a unit, at least 1.
    pub unit_len: usize,
}

/// How far one thread has come.
#[derive(Debug)]
pub struct Progress {
    /// Has used all bytes so far; all output it could make of them may be waiting in it.
    pub decoder: GzipDecoder,
    /// Bytes of output taken from it, and given to the consumer.
    pub written: u64,
}

/// One gzip layer on its way through many threads.
///
/// The threads are started when the first unit is full, and end with the pipeline. The caller works too,
/// whenever it would have to wait.
#[derive(Debug)]
pub struct Pipeline<B, C, W, O> {
    settings: Settings,
    shared: Arc<Shared<B, C, W, O>>,
    threads: Vec<JoinHandle<()>>,
    has_started: bool,
    /// The unit that is being filled.
    unit: Vec<u8>,
}

impl<B, C, W, O> Pipeline<B, C, W, O>
where
    B: Boundaries + 'static,
    C: Compressed<W> + 'static,
    W: Whole + 'static,
    O: Output + 'static,
{
    /// Starts before the first byte of a layer.
    #[must_use]
    pub fn new(settings: Settings, consumers: Consumers<B, C, W, O>) -> Self {
        let from = Progress { decoder: GzipDecoder::new(Speed::Fast), written: 0 };
        Self::resume(settings, from, consumers)
    }

    /// Goes on with a layer that one thread has begun; the next bytes follow those that it has used.
    #[must_use]
    pub fn resume(settings: Settings, from: Progress, consumers: Consumers<B, C, W, O>) -> Self {
        let settings =
            Settings { threads: settings.threads.max(1), unit_len: settings.unit_len.max(1) };
        let shared = Arc::new(Shared::new(settings, from, consumers));
        Self { settings, shared, threads: Vec::new(), has_started: false, unit: Vec::new() }
    }

    /// Takes the next compressed bytes; returns when there is room for more.
    ///
    /// # Errors
    ///
    /// The first thing wrong in the layer, when it is known by now; what a consumer returns. The pipeline
    /// must not be used further.
    ///
    /// # Panics
    ///
    /// As a consumer has, on whatever thread.
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

    /// Ends the layer; gives the consumers back, which have everything.
    ///
    /// # Errors
    ///
    /// As [`Self::push`]; also when the layer ends too early.
    ///
    /// # Panics
    ///
    /// As a consumer has, on whatever thread.
    pub fn finish(mut self) -> Result<Consumers<B, C, W, O>> {
        self.shared.end(std::mem::take(&mut self.unit));
        self.shared.work_until(State::is_finished)?;
        self.stop_threads();
        self.shared.take_consumers()
    }

    /// The caller is one worker, so one thread less is started; where none can be, the caller does all.
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
}

impl<B, C, W, O> Pipeline<B, C, W, O> {
    fn stop_threads(&mut self) {
        self.shared.stop();
        for thread in self.threads.drain(..) {
            // A worker catches its own panics.
            let _ = thread.join();
        }
    }
}

impl<B, C, W, O> Drop for Pipeline<B, C, W, O> {
    fn drop(&mut self) {
        self.stop_threads();
    }
}
