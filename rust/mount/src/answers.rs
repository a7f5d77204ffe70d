//! The bytes of fetches: verified, inflated and kept.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Bytes that have arrived before the chunk with their checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<HashMap<(usize, u32), Vec<HeldSpan>>>);

/// A span that waits for a chunk.
#[derive(Debug)]
pub(crate) struct HeldSpan {
    /// Its number.
    pub(crate) span: u32,
    /// The fetch that brought it.
    pub(crate) fetch: u64,
    /// Its compressed bytes.
    pub(crate) bytes: Vec<u8>,
}

impl Held {
    /// Keeps a span until its chunk of the layer arrives.
    pub(crate) fn put(&self, layer: usize, chunk: u32, span: HeldSpan) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.entry((layer, chunk)).or_default().push(span);
    }

    /// The spans that wait for these chunks.
    pub(crate) fn take(&self, layer: usize, chunks: Range<u32>) -> Vec<HeldSpan> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        chunks.flat_map(|chunk| held.remove(&(layer, chunk)).unwrap_or_default()).collect()
    }
}

/// The part of a fetch's bytes that belongs to a range; `None` if it is not all there.
pub(crate) fn part<'a>(bytes: &'a [u8], start: u64, wanted: &Range<u64>) -> Option<&'a [u8]> {
    let place = |at: u64| at.checked_sub(start).and_then(|at| usize::try_from(at).ok());
    bytes.get(place(wanted.start)?..place(wanted.end)?)
}
