//! Tools that workers share: pools of buffers and decoders, and the stop flag.

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use crate::gzip::GzipDecoder;
use crate::inflate::{Inflater, Speed, Unit, new_buffer};

/// Units of output in a buffer that is passed between workers. Each new buffer costs a copy of the
/// window before it, and a buffer for another core does not stay in the cache anyway, so it is
/// larger than a single thread's buffer.
const PIECE_LEN: usize = 256 << 10;

/// Everything that workers share besides the state.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) byte_buffers: Buffers<u8>,
    pub(super) unit_buffers: Buffers<u16>,
    pub(super) units: Pool<Vec<u8>>,
    pub(super) decoders: Pool<Box<Decoders>>,
    /// Set when no more results are needed.
    pub(super) is_stopped: AtomicBool,
    /// Maximum bytes of buffers that one speculation may fill.
    pub(super) max_len: usize,
    /// Whether output is traced.
    pub(super) traces: bool,
}

#[derive(Debug)]
pub(super) struct Decoders {
    pub(super) marked: Inflater<u16>,
    pub(super) plain: GzipDecoder,
}

impl Decoders {
    pub(super) fn new(traces: bool) -> Self {
        let mut marked = Inflater::marked(Speed::Fast, 0, 0);
        let mut plain = GzipDecoder::unchecked(Speed::Fast);
        if traces {
            marked.record(0..u64::MAX, true);
            plain.trace(0..u64::MAX);
        }
        Self { marked, plain }
    }
}

impl Tools {
    pub(super) const fn new(max_len: usize, traces: bool) -> Self {
        Self {
            byte_buffers: Buffers::new(),
            unit_buffers: Buffers::new(),
            units: Pool::new(),
            decoders: Pool::new(),
            is_stopped: AtomicBool::new(false),
            max_len,
            traces,
        }
    }
}

/// Free items. The one returned last is reused first, since it may still be in the cache.
#[derive(Debug)]
pub(super) struct Pool<T>(Mutex<Vec<T>>);

impl<T> Pool<T> {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    pub(super) fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    pub(super) fn give(&self, item: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(item);
    }
}

/// Free buffers for pieces, all of the same length.
#[derive(Debug)]
pub(super) struct Buffers<U>(Pool<Box<[U]>>);

impl<U: Unit> Buffers<U> {
    const fn new() -> Self {
        Self(Pool::new())
    }

    pub(super) fn take(&self) -> Box<[U]> {
        self.0.take().unwrap_or_else(|| new_buffer(PIECE_LEN))
    }

    /// Keeps the buffer, unless it is the smaller one that a decoder starts with.
    pub(super) fn give(&self, buffer: Box<[U]>) {
        if buffer.len() > PIECE_LEN {
            self.0.give(buffer);
        }
    }
}
