//! Inflated spans in memory, for layers that are not kept on disk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tocsin_core::recent::Recent;

/// Number of a layer, and of a span.
type Key = (usize, u32);

/// Inflated spans; the least recently used are dropped first.
#[derive(Debug)]
pub(crate) struct Memory(Mutex<Recent<Key, Arc<[u8]>>>);

impl Memory {
    /// `limit`: maximum total size in bytes; the last span is always kept.
    pub(crate) const fn new(limit: usize) -> Self {
        Self(Mutex::new(Recent::new(limit)))
    }

    fn lock(&self) -> MutexGuard<'_, Recent<Key, Arc<[u8]>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A span, if it is kept.
    pub(crate) fn get(&self, key: Key) -> Option<Arc<[u8]>> {
        self.lock().get(&key).cloned()
    }

    /// Keeps a span; returns those that were dropped for it.
    pub(crate) fn put(&self, key: Key, bytes: Vec<u8>) -> Vec<Key> {
        let size = bytes.len();
        let dropped = self.lock().put(key, bytes.into(), size);
        dropped.into_iter().map(|(key, _)| key).collect()
    }
}
