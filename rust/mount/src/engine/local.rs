//! Reading data that has arrived, and comparing data on disk with its digests.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use sha2::{Digest, Sha256};

use crate::layer_file::LayerFile;

use super::{ABSENT, Engine, IN_MEMORY, KEPT, Layer, ON_DISK, Origin, index, io_error};

/// Bytes that are hashed at once.
const DIGEST_PIECE: u64 = 1 << 20;
const BLOCK_LEN: usize = 512;
/// Many programs pad a tar with zeros to whole records of this many blocks.
const RECORD_BLOCKS: usize = 20;
const RECORD_LEN: u64 = (RECORD_BLOCKS * BLOCK_LEN) as u64;

impl Engine {
    /// Compares all spans with their digests; returns whether all are on disk and match.
    #[must_use]
    pub fn check_all(&self) -> bool {
        // Spans that have not arrived cannot match.
        let (here, all) = self.lock().scheduler.counts();
        if here < all {
            return false;
        }
        let spans: Vec<(usize, &Layer, u32)> = self
            .layers
            .iter()
            .enumerate()
            .flat_map(|(n, layer)| (0..layer.table.span_count()).map(move |span| (n, layer, span)))
            .collect();
        let (next, all) = (AtomicUsize::new(0), AtomicBool::new(true));
        let check = || {
            while let Some((number, layer, span)) = spans.get(next.fetch_add(1, Ordering::Relaxed))
            {
                if self.ready(*number, layer, *span) != ON_DISK {
                    all.store(false, Ordering::Relaxed);
                    return;
                }
            }
        };
        let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        thread::scope(|scope| {
            for _ in 1..threads {
                // If a thread cannot be started, the others do its work.
                let _ = thread::Builder::new().spawn_scoped(scope, check);
            }
            check();
        });
        all.load(Ordering::Relaxed)
    }

    /// Waits until the disk has all spans that were written to it.
    ///
    /// # Errors
    /// The disk failed.
    pub fn write_out(&self) -> io::Result<()> {
        self.layers
            .iter()
            .filter_map(|layer| layer.file.as_ref())
            .try_for_each(LayerFile::write_out)
    }

    /// The possible SHA-256 digests of a layer's uncompressed bytes; `None` if spans are missing.
    ///
    /// The spans of a zTOC end at the end of the tar, which zeros may follow. The first digest is that of
    /// the spans; each further one is that of the spans and one more block of zeros, up to a whole record.
    ///
    /// # Errors
    /// There is no such layer, or the disk failed.
    pub fn layer_digests(&self, layer: usize) -> io::Result<Option<Vec<[u8; 32]>>> {
        let size = self.layers.get(layer).ok_or_else(io_error)?.table.uncompressed_size();
        let (mut at, mut hash, mut buffer) = (0, Sha256::new(), Vec::new());
        while at < size {
            buffer.resize(index((size - at).min(DIGEST_PIECE))?, 0);
            if !self.read_spans(layer, at, &mut buffer)? {
                return Ok(None);
            }
            hash.update(&buffer);
            at += buffer.len() as u64;
        }
        let mut digests = vec![hash.clone().finalize().into()];
        while at % RECORD_LEN != 0 && digests.len() <= RECORD_BLOCKS {
            hash.update([0; BLOCK_LEN]);
            at += BLOCK_LEN as u64;
            digests.push(hash.clone().finalize().into());
        }
        Ok(Some(digests))
    }

    /// Reads a range of a layer's uncompressed bytes; returns whether all of it has arrived.
    ///
    /// # Errors
    /// The layer has fewer bytes, or the disk failed.
    pub fn read(&self, layer: usize, at: u64, into: &mut [u8]) -> io::Result<bool> {
        Ok(self.read_from(layer, at, into)? != Origin::Missing)
    }

    /// As [`Self::read`], without the pack.
    pub(super) fn read_spans(&self, layer: usize, at: u64, into: &mut [u8]) -> io::Result<bool> {
        let end = at.saturating_add(into.len() as u64);
        let found = self.layers.get(layer).ok_or_else(io_error)?;
        if end > found.table.uncompressed_size() {
            return Err(io_error());
        }
        let spans = found.table.spans_in(&(at..end));
        let mut all_on_disk = true;
        for span in spans.clone() {
            match self.ready(layer, found, span) {
                ON_DISK => {}
                IN_MEMORY => all_on_disk = false,
                _ => return Ok(false),
            }
        }
        if all_on_disk {
            let Some(file) = &found.file else { return Err(io_error()) };
            let Err(error) = file.read(into, at) else { return Ok(true) };
            self.lose_disk(layer, found, &error);
            return Ok(false);
        }
        self.read_pieces(layer, found, at, into)
    }

    fn read_pieces(
        &self,
        layer: usize,
        found: &Layer,
        at: u64,
        into: &mut [u8],
    ) -> io::Result<bool> {
        let end = at.saturating_add(into.len() as u64);
        for span in found.table.spans_in(&(at..end)) {
            let place = found.table.uncompressed(span);
            let (first, last) = (at.max(place.start), end.min(place.end));
            let to = index(first - at)?..index(last.saturating_sub(at))?;
            let Some(target) = into.get_mut(to) else { return Err(io_error()) };
            if let Some(bytes) = self.memory.get((layer, span)) {
                let from = index(first - place.start)?..index(last - place.start)?;
                target.copy_from_slice(bytes.get(from).ok_or_else(io_error)?);
                continue;
            }
            let state =
                found.states.get(span as usize).map_or(ABSENT, |s| s.load(Ordering::Acquire));
            let (ON_DISK, Some(file)) = (state, &found.file) else {
                self.lose(layer, span);
                return Ok(false);
            };
            if let Err(error) = file.read(target, first) {
                self.lose_disk(layer, found, &error);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Marks all spans of a layer as missing, because its file cannot be read: probably it was truncated.
    /// Nothing is written to the cache any more; the next mount makes a new file.
    fn lose_disk(&self, number: usize, layer: &Layer, error: &io::Error) {
        self.stop_using_disk(error);
        for (span, state) in (0..).zip(&layer.states) {
            if state.load(Ordering::Acquire) == ON_DISK {
                self.lose(number, span);
            }
        }
    }

    /// The state of a span, which is compared with its digest first if that is outstanding.
    fn ready(&self, number: usize, layer: &Layer, span: u32) -> u8 {
        let Some(state) = layer.states.get(span as usize) else { return ABSENT };
        let now = state.load(Ordering::Acquire);
        if now != KEPT {
            return now;
        }
        let place = layer.table.uncompressed(span);
        let is_good = layer.file.as_ref().is_some_and(|file| file.check(span, &place));
        let found = if is_good { ON_DISK } else { ABSENT };
        if state.compare_exchange(KEPT, found, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.unchecked.fetch_sub(1, Ordering::Relaxed);
            if !is_good {
                self.lock().scheduler.lost(number, span);
            }
        }
        state.load(Ordering::Acquire)
    }

    /// Compares the next span on disk with its digest, unless another thread is doing that; returns
    /// whether more spans may follow. An image is complete only after all of them have been compared.
    pub(super) fn check_next(&self) -> bool {
        if self.unchecked.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let Ok(mut next) = self.next_check.try_lock() else { return false };
        while let Some(layer) = self.layers.get(next.0) {
            let (number, span) = *next;
            *next = if (span as usize) < layer.states.len() {
                (number, span + 1)
            } else {
                (number + 1, 0)
            };
            let state = layer.states.get(span as usize);
            if state.is_some_and(|state| state.load(Ordering::Acquire) == KEPT) {
                self.ready(number, layer, span);
                return true;
            }
        }
        false
    }

    pub(super) fn lose(&self, layer: usize, span: u32) {
        // One lock for both, as in `arrived`, so that they cannot contradict each other afterwards.
        let mut scheduling = self.lock();
        if let Some(state) =
            self.layers.get(layer).and_then(|layer| layer.states.get(span as usize))
        {
            state.store(ABSENT, Ordering::Release);
        }
        scheduling.scheduler.lost(layer, span);
    }
}
