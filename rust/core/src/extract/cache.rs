//! Spans of any number of layers in memory, and reads of what is inflated already.
//!
//! A read that finds all its bytes here waits for nothing: neither for a fetch, nor for a thread that
//! inflates more of the same span.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::SpanReader;
use crate::recent::Recent;
use crate::span::UncompressedOffset;

/// Maximum length of a read that begins in one span and ends in another, which is copied once more
/// than others.
const MAX_JOINED_LEN: u64 = 1 << 20;

/// A span that several threads may read.
#[derive(Debug)]
pub struct SharedSpan<B> {
    start: UncompressedOffset,
    end: UncompressedOffset,
    reader: Mutex<SpanReader<B>>,
}

impl<B: AsRef<[u8]>> SharedSpan<B> {
    /// Takes a span that has been verified.
    #[must_use]
    pub const fn new(reader: SpanReader<B>) -> Self {
        let (start, end) = (reader.start(), reader.end());
        Self { start, end, reader: Mutex::new(reader) }
    }

    /// The same as [`SpanReader::start`].
    #[must_use]
    pub const fn start(&self) -> UncompressedOffset {
        self.start
    }

    /// The same as [`SpanReader::end`].
    #[must_use]
    pub const fn end(&self) -> UncompressedOffset {
        self.end
    }

    /// The span, which one thread at a time reads.
    pub const fn reader(&self) -> &Mutex<SpanReader<B>> {
        &self.reader
    }
}

/// Spans of any number of layers in memory; the least recently used are dropped first.
#[derive(Debug)]
pub struct SpanCache<B> {
    /// Locked only for a moment: never while a span is inflated.
    spans: Mutex<Spans<B>>,
    layers: AtomicU64,
}

/// Number of a layer, and of a span in it.
type Key = (u64, u32);

#[derive(Debug)]
struct Spans<B> {
    kept: Recent<Key, Arc<SharedSpan<B>>>,
    /// The ends of the spans, by layer, start and number.
    ends: BTreeMap<(u64, UncompressedOffset, u32), UncompressedOffset>,
}

impl<B: AsRef<[u8]>> SpanCache<B> {
    /// Starts empty.
    ///
    /// `limit`: maximum number of bytes, compressed and inflated together; the span in use is always
    /// kept.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        let spans = Spans { kept: Recent::new(limit), ends: BTreeMap::new() };
        Self { spans: Mutex::new(spans), layers: AtomicU64::new(0) }
    }

    /// Drops all spans.
    pub fn clear(&self) {
        let mut spans = self.lock();
        spans.kept.clear();
        spans.ends.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Spans<B>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The spans of one layer in a [`SpanCache`].
#[derive(Debug)]
pub struct CachedLayer<B> {
    cache: Arc<SpanCache<B>>,
    number: u64,
}

impl<B: AsRef<[u8]>> CachedLayer<B> {
    /// A new layer, without spans.
    #[must_use]
    pub fn new(cache: &Arc<SpanCache<B>>) -> Self {
        let number = cache.layers.fetch_add(1, Ordering::Relaxed);
        Self { cache: Arc::clone(cache), number }
    }

    /// A span by its number.
    #[must_use]
    pub fn get(&self, span: u32) -> Option<Arc<SharedSpan<B>>> {
        self.cache.lock().kept.get(&(self.number, span)).cloned()
    }

    /// Keeps a span, or updates the size of one that is kept.
    ///
    /// `memory`: the same as [`SpanReader::memory`], which grows while the span is inflated.
    pub fn put(&self, span: u32, reader: &Arc<SharedSpan<B>>, memory: usize) {
        let mut spans = self.cache.lock();
        spans.ends.insert((self.number, reader.start, span), reader.end);
        let dropped = spans.kept.put((self.number, span), Arc::clone(reader), memory);
        for ((layer, span), reader) in &dropped {
            spans.ends.remove(&(*layer, reader.start, *span));
        }
        drop(spans);
    }

    /// Passes a range of the layer's uncompressed bytes to `take`, if all of it is inflated; does not
    /// wait for other threads. The range must not be empty.
    pub fn with_bytes<T>(
        &self,
        wanted: &Range<UncompressedOffset>,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Option<T> {
        let first = self.find(wanted.start)?;
        if wanted.end <= first.end {
            let reader = first.reader.try_lock().ok()?;
            return reader.get(wanted).map(take);
        }
        let len = wanted.end.0.checked_sub(wanted.start.0).filter(|len| *len <= MAX_JOINED_LEN)?;
        let mut joined = Vec::with_capacity(usize::try_from(len).ok()?);
        let (mut span, mut at) = (first, wanted.start);
        loop {
            let end = wanted.end.min(span.end);
            joined.extend_from_slice(span.reader.try_lock().ok()?.get(&(at..end))?);
            if end == wanted.end {
                return Some(take(&joined));
            }
            at = end;
            span = self.find(at)?;
        }
    }

    /// The span that contains an uncompressed byte.
    fn find(&self, at: UncompressedOffset) -> Option<Arc<SharedSpan<B>>> {
        let mut spans = self.cache.lock();
        // Of several spans with the same start, only the last has bytes.
        let (&(layer, _, span), &end) =
            spans.ends.range(..=(self.number, at, u32::MAX)).next_back()?;
        if layer != self.number || end <= at {
            return None;
        }
        spans.kept.get(&(layer, span)).cloned()
    }
}

/// Where the data of files is in their layers, after their headers have been verified.
#[derive(Debug)]
pub struct VerifiedFiles<B> {
    files: Mutex<HashMap<(u32, u32), VerifiedFile<B>>>,
}

#[derive(Debug)]
struct VerifiedFile<B> {
    layer: Arc<CachedLayer<B>>,
    data: Range<u64>,
}

impl<B> Default for VerifiedFiles<B> {
    fn default() -> Self {
        Self { files: Mutex::default() }
    }
}

impl<B: AsRef<[u8]>> VerifiedFiles<B> {
    /// Adds a file whose data is contiguous.
    ///
    /// `layer` and `entry`: its numbers in the image; `data`: its data in the uncompressed layer.
    pub fn add(&self, layer: u32, entry: u32, spans: &Arc<CachedLayer<B>>, data: Range<u64>) {
        let file = VerifiedFile { layer: Arc::clone(spans), data };
        self.lock().insert((layer, entry), file);
    }

    /// Passes a range of a file to `take`, cut off at the end of the file, if the file has been added
    /// and all bytes of the range are in memory.
    pub fn with_bytes<T>(
        &self,
        layer: u32,
        entry: u32,
        wanted: Range<u64>,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Option<T> {
        let (spans, data) = {
            let files = self.lock();
            let file = files.get(&(layer, entry))?;
            (Arc::clone(&file.layer), file.data.clone())
        };
        let end = wanted.end.min(data.end.saturating_sub(data.start));
        if wanted.start >= end {
            return Some(take(&[]));
        }
        let place = |at: u64| UncompressedOffset(data.start.saturating_add(at));
        spans.with_bytes(&(place(wanted.start)..place(end)), take)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(u32, u32), VerifiedFile<B>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
