//! Inflated spans in memory, for layers that are not kept on disk.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Number of a layer, and of a span.
type Key = (usize, u32);

/// Inflated spans; the least recently used are dropped first.
#[derive(Debug)]
pub(crate) struct Memory {
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    spans: HashMap<Key, (Arc<[u8]>, u64)>,
    order: BTreeMap<u64, Key>,
    used: usize,
    clock: u64,
}

impl Memory {
    /// `limit`: maximum total size in bytes; the last span is always kept.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, kept: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A span, if it is kept.
    pub(crate) fn get(&self, key: Key) -> Option<Arc<[u8]>> {
        let mut kept = self.lock();
        kept.clock += 1;
        let now = kept.clock;
        let (bytes, last) = kept.spans.get_mut(&key)?;
        let (bytes, before) = (Arc::clone(bytes), std::mem::replace(last, now));
        kept.order.remove(&before);
        kept.order.insert(now, key);
        Some(bytes)
    }

    /// Keeps a span; returns those that were dropped for it.
    pub(crate) fn put(&self, key: Key, bytes: Vec<u8>) -> Vec<Key> {
        let mut kept = self.lock();
        kept.clock += 1;
        let now = kept.clock;
        kept.used += bytes.len();
        if let Some((before, last)) = kept.spans.insert(key, (bytes.into(), now)) {
            kept.used -= before.len();
            kept.order.remove(&last);
        }
        kept.order.insert(now, key);
        let mut dropped = Vec::new();
        while kept.used > self.limit && kept.order.len() > 1 {
            let Some((_, oldest)) = kept.order.pop_first() else { break };
            if let Some((bytes, _)) = kept.spans.remove(&oldest) {
                kept.used -= bytes.len();
            }
            dropped.push(oldest);
        }
        dropped
    }
}
