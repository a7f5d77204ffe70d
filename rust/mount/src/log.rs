//! The log of opens and reads, in order, with times.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Maximum number of reads in the log. Further ones are dropped, so that a log that is not drained
/// does not fill the memory.
const MAX_KEPT: usize = 1 << 20;

/// A read of a file; an open if `start` and `end` are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// Time since the mount.
    pub at: Duration,
    /// The file.
    pub inode: u64,
    /// Offset of the first byte.
    pub start: u64,
    /// Offset after the last one.
    pub end: u64,
}

/// The reads of a mount.
#[derive(Debug, Default)]
pub(crate) struct Log(Mutex<VecDeque<Read>>);

impl Log {
    pub(crate) fn note(&self, read: Read) {
        let mut reads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Programs read files piece by piece, which takes one entry.
        if let Some(last) = reads.back_mut()
            && last.inode == read.inode
            && last.end == read.start
            && read.end > read.start
        {
            last.end = read.end;
            return;
        }
        if reads.len() < MAX_KEPT {
            reads.push_back(read);
        }
    }

    pub(crate) fn drain(&self) -> Vec<Read> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }
}
