//! The pack of an image: parts of layers that serve reads until the spans with them have arrived.
//!
//! Its frames are scheduled like the spans of one more layer. A pack is never needed: after any fault
//! it is dropped, and readers that wait for a frame wait for spans instead. Each span that arrives is
//! compared with the pack's parts of it, and each frame with the spans that are here.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tocsin_core::fetch::Fetch;
use tocsin_core::pack::{Extent, Pack};

use super::frames::{Frames, Place};
use super::held::part;
use super::{Engine, KEPT, ON_DISK, index};

/// Number of failures in a row after which the pack is dropped. There may be a connection for each.
const MAX_FAILURES: u32 = 3;
/// A pack is dropped after this part of the time that a reader may wait, so that spans can still be
/// fetched.
const PATIENCE_PART: u32 = 3;

/// A pack, as far as it has arrived.
#[derive(Debug)]
pub(super) struct HotPack {
    pack: Arc<Pack>,
    /// Its number in the scheduler, which is that of a layer above the highest one.
    number: usize,
    frames: Mutex<Frames>,
    is_dropped: AtomicBool,
    failures: AtomicU32,
    reads: AtomicU64,
}

/// Where the bytes of a read come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// All of them from verified spans.
    Spans,
    /// Some of them from the pack.
    Pack,
    /// Some of them have not arrived.
    Missing,
}

/// The state of a pack.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "docs/json.md describes them")]
pub struct PackStatus {
    pub size: u64,
    pub bytes_left: u64,
    pub reads: u64,
    pub state: &'static str,
    pub problem: Option<String>,
    /// Length of its content in memory, in bytes.
    pub memory: u64,
    frames: u64,
    frames_here: u64,
}

impl PackStatus {
    /// The number of frames that have arrived or are not needed, and of all frames.
    pub(super) const fn counts(&self) -> (u64, u64) {
        (self.frames_here, self.frames)
    }
}

impl HotPack {
    /// `limit`: maximum length of its content in memory.
    pub(super) fn new(pack: Arc<Pack>, number: usize, limit: u64) -> Self {
        Self {
            frames: Mutex::new(Frames::new(&pack, limit)),
            pack,
            number,
            is_dropped: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            reads: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Frames> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all_frames(&self) -> Range<u32> {
        0..u32::try_from(self.pack.frames().len()).unwrap_or(u32::MAX)
    }

    /// Copies a range of a layer; returns whether all of it is in frames that are here.
    fn copy(&self, layer: usize, range: &Range<u64>, into: &mut [u8]) -> bool {
        let frames = self.lock();
        let mut rest = into;
        let mut at = range.start;
        for piece in self.pack.pieces(layer, range) {
            let Some(found) = frames.find(&piece).filter(|_| piece.range.start == at) else {
                return false;
            };
            let Some((target, after)) = rest.split_at_mut_checked(found.len()) else {
                return false;
            };
            target.copy_from_slice(found);
            (rest, at) = (after, piece.range.end);
        }
        rest.is_empty()
    }

    /// The frames that a range waits for; `None` if the pack cannot serve it.
    fn missing(&self, layer: usize, range: &Range<u64>) -> Option<Vec<u32>> {
        if !self.pack.covers(layer, range) {
            return None;
        }
        let frames = self.lock();
        let mut missing = Vec::new();
        for piece in self.pack.pieces(layer, range) {
            match frames.place(&piece) {
                Place::Coming => missing.push(piece.frame),
                Place::Here => {}
                Place::Spans => return None,
            }
        }
        Some(missing)
    }

    /// The offset of the first byte in which the frames that are here differ from the bytes of a layer.
    fn difference(&self, layer: usize, start: u64, bytes: &[u8]) -> Option<u64> {
        let range = start..start.saturating_add(bytes.len() as u64);
        let frames = self.lock();
        self.pack
            .pieces(layer, &range)
            .find_map(|piece| difference(&piece.range, frames.find(&piece)?, start, bytes))
    }

    pub(super) fn status(&self) -> PackStatus {
        let frames = self.lock();
        let (here, bytes_left) = frames.counts(&self.pack);
        let memory = frames.memory();
        let state = if self.is_dropped.load(Ordering::Acquire) {
            "dropped"
        } else if bytes_left > 0 {
            "loading"
        } else if memory > 0 {
            "ready"
        } else {
            "replaced"
        };
        PackStatus {
            size: self.pack.stored_size(),
            bytes_left,
            reads: self.reads.load(Ordering::Relaxed),
            state,
            problem: frames.problem.clone(),
            memory,
            frames: self.pack.frames().len() as u64,
            frames_here: here,
        }
    }
}

/// The offset of the first byte in which the pack differs from the bytes of a layer. `packed`: its bytes
/// of `range`. `bytes`: those of the layer from `start` on.
fn difference(range: &Range<u64>, packed: &[u8], start: u64, bytes: &[u8]) -> Option<u64> {
    let expected = part(bytes, start, range).unwrap_or_default();
    if packed == expected {
        return None;
    }
    let same = packed.iter().zip(expected).take_while(|(one, other)| one == other).count();
    Some(range.start + same as u64)
}

impl Engine {
    /// The pack, unless it has been dropped.
    fn hot(&self) -> Option<&HotPack> {
        self.hot.as_ref().filter(|hot| !hot.is_dropped.load(Ordering::Acquire))
    }

    /// Queues the frames of the pack that are needed.
    pub(super) fn list_pack(&self) {
        let Some(hot) = self.hot() else { return };
        let is_kept = |extent: &Extent| self.is_replaced(extent, KEPT);
        let here: Vec<u32> =
            hot.all_frames().filter(|frame| hot.pack.extents(*frame).all(is_kept)).collect();
        self.finish_frames(hot, &here);
    }

    /// Whether all spans with the bytes of an extent are here, and at least in this state.
    fn is_replaced(&self, extent: &Extent, state: u8) -> bool {
        let Some(layer) = self.layers.get(extent.layer as usize) else { return true };
        layer.table.spans_in(&extent.range).all(|span| {
            let found = layer.states.get(span as usize);
            let found = found.map_or(ON_DISK, |found| found.load(Ordering::Acquire));
            (state..=ON_DISK).contains(&found)
        })
    }

    /// Frees frames whose spans have arrived, and queues as many frames as then fit.
    fn finish_frames(&self, hot: &HotPack, numbers: &[u32]) {
        let admitted = {
            let mut frames = hot.lock();
            numbers.iter().for_each(|number| frames.finish(&hot.pack, *number));
            frames.admit(&hot.pack)
        };
        // Readers that wait for one of them look for its spans.
        numbers.iter().for_each(|number| self.arrived(hot.number, *number, ON_DISK));
        if !admitted.is_empty() {
            self.list(vec![(hot.number, admitted)]);
        }
    }

    /// Frees the content of frames whose spans are on disk.
    fn free(&self, hot: &HotPack, numbers: impl IntoIterator<Item = u32>) {
        let is_on_disk = |extent: &Extent| self.is_replaced(extent, ON_DISK);
        let done: Vec<u32> = {
            let mut frames = hot.lock();
            let is_done = |number: &u32| frames.free(&hot.pack, *number, is_on_disk);
            numbers.into_iter().filter(is_done).collect()
        };
        self.finish_frames(hot, &done);
    }

    /// As [`Self::read`], and where the bytes come from.
    pub(crate) fn read_from(&self, layer: usize, at: u64, into: &mut [u8]) -> io::Result<Origin> {
        if self.read_spans(layer, at, into)? {
            return Ok(Origin::Spans);
        }
        let (Some(hot), Some(found)) = (self.hot(), self.layers.get(layer)) else {
            return Ok(Origin::Missing);
        };
        let end = at.saturating_add(into.len() as u64);
        for span in found.table.spans_in(&(at..end)) {
            let place = found.table.uncompressed(span);
            let range = at.max(place.start)..end.min(place.end);
            let to = index(range.start.saturating_sub(at))?..index(range.end.saturating_sub(at))?;
            let Some(target) = into.get_mut(to) else { return Ok(Origin::Missing) };
            if !self.read_spans(layer, range.start, target)? && !hot.copy(layer, &range, target) {
                return Ok(Origin::Missing);
            }
        }
        hot.reads.fetch_add(1, Ordering::Relaxed);
        Ok(Origin::Pack)
    }

    /// What a range of a layer waits for: spans, or frames of the pack in place of spans.
    pub(crate) fn missing(&self, layer: usize, range: &Range<u64>) -> Vec<(usize, Range<u32>)> {
        let spans = self.spans_in(layer, range);
        let (Some(hot), Some(found)) = (self.hot(), self.layers.get(layer)) else {
            return vec![(layer, spans)];
        };
        let (mut missing, mut wanted) = (Vec::new(), Vec::new());
        for span in spans {
            let place = found.table.uncompressed(span);
            let range = range.start.max(place.start)..range.end.min(place.end);
            let is_here =
                |state: &std::sync::atomic::AtomicU8| state.load(Ordering::Acquire) >= KEPT;
            let frames = if found.states.get(span as usize).is_some_and(is_here) {
                None
            } else {
                hot.missing(layer, &range)
            };
            match frames {
                Some(frames) => wanted.extend(frames),
                None => missing.push((layer, span..span + 1)),
            }
        }
        let now = self.now();
        let mut frames = hot.lock();
        for frame in wanted {
            // It may have arrived meanwhile.
            if frames.is_coming(frame) {
                frames.wanted.entry(frame).or_insert(now);
            }
            missing.push((hot.number, frame..frame + 1));
        }
        missing
    }

    /// Whether the pack has all of a range, so that it need not be fetched in advance.
    pub(crate) fn is_packed(&self, layer: usize, range: &Range<u64>) -> bool {
        self.hot().is_some_and(|hot| hot.missing(layer, range).is_some())
    }

    /// Whether this is the number of the pack.
    pub(super) fn is_pack(&self, layer: usize) -> bool {
        self.hot.as_ref().is_some_and(|hot| hot.number == layer)
    }

    /// Verifies, compares and keeps frames.
    pub(super) fn add_frames(
        &self,
        fetch: &Fetch,
        run: Range<u32>,
        bytes: &[u8],
    ) -> Result<(), String> {
        for number in run {
            let Some(hot) = self.hot() else { return Ok(()) };
            let stored = hot.pack.frames().get(number as usize).map(|frame| &frame.stored);
            let Some(stored) = stored.and_then(|stored| part(bytes, fetch.range.start, stored))
            else {
                continue;
            };
            match hot.pack.open_frame(number, stored) {
                Ok(content) => {
                    hot.failures.store(0, Ordering::Relaxed);
                    self.check_frame(hot, number, &content)?;
                    let mut frames = hot.lock();
                    frames.wanted.remove(&number);
                    frames.keep(&hot.pack, number, &content);
                    drop(frames);
                    self.arrived(hot.number, number, ON_DISK);
                    // Its spans may have arrived meanwhile.
                    self.free(hot, [number]);
                }
                Err(error) => {
                    let error = error.to_string();
                    if !self.pack_failed(&error) {
                        self.mismatch(hot.number, number, fetch.number);
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Compares a new frame with the spans that are here.
    fn check_frame(&self, hot: &HotPack, number: u32, content: &[u8]) -> Result<(), String> {
        let mut at = 0;
        for extent in hot.pack.extents(number) {
            let Some(layer) = self.layers.get(extent.layer as usize) else { continue };
            for span in layer.table.spans_in(&extent.range) {
                let place = layer.table.uncompressed(span);
                let range = extent.range.start.max(place.start)..extent.range.end.min(place.end);
                let Ok(len) = usize::try_from(range.end.saturating_sub(range.start)) else {
                    continue;
                };
                let state = layer.states.get(span as usize);
                if state.is_none_or(|state| state.load(Ordering::Acquire) < KEPT) {
                    continue;
                }
                let mut bytes = vec![0; len];
                let found = self.read_spans(extent.layer as usize, range.start, &mut bytes);
                if !found.unwrap_or(false) {
                    continue;
                }
                let from = usize::try_from(at + (range.start - extent.range.start));
                let from = from.unwrap_or(usize::MAX);
                let packed = content.get(from..from.saturating_add(len)).unwrap_or_default();
                if let Some(at) = difference(&range, packed, range.start, &bytes) {
                    return Err(self.drop_wrong_pack(extent.layer as usize, at));
                }
            }
            at += extent.len();
        }
        Ok(())
    }

    /// Compares a span with the pack, before the span is used.
    pub(super) fn compare_with_pack(
        &self,
        layer: usize,
        start: u64,
        bytes: &[u8],
    ) -> Result<(), String> {
        let found = self.hot().and_then(|hot| hot.difference(layer, start, bytes));
        found.map_or(Ok(()), |at| Err(self.drop_wrong_pack(layer, at)))
    }

    /// Frees the content that is not needed any more after a span has arrived.
    pub(super) fn free_frames(&self, layer: usize, range: &Range<u64>) {
        let Some(hot) = self.hot() else { return };
        let numbers: BTreeSet<u32> =
            hot.pack.pieces(layer, range).map(|piece| piece.frame).collect();
        self.free(hot, numbers);
    }

    fn drop_wrong_pack(&self, layer: usize, at: u64) -> String {
        let problem = format!(
            "the pack differs from layer {} at uncompressed byte {at}; it is not used any more",
            layer + 1
        );
        self.drop_pack(&problem);
        problem
    }

    /// Drops the pack: from now on, all reads wait for spans.
    fn drop_pack(&self, problem: &str) {
        let Some(hot) = &self.hot else { return };
        if hot.is_dropped.swap(true, Ordering::AcqRel) {
            return;
        }
        self.note_error(problem);
        hot.lock().problem = Some(problem.to_owned());
        self.finish_frames(hot, &hot.all_frames().collect::<Vec<u32>>());
        self.work.notify_all();
    }

    /// Counts a failed fetch of frames; returns whether the pack was dropped because of it.
    pub(super) fn pack_failed(&self, error: &str) -> bool {
        let Some(hot) = self.hot() else { return true };
        let is_last = hot.failures.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_FAILURES;
        if is_last {
            self.drop_pack(&format!("the pack cannot be used: {error}"));
        }
        is_last
    }

    /// Drops the pack if a reader has waited too long for a frame.
    pub(super) fn watch_pack(&self, now: Duration) {
        let Some(hot) = self.hot() else { return };
        let since = hot.lock().wanted.values().min().copied();
        if since.is_some_and(|since| now.saturating_sub(since) > self.patience / PATIENCE_PART) {
            self.drop_pack("the pack does not arrive in time");
        }
    }

    /// The state of the pack.
    #[must_use]
    pub fn pack_status(&self) -> Option<PackStatus> {
        self.hot.as_ref().map(HotPack::status)
    }
}
