//! Bounds on allocated memory. A separate binary, since its allocator counts for the whole process.

use std::sync::{Mutex, MutexGuard, PoisonError};

use peak_alloc::PeakAlloc;

mod inode_tables;
mod support;
#[path = "support/trees.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod trees;
mod ztoc_patch;
mod ztoc_values;

mod inodes_memory;
mod parallel_memory;
mod seek_memory;
mod tree_memory;
mod ztoc_memory;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// Held by each test from its first allocation to its last, since all tests share one counter.
static TURN: Mutex<()> = Mutex::new(());

/// Waits until no other test is running. A failed test does not block the others.
fn take_turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls `run` and returns the peak memory in bytes, relative to the memory held before.
fn peak_of<T>(run: impl FnOnce() -> T) -> (usize, T) {
    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    let result = run();
    (ALLOCATED.peak_usage().saturating_sub(before), result)
}
