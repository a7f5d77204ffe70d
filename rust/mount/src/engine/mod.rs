//! The data of an image's layers, as far as it has arrived, and the fetches that bring the rest.
//!
//! A reader that needs missing data leaves a callback. The threads that fetch call
//! [`Engine::next_fetch`], and pass the bytes to [`Engine::answer`], which verifies, inflates and keeps
//! them (`arrivals`) and calls the readers back. Another thread watches the deadlines of readers, which
//! therefore end even if all fetches hang. `local` reads what has arrived, `held` keeps spans that wait
//! for their checkpoints. `pack` serves reads from a pack until the spans have arrived, and `frames` keeps
//! its content.

mod arrivals;
mod frames;
mod held;
mod local;
mod pack;

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use tocsin_core::fetch::{Fetch, Limits, Next, Purpose, Scheduler, Table};
use tocsin_core::pack::Pack;

use crate::layer_file::LayerFile;
use crate::memory::Memory;
use held::Held;
use pack::HotPack;
pub(crate) use pack::Origin;
pub use pack::PackStatus;

/// Maximum time between two checks of the deadlines.
const WATCH: Duration = Duration::from_secs(1);
/// Maximum length of the text of an error, in characters.
const MAX_ERROR_LEN: usize = 500;

/// Missing.
const ABSENT: u8 = 0;
/// On disk, but not yet compared with its digest.
const KEPT: u8 = 1;
/// On disk, and verified.
const ON_DISK: u8 = 2;
/// In memory.
const IN_MEMORY: u8 = 3;

/// Called when the data that a reader waits for has arrived, or with an error.
type Callback = Box<dyn FnOnce(io::Result<()>) + Send>;

/// One layer.
#[derive(Debug)]
pub struct LayerPlace {
    /// Its spans.
    pub table: Table,
    /// The existing directory for its inflated spans; `None` keeps them in memory.
    pub directory: Option<PathBuf>,
}

/// Options of an engine.
#[derive(Debug, Clone)]
pub struct Options {
    /// Maximum time that a reader waits.
    pub read_timeout: Duration,
    /// Maximum size of spans in memory, and that of a pack's content in memory, in bytes.
    pub memory_size: usize,
}

/// Counters and state.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs, reason = "docs/json.md describes them")]
pub struct Status {
    pub bytes_fetched: u64,
    pub fetches: u64,
    pub bytes_left: u64,
    pub bytes_total: u64,
    pub spans: u64,
    pub spans_here: u64,
    pub reads: u64,
    pub reads_waiting: u64,
    pub hits: u64,
    pub failures: u64,
    pub last_error: Option<String>,
    pub disk_error: Option<String>,
    pub complete: bool,
    pub pack: Option<PackStatus>,
}

#[derive(Debug)]
struct Layer {
    table: Table,
    file: Option<LayerFile>,
    states: Box<[AtomicU8]>,
}

struct Scheduling {
    scheduler: Scheduler,
    callbacks: HashMap<u64, Callback>,
    is_closed: bool,
}

#[derive(Debug, Default)]
struct Counters {
    bytes_fetched: AtomicU64,
    fetches: AtomicU64,
    reads: AtomicU64,
    hits: AtomicU64,
    failures: AtomicU64,
}

#[derive(Debug, Default)]
struct Troubles {
    last_error: Option<String>,
    disk_error: Option<String>,
}

/// The data of an image's layers; see the module.
pub struct Engine {
    layers: Box<[Layer]>,
    memory: Memory,
    held: Held,
    scheduling: Mutex<Scheduling>,
    /// Notified when there may be something to fetch.
    work: Condvar,
    /// Notified when there may be an earlier deadline.
    deadlines: Condvar,
    started: Instant,
    counters: Counters,
    troubles: Mutex<Troubles>,
    is_disk_usable: AtomicBool,
    /// Spans on disk that have not been compared with their digest.
    unchecked: AtomicU64,
    /// The next layer and span for [`Self::check_next`], which holds the lock while it works.
    next_check: Mutex<(usize, u32)>,
    rate: Mutex<Rate>,
    hot: Option<HotPack>,
    /// Maximum time that a reader waits.
    patience: Duration,
}

/// The rate limit of background fetches, in bytes per second.
#[derive(Debug, Default)]
struct Rate {
    limit: Option<u64>,
    /// When the next background fetch may start.
    free_at: Duration,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("layers", &self.layers.len()).finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the kept spans of the layers, and starts the thread that watches deadlines.
    ///
    /// `pack`: a pack of the same layers. It is fetched in advance, and never needed.
    ///
    /// If a layer's directory cannot be used, its spans are kept in memory, and [`Status::disk_error`]
    /// has the reason.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        layers: Vec<LayerPlace>,
        pack: Option<Arc<Pack>>,
        options: &Options,
    ) -> io::Result<Arc<Self>> {
        let mut troubles = Troubles::default();
        let tables = layers.iter().map(|layer| layer.table.clone());
        let tables = tables.chain(pack.clone().map(Table::Pack)).collect();
        let limits = Limits { patience: options.read_timeout, ..Limits::default() };
        let mut scheduler = Scheduler::new(tables, limits);
        let mut unchecked = 0;
        let mut opened = Vec::new();
        let layer_count = layers.len();
        for (number, LayerPlace { table, directory }) in layers.into_iter().enumerate() {
            let count = table.span_count();
            let (mut file, mut known) = (None, Vec::new());
            if let Some(directory) = directory {
                match LayerFile::open(&directory, count, table.uncompressed_size()) {
                    Ok((found, spans)) => (file, known) = (Some(found), spans),
                    Err(error) => troubles.disk_error = Some(error.to_string()),
                }
            }
            known.resize(count as usize, false);
            for (span, _) in (0..).zip(&known).filter(|(_, is_known)| **is_known) {
                scheduler.arrived(number, span);
                unchecked += 1;
            }
            let states =
                known.iter().map(|known| AtomicU8::new(if *known { KEPT } else { ABSENT }));
            opened.push(Layer { table, file, states: states.collect() });
        }
        let engine = Arc::new(Self {
            layers: opened.into(),
            memory: Memory::new(options.memory_size),
            held: Held::default(),
            scheduling: Mutex::new(Scheduling {
                scheduler,
                callbacks: HashMap::new(),
                is_closed: false,
            }),
            work: Condvar::new(),
            deadlines: Condvar::new(),
            started: Instant::now(),
            counters: Counters::default(),
            troubles: Mutex::new(troubles),
            is_disk_usable: AtomicBool::new(true),
            unchecked: AtomicU64::new(unchecked),
            next_check: Mutex::new((0, 0)),
            rate: Mutex::default(),
            hot: pack.map(|pack| HotPack::new(pack, layer_count, options.memory_size as u64)),
            patience: options.read_timeout,
        });
        engine.list_pack();
        let watched = Arc::clone(&engine);
        thread::Builder::new().name("deadlines".into()).spawn(move || watched.watch())?;
        Ok(engine)
    }

    /// Time since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, Scheduling> {
        self.scheduling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the engine: waiting readers get an error, and [`Self::next_fetch`] returns `None`.
    pub fn close(&self) {
        let callbacks: Vec<Callback> = {
            let mut state = self.lock();
            state.is_closed = true;
            state.callbacks.drain().map(|(_, callback)| callback).collect()
        };
        self.work.notify_all();
        self.deadlines.notify_all();
        callbacks.into_iter().for_each(|callback| callback(Err(io_error())));
    }

    fn watch(&self) {
        let mut state = self.lock();
        while !state.is_closed {
            let now = self.now();
            let expired = state.scheduler.expired(now);
            if !expired.is_empty() {
                let callbacks = take(&mut state.callbacks, &expired);
                drop(state);
                self.note_timeout();
                callbacks.into_iter().for_each(|callback| callback(Err(io_error())));
                state = self.lock();
                continue;
            }
            drop(state);
            self.watch_pack(now);
            state = self.lock();
            if state.is_closed {
                break;
            }
            let next = state.scheduler.next_deadline();
            let sleep = next.map_or(WATCH, |at| at.saturating_sub(now).min(WATCH));
            let waited = self.deadlines.wait_timeout(state, sleep.max(Duration::from_millis(1)));
            state = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        }
    }

    /// The spans of a layer that hold a range of its uncompressed bytes.
    #[must_use]
    pub fn spans_in(&self, layer: usize, range: &Range<u64>) -> Range<u32> {
        self.layers.get(layer).map_or(0..0, |layer| layer.table.spans_in(range))
    }

    /// The end of the uncompressed bytes of a layer.
    #[must_use]
    pub fn layer_size(&self, layer: usize) -> u64 {
        self.layers.get(layer).map_or(0, |layer| layer.table.uncompressed_size())
    }

    /// The uncompressed sizes of all layers.
    #[must_use]
    pub fn layer_sizes(&self) -> Vec<u64> {
        self.layers.iter().map(|layer| layer.table.uncompressed_size()).collect()
    }

    /// Counts a read, and whether all of it was here.
    pub(crate) fn count_read(&self, is_hit: bool) {
        self.counters.reads.fetch_add(1, Ordering::Relaxed);
        self.counters.hits.fetch_add(u64::from(is_hit), Ordering::Relaxed);
    }

    /// Calls `callback` once all of these spans have arrived, or with an error.
    pub(crate) fn when_here(&self, wanted: &[(usize, Range<u32>)], callback: Callback) {
        // Another mount may have written them to the disk.
        for (layer, spans) in wanted {
            spans.clone().for_each(|span| self.look_again(*layer, span));
        }
        let mut state = self.lock();
        if state.is_closed {
            drop(state);
            return callback(Err(io_error()));
        }
        let now = self.now();
        match state.scheduler.wait_for(wanted, now) {
            Some(number) => {
                state.callbacks.insert(number, callback);
                drop(state);
                self.work.notify_all();
                self.deadlines.notify_all();
            }
            None => {
                drop(state);
                callback(Ok(()));
            }
        }
    }

    fn look_again(&self, number: usize, span: u32) {
        let Some(layer) = self.layers.get(number) else { return };
        let Some(state) = layer.states.get(span as usize) else { return };
        let place = layer.table.uncompressed(span);
        if state.load(Ordering::Acquire) == ABSENT
            && layer.file.as_ref().is_some_and(|file| file.check(span, &place))
        {
            self.arrived(number, span, ON_DISK);
            let mut bytes = vec![0; usize::try_from(place.end - place.start).unwrap_or(0)];
            if self.hot.is_some()
                && self.read_spans(number, place.start, &mut bytes).is_ok_and(|is_here| is_here)
            {
                // A difference is noted, and the pack dropped.
                let _ = self.compare_with_pack(number, place.start, &bytes);
                self.free_frames(number, &place);
            }
        }
    }

    fn arrived(&self, layer: usize, span: u32, as_state: u8) {
        self.release(layer, span, Some(as_state));
    }

    /// Calls back the readers of a span that is here. `as_state`: its new state; `None` to leave it.
    fn release(&self, layer: usize, span: u32, as_state: Option<u8>) {
        let found = self.layers.get(layer).and_then(|layer| layer.states.get(span as usize));
        let callbacks = {
            let mut scheduling = self.lock();
            if let (Some(found), Some(as_state)) = (found, as_state) {
                found.store(as_state, Ordering::Release);
            }
            if found.is_some_and(|found| found.load(Ordering::Acquire) < ON_DISK) {
                return;
            }
            let done = scheduling.scheduler.arrived(layer, span);
            take(&mut scheduling.callbacks, &done)
        };
        callbacks.into_iter().for_each(|callback| callback(Ok(())));
    }

    /// Queues spans to fetch in advance, in this order. Returns the compressed size of missing ones.
    pub(crate) fn list(&self, spans: Vec<(usize, Range<u32>)>) -> u64 {
        let bytes = self.lock().scheduler.list(spans);
        self.work.notify_all();
        bytes
    }

    /// Notes a file in use, whose spans are fetched first in the background.
    pub(crate) fn note_use(&self, layer: usize, range: &Range<u64>) {
        let spans = self.spans_in(layer, range);
        self.lock().scheduler.note_use(layer, spans);
    }

    /// Sets whether the rest of the image is fetched in the background, and the rate limit in bytes per
    /// second.
    pub fn set_background(&self, on: bool, rate: Option<u64>) {
        self.rate.lock().unwrap_or_else(PoisonError::into_inner).limit =
            rate.filter(|rate| *rate > 0);
        let mut state = self.lock();
        state.scheduler.set_background(on);
        state.scheduler.hold_background(Duration::ZERO);
        drop(state);
        self.work.notify_all();
    }

    /// Records that programs may read soon, so that background fetches begin slowly.
    pub(crate) fn expect_readers(&self) {
        let now = self.now();
        self.lock().scheduler.expect_readers(now);
    }

    /// Waits for the next fetch; `None` after `timeout` or [`Self::close`].
    #[must_use]
    pub fn next_fetch(&self, timeout: Duration) -> Option<Fetch> {
        let until = self.now() + timeout;
        let mut state = self.lock();
        loop {
            let now = self.now();
            if state.is_closed {
                return None;
            }
            let wake = match state.scheduler.next(now) {
                Next::Fetch(fetch) => {
                    self.pace(&mut state, &fetch);
                    return Some(fetch);
                }
                Next::Wait(wake) => wake,
            };
            if self.unchecked.load(Ordering::Relaxed) > 0 {
                drop(state);
                let has_more = self.check_next();
                state = self.lock();
                if has_more {
                    continue;
                }
            }
            if now >= until {
                return None;
            }
            let sleep = wake.map_or(until, |at| at.min(until)).saturating_sub(now);
            let waited = self.work.wait_timeout(state, sleep.max(Duration::from_millis(1)));
            state = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        }
    }

    /// Delays the background fetch after this one according to the rate limit.
    ///
    /// A fetch that has been handed out must not be delayed, since a reader may need its spans.
    fn pace(&self, state: &mut Scheduling, fetch: &Fetch) {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(limit) = rate.limit.filter(|_| fetch.purpose == Purpose::Background) else {
            return;
        };
        let bytes = fetch.range.end.saturating_sub(fetch.range.start);
        #[allow(clippy::cast_precision_loss, reason = "a pause need not be exact")]
        let needed = Duration::from_secs_f64(bytes as f64 / limit as f64);
        rate.free_at = rate.free_at.max(self.now()) + needed.min(Duration::from_secs(3600));
        state.scheduler.hold_background(rate.free_at);
    }

    /// Records a timeout, unless the cause of it is already recorded.
    fn note_timeout(&self) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.last_error.get_or_insert_with(|| "no answer in time".into());
    }

    fn note_error(&self, error: &str) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.last_error = Some(error.chars().take(MAX_ERROR_LEN).collect());
    }

    /// Counters and state.
    #[must_use]
    pub fn status(&self) -> Status {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let all_bytes = |layer: &Layer| {
            (0..layer.table.span_count())
                .map(|span| layer.table.compressed(span))
                .map(|range| range.end.saturating_sub(range.start))
                .sum::<u64>()
        };
        let pack = self.pack_status();
        let (frames_here, frames) = pack.as_ref().map_or((0, 0), PackStatus::counts);
        let pack_left = pack.as_ref().map_or(0, |pack| pack.bytes_left);
        let state = self.lock();
        let (spans_here, spans) = state.scheduler.counts();
        Status {
            bytes_fetched: count(&self.counters.bytes_fetched),
            fetches: count(&self.counters.fetches),
            bytes_left: state.scheduler.bytes_left().saturating_sub(pack_left),
            bytes_total: self.layers.iter().map(all_bytes).sum(),
            spans: spans.saturating_sub(frames),
            spans_here: spans_here.saturating_sub(frames_here),
            reads: count(&self.counters.reads),
            reads_waiting: state.scheduler.waiting() as u64,
            hits: count(&self.counters.hits),
            failures: count(&self.counters.failures),
            last_error: troubles.last_error.clone(),
            disk_error: troubles.disk_error.clone(),
            complete: state.scheduler.is_complete() && self.unchecked.load(Ordering::Relaxed) == 0,
            pack,
        }
    }
}

fn take(callbacks: &mut HashMap<u64, Callback>, numbers: &[u64]) -> Vec<Callback> {
    numbers.iter().filter_map(|number| callbacks.remove(number)).collect()
}

fn index(at: u64) -> io::Result<usize> {
    usize::try_from(at).map_err(|_| io_error())
}

pub(crate) fn io_error() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}
