//! Verifying, inflating and keeping the bytes of fetches.

use std::io;
use std::ops::Range;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU8, Ordering};

use tocsin_core::fetch::{Fetch, What};

use super::held::{HeldSpan, part};
use super::{Engine, IN_MEMORY, Layer, ON_DISK, io_error, take};

impl Engine {
    /// Takes the bytes of a fetch: verifies, inflates and keeps them, and calls the readers back.
    ///
    /// # Errors
    /// What is wrong with the bytes, which are then fetched again.
    pub fn answer(&self, number: u64, bytes: &[u8]) -> Result<(), String> {
        let now = self.now();
        let fetch = {
            let mut state = self.lock();
            let Some(fetch) = state.scheduler.fetch(number).cloned() else { return Ok(()) };
            if fetch.range.end - fetch.range.start != bytes.len() as u64 {
                let wanted = fetch.range.end - fetch.range.start;
                drop(state);
                let error =
                    format!("wrong length (found {} bytes, expected {wanted})", bytes.len());
                self.fail(number, &error);
                return Err(error);
            }
            // Chunks are closed when the table has them: until then, spans that arrive wait for them.
            if matches!(fetch.what, What::Spans(_)) {
                state.scheduler.close(number, now);
            }
            fetch
        };
        self.counters.bytes_fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.counters.fetches.fetch_add(1, Ordering::Relaxed);
        let outcome = match &fetch.what {
            What::Spans(run) if self.is_pack(fetch.layer) => {
                self.add_frames(&fetch, run.clone(), bytes)
            }
            What::Spans(run) => self.add_spans(&fetch, run.clone(), bytes),
            What::Chunks(run) => self.add_chunks(&fetch, run.clone(), bytes),
        };
        self.work.notify_all();
        if let Err(error) = &outcome {
            self.counters.failures.fetch_add(1, Ordering::Relaxed);
            self.note_error(error);
        }
        outcome
    }

    fn add_spans(&self, fetch: &Fetch, run: Range<u32>, bytes: &[u8]) -> Result<(), String> {
        let Some(layer) = self.layers.get(fetch.layer) else { return Ok(()) };
        let mut outcome = Ok(());
        for span in run {
            let Some(bytes) = part(bytes, fetch.range.start, &layer.table.compressed(span)) else {
                continue;
            };
            if let Some(chunk) = layer.table.missing_chunk(span) {
                let held = HeldSpan { span, fetch: fetch.number, bytes: bytes.to_vec() };
                if !self.held.put(fetch.layer, chunk, held) {
                    self.lock().scheduler.give_back(fetch.layer, span, fetch.number, self.now());
                    continue;
                }
                // In this order: what is no longer coming is in the table, or is damaged.
                let is_coming = self.lock().scheduler.is_chunk_coming(fetch.layer, chunk);
                if layer.table.missing_chunk(span).is_none() {
                    outcome = self.add_held(fetch.layer, chunk..chunk + 1).and(outcome);
                } else if !is_coming {
                    self.drop_held(fetch.layer, chunk);
                }
                continue;
            }
            outcome = self.add_span(fetch.layer, span, fetch.number, bytes).and(outcome);
        }
        outcome
    }

    fn add_chunks(&self, fetch: &Fetch, run: Range<u32>, bytes: &[u8]) -> Result<(), String> {
        let Some(layer) = self.layers.get(fetch.layer) else { return Ok(()) };
        let mut damaged = Vec::new();
        let mut outcome = Ok(());
        for chunk in run.clone() {
            let added = part(bytes, fetch.range.start, &layer.table.chunk_range(chunk))
                .map(|bytes| layer.table.add_chunk(chunk, bytes));
            if let Some(Err(error)) = added {
                damaged.push(chunk);
                outcome = Err(error.to_string());
            }
        }
        self.lock().scheduler.close(fetch.number, self.now());
        // The spans that wait for these cannot be inflated.
        damaged.into_iter().for_each(|chunk| self.drop_held(fetch.layer, chunk));
        self.add_held(fetch.layer, run).and(outcome)
    }

    /// Drops the spans whose chunk is damaged; they are fetched again together with the chunk.
    fn drop_held(&self, layer: usize, chunk: u32) {
        for held in self.held.take(layer, chunk..chunk + 1) {
            self.mismatch(layer, held.span, held.fetch);
        }
    }

    fn add_held(&self, layer: usize, chunks: Range<u32>) -> Result<(), String> {
        let mut outcome = Ok(());
        for held in self.held.take(layer, chunks) {
            outcome = self.add_span(layer, held.span, held.fetch, &held.bytes).and(outcome);
        }
        outcome
    }

    fn add_span(&self, number: usize, span: u32, fetch: u64, bytes: &[u8]) -> Result<(), String> {
        let Some(layer) = self.layers.get(number) else { return Ok(()) };
        let is_here = |state: &AtomicU8| state.load(Ordering::Acquire) >= ON_DISK;
        if layer.states.get(span as usize).is_none_or(is_here) {
            // Readers may wait for it nevertheless, if it was lost and arrived at the same time.
            self.release(number, span, None);
            return Ok(());
        }
        let inflated = match layer.table.inflate(span, bytes) {
            Ok(inflated) => inflated,
            Err(error) => {
                self.mismatch(number, span, fetch);
                return Err(error.to_string());
            }
        };
        let place = layer.table.uncompressed(span);
        let compared = self.compare_with_pack(number, place.start, &inflated);
        let state = self.keep(number, layer, span, inflated);
        self.arrived(number, span, state);
        if state == ON_DISK {
            self.free_frames(number, &place);
        }
        compared
    }

    pub(super) fn mismatch(&self, layer: usize, span: u32, fetch: u64) {
        let callbacks = {
            let mut state = self.lock();
            let given_up = state.scheduler.mismatch(layer, span, fetch, self.now());
            take(&mut state.callbacks, &given_up)
        };
        callbacks.into_iter().for_each(|callback| callback(Err(io_error())));
    }

    fn keep(&self, number: usize, layer: &Layer, span: u32, bytes: Vec<u8>) -> u8 {
        if let Some(file) = &layer.file
            && self.is_disk_usable.load(Ordering::Relaxed)
        {
            match file.write(span, &bytes, layer.table.uncompressed(span).start) {
                Ok(()) => return ON_DISK,
                Err(error) => self.stop_using_disk(&error),
            }
        }
        for (layer, dropped) in self.memory.put((number, span), bytes) {
            self.lose(layer, dropped);
        }
        IN_MEMORY
    }

    /// From now on, only what is read is fetched, and kept in memory.
    pub(super) fn stop_using_disk(&self, error: &io::Error) {
        self.is_disk_usable.store(false, Ordering::Relaxed);
        self.lock().scheduler.set_background(false);
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.disk_error = Some(error.to_string());
    }

    /// Records that a fetch failed. It is repeated as long as a reader waits.
    pub fn fail(&self, number: u64, error: &str) {
        self.counters.failures.fetch_add(1, Ordering::Relaxed);
        self.note_error(error);
        let is_of_pack = {
            let state = self.lock();
            state.scheduler.fetch(number).is_some_and(|fetch| self.is_pack(fetch.layer))
        };
        if is_of_pack {
            self.pack_failed(error);
        }
        self.lock().scheduler.failed(number, self.now());
        self.work.notify_all();
    }
}
