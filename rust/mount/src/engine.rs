//! What is here of an image's layers, and what brings the rest.
//!
//! Readers that need bytes that are not here leave a callback; whoever fetches asks
//! [`Engine::next_fetch`], fetches, and gives the bytes to [`Engine::answer`], which verifies and
//! inflates them and calls back. One more thread watches deadlines, so that no reader waits for ever
//! even if every fetch hangs.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use tocsin_core::fetch::{Fetch, Limits, Next, Purpose, Scheduler, Table, What};

use crate::answers::{Held, HeldSpan, part};
use crate::layer_file::LayerFile;
use crate::memory::Memory;

/// Longest sleep of the thread that watches deadlines.
const WATCH: Duration = Duration::from_secs(1);
/// Longest text of an error that is kept.
const MAX_ERROR_LEN: usize = 500;

/// Not here.
const ABSENT: u8 = 0;
/// On disk, not compared with its digest yet.
const KEPT: u8 = 1;
/// On disk, and what it should be.
const ON_DISK: u8 = 2;
/// In memory.
const IN_MEMORY: u8 = 3;

/// Called when what a reader waits for is here, or with an error when it will not be.
type Callback = Box<dyn FnOnce(io::Result<()>) + Send>;

/// One layer.
#[derive(Debug)]
pub struct LayerPlace {
    /// Its spans.
    pub table: Table,
    /// The directory, which exists, where its inflated spans are kept; `None`: in memory.
    pub directory: Option<PathBuf>,
}

/// How much is fetched and kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// Longest wait of a reader.
    pub read_timeout: Duration,
    /// Bytes of spans kept in memory, of layers without a place on disk.
    pub memory_size: usize,
}

/// What has happened so far.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs, reason = "the names say it, and docs/json.md")]
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

/// What is here of an image's layers. See the module.
pub struct Engine {
    layers: Box<[Layer]>,
    memory: Memory,
    held: Held,
    scheduling: Mutex<Scheduling>,
    /// There may be something to fetch.
    work: Condvar,
    /// There may be a nearer deadline.
    deadlines: Condvar,
    started: Instant,
    counters: Counters,
    troubles: Mutex<Troubles>,
    is_disk_usable: AtomicBool,
    /// Spans on disk that have not been compared with their digest.
    unchecked: AtomicU64,
    /// The next layer and span that [`Self::check_next`] looks at; locked while it works.
    next_check: Mutex<(usize, u32)>,
    rate: Mutex<Rate>,
}

/// Limits background fetches to some bytes a second.
#[derive(Debug, Default)]
struct Rate {
    limit: Option<u64>,
    /// When the bytes fetched so far are used up.
    free_at: Duration,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("layers", &self.layers.len()).finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens what is kept of the layers, and starts the thread that watches deadlines.
    ///
    /// A layer whose directory cannot be used is kept in memory; [`Status::disk_error`] says why.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(layers: Vec<LayerPlace>, options: &Options) -> io::Result<Arc<Self>> {
        let mut troubles = Troubles::default();
        let tables = layers.iter().map(|layer| layer.table.clone()).collect();
        let limits = Limits { patience: options.read_timeout, ..Limits::default() };
        let mut scheduler = Scheduler::new(tables, limits);
        let mut unchecked = 0;
        let mut opened = Vec::new();
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
        });
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

    /// Ends everything: readers get an error, and [`Self::next_fetch`] returns nothing more.
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

    /// Compares every span on disk with its digest; returns whether all of them are there and match.
    #[must_use]
    pub fn check_all(&self) -> bool {
        // What is not inflated on disk is not here, whatever the background still has to do.
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
                // Without more threads, this one does it all.
                let _ = thread::Builder::new().spawn_scoped(scope, check);
            }
            check();
        });
        all.load(Ordering::Relaxed)
    }

    /// Reads a range of a layer's uncompressed bytes, if all of it is here.
    ///
    /// # Errors
    /// The layer has fewer bytes, or the disk failed.
    pub fn read(&self, layer: usize, at: u64, into: &mut [u8]) -> io::Result<bool> {
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
            if file.read(into, at).is_ok() {
                return Ok(true);
            }
            self.lose_disk(layer, found);
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
            let is_read = state == ON_DISK
                && found.file.as_ref().is_some_and(|file| file.read(target, first).is_ok());
            if !is_read {
                self.lose(layer, span);
                if state == ON_DISK {
                    self.lose_disk(layer, found);
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Somebody has truncated the file of a layer. The next span that is written makes it longer
    /// again, with zeros where others were, so each is compared with its digest before its next use.
    fn lose_disk(&self, number: usize, layer: &Layer) {
        for (span, state) in (0..).zip(&layer.states) {
            if state.load(Ordering::Acquire) == ON_DISK {
                self.lose(number, span);
            }
        }
    }

    /// The state of a span, after it was compared with its digest.
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

    /// Compares the next span on disk with its digest, if no other thread does; returns whether there
    /// may be more of them. Only then is it known that nothing needs to be fetched.
    fn check_next(&self) -> bool {
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

    fn lose(&self, layer: usize, span: u32) {
        if let Some(state) =
            self.layers.get(layer).and_then(|layer| layer.states.get(span as usize))
        {
            state.store(ABSENT, Ordering::Release);
        }
        self.lock().scheduler.lost(layer, span);
    }

    /// Counts a read, and whether all of it was here.
    pub(crate) fn count_read(&self, is_hit: bool) {
        self.counters.reads.fetch_add(1, Ordering::Relaxed);
        self.counters.hits.fetch_add(u64::from(is_hit), Ordering::Relaxed);
    }

    /// Calls back once all of these spans have been here, or with an error.
    pub(crate) fn when_here(&self, wanted: &[(usize, Range<u32>)], callback: Callback) {
        // Another mount may have brought them.
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
        }
    }

    fn arrived(&self, layer: usize, span: u32, as_state: u8) {
        if let Some(state) =
            self.layers.get(layer).and_then(|layer| layer.states.get(span as usize))
        {
            state.store(as_state, Ordering::Release);
        }
        let callbacks = {
            let mut state = self.lock();
            let done = state.scheduler.arrived(layer, span);
            take(&mut state.callbacks, &done)
        };
        callbacks.into_iter().for_each(|callback| callback(Ok(())));
    }

    /// Spans to fetch soon, in this order. Returns their compressed bytes.
    pub(crate) fn list(&self, spans: Vec<(usize, Range<u32>)>) -> u64 {
        let bytes = self.lock().scheduler.list(spans);
        self.work.notify_all();
        bytes
    }

    /// Spans of a file in use, which the background brings before the rest.
    pub(crate) fn note_use(&self, layer: usize, range: &Range<u64>) {
        let spans = self.spans_in(layer, range);
        self.lock().scheduler.note_use(layer, spans);
    }

    /// Whether the rest is fetched in the background, and with how many bytes a second at most.
    pub fn set_background(&self, on: bool, rate: Option<u64>) {
        self.rate.lock().unwrap_or_else(PoisonError::into_inner).limit =
            rate.filter(|rate| *rate > 0);
        let mut state = self.lock();
        state.scheduler.set_background(on);
        state.scheduler.hold_background(Duration::ZERO);
        drop(state);
        self.work.notify_all();
    }

    /// What to fetch next; `None` if nothing comes up in `timeout`, or after [`Self::close`].
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

    /// Lets the next background fetch wait as long as the rate demands after this one.
    ///
    /// A fetch that has been handed out must not wait: a reader may need its spans.
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

    /// The bytes of a fetch: verifies, inflates and keeps them, and calls back.
    ///
    /// # Errors
    /// What is wrong with the bytes. They are fetched again.
    pub fn answer(&self, number: u64, bytes: &[u8]) -> Result<(), String> {
        let now = self.now();
        let fetch = {
            let mut state = self.lock();
            let Some(fetch) = state.scheduler.fetch(number).cloned() else { return Ok(()) };
            if fetch.range.end - fetch.range.start != bytes.len() as u64 {
                let wanted = fetch.range.end - fetch.range.start;
                drop(state);
                let error =
                    format!("wrong length (found {} bytes, expected {wanted})", bytes.len());
                self.fail(number, &error);
                return Err(error);
            }
            state.scheduler.close(number, now);
            fetch
        };
        self.counters.bytes_fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.counters.fetches.fetch_add(1, Ordering::Relaxed);
        let outcome = match &fetch.what {
            What::Spans(run) => self.add_spans(&fetch, run.clone(), bytes),
            What::Chunks(run) => self.add_chunks(&fetch, run.clone(), bytes),
        };
        self.work.notify_all();
        if let Err(error) = &outcome {
            self.counters.failures.fetch_add(1, Ordering::Relaxed);
            self.note_error(error);
        }
        outcome
    }

    fn add_spans(&self, fetch: &Fetch, run: Range<u32>, bytes: &[u8]) -> Result<(), String> {
        let Some(layer) = self.layers.get(fetch.layer) else { return Ok(()) };
        let mut outcome = Ok(());
        for span in run {
            let Some(bytes) = part(bytes, fetch.range.start, &layer.table.compressed(span)) else {
                continue;
            };
            if let Some(chunk) = layer.table.missing_chunk(span) {
                let held = HeldSpan { span, fetch: fetch.number, bytes: bytes.to_vec() };
                self.held.put(fetch.layer, chunk, held);
                // The chunk may have arrived meanwhile.
                if layer.table.missing_chunk(span).is_none() {
                    outcome = self.add_held(fetch.layer, chunk..chunk + 1).and(outcome);
                } else if !self.lock().scheduler.is_chunk_coming(fetch.layer, chunk) {
                    // It came before this span, and was not what it should be.
                    self.drop_held(fetch.layer, chunk);
                }
                continue;
            }
            outcome = self.add_span(fetch.layer, span, fetch.number, bytes).and(outcome);
        }
        outcome
    }

    fn add_chunks(&self, fetch: &Fetch, run: Range<u32>, bytes: &[u8]) -> Result<(), String> {
        let Some(layer) = self.layers.get(fetch.layer) else { return Ok(()) };
        let mut outcome = Ok(());
        for chunk in run.clone() {
            let added = part(bytes, fetch.range.start, &layer.table.chunk_range(chunk))
                .map(|bytes| layer.table.add_chunk(chunk, bytes));
            if let Some(Err(error)) = added {
                // The spans that wait for it cannot be read; their readers get the error.
                self.drop_held(fetch.layer, chunk);
                outcome = Err(error.to_string());
            }
        }
        self.add_held(fetch.layer, run).and(outcome)
    }

    /// Spans whose chunk is wrong are fetched again, and the chunk with them.
    fn drop_held(&self, layer: usize, chunk: u32) {
        for held in self.held.take(layer, chunk..chunk + 1) {
            self.mismatch(layer, held.span, held.fetch);
        }
    }

    fn add_held(&self, layer: usize, chunks: Range<u32>) -> Result<(), String> {
        let mut outcome = Ok(());
        for held in self.held.take(layer, chunks) {
            outcome = self.add_span(layer, held.span, held.fetch, &held.bytes).and(outcome);
        }
        outcome
    }

    fn add_span(&self, number: usize, span: u32, fetch: u64, bytes: &[u8]) -> Result<(), String> {
        let Some(layer) = self.layers.get(number) else { return Ok(()) };
        let is_here = |state: &AtomicU8| state.load(Ordering::Acquire) >= ON_DISK;
        if layer.states.get(span as usize).is_none_or(is_here) {
            return Ok(());
        }
        let inflated = match layer.table.inflate(span, bytes) {
            Ok(inflated) => inflated,
            Err(error) => {
                self.mismatch(number, span, fetch);
                return Err(error.to_string());
            }
        };
        let state = self.keep(number, layer, span, inflated);
        self.arrived(number, span, state);
        Ok(())
    }

    fn mismatch(&self, layer: usize, span: u32, fetch: u64) {
        let callbacks = {
            let mut state = self.lock();
            let given_up = state.scheduler.mismatch(layer, span, fetch, self.now());
            take(&mut state.callbacks, &given_up)
        };
        callbacks.into_iter().for_each(|callback| callback(Err(io_error())));
    }

    fn keep(&self, number: usize, layer: &Layer, span: u32, bytes: Vec<u8>) -> u8 {
        if let Some(file) = &layer.file
            && self.is_disk_usable.load(Ordering::Relaxed)
        {
            match file.write(span, &bytes, layer.table.uncompressed(span).start) {
                Ok(()) => return ON_DISK,
                Err(error) => {
                    // Readers come first: the rest stays on demand, in memory.
                    self.is_disk_usable.store(false, Ordering::Relaxed);
                    self.lock().scheduler.set_background(false);
                    let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
                    troubles.disk_error = Some(error.to_string());
                }
            }
        }
        for (layer, dropped) in self.memory.put((number, span), bytes) {
            self.lose(layer, dropped);
        }
        IN_MEMORY
    }

    /// A fetch failed. It is tried again as long as somebody waits.
    pub fn fail(&self, number: u64, error: &str) {
        self.counters.failures.fetch_add(1, Ordering::Relaxed);
        self.note_error(error);
        self.lock().scheduler.failed(number, self.now());
        self.work.notify_all();
    }

    /// Notes that readers have waited in vain, unless it is known why.
    fn note_timeout(&self) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.last_error.get_or_insert_with(|| "no answer in time".into());
    }

    fn note_error(&self, error: &str) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.last_error = Some(error.chars().take(MAX_ERROR_LEN).collect());
    }

    /// What has happened so far.
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
        let state = self.lock();
        let (spans_here, spans) = state.scheduler.counts();
        Status {
            bytes_fetched: count(&self.counters.bytes_fetched),
            fetches: count(&self.counters.fetches),
            bytes_left: state.scheduler.bytes_left(),
            bytes_total: self.layers.iter().map(all_bytes).sum(),
            spans,
            spans_here,
            reads: count(&self.counters.reads),
            reads_waiting: state.scheduler.waiting() as u64,
            hits: count(&self.counters.hits),
            failures: count(&self.counters.failures),
            last_error: troubles.last_error.clone(),
            disk_error: troubles.disk_error.clone(),
            complete: state.scheduler.is_complete() && self.unchecked.load(Ordering::Relaxed) == 0,
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
