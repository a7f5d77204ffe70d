//! Compressed spans that wait for their checkpoints.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Maximum total size of these spans in bytes. It is reached if the seek blob is slow while the layer is
/// fast; further spans are fetched again later.
const MAX_HELD_LEN: usize = 64 << 20;

/// Compressed spans that arrived before the chunk with their checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    spans: HashMap<(usize, u32), Vec<HeldSpan>>,
    len: usize,
}

/// A span that waits for a chunk of the seek blob.
#[derive(Debug)]
pub(crate) struct HeldSpan {
    /// Its number.
    pub(crate) span: u32,
    /// The number of the fetch that delivered it.
    pub(crate) fetch: u64,
    /// Its compressed bytes.
    pub(crate) bytes: Vec<u8>,
}

impl Held {
    /// Keeps a span until its chunk of the layer arrives; returns whether there is room for it.
    pub(crate) fn put(&self, layer: usize, chunk: u32, span: HeldSpan) -> bool {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let len = held.len.saturating_add(span.bytes.len());
        // A single span is always kept, so that it can be read at all.
        if len > MAX_HELD_LEN && held.len > 0 {
            return false;
        }
        held.len = len;
        held.spans.entry((layer, chunk)).or_default().push(span);
        true
    }

    /// Removes and returns the spans that wait for these chunks.
    pub(crate) fn take(&self, layer: usize, chunks: Range<u32>) -> Vec<HeldSpan> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = chunks.flat_map(|chunk| held.spans.remove(&(layer, chunk)).unwrap_or_default());
        let taken: Vec<HeldSpan> = taken.collect();
        held.len -= taken.iter().map(|span| span.bytes.len()).sum::<usize>();
        taken
    }
}

/// The part of a fetch's bytes that belongs to a range; `None` if the fetch does not cover it.
pub(crate) fn part<'a>(bytes: &'a [u8], start: u64, wanted: &Range<u64>) -> Option<&'a [u8]> {
    let place = |at: u64| at.checked_sub(start).and_then(|at| usize::try_from(at).ok());
    bytes.get(place(wanted.start)?..place(wanted.end)?)
}

#[cfg(test)]
mod tests {
    use super::{Held, HeldSpan, MAX_HELD_LEN};

    fn span(number: u32, len: usize) -> HeldSpan {
        HeldSpan { span: number, fetch: 1, bytes: vec![0; len] }
    }

    #[test]
    fn put_when_the_limit_is_reached_then_refused_until_spans_are_taken() {
        let held = Held::default();
        assert!(held.put(0, 7, span(1, MAX_HELD_LEN + 1)), "a single span is always kept");
        assert!(!held.put(0, 8, span(2, 1)));
        assert_eq!(held.take(0, 7..8).len(), 1);
        assert!(held.put(0, 8, span(2, MAX_HELD_LEN)));
        assert!(!held.put(1, 8, span(3, 1)));
        assert!(held.take(1, 8..9).is_empty());
    }
}
