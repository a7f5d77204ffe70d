//! The order of fetches: spans that readers wait for, then listed spans, then all others.
//!
//! Each span has one state. Neighbouring spans are fetched together. The chunk of the seek table that
//! a span needs is requested just before the span, and both are fetched at the same time. A reader
//! waits for one or more spans, with one deadline for all attempts; a span whose fetch failed is
//! queued again. `next` chooses the next fetch, `outcome` handles its result.

mod next;
mod outcome;
mod unlisted;

use core::time::Duration;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Range;

use self::unlisted::Unlisted;
use super::{Policy, Table};

/// How chunks are joined to requests: a second request takes longer than the bytes between two chunks.
const CHUNKS: Policy = Policy { gap: 128 << 10, longest: 1 << 20 };
/// A span that a reader needs is requested again if its fetch is older than this.
const STALE: Duration = Duration::from_secs(10);
/// Background fetches start once no reader has waited for this long.
const QUIET: Duration = Duration::from_millis(150);
/// After each further time of this length without a reader, background fetches may be twice as large
/// and one more may be open: a reader that comes shares the connection with all of them.
const CALM: Duration = Duration::from_millis(500);
/// A program does not follow the list if at least this many of its last eight waits were for other spans.
const MANY_MISSES: u32 = 5;
/// If there has been no background fetch for this long, one starts although readers wait.
const STARVED: Duration = Duration::from_secs(3);
/// Pause after a failed fetch, which doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Maximum pause.
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// A span whose bytes do not match its digest is fetched this many times for one reader.
const MAX_MISMATCHES: u32 = 3;

/// After a reader has given up on a span, reads of that span fail at once for this long: the kernel
/// repeats a failed read for each page and each reader.
const GIVEN_UP: Duration = Duration::from_millis(100);

/// Limits of fetches and of waiting.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Compressed size of the first fetch for a reader, which may include more than it needs.
    pub request: u64,
    /// Maximum compressed size to which fetches grow while a file is read in order; also the size of
    /// background fetches.
    pub longest: u64,
    /// Maximum number of concurrent background fetches.
    pub background: usize,
    /// Maximum number of concurrent fetches that no reader waits for. The caller carries out at least one
    /// more at the same time, so that a connection is free when a reader comes.
    pub ahead: usize,
    /// Maximum time that a reader waits.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request: 512 << 10,
            longest: 4 << 20,
            background: 4,
            ahead: 6,
            patience: Duration::from_secs(30),
        }
    }
}

/// The reason for a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A reader waits for it.
    Demand,
    /// It was listed in advance.
    List,
    /// The whole image is being downloaded.
    Background,
}

impl Purpose {
    /// The name that Python uses.
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
    /// The reason.
    pub purpose: Purpose,
}

/// The next action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Fetch this.
    Fetch(Fetch),
    /// Wait until this time or until something changes; `None` for no time limit.
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
    /// Which spans have been listed; empty if none has.
    listed: Vec<bool>,
    /// Chunks that are being fetched.
    chunks: HashSet<u32>,
    /// The last span of the last fetch for a reader, and the size of that fetch.
    last: Option<(u32, u64)>,
    here: u32,
}

impl Layer {
    /// Whether a span is missing, and is to be fetched in the background. The frames of a pack are only if
    /// they have been listed: all their bytes are in spans.
    fn is_wanted_ahead(&self, span: u32) -> bool {
        self.spans.get(span as usize) == Some(&State::Absent)
            && (!matches!(self.table, Table::Pack(_))
                || self.listed.get(span as usize).copied().unwrap_or(false))
    }
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

/// Schedules fetches; see the module.
#[derive(Debug)]
pub struct Scheduler {
    layers: Vec<Layer>,
    limits: Limits,
    demand: VecDeque<(usize, u32)>,
    chunks: VecDeque<QueuedChunks>,
    list: VecDeque<(usize, Range<u32>)>,
    /// For each of the last eight waits, the newest in the lowest bit, whether it was for spans that
    /// are not listed.
    misses: u8,
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
    /// When a reader last needed a span that was missing.
    last_demand: Option<Duration>,
    last_background: Duration,
    in_background: bool,
    background_pause: Trouble,
    /// No background fetch before this time.
    background_from: Duration,
}

impl Scheduler {
    /// Starts with the spans of all layers, all of them missing.
    #[must_use]
    pub fn new(tables: Vec<Table>, limits: Limits) -> Self {
        let layers = tables.into_iter().map(|table| {
            let spans = vec![State::Absent; table.span_count() as usize];
            Layer { table, spans, listed: Vec::new(), chunks: HashSet::new(), last: None, here: 0 }
        });
        Self {
            layers: layers.collect(),
            limits,
            demand: VecDeque::new(),
            chunks: VecDeque::new(),
            list: VecDeque::new(),
            misses: 0,
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

    /// Sets whether the rest of the image is fetched in the background.
    pub fn set_background(&mut self, on: bool) {
        self.in_background = on;
    }

    /// Records that readers may come soon, so that background fetches begin slowly.
    pub fn expect_readers(&mut self, now: Duration) {
        self.last_demand = Some(now);
    }

    /// Starts no background fetch before this time.
    pub fn hold_background(&mut self, until: Duration) {
        self.background_from = until;
    }

    /// Whether all spans of all layers have arrived.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.layers.iter().all(|layer| layer.here as usize == layer.spans.len())
    }

    /// The number of spans that have arrived, and of all spans.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let here = self.layers.iter().map(|layer| u64::from(layer.here)).sum();
        (here, self.layers.iter().map(|layer| layer.spans.len() as u64).sum())
    }

    /// The total compressed size of the missing spans.
    #[must_use]
    pub fn bytes_left(&self) -> u64 {
        let mut left = 0;
        for layer in &self.layers {
            let absent = (0..).zip(&layer.spans).filter(|(_, state)| **state != State::Here);
            left += absent.map(|(span, _)| len(&layer.table.compressed(span))).sum::<u64>();
        }
        left
    }

    /// Whether a span has arrived.
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

    /// Registers a reader that waits for spans, until all have arrived or its time is up. Returns its
    /// number; `None` if no span is missing.
    pub fn wait_for(&mut self, wanted: &[(usize, Range<u32>)], now: Duration) -> Option<u64> {
        let all = wanted.iter().flat_map(|(layer, spans)| spans.clone().map(|span| (*layer, span)));
        let missing: HashSet<(usize, u32)> =
            all.filter(|(layer, span)| !self.is_here(*layer, *span)).collect();
        if missing.is_empty() {
            return None;
        }
        let is_listed = |(layer, span): &(usize, u32)| {
            let listed = self.layers.get(*layer).and_then(|at| at.listed.get(*span as usize));
            listed.copied().unwrap_or(false)
        };
        self.misses = self.misses << 1 | u8::from(!missing.iter().any(is_listed));
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
            // The spans of a closed fetch have arrived and are being inflated.
            State::Requested { fetch } => {
                self.open.get(&fetch).is_some_and(|open| now.saturating_sub(open.since) > STALE)
            }
            State::Wanted | State::Here => false,
        };
        if again {
            self.set(layer, span, State::Wanted);
            self.demand.push_back((layer, span));
        }
    }

    /// Queues spans to fetch in advance, in this order; neighbouring spans are fetched together. Each
    /// span is queued once, and costs time once, however often it is named. Returns the compressed
    /// size of those that are missing.
    pub fn list(&mut self, spans: impl IntoIterator<Item = (usize, Range<u32>)>) -> u64 {
        let (mut runs, mut bytes) = (Vec::<(usize, Range<u32>)>::new(), 0);
        let mut unlisted: HashMap<usize, Unlisted> = HashMap::new();
        for (layer, range) in spans {
            let Some(at) = self.layers.get_mut(layer) else { continue };
            let of_layer = unlisted.entry(layer).or_insert_with(|| Unlisted::new(&at.spans));
            at.listed.resize(at.spans.len(), false);
            let mut from = range.start;
            while let Some(span) = of_layer.take(from, range.end) {
                from = span + 1;
                bytes += len(&at.table.compressed(span));
                if let Some(is_listed) = at.listed.get_mut(span as usize) {
                    *is_listed = true;
                }
                match runs.last_mut() {
                    Some((last, run)) if *last == layer && run.end == span => run.end += 1,
                    _ => runs.push((layer, span..span + 1)),
                }
            }
        }
        // All chunks come first: they are small, and every span needs one.
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
        self.misses = 0;
        bytes
    }

    /// Notes the spans of a file in use, which are fetched first in the background.
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
            let of_run = |run: &Range<u32>| {
                at.table.chunk_range(run.start).start..at.table.chunk_range(run.end - 1).end
            };
            match runs.last_mut() {
                Some((last, run))
                    if *last == layer && run.end <= chunk && CHUNKS.joins(&of_run(run), &range) =>
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
}

fn pause(trouble: &mut Trouble, now: Duration) {
    let doubled = FIRST_PAUSE.saturating_mul(1 << trouble.failures.min(6));
    trouble.failures = trouble.failures.saturating_add(1);
    trouble.not_before = now + doubled.min(LAST_PAUSE);
}

const fn len(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}
