//! Bytes that another core has written, brought into this one's cache before they are needed.

use std::ops::BitXor;

/// Bytes worth bringing at once: some microseconds of work, a fraction of the first-level cache.
pub(crate) const AHEAD_LEN: usize = 8 << 10;

/// Bytes that come together, on all processors of interest.
const LINE_LEN: usize = 64;

/// Reads a unit of every cache line, and does nothing with it.
///
/// Code that works through bytes in one chain of dependent steps, as SHA-256 does, waits for every line
/// that is not in its cache. These reads do not wait for each other, so many lines come at once: hashing
/// beside inflation took 29 % longer without them (measured on Sapphire Rapids).
pub(crate) fn bring<T: Copy + Default + BitXor<Output = T>>(units: &[T]) {
    let lines = units.chunks(LINE_LEN / size_of::<T>());
    let sum = lines.fold(T::default(), |sum, line| line.first().map_or(sum, |unit| sum ^ *unit));
    std::hint::black_box(sum);
}
