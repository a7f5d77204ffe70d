//! Spans in memory: a read returns zlib's output or nothing, and the least recently used values are
//! dropped first.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]
#![allow(clippy::cast_possible_truncation, reason = "test data is small")]

use std::ops::Range;
use std::sync::Arc;

use crate::support::layers::{index, span_bytes, span_ids, tar_of};
use crate::support::{mixed_data, zlib_gzip};
use proptest::prelude::*;
use tocsin_core::extract::{CachedLayer, SharedSpan, SpanCache, SpanReader, VerifiedFiles};
use tocsin_core::indexer::{IndexOptions, LayerFormat};
use tocsin_core::recent::Recent;
use tocsin_core::span::{SpanId, UncompressedOffset};
use tocsin_core::ztoc::Ztoc;

const UNLIMITED: usize = usize::MAX;

struct Layer {
    plain: Vec<u8>,
    stored: Vec<u8>,
    ztoc: Ztoc,
}

fn layer(format: LayerFormat, seed: u64) -> Layer {
    let plain = tar_of(&mixed_data(300_000, seed));
    let stored = match format {
        LayerFormat::Tar => plain.clone(),
        LayerFormat::Gzip => zlib_gzip(&plain, 6),
    };
    let options =
        IndexOptions { format: Some(format), span_size: 60_000, ..IndexOptions::default() };
    let ztoc = index(&stored, options);
    assert!(ztoc.span_count() >= 3);
    Layer { plain, stored, ztoc }
}

impl Layer {
    /// A span, inflated up to `until` per mille of its length.
    fn span(&self, id: SpanId, until: u64) -> Arc<SharedSpan<Vec<u8>>> {
        let bytes = span_bytes(&self.ztoc, &self.stored, id).to_vec();
        let mut reader = SpanReader::new(&self.ztoc, id, bytes).unwrap();
        let len = reader.end().0 - reader.start().0;
        reader.inflate_to(UncompressedOffset(reader.start().0 + len * until / 1000)).unwrap();
        Arc::new(SharedSpan::new(reader))
    }
}

fn offsets(range: &Range<usize>) -> Range<UncompressedOffset> {
    UncompressedOffset(range.start as u64)..UncompressedOffset(range.end as u64)
}

fn read(layer: &CachedLayer<Vec<u8>>, range: &Range<usize>) -> Option<Vec<u8>> {
    layer.with_bytes(&offsets(range), <[u8]>::to_vec)
}

fn put(cached: &CachedLayer<Vec<u8>>, id: SpanId, span: &Arc<SharedSpan<Vec<u8>>>) {
    let memory = span.reader().lock().unwrap().memory();
    cached.put(id.0, span, memory);
}

/// Whether all of a range is inflated in these spans.
fn is_inflated(spans: &[Arc<SharedSpan<Vec<u8>>>], range: &Range<usize>) -> bool {
    let mut at = range.start as u64;
    while at < range.end as u64 {
        let Some(span) = spans.iter().find(|span| span.start().0 <= at && at < span.end().0) else {
            return false;
        };
        let end = span.end().0.min(range.end as u64);
        let inflated = span.reader().lock().unwrap().inflated_len() as u64;
        if span.start().0 + inflated < end {
            return false;
        }
        at = end;
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn with_bytes_when_all_are_inflated_then_those_of_zlib_otherwise_nothing(
        is_gzip in any::<bool>(),
        kept in prop::collection::vec((0..32_u32, 0..=1000_u64), 0..6),
        reads in prop::collection::vec((0..310_000_usize, 1..100_000_usize), 20),
    ) {
        let format = if is_gzip { LayerFormat::Gzip } else { LayerFormat::Tar };
        let (layer, other) = (layer(format, 1), layer(format, 2));
        let cache = Arc::new(SpanCache::new(UNLIMITED));
        let cached = CachedLayer::new(&cache);
        // Another layer of the same cache has all spans, which must not be mixed up.
        let beside = CachedLayer::new(&cache);
        for id in span_ids(&other.ztoc) {
            put(&beside, id, &other.span(id, 1000));
        }
        let mut spans = Vec::new();
        for (id, until) in kept {
            let id = SpanId(id % layer.ztoc.span_count() as u32);
            if cached.get(id.0).is_none() {
                let span = layer.span(id, until);
                put(&cached, id, &span);
                spans.push(span);
            }
        }
        for (start, len) in reads {
            let range = start..start + len;
            let wanted = layer.plain.get(range.clone()).filter(|_| is_inflated(&spans, &range));
            prop_assert_eq!(read(&cached, &range), wanted.map(<[u8]>::to_vec));
            let wanted = other.plain.get(range.clone()).map(<[u8]>::to_vec);
            prop_assert_eq!(read(&beside, &range), wanted);
        }
    }

    #[test]
    fn recent_when_used_in_any_order_then_as_a_sorted_list(
        limit in 0..60_usize,
        steps in prop::collection::vec((0..8_u8, 0..30_usize, any::<bool>()), 0..60),
    ) {
        let mut recent = Recent::new(limit);
        // Key, value and size of each value, the least recently used first.
        let mut model: Vec<(u8, usize, usize)> = Vec::new();
        for (number, (key, size, is_put)) in steps.into_iter().enumerate() {
            let place = model.iter().position(|(other, ..)| *other == key);
            let before = place.map(|place| model.remove(place));
            if is_put {
                model.push((key, number, size));
                let mut dropped = Vec::new();
                while model.len() > 1 && model.iter().map(|(.., size)| size).sum::<usize>() > limit {
                    let (key, value, _) = model.remove(0);
                    dropped.push((key, value));
                }
                prop_assert_eq!(recent.put(key, number, size), dropped);
            } else {
                prop_assert_eq!(recent.get(&key).copied(), before.map(|(_, value, _)| value));
                model.extend(before);
            }
        }
        recent.clear();
        prop_assert!((0..8).all(|key| recent.get(&key).is_none()));
    }
}

#[test]
fn put_when_above_the_limit_then_the_least_recently_used_span_is_dropped() {
    let layer = layer(LayerFormat::Gzip, 3);
    let spans: Vec<_> = span_ids(&layer.ztoc).map(|id| layer.span(id, 1000)).collect();
    let memory = |at: usize| spans[at].reader().lock().unwrap().memory();
    let limit = memory(0) + memory(1);
    let cached = CachedLayer::new(&Arc::new(SpanCache::new(limit.max(memory(0) + memory(2)))));
    let range = |at: usize| spans[at].start().0 as usize..spans[at].end().0 as usize;
    put(&cached, SpanId(0), &spans[0]);
    put(&cached, SpanId(1), &spans[1]);
    assert!(read(&cached, &range(0)).is_some());
    put(&cached, SpanId(2), &spans[2]);
    assert!(read(&cached, &range(0)).is_some());
    assert!(read(&cached, &range(1)).is_none());
    assert!(cached.get(1).is_none());
    assert!(read(&cached, &range(2)).is_some());
}

#[test]
fn clear_when_spans_are_kept_then_none_is_found() {
    let layer = layer(LayerFormat::Tar, 4);
    let cache = Arc::new(SpanCache::new(UNLIMITED));
    let cached = CachedLayer::new(&cache);
    put(&cached, SpanId(0), &layer.span(SpanId(0), 1000));
    assert!(read(&cached, &(0..100)).is_some());
    cache.clear();
    assert!(read(&cached, &(0..100)).is_none());
    assert!(cached.get(0).is_none());
}

#[test]
fn with_bytes_when_another_thread_holds_the_span_then_nothing_at_once() {
    let layer = layer(LayerFormat::Gzip, 5);
    let cached = CachedLayer::new(&Arc::new(SpanCache::new(UNLIMITED)));
    let span = layer.span(SpanId(0), 1000);
    put(&cached, SpanId(0), &span);
    let held = span.reader().lock().unwrap();
    assert!(read(&cached, &(0..100)).is_none());
    drop(held);
    assert!(read(&cached, &(0..100)).is_some());
}

#[test]
fn verified_files_when_the_range_is_longer_then_cut_off_at_the_end_of_the_file() {
    let layer = layer(LayerFormat::Gzip, 6);
    let cached = Arc::new(CachedLayer::new(&Arc::new(SpanCache::new(UNLIMITED))));
    for id in span_ids(&layer.ztoc) {
        put(&cached, id, &layer.span(id, 1000));
    }
    let files = VerifiedFiles::default();
    files.add(0, 7, &cached, 512..300_512);
    files.add(1, 7, &cached, 0..0);
    let read = |layer, wanted| files.with_bytes(layer, 7, wanted, <[u8]>::to_vec);
    assert_eq!(read(0, 299_000..u64::MAX).unwrap(), layer.plain[299_512..300_512]);
    assert_eq!(read(0, 5..9).unwrap(), layer.plain[517..521]);
    assert_eq!(read(0, 9..9), Some(Vec::new()));
    assert_eq!(read(0, 400_000..400_001), Some(Vec::new()));
    assert_eq!(read(1, 0..5), Some(Vec::new()));
    assert_eq!(read(2, 0..5), None);
}
