//! Values with a limit on their total size; the least recently used are dropped first.

use std::collections::BTreeMap;

/// Values with a limit on their total size; the least recently used are dropped first.
#[derive(Debug)]
pub struct Recent<K, V> {
    limit: usize,
    used: usize,
    /// The number of times that the order has changed.
    clock: u64,
    values: BTreeMap<K, Kept<V>>,
    /// The keys, by the time of their last use.
    order: BTreeMap<u64, K>,
}

#[derive(Debug)]
struct Kept<V> {
    value: V,
    size: usize,
    used_at: u64,
}

impl<K: Copy + Ord, V> Recent<K, V> {
    /// Starts empty.
    ///
    /// `limit`: maximum total size; the value that was added last is always kept.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, used: 0, clock: 0, values: BTreeMap::new(), order: BTreeMap::new() }
    }

    /// The value with this key, which is now the most recently used.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        let kept = self.values.get_mut(key)?;
        if kept.used_at != self.clock {
            self.order.remove(&kept.used_at);
            self.clock += 1;
            kept.used_at = self.clock;
            self.order.insert(self.clock, *key);
        }
        Some(&kept.value)
    }

    /// Adds a value, or replaces the one with this key; returns the values dropped for it.
    pub fn put(&mut self, key: K, value: V, size: usize) -> Vec<(K, V)> {
        self.clock += 1;
        let kept = Kept { value, size, used_at: self.clock };
        if let Some(before) = self.values.insert(key, kept) {
            self.used = self.used.saturating_sub(before.size);
            self.order.remove(&before.used_at);
        }
        self.used = self.used.saturating_add(size);
        self.order.insert(self.clock, key);
        let mut dropped = Vec::new();
        while self.used > self.limit && self.order.len() > 1 {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            if let Some(kept) = self.values.remove(&oldest) {
                self.used = self.used.saturating_sub(kept.size);
                dropped.push((oldest, kept.value));
            }
        }
        dropped
    }

    /// Drops all values.
    pub fn clear(&mut self) {
        self.values.clear();
        self.order.clear();
        self.used = 0;
    }
}
