//! The order of fetches: what a reader waits for, then what is listed, then everything else.
//!
//! Each span has one state. Neighbours are fetched together, and a chunk of the seek table is fetched
//! before the spans that need it, side by side with them. A read waits for several spans and has a
//! deadline over all attempts; whoever fetched in vain is told nothing, the span is queued again.

use core::time::Duration;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Range;

use super::Table;

/// A gap of this many compressed bytes is fetched with its neighbours: a request costs more.
const MAX_GAP: u64 = 128 << 10;
/// A span that has been requested for this long is requested once more if a reader needs it.
const STALE: Duration = Duration::from_secs(10);
/// The background waits until no reader has needed anything for this long ...
const QUIET: Duration = Duration::from_millis(150);
/// ... unless readers have left no such pause for this long: then it takes one connection.
const STARVED: Duration = Duration::from_secs(3);
/// Pause after a failed fetch; doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Maximum pause.
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// A span whose bytes do not match its digest is fetched this many times for one reader.
const MAX_MISMATCHES: u32 = 3;

/// A read that fails is repeated at once by the kernel, for each page and each reader. For this long,
/// what a reader gave up on is not waited for again.
const GIVEN_UP: Duration = Duration::from_millis(100);

/// Sizes and numbers of fetches.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Compressed bytes of the first fetch for a reader, which may hold more than it needs.
    pub request: u64,
    /// Compressed bytes to which that grows while a file is read in order, and the size of
    /// background fetches.
    pub longest: u64,
    /// Background fetches at the same time.
    pub background: usize,
    /// How long a reader waits at most.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request: 512 << 10,
            longest: 4 << 20,
            background: 4,
            patience: Duration::from_secs(30),
        }
    }
}

/// Why something is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A reader waits for it.
    Demand,
    /// It is listed.
    List,
    /// Nobody needs it yet.
    Background,
}

impl Purpose {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Demand => "demand",
            Self::List => "list",
            Self::Background => "background",
        }
    }
}

/// What is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// These spans of the layer.
    Spans(Range<u32>),
    /// These chunks of the layer's seek blob.
    Chunks(Range<u32>),
}

/// Bytes to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// Its number.
    pub number: u64,
    /// The number of the layer.
    pub layer: usize,
    /// What is fetched.
    pub what: What,
    /// Its bytes in the layer as stored, or in the seek blob.
    pub range: Range<u64>,
    /// Why.
    pub purpose: Purpose,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Fetch this.
    Fetch(Fetch),
    /// Nothing until this time, or until something changes.
    Wait(Option<Duration>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Absent,
    /// In the queue of spans that readers wait for.
    Wanted,
    Requested {
        fetch: u64,
    },
    Here,
}

#[derive(Debug)]
struct Layer {
    table: Table,
    spans: Vec<State>,
    /// Chunks that are being fetched.
    chunks: HashSet<u32>,
    /// The last span of the last fetch for a reader, and the size of that fetch.
    last: Option<(u32, u64)>,
    here: u32,
}

#[derive(Debug)]
struct Open {
    fetch: Fetch,
    since: Duration,
}

#[derive(Debug)]
struct Waiting {
    spans: HashSet<(usize, u32)>,
    deadline: Duration,
}

#[derive(Debug, Default)]
struct Trouble {
    failures: u32,
    mismatches: u32,
    not_before: Duration,
}

#[derive(Debug)]
struct QueuedChunks {
    layer: usize,
    run: Range<u32>,
    purpose: Purpose,
    not_before: Duration,
}

/// Decides what is fetched next. See the module.
#[derive(Debug)]
pub struct Scheduler {
    layers: Vec<Layer>,
    limits: Limits,
    demand: VecDeque<(usize, u32)>,
    chunks: VecDeque<QueuedChunks>,
    list: VecDeque<(usize, Range<u32>)>,
    used: VecDeque<(usize, Range<u32>)>,
    cursor: (usize, u32),
    open: HashMap<u64, Open>,
    readers: HashMap<u64, Waiting>,
    by_span: HashMap<(usize, u32), Vec<u64>>,
    deadlines: BTreeMap<(Duration, u64), ()>,
    trouble: HashMap<(usize, u32), Trouble>,
    /// Spans that readers gave up on a moment ago, and until when.
    given_up: HashMap<(usize, u32), Duration>,
    numbers: u64,
    /// When a reader last needed something that was not here.
    last_demand: Option<Duration>,
    last_background: Duration,
    in_background: bool,
    background_pause: Trouble,
    /// No background fetch before this time.
    background_from: Duration,
}

impl Scheduler {
    /// The spans of all layers, none of which is here.
    #[must_use]
    pub fn new(tables: Vec<Table>, limits: Limits) -> Self {
        let layers = tables.into_iter().map(|table| {
            let spans = vec![State::Absent; table.span_count() as usize];
            Layer { table, spans, chunks: HashSet::new(), last: None, here: 0 }
        });
        Self {
            layers: layers.collect(),
            limits,
            demand: VecDeque::new(),
            chunks: VecDeque::new(),
            list: VecDeque::new(),
            used: VecDeque::new(),
            cursor: (0, 0),
            open: HashMap::new(),
            readers: HashMap::new(),
            by_span: HashMap::new(),
            deadlines: BTreeMap::new(),
            trouble: HashMap::new(),
            given_up: HashMap::new(),
            numbers: 0,
            last_demand: None,
            last_background: Duration::ZERO,
            in_background: false,
            background_pause: Trouble::default(),
            background_from: Duration::ZERO,
        }
    }

    /// Whether everything is fetched that nobody waits for.
    pub fn set_background(&mut self, on: bool) {
        self.in_background = on;
    }

    /// No background fetch is handed out before this time.
    pub fn hold_background(&mut self, until: Duration) {
        self.background_from = until;
    }

    /// Whether every span of every layer is here.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.layers.iter().all(|layer| layer.here as usize == layer.spans.len())
    }

    /// The number of spans that are here, and of all.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let here = self.layers.iter().map(|layer| u64::from(layer.here)).sum();
        (here, self.layers.iter().map(|layer| layer.spans.len() as u64).sum())
    }

    /// Compressed bytes of the spans that are not here.
    #[must_use]
    pub fn bytes_left(&self) -> u64 {
        let mut left = 0;
        for layer in &self.layers {
            let absent = (0..).zip(&layer.spans).filter(|(_, state)| **state != State::Here);
            left += absent.map(|(span, _)| len(&layer.table.compressed(span))).sum::<u64>();
        }
        left
    }

    /// Whether a span is here.
    #[must_use]
    pub fn is_here(&self, layer: usize, span: u32) -> bool {
        self.state(layer, span) == State::Here
    }

    fn state(&self, layer: usize, span: u32) -> State {
        let found = self.layers.get(layer).and_then(|layer| layer.spans.get(span as usize));
        found.copied().unwrap_or(State::Here)
    }

    fn set(&mut self, layer: usize, span: u32, to: State) {
        if let Some(at) = self.layers.get_mut(layer)
            && let Some(state) = at.spans.get_mut(span as usize)
        {
            at.here -= u32::from(*state == State::Here);
            at.here += u32::from(to == State::Here);
            *state = to;
        }
    }

    /// A reader waits for spans until all are here, or until its time is up. Returns its number;
    /// `None` if all of them are here.
    pub fn wait_for(&mut self, wanted: &[(usize, Range<u32>)], now: Duration) -> Option<u64> {
        let all = wanted.iter().flat_map(|(layer, spans)| spans.clone().map(|span| (*layer, span)));
        let missing: HashSet<(usize, u32)> =
            all.filter(|(layer, span)| !self.is_here(*layer, *span)).collect();
        if missing.is_empty() {
            return None;
        }
        self.numbers += 1;
        let number = self.numbers;
        let mut ordered: Vec<_> = missing.iter().copied().collect();
        ordered.sort_unstable();
        for (layer, span) in ordered {
            self.by_span.entry((layer, span)).or_default().push(number);
            self.want(layer, span, now);
        }
        self.last_demand = Some(now);
        self.given_up.retain(|_, until| *until > now);
        let is_given_up = missing.iter().any(|key| self.given_up.contains_key(key));
        let patience = if is_given_up { Duration::ZERO } else { self.limits.patience };
        let deadline = now + patience;
        self.deadlines.insert((deadline, number), ());
        self.readers.insert(number, Waiting { spans: missing, deadline });
        Some(number)
    }

    fn want(&mut self, layer: usize, span: u32, now: Duration) {
        let again = match self.state(layer, span) {
            State::Absent => true,
            State::Requested { fetch } => {
                self.open.get(&fetch).is_none_or(|open| now.saturating_sub(open.since) > STALE)
            }
            State::Wanted | State::Here => false,
        };
        if again {
            self.set(layer, span, State::Wanted);
            self.demand.push_back((layer, span));
        }
    }

    /// Spans to fetch soon, in this order; those that are next to each other are fetched together.
    /// Returns their compressed bytes that are not here.
    pub fn list(&mut self, spans: impl IntoIterator<Item = (usize, Range<u32>)>) -> u64 {
        let (mut runs, mut bytes) = (Vec::<(usize, Range<u32>)>::new(), 0);
        let mut seen = HashSet::new();
        for (layer, range) in spans {
            for span in range {
                if self.state(layer, span) != State::Absent || !seen.insert((layer, span)) {
                    continue;
                }
                bytes += self.layers.get(layer).map_or(0, |at| len(&at.table.compressed(span)));
                match runs.last_mut() {
                    Some((last, run)) if *last == layer && run.end == span => run.end += 1,
                    _ => runs.push((layer, span..span + 1)),
                }
            }
        }
        // All chunks at once: they are small, and every span waits for one.
        let mut chunks: Vec<(usize, u32)> = Vec::new();
        for (layer, run) in &runs {
            let Some(at) = self.layers.get(*layer) else { continue };
            chunks.extend(
                run.clone().filter_map(|span| at.table.missing_chunk(span)).map(|c| (*layer, c)),
            );
        }
        chunks.sort_unstable();
        chunks.dedup();
        self.queue_chunks(&chunks, Purpose::List);
        self.list.extend(runs);
        bytes
    }

    /// Spans of a file that is in use: the background fetches them before the rest.
    pub fn note_use(&mut self, layer: usize, spans: Range<u32>) {
        if self.used.len() < 4096 && !spans.is_empty() {
            self.used.push_back((layer, spans));
        }
    }

    fn queue_chunks(&mut self, chunks: &[(usize, u32)], purpose: Purpose) {
        let mut runs: Vec<(usize, Range<u32>)> = Vec::new();
        for &(layer, chunk) in chunks {
            let Some(at) = self.layers.get_mut(layer) else { continue };
            if at.chunks.contains(&chunk) {
                continue;
            }
            let range = at.table.chunk_range(chunk);
            match runs.last_mut() {
                Some((last, run))
                    if *last == layer
                        && run.end <= chunk
                        && range.start.saturating_sub(at.table.chunk_range(run.end - 1).end)
                            <= MAX_GAP
                        && range.end.saturating_sub(at.table.chunk_range(run.start).start)
                            <= 1 << 20 =>
                {
                    run.end = chunk + 1;
                }
                _ => runs.push((layer, chunk..chunk + 1)),
            }
        }
        for (layer, run) in runs {
            if let Some(at) = self.layers.get_mut(layer) {
                at.chunks.extend(run.clone());
            }
            self.chunks.push_back(QueuedChunks { layer, run, purpose, not_before: Duration::ZERO });
        }
    }

    /// What to fetch next.
    pub fn next(&mut self, now: Duration) -> Next {
        let renewal = self.renew(now);
        match self.next_new(now) {
            Next::Wait(wake) => Next::Wait(wake.into_iter().chain(renewal).min()),
            fetch @ Next::Fetch(_) => fetch,
        }
    }

    /// Queues again what readers wait for and what has been requested for too long: the connection
    /// may hang, or the fetch is a long one of the background. Returns when to look again.
    fn renew(&mut self, now: Duration) -> Option<Duration> {
        let (mut spans, mut chunks, mut again) = (Vec::new(), Vec::new(), None);
        for &(layer, span) in self.by_span.keys() {
            let Some(at) = self.layers.get(layer) else { continue };
            let State::Requested { fetch } = self.state(layer, span) else { continue };
            let chunk = at.table.missing_chunk(span).filter(|chunk| at.chunks.contains(chunk));
            let due = [
                self.open.get(&fetch).map(|open| self.stale_at(open)),
                chunk.and_then(|chunk| self.chunk_stale_at(layer, chunk)),
            ];
            if due[0].is_some_and(|due| due <= now) {
                spans.push((layer, span));
            }
            if let Some(chunk) = chunk.filter(|_| due[1].is_some_and(|due| due <= now)) {
                chunks.push((layer, chunk));
            }
            let later = due.into_iter().flatten().filter(|due| *due > now);
            again = later.chain(again).min();
        }
        spans.sort_unstable();
        for (layer, span) in spans {
            self.set(layer, span, State::Wanted);
            self.demand.push_back((layer, span));
        }
        chunks.sort_unstable();
        chunks.dedup();
        for (layer, chunk) in chunks {
            let run = chunk..chunk + 1;
            let (purpose, not_before) = (Purpose::Demand, Duration::ZERO);
            self.chunks.push_back(QueuedChunks { layer, run, purpose, not_before });
        }
        again
    }

    /// When a fetch has been open for so long that readers no longer rely on it.
    fn stale_at(&self, open: &Open) -> Duration {
        open.since
            + match open.fetch.purpose {
                // It is not too long: over a slow connection, another one would not help.
                Purpose::Demand => self.limits.patience / 2,
                Purpose::List | Purpose::Background => STALE.min(self.limits.patience / 3),
            }
    }

    /// As [`Self::stale_at`], for the last fetch of a chunk; `None` if it is queued, or not open.
    fn chunk_stale_at(&self, layer: usize, chunk: u32) -> Option<Duration> {
        if self.chunks.iter().any(|queued| queued.layer == layer && queued.run.contains(&chunk)) {
            return None;
        }
        let holds = |open: &&Open| {
            open.fetch.layer == layer
                && matches!(&open.fetch.what, What::Chunks(run) if run.contains(&chunk))
        };
        self.open.values().filter(holds).map(|open| self.stale_at(open)).max()
    }

    fn next_new(&mut self, now: Duration) -> Next {
        if let Some(fetch) = self.next_chunks(now) {
            return Next::Fetch(fetch);
        }
        if let Some(fetch) = self.next_demand(now) {
            return Next::Fetch(fetch);
        }
        while let Some((layer, run)) = self.list.pop_front() {
            let absent = |this: &Self, span| this.state(layer, span) == State::Absent;
            let Some(first) = run.clone().find(|span| absent(self, *span)) else { continue };
            let run_end = (first..run.end).find(|span| !absent(self, *span)).unwrap_or(run.end);
            let end = self.fit(layer, first..run_end, 1 << 20);
            if end < run.end {
                self.list.push_front((layer, end..run.end));
            }
            return Next::Fetch(self.open_spans(layer, first..end, Purpose::List, now));
        }
        self.next_background(now)
    }

    fn next_chunks(&mut self, now: Duration) -> Option<Fetch> {
        let ready = self.chunks.iter().position(|queued| queued.not_before <= now)?;
        let QueuedChunks { layer, run, purpose, .. } = self.chunks.remove(ready)?;
        let table = &self.layers.get(layer)?.table;
        let range = table.chunk_range(run.start).start..table.chunk_range(run.end - 1).end;
        Some(self.open(layer, What::Chunks(run), range, purpose, now))
    }

    fn next_demand(&mut self, now: Duration) -> Option<Fetch> {
        for _ in 0..self.demand.len() {
            let (layer, span) = self.demand.pop_front()?;
            if self.state(layer, span) != State::Wanted {
                continue;
            }
            if self.trouble.get(&(layer, span)).is_some_and(|found| found.not_before > now) {
                self.demand.push_back((layer, span));
                continue;
            }
            let end = self.demand_end(layer, span);
            return Some(self.open_spans(layer, span..end, Purpose::Demand, now));
        }
        None
    }

    /// The end of a fetch for a reader that waits for `span`.
    fn demand_end(&mut self, layer: usize, span: u32) -> u32 {
        let (request, longest) = (self.limits.request, self.limits.longest);
        let Some(at) = self.layers.get_mut(layer) else { return span + 1 };
        // A reader that goes on where the last fetch ended will probably go on.
        let size = match at.last {
            Some((end, size)) if end == span => size.saturating_mul(2).min(longest),
            _ => request,
        };
        let open = |state: &State| matches!(state, State::Absent | State::Wanted);
        let after = at.spans.iter().skip(span as usize + 1).take_while(|state| open(state)).count();
        let all = span..span.saturating_add(1).saturating_add(u32::try_from(after).unwrap_or(0));
        let end = self.fit(layer, all, size);
        if let Some(at) = self.layers.get_mut(layer) {
            at.last = Some((end, size));
        }
        end
    }

    /// The end of as many spans as fit in `size` compressed bytes, but at least one.
    fn fit(&self, layer: usize, spans: Range<u32>, size: u64) -> u32 {
        let Some(at) = self.layers.get(layer) else { return spans.end };
        let start = at.table.compressed(spans.start).start;
        let fits = |span: &u32| at.table.compressed(*span).end.saturating_sub(start) <= size;
        (spans.start + 1..spans.end).find(|span| !fits(span)).unwrap_or(spans.end)
    }

    fn next_background(&mut self, now: Duration) -> Next {
        let wake = self.demand.iter().filter_map(|key| self.trouble.get(key)).map(|t| t.not_before);
        let wake = wake.chain(self.chunks.iter().map(|queued| queued.not_before)).min();
        if !self.in_background {
            return Next::Wait(wake);
        }
        let sooner = |at: Duration| Next::Wait(Some(wake.map_or(at, |other| other.min(at))));
        let from = self.background_pause.not_before.max(self.background_from);
        if from > now {
            return sooner(from);
        }
        let busy =
            self.open.values().filter(|open| open.fetch.purpose != Purpose::Background).count();
        let running = self.open.len() - busy;
        let quiet_at = self.last_demand.map_or(Duration::ZERO, |last| last + QUIET);
        let is_quiet = busy == 0 && self.readers.is_empty() && now >= quiet_at;
        let is_starved = now.saturating_sub(self.last_background) >= STARVED && running == 0;
        if !is_quiet && !is_starved {
            let starved_at = self.last_background + STARVED;
            let at = if busy == 0 && self.readers.is_empty() { quiet_at } else { starved_at };
            return if running == 0 { sooner(at) } else { Next::Wait(wake) };
        }
        if running >= self.limits.background {
            return Next::Wait(wake);
        }
        let size = if is_quiet { self.limits.longest } else { self.limits.request };
        let Some((layer, first)) = self.next_absent() else { return Next::Wait(wake) };
        let Some(at) = self.layers.get(layer) else { return Next::Wait(wake) };
        let after =
            at.spans.iter().skip(first as usize).take_while(|s| **s == State::Absent).count();
        let all = first..first.saturating_add(u32::try_from(after).unwrap_or(1));
        let end = self.fit(layer, all, size);
        self.last_background = now;
        Next::Fetch(self.open_spans(layer, first..end, Purpose::Background, now))
    }

    fn next_absent(&mut self) -> Option<(usize, u32)> {
        while let Some((layer, spans)) = self.used.front() {
            let (layer, mut spans) = (*layer, spans.clone());
            if let Some(first) = spans.find(|span| self.state(layer, *span) == State::Absent) {
                return Some((layer, first));
            }
            self.used.pop_front();
        }
        while let Some(at) = self.layers.get(self.cursor.0) {
            let from = self.cursor.1;
            let mut rest = at.spans.iter().skip(from as usize);
            if let Some(more) = rest.position(|state| *state == State::Absent) {
                self.cursor.1 = from.saturating_add(u32::try_from(more).unwrap_or(0));
                return Some(self.cursor);
            }
            self.cursor = (self.cursor.0 + 1, 0);
        }
        None
    }

    fn open_spans(
        &mut self,
        layer: usize,
        run: Range<u32>,
        purpose: Purpose,
        now: Duration,
    ) -> Fetch {
        let mut chunks = Vec::new();
        let mut range = 0..0;
        if let Some(at) = self.layers.get(layer) {
            range = at.table.compressed(run.start).start..at.table.compressed(run.end - 1).end;
            chunks.extend(
                run.clone().filter_map(|span| at.table.missing_chunk(span)).map(|c| (layer, c)),
            );
        }
        chunks.dedup();
        self.queue_chunks(&chunks, purpose);
        let fetch = self.open(layer, What::Spans(run.clone()), range, purpose, now);
        for span in run {
            self.set(layer, span, State::Requested { fetch: fetch.number });
        }
        fetch
    }

    fn open(
        &mut self,
        layer: usize,
        what: What,
        range: Range<u64>,
        purpose: Purpose,
        now: Duration,
    ) -> Fetch {
        self.numbers += 1;
        let fetch = Fetch { number: self.numbers, layer, what, range, purpose };
        self.open.insert(fetch.number, Open { fetch: fetch.clone(), since: now });
        fetch
    }

    /// Whether a chunk is being fetched, or will be.
    #[must_use]
    pub fn is_chunk_coming(&self, layer: usize, chunk: u32) -> bool {
        self.layers.get(layer).is_some_and(|at| at.chunks.contains(&chunk))
    }

    /// A fetch that is open; `None` if there is none with this number.
    #[must_use]
    pub fn fetch(&self, number: u64) -> Option<&Fetch> {
        self.open.get(&number).map(|open| &open.fetch)
    }

    /// The bytes of a fetch have arrived. What is not [`Self::arrived`] afterwards, is queued again
    /// by [`Self::mismatch`].
    pub fn close(&mut self, number: u64, now: Duration) {
        if let Some(open) = self.open.remove(&number) {
            if open.fetch.purpose == Purpose::Demand {
                self.last_demand = Some(now);
            }
            self.background_pause = Trouble::default();
            if let What::Chunks(run) = open.fetch.what
                && let Some(at) = self.layers.get_mut(open.fetch.layer)
            {
                at.chunks.retain(|chunk| !run.contains(chunk));
            }
        }
    }

    /// A span is here; returns the readers that wait for nothing more.
    pub fn arrived(&mut self, layer: usize, span: u32) -> Vec<u64> {
        if self.is_here(layer, span) && !self.by_span.contains_key(&(layer, span)) {
            return Vec::new();
        }
        self.set(layer, span, State::Here);
        self.trouble.remove(&(layer, span));
        let mut done = Vec::new();
        for number in self.by_span.remove(&(layer, span)).unwrap_or_default() {
            if let Some(reader) = self.readers.get_mut(&number) {
                reader.spans.remove(&(layer, span));
                if reader.spans.is_empty() {
                    let deadline = reader.deadline;
                    self.readers.remove(&number);
                    self.deadlines.remove(&(deadline, number));
                    done.push(number);
                }
            }
        }
        done
    }

    /// A span that was here is gone, such as from a cache.
    pub fn lost(&mut self, layer: usize, span: u32) {
        if self.state(layer, span) == State::Here {
            self.set(layer, span, State::Absent);
            if (layer, span) < self.cursor {
                self.cursor = (layer, span);
            }
        }
    }

    /// A fetch failed: what readers wait for is queued again, after a pause.
    pub fn failed(&mut self, number: u64, now: Duration) {
        let Some(open) = self.open.remove(&number) else { return };
        let Fetch { layer, what, purpose, .. } = open.fetch;
        let spans = match what {
            What::Spans(run) => run,
            What::Chunks(run) => {
                // Spans that are here but for their chunk wait for it, so it is fetched again.
                pause(&mut self.background_pause, now);
                let not_before = self.background_pause.not_before;
                self.chunks.push_back(QueuedChunks { layer, run, purpose, not_before });
                return;
            }
        };
        let mut has_reader = false;
        for span in spans.clone() {
            has_reader |= self.again(layer, span, number, now);
        }
        if !has_reader {
            pause(&mut self.background_pause, now);
            match purpose {
                Purpose::List => self.list.push_back((layer, spans)),
                Purpose::Demand | Purpose::Background => {}
            }
        }
    }

    /// A span of a fetch is not here after all. Returns whether a reader waits for it.
    fn again(&mut self, layer: usize, span: u32, fetch: u64, now: Duration) -> bool {
        if self.state(layer, span) != (State::Requested { fetch }) {
            return false;
        }
        if (layer, span) < self.cursor {
            self.cursor = (layer, span);
        }
        if !self.by_span.contains_key(&(layer, span)) {
            self.set(layer, span, State::Absent);
            return false;
        }
        pause(self.trouble.entry((layer, span)).or_default(), now);
        self.set(layer, span, State::Wanted);
        self.demand.push_back((layer, span));
        true
    }

    /// The bytes of a span do not match its digest, or do not decode. It is fetched again, but not
    /// for ever: returns the readers that give up.
    pub fn mismatch(&mut self, layer: usize, span: u32, fetch: u64, now: Duration) -> Vec<u64> {
        self.again(layer, span, fetch, now);
        pause(&mut self.background_pause, now);
        let Some(trouble) = self.trouble.get_mut(&(layer, span)) else { return Vec::new() };
        trouble.mismatches += 1;
        if trouble.mismatches < MAX_MISMATCHES {
            return Vec::new();
        }
        let readers = self.by_span.get(&(layer, span)).cloned().unwrap_or_default();
        readers.iter().for_each(|number| self.forget(*number, now));
        readers
    }

    /// The readers whose time is up. What they waited for is forgotten, so that the next reader asks
    /// for it anew.
    pub fn expired(&mut self, now: Duration) -> Vec<u64> {
        let mut expired = Vec::new();
        while let Some(((deadline, number), ())) = self.deadlines.first_key_value() {
            if *deadline > now {
                break;
            }
            let number = *number;
            self.forget(number, now);
            expired.push(number);
        }
        expired
    }

    /// When the time of the next reader is up.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.keys().next().map(|(deadline, _)| *deadline)
    }

    /// The number of readers that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.readers.len()
    }

    fn forget(&mut self, number: u64, now: Duration) {
        let Some(reader) = self.readers.remove(&number) else { return };
        self.deadlines.remove(&(reader.deadline, number));
        for (layer, span) in reader.spans {
            // Not prolonged by those that come meanwhile: the next real try is soon.
            self.given_up.entry((layer, span)).or_insert(now + GIVEN_UP);
            let Some(others) = self.by_span.get_mut(&(layer, span)) else { continue };
            others.retain(|other| *other != number);
            if others.is_empty() {
                self.by_span.remove(&(layer, span));
                self.trouble.remove(&(layer, span));
                if self.state(layer, span) != State::Here {
                    self.set(layer, span, State::Absent);
                    if (layer, span) < self.cursor {
                        self.cursor = (layer, span);
                    }
                    if let Some(at) = self.layers.get_mut(layer)
                        && let Some(chunk) = at.table.missing_chunk(span)
                    {
                        at.chunks.remove(&chunk);
                    }
                }
            }
        }
    }
}

fn pause(trouble: &mut Trouble, now: Duration) {
    let doubled = FIRST_PAUSE.saturating_mul(1 << trouble.failures.min(6));
    trouble.failures = trouble.failures.saturating_add(1);
    trouble.not_before = now + doubled.min(LAST_PAUSE);
}

const fn len(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}
