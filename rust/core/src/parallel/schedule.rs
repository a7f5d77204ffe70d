//! The scheduler: chooses the next task for each worker.
//!
//! All workers share one state behind one lock. They hold the lock to choose a task and to store
//! its outcome, but not while running it. A worker takes the most urgent task: tasks that output
//! waits for come first, and tasks that only work ahead come last. So no worker is idle while there
//! is work, and speculation uses only time that would otherwise be wasted.
//!
//! The joiner, the scanner and the two consumers of compressed bytes are either in the state
//! (`Some`) or in use by one worker (`None`). Claims, slots and units are queues in stream order.
//!
//! | state | meaning | next |
//! |---|---|---|
//! | joiner `Inside` | inside a block, a header or a trailer | decode: any state but `Accepted` |
//! | joiner `Starved` | has used all available input | decode the next unit; finish after the last |
//! | joiner `AtHeader` | a speculation may begin here | decode; accept: `Accepted` or `Finished` |
//! | joiner `Accepted` | at the end of a speculation | as `AtHeader` |
//! | joiner `Finished` | at the end of the layer, or at its first error | |
//! | claim `Running` | a worker is decoding the range | `Decoded` or `Failed` |
//! | claim `Decoded` | the result waits for the joiner | accepted if it begins where the joiner is |
//! | claim `Failed` | no block was found | dropped when the joiner gets there |
//! | any claim | the joiner is past it | dropped |
//! | slot `Marked` | output with markers | resolve: `Resolving`, then `Checked` |
//! | slot `Resolving` | a worker is replacing the markers | `Checked` |
//! | slot `Checked` | bytes with their checksums | scan, after all slots before it |
//! | slot `Failed` | the first error in the layer | scan: the pipeline fails |
//! | unit in `units` | still to be hashed by one or both consumers | hash, once joined |
//! | unit hashed | still used by some tasks | its buffer is reused after them |

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::join::{Joiner, Slot};
use super::probe::Match;
use super::source::Stretch;
use super::speculate::Speculation;
use super::task::{HashWork, Hashing, Outcome, Scanner, Task};
use super::tools::Tools;
use super::{ConsumerSet, Consumers, Progress, Settings};
use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::span::BitOffset;

/// Number of units in a range that is decoded speculatively.
const RANGE_LEN: usize = 6;
/// Maximum number of slots; the joiner pauses when there are this many.
const MAX_SLOTS: usize = 32;
/// Maximum number of units hashed in one task.
const MAX_HASHED: usize = 4;
/// Number of units waiting to be hashed above which two workers hash, one for each consumer.
const MAX_HASH_BACKLOG: usize = 3 * MAX_HASHED;
/// Maximum gap between ranges with two threads. With more threads it is smaller, since the joiner
/// has a smaller share of the work.
const MAX_GAP: usize = 4 * RANGE_LEN;
/// Initial gap between ranges.
const FIRST_GAP: usize = RANGE_LEN;
/// Number of consecutive useless claims before speculation pauses. Each further one doubles the
/// pause.
const MAX_FAILURES: u32 = 2;
/// Number of consecutive useless claims after which the pause no longer grows; it is then 2^n
/// ranges.
const MAX_BACKOFF: u32 = 6;

/// A range of units that a worker is decoding or has decoded speculatively.
#[derive(Debug)]
struct Claim {
    first_unit: usize,
    end_unit: usize,
    state: ClaimState,
    /// Whether the joiner had to wait for it.
    was_awaited: bool,
}

#[derive(Debug)]
enum ClaimState {
    /// A worker is decoding the range.
    Running,
    /// The result waits for the joiner.
    Decoded(Box<Speculation>),
    /// No block was found.
    Failed,
}

/// The state that workers share.
#[derive(Debug)]
pub(super) struct State<C: Consumers> {
    settings: Settings,
    /// Offset of unit 0 in the layer.
    start: u64,
    /// The units that are still needed; the first one has number `first_unit`.
    units: VecDeque<Arc<Vec<u8>>>,
    first_unit: usize,
    /// Offset of the end of the last unit in the layer.
    end: u64,
    is_ended: bool,

    joiner: Option<Box<Joiner<C::Policy>>>,
    /// Offset in the layer before which all checkpoints are known.
    joined: u64,
    is_joined: bool,
    claims: VecDeque<Claim>,
    /// The unit at which the last claim ends.
    claimed: usize,
    /// Number of units between two claims, which the joiner decodes itself. It grows when the
    /// joiner has to wait for a claim, and shrinks when claims wait for the joiner.
    gap: usize,
    /// Number of consecutive useless claims.
    failures: u32,
    /// Speculation pauses until the joiner reaches this unit.
    resume_at: usize,

    checkpoints: VecDeque<Checkpoint>,
    spans: Option<Box<C::Spans>>,
    /// The unit that `spans` takes next.
    spans_unit: usize,
    blob: Option<Box<C::Blob>>,
    /// The unit that `blob` takes next.
    blob_unit: usize,

    slots: VecDeque<Slot>,
    /// Number of the first slot.
    first_slot: u64,
    scanner: Option<Box<Scanner<C::Output>>>,

    failure: Option<Error>,
}

impl<C: Consumers> State<C> {
    pub(super) fn new(settings: Settings, from: Progress, consumers: ConsumerSet<C>) -> Self {
        let Progress { mut decoder, written } = from;
        let (start, check) = (decoder.taken(), decoder.leave_checks());
        Self {
            settings,
            start,
            units: VecDeque::new(),
            first_unit: 0,
            end: start,
            is_ended: false,
            joiner: Some(Box::new(Joiner::new(decoder, written, consumers.policy))),
            joined: start,
            is_joined: false,
            claims: VecDeque::new(),
            claimed: 0,
            gap: FIRST_GAP.min(max_gap(settings)),
            failures: 0,
            resume_at: 0,
            checkpoints: VecDeque::new(),
            spans: Some(Box::new(consumers.spans)),
            spans_unit: 0,
            blob: Some(Box::new(consumers.blob)),
            blob_unit: 0,
            slots: VecDeque::new(),
            first_slot: 0,
            scanner: Some(Box::new(Scanner::new(consumers.output, check))),
            failure: None,
        }
    }

    /// Compressed bytes in a unit.
    pub(super) const fn unit_len(&self) -> usize {
        self.settings.unit_len
    }

    /// Takes the next unit.
    pub(super) fn add_unit(&mut self, unit: Vec<u8>) {
        self.end += unit.len() as u64;
        self.units.push_back(Arc::new(unit));
    }

    /// Marks the last unit as added.
    pub(super) const fn end(&mut self) {
        self.is_ended = true;
    }

    /// The first error in the layer, once it has been found.
    pub(super) const fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    /// Returns the consumers, unless one of them is in use by a worker.
    pub(super) fn take_consumers(&mut self) -> Option<ConsumerSet<C>> {
        Some(ConsumerSet {
            policy: self.joiner.take()?.into_policy(),
            spans: *self.spans.take()?,
            blob: *self.blob.take()?,
            output: self.scanner.take()?.into_output(),
        })
    }

    /// Whether another unit may be added.
    pub(super) fn has_room(&self) -> bool {
        // Units for each worker's range and the gap before it, and those that joining and hashing
        // still need.
        self.units.len() < 4 * RANGE_LEN + MAX_GAP + self.settings.threads * (RANGE_LEN + 2)
    }

    /// Whether all consumers have received everything.
    pub(super) fn is_finished(&self) -> bool {
        let all_back = self.joiner.is_some()
            && self.spans.is_some()
            && self.blob.is_some()
            && self.scanner.is_some();
        all_back && self.is_joined && self.slots.is_empty() && self.units.is_empty()
    }

    fn unit_of(&self, byte: u64) -> usize {
        let offset = byte.saturating_sub(self.start);
        usize::try_from(offset / self.settings.unit_len as u64).unwrap_or(usize::MAX)
    }

    fn start_of(&self, unit: usize) -> u64 {
        self.start + unit as u64 * self.settings.unit_len as u64
    }

    fn end_unit(&self) -> usize {
        self.first_unit + self.units.len()
    }

    /// The units from `first` up to `end` that are available.
    fn stretch(&self, first: usize, end: usize) -> Stretch {
        let first = first.max(self.first_unit);
        let range = first - self.first_unit..end.clamp(first, self.end_unit()) - self.first_unit;
        let units = self.units.range(range).cloned().collect();
        Stretch::new(self.start_of(first), self.settings.unit_len, units)
    }

    /// Chooses the most urgent task, if there is one.
    pub(super) fn choose(&mut self) -> Option<Task<C>> {
        self.scan()
            .or_else(|| self.resolve())
            .or_else(|| self.join())
            .or_else(|| self.hash())
            .or_else(|| self.speculate())
            .or_else(|| self.hash_blob(self.end_unit()))
    }

    fn scan(&mut self) -> Option<Task<C>> {
        let is_ready = |slot: &Slot| matches!(slot, Slot::Checked(_) | Slot::Failed(_));
        let count = self.slots.iter().take_while(|slot| is_ready(slot)).count();
        if count == 0 {
            return None;
        }
        let scanner = self.scanner.take()?;
        self.first_slot += count as u64;
        Some(Task::Scan(scanner, self.slots.drain(..count).collect()))
    }

    fn resolve(&mut self) -> Option<Task<C>> {
        let marked = self.slots.iter_mut().zip(self.first_slot..);
        for (slot, number) in marked {
            if let Slot::Marked(..) = slot
                && let Slot::Marked(piece, resolver) = std::mem::replace(slot, Slot::Resolving)
            {
                return Some(Task::Resolve(number, piece, resolver));
            }
        }
        None
    }

    fn join(&mut self) -> Option<Task<C>> {
        if self.is_joined || self.slots.len() >= MAX_SLOTS {
            return None;
        }
        let joiner = self.joiner.take()?;
        let position = joiner.position();
        let unit = self.unit_of(joiner.taken());
        while let Some(claim) = self.claims.front() {
            let start = BitOffset(self.start_of(claim.first_unit) * 8);
            if unit > claim.end_unit {
                // A single block spans the whole range.
                self.drop_claim();
                continue;
            }
            if position < start || !joiner.is_at_header() {
                return self.decode(joiner, unit, Some(start));
            }
            let guess = match &claim.state {
                ClaimState::Decoded(speculation) => speculation.start,
                ClaimState::Failed => {
                    self.drop_claim();
                    continue;
                }
                ClaimState::Running => {
                    self.widen_gap();
                    self.joiner = Some(joiner);
                    return None;
                }
            };
            let nearby = self.stretch(unit.saturating_sub(1), unit + 2);
            match joiner.compare(guess, &nearby) {
                Match::Here => {
                    if let Some(speculation) = self.take_speculation() {
                        return Some(Task::Accept(joiner, speculation));
                    }
                }
                Match::Ahead => return self.decode(joiner, unit, Some(guess.earliest())),
                Match::Never => self.drop_claim(),
            }
        }
        self.decode(joiner, unit, None)
    }

    /// Lets the joiner decode its unit, if it is available.
    fn decode(
        &mut self,
        joiner: Box<Joiner<C::Policy>>,
        unit: usize,
        stop: Option<BitOffset>,
    ) -> Option<Task<C>> {
        if joiner.taken() < self.end || !joiner.is_starved() {
            // Include the previous unit, since a block may begin inside its last byte.
            let stretch = self.stretch(unit.saturating_sub(1), unit + 1);
            let is_free = self.slots.is_empty()
                && self.scanner.as_ref().is_some_and(|scanner| !scanner.is_heavy());
            let scanner = if is_free { self.scanner.take() } else { None };
            return Some(Task::Decode(joiner, scanner, stretch, stop));
        }
        if self.is_ended {
            return Some(Task::Finish(joiner));
        }
        self.joiner = Some(joiner);
        None
    }

    /// Takes the result of the first claim, which was useful.
    fn take_speculation(&mut self) -> Option<Box<Speculation>> {
        let claim = self.claims.pop_front()?;
        let ClaimState::Decoded(speculation) = claim.state else { return None };
        self.failures = 0;
        if !claim.was_awaited {
            self.gap = self.gap.saturating_sub(1);
        }
        Some(speculation)
    }

    /// Drops the first claim, which was useless.
    fn drop_claim(&mut self) {
        self.claims.pop_front();
        self.failures = self.failures.saturating_add(1).min(MAX_BACKOFF);
        if self.failures > MAX_FAILURES {
            self.resume_at = self.unit_of(self.joined) + (RANGE_LEN << self.failures);
        }
    }

    /// Lets both consumers of compressed bytes hash together while they keep up. When they fall
    /// behind, each hashes alone, so that two workers can hash.
    fn hash(&mut self) -> Option<Task<C>> {
        let settled = if self.is_joined { self.end_unit() } else { self.unit_of(self.joined) };
        let is_behind = settled.saturating_sub(self.spans_unit) > MAX_HASH_BACKLOG;
        let is_even = self.blob_unit == self.spans_unit;
        if is_even && !is_behind && self.spans.is_some() && self.blob.is_some() {
            let units = self.units_to_hash(self.spans_unit, settled)?;
            let hashing = Hashing::Both(self.spans.take()?, self.blob.take()?);
            return Some(self.hash_task(hashing, units));
        }
        if (is_behind || self.spans_unit < self.blob_unit)
            && let Some(units) = self.units_to_hash(self.spans_unit, settled)
            && let Some(spans) = self.spans.take()
        {
            return Some(self.hash_task(Hashing::Spans(spans), units));
        }
        if is_behind || self.blob_unit < self.spans_unit {
            return self.hash_blob(settled);
        }
        None
    }

    /// Lets the blob's consumer hash, which needs no checkpoints.
    fn hash_blob(&mut self, end: usize) -> Option<Task<C>> {
        let units = self.units_to_hash(self.blob_unit, end)?;
        let blob = self.blob.take()?;
        Some(self.hash_task(Hashing::Blob(blob), units))
    }

    fn units_to_hash(&self, first: usize, end: usize) -> Option<Range<usize>> {
        let end = end.min(first + MAX_HASHED).min(self.end_unit());
        (first < end).then_some(first..end)
    }

    fn hash_task(&mut self, hashing: Hashing<C>, units: Range<usize>) -> Task<C> {
        let mut work = Vec::with_capacity(units.len());
        for index in units.clone() {
            let unit = Arc::clone(&self.units[index - self.first_unit]);
            let start = self.start_of(index);
            let checkpoints = match hashing {
                Hashing::Both(..) | Hashing::Spans(_) => {
                    self.take_checkpoints(start + unit.len() as u64)
                }
                Hashing::Blob(_) => Vec::new(),
            };
            work.push(HashWork { start, unit, checkpoints });
        }
        match hashing {
            Hashing::Both(..) => (self.spans_unit, self.blob_unit) = (units.end, units.end),
            Hashing::Spans(_) => self.spans_unit = units.end,
            Hashing::Blob(_) => self.blob_unit = units.end,
        }
        let done = self.spans_unit.min(self.blob_unit);
        self.units.drain(..done - self.first_unit);
        self.first_unit = done;
        Task::Hash(hashing, work)
    }

    /// The next checkpoints whose first byte is before `end`.
    fn take_checkpoints(&mut self, end: u64) -> Vec<Checkpoint> {
        let is_before = |checkpoint: &&Checkpoint| checkpoint.first_byte().0 < end;
        let count = self.checkpoints.iter().take_while(is_before).count();
        self.checkpoints.drain(..count).collect()
    }

    fn speculate(&mut self) -> Option<Task<C>> {
        // Leave one worker for the joiner, whose decoding is the cheapest.
        let is_running = |claim: &&Claim| matches!(claim.state, ClaimState::Running);
        let running = self.claims.iter().filter(is_running).count();
        let threads = self.settings.threads;
        if self.is_joined || running + 1 >= threads || self.claims.len() > threads {
            return None;
        }
        let here = self.unit_of(self.joined);
        if here < self.resume_at {
            return None;
        }
        let first_unit = self.claimed.max(here + 1) + self.gap;
        // The last block of a range ends after the range.
        let end_unit = first_unit + RANGE_LEN;
        if end_unit >= self.end_unit() && !(self.is_ended && first_unit < self.end_unit()) {
            return None;
        }
        let end_unit = end_unit.min(self.end_unit());
        self.claimed = end_unit;
        let state = ClaimState::Running;
        self.claims.push_back(Claim { first_unit, end_unit, state, was_awaited: false });
        Some(Task::Speculate {
            first_unit,
            stretch: self.stretch(first_unit - 1, end_unit + 1),
            range: self.start_of(first_unit)..self.start_of(end_unit),
        })
    }

    /// Widens the gap before the next claim, since the joiner has to wait for this one.
    fn widen_gap(&mut self) {
        if let Some(claim) = self.claims.front_mut()
            && !std::mem::replace(&mut claim.was_awaited, true)
        {
            self.gap = (self.gap + 1).min(max_gap(self.settings));
        }
    }

    /// Stores the outcome of a task.
    pub(super) fn put_back(&mut self, outcome: Outcome<C>, tools: &Tools) {
        match outcome {
            Outcome::Scanned(scanner, result) => {
                self.scanner = Some(scanner);
                if let Err(error) = result {
                    self.failure = Some(error);
                }
            }
            Outcome::Resolved(number, piece) => {
                let index = usize::try_from(number - self.first_slot).unwrap_or(usize::MAX);
                if let Some(slot) = self.slots.get_mut(index) {
                    *slot = Slot::Checked(piece);
                }
            }
            Outcome::Joined(joiner, scanner, joined) => {
                if scanner.is_some() {
                    self.scanner = scanner;
                }
                self.joined = joiner.position().byte().0;
                self.is_joined = joiner.is_finished();
                self.joiner = Some(joiner);
                self.slots.extend(joined.slots);
                self.checkpoints.extend(joined.checkpoints);
            }
            Outcome::Hashed(hashing, work) => {
                match hashing {
                    Hashing::Both(spans, blob) => {
                        (self.spans, self.blob) = (Some(spans), Some(blob));
                    }
                    Hashing::Spans(spans) => self.spans = Some(spans),
                    Hashing::Blob(blob) => self.blob = Some(blob),
                }
                let units = work.into_iter().filter_map(|work| Arc::into_inner(work.unit));
                units.for_each(|unit| tools.units.give(unit));
            }
            Outcome::Speculated(first_unit, result) => {
                let mut claims = self.claims.iter_mut();
                if let Some(claim) = claims.find(|claim| claim.first_unit == first_unit) {
                    claim.state = result.map_or(ClaimState::Failed, ClaimState::Decoded);
                }
            }
        }
    }
}

/// Maximum gap: what the joiner can decode while every other worker decodes a range. With a wider
/// gap, all other workers would have to wait for the joiner.
const fn max_gap(settings: Settings) -> usize {
    let others = settings.threads.saturating_sub(1);
    if others == 0 { MAX_GAP } else { MAX_GAP.div_ceil(others) }
}
