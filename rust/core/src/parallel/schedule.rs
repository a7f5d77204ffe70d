//! Who does what next.
//!
//! All workers share one state behind one lock, which is held to choose a task and to put its result back,
//! never while working. A worker takes the most urgent task there is: what output waits for first, what
//! only looks ahead last. So nobody idles while there is work, and speculation uses only time that would
//! be lost otherwise.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::join::{Joiner, Slot};
use super::probe::Match;
use super::source::Stretch;
use super::speculate::Speculation;
use super::task::{HashWork, Outcome, Scanner, Task};
use super::tools::Tools;
use super::{Boundaries, Compressed, Consumers, Output, Progress, Settings, Whole};
use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::span::BitOffset;

/// Units of a range that is speculated on.
const RANGE_LEN: usize = 6;
/// Slots of output that stop the joiner from making more.
const MAX_SLOTS: usize = 32;
/// Units hashed in one task.
const MAX_HASHED: usize = 4;
/// Units that may wait for their digests before two workers make them.
const MANY_HASHED: usize = 3 * MAX_HASHED;
/// The widest gap between ranges, for two threads; with more the joiner's part becomes smaller.
const MAX_GAP: usize = 4 * RANGE_LEN;
/// The gap to start with.
const FIRST_GAP: usize = RANGE_LEN;
/// Claims in a row that may be of no use before speculation pauses, twice as long with each more.
const MAX_FAILURES: u32 = 2;
/// From so many on, pauses do not become longer: 2^n ranges.
const MAX_BACKOFF: u32 = 6;

/// A range of units that some worker speculates on, or has.
#[derive(Debug)]
struct Claim {
    first_unit: usize,
    end_unit: usize,
    /// `None` while the worker is at it.
    result: Option<Option<Box<Speculation>>>,
    /// Whether the joiner had to wait for it.
    was_awaited: bool,
}

/// Everything that workers share.
#[derive(Debug)]
pub(super) struct State<B, C, W, O> {
    settings: Settings,
    /// The byte of the layer at which unit 0 begins.
    start: u64,
    /// Units that are still needed, `first_unit` the first one's number.
    units: VecDeque<Arc<Vec<u8>>>,
    first_unit: usize,
    /// The byte of the layer behind the last unit.
    end: u64,
    is_ended: bool,

    /// Absent while a worker has it, as the scanner and the compressed bytes' consumer are.
    joiner: Option<Box<Joiner<B>>>,
    /// Bytes before which all candidates are known.
    joined: u64,
    is_joined: bool,
    claims: VecDeque<Claim>,
    /// Where the last claim ends.
    claimed: usize,
    /// Units between two claims that are left to the joiner: more of them when it has to wait for a claim,
    /// fewer when claims wait for it.
    gap: usize,
    /// Claims in a row that were of no use.
    failures: u32,
    /// Until the joiner is at this unit, nothing is claimed.
    resume_at: usize,

    checkpoints: VecDeque<Checkpoint>,
    compressed: Option<Box<C>>,
    /// The unit that `compressed` takes next.
    compressed_unit: usize,
    whole: Option<Box<W>>,
    /// The unit that `whole` takes next.
    whole_unit: usize,

    slots: VecDeque<Slot>,
    /// Number of the first slot.
    first_slot: u64,
    scanner: Option<Box<Scanner<O>>>,

    failure: Option<Error>,
}

impl<B: Boundaries, C: Compressed<W>, W: Whole, O: Output> State<B, C, W, O> {
    pub(super) fn new(
        settings: Settings,
        from: Progress,
        consumers: Consumers<B, C, W, O>,
    ) -> Self {
        let Progress { mut decoder, written } = from;
        let (start, check) = (decoder.taken(), decoder.leave_checks());
        Self {
            settings,
            start,
            units: VecDeque::new(),
            first_unit: 0,
            end: start,
            is_ended: false,
            joiner: Some(Box::new(Joiner::new(decoder, written, consumers.boundaries))),
            joined: start,
            is_joined: false,
            claims: VecDeque::new(),
            claimed: 0,
            gap: FIRST_GAP.min(max_gap(settings)),
            failures: 0,
            resume_at: 0,
            checkpoints: VecDeque::new(),
            compressed: Some(Box::new(consumers.compressed)),
            compressed_unit: 0,
            whole: Some(Box::new(consumers.whole)),
            whole_unit: 0,
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

    /// The last unit has been added.
    pub(super) const fn end(&mut self) {
        self.is_ended = true;
    }

    /// The first thing wrong in the layer, once it has been found.
    pub(super) const fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    /// Gives the consumers back, unless some worker has one.
    pub(super) fn take_consumers(&mut self) -> Option<Consumers<B, C, W, O>> {
        Some(Consumers {
            boundaries: self.joiner.take()?.into_boundaries(),
            compressed: *self.compressed.take()?,
            whole: *self.whole.take()?,
            output: self.scanner.take()?.into_output(),
        })
    }

    /// Whether another unit may come.
    pub(super) fn has_room(&self) -> bool {
        // Each worker's range, the gap before it, and what the joiner and the hash still need.
        self.units.len() < 4 * RANGE_LEN + MAX_GAP + self.settings.threads * (RANGE_LEN + 2)
    }

    /// Whether all consumers have everything.
    pub(super) fn is_finished(&self) -> bool {
        let all_back = self.joiner.is_some()
            && self.compressed.is_some()
            && self.whole.is_some()
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

    /// The units from `first` to before `end`, as far as they are here.
    fn stretch(&self, first: usize, end: usize) -> Stretch {
        let first = first.max(self.first_unit);
        let range = first - self.first_unit..end.clamp(first, self.end_unit()) - self.first_unit;
        let units = self.units.range(range).cloned().collect();
        Stretch::new(self.start_of(first), self.settings.unit_len, units)
    }

    /// Chooses the most urgent task, if there is any.
    pub(super) fn choose(&mut self) -> Option<Task<B, C, W, O>> {
        self.scan()
            .or_else(|| self.resolve())
            .or_else(|| self.join())
            .or_else(|| self.hash())
            .or_else(|| self.speculate())
            .or_else(|| self.hash_whole(self.end_unit()))
    }

    fn scan(&mut self) -> Option<Task<B, C, W, O>> {
        let is_ready = |slot: &Slot| matches!(slot, Slot::Checked(_) | Slot::Failed(_));
        let count = self.slots.iter().take_while(|slot| is_ready(slot)).count();
        if count == 0 {
            return None;
        }
        let scanner = self.scanner.take()?;
        self.first_slot += count as u64;
        Some(Task::Scan(scanner, self.slots.drain(..count).collect()))
    }

    fn resolve(&mut self) -> Option<Task<B, C, W, O>> {
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

    fn join(&mut self) -> Option<Task<B, C, W, O>> {
        if self.is_joined || self.slots.len() >= MAX_SLOTS {
            return None;
        }
        let joiner = self.joiner.take()?;
        let position = joiner.position();
        let unit = self.unit_of(joiner.taken());
        while let Some(claim) = self.claims.front() {
            let start = BitOffset(self.start_of(claim.first_unit) * 8);
            if unit > claim.end_unit {
                // A block reached over all of it.
                self.drop_claim();
                continue;
            }
            if position < start || !joiner.is_at_header() {
                return self.decode(joiner, unit, Some(start));
            }
            let result = self.claims.front_mut().and_then(|claim| claim.result.take());
            let Some(result) = result else {
                self.widen_gap();
                self.joiner = Some(joiner);
                return None;
            };
            let Some(speculation) = result else {
                self.drop_claim();
                continue;
            };
            let nearby = self.stretch(unit.saturating_sub(1), unit + 2);
            match joiner.compare(speculation.start, &nearby) {
                Match::Here => {
                    let claim = self.claims.pop_front();
                    self.failures = 0;
                    if claim.is_some_and(|claim| !claim.was_awaited) {
                        self.gap = self.gap.saturating_sub(1);
                    }
                    return Some(Task::Accept(joiner, speculation));
                }
                Match::Ahead => {
                    let stop = speculation.start.earliest();
                    if let Some(claim) = self.claims.front_mut() {
                        claim.result = Some(Some(speculation));
                    }
                    return self.decode(joiner, unit, Some(stop));
                }
                Match::Never => self.drop_claim(),
            }
        }
        self.decode(joiner, unit, None)
    }

    /// Lets the joiner decode its unit, if it is here.
    fn decode(
        &mut self,
        joiner: Box<Joiner<B>>,
        unit: usize,
        stop: Option<BitOffset>,
    ) -> Option<Task<B, C, W, O>> {
        if joiner.taken() < self.end || !joiner.is_starved() {
            // The unit before holds the byte in which a block may begin.
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

    fn drop_claim(&mut self) {
        self.claims.pop_front();
        self.failures = self.failures.saturating_add(1).min(MAX_BACKOFF);
        if self.failures > MAX_FAILURES {
            self.resume_at = self.unit_of(self.joined) + (RANGE_LEN << self.failures);
        }
    }

    /// Both consumers of compressed bytes together, while they keep up; each alone when they are behind, so
    /// that two workers can help.
    fn hash(&mut self) -> Option<Task<B, C, W, O>> {
        let settled = if self.is_joined { self.end_unit() } else { self.unit_of(self.joined) };
        let is_behind = settled.saturating_sub(self.compressed_unit) > MANY_HASHED;
        let is_even = self.whole_unit == self.compressed_unit;
        if is_even && !is_behind && self.compressed.is_some() && self.whole.is_some() {
            let units = self.units_to_hash(self.compressed_unit, settled)?;
            let work = self.hash_work(units.clone(), true);
            (self.compressed_unit, self.whole_unit) = (units.end, units.end);
            return Some(self.hash_task(true, true, work));
        }
        if self.compressed.is_some()
            && (is_behind || self.compressed_unit < self.whole_unit)
            && let Some(units) = self.units_to_hash(self.compressed_unit, settled)
        {
            let work = self.hash_work(units.clone(), true);
            self.compressed_unit = units.end;
            return Some(self.hash_task(true, false, work));
        }
        if is_behind || self.whole_unit < self.compressed_unit {
            return self.hash_whole(settled);
        }
        None
    }

    /// The consumer that needs no checkpoints.
    fn hash_whole(&mut self, end: usize) -> Option<Task<B, C, W, O>> {
        self.whole.as_ref()?;
        let units = self.units_to_hash(self.whole_unit, end)?;
        let work = self.hash_work(units.clone(), false);
        self.whole_unit = units.end;
        Some(self.hash_task(false, true, work))
    }

    fn units_to_hash(&self, first: usize, end: usize) -> Option<Range<usize>> {
        let end = end.min(first + MAX_HASHED).min(self.end_unit());
        (first < end).then_some(first..end)
    }

    fn hash_work(&mut self, units: Range<usize>, with_checkpoints: bool) -> Vec<HashWork> {
        let mut work = Vec::with_capacity(units.len());
        for index in units {
            let start = self.start_of(index);
            let unit = Arc::clone(&self.units[index - self.first_unit]);
            let end = start + unit.len() as u64;
            let is_inside = |checkpoint: &Checkpoint| checkpoint.first_byte().0 < end;
            let inside = self.checkpoints.iter().take_while(|next| is_inside(next)).count();
            let inside = if with_checkpoints { inside } else { 0 };
            let checkpoints = self.checkpoints.drain(..inside).collect();
            work.push(HashWork { start, unit, checkpoints });
        }
        work
    }

    fn hash_task(
        &mut self,
        with_compressed: bool,
        with_whole: bool,
        work: Vec<HashWork>,
    ) -> Task<B, C, W, O> {
        let done = self.compressed_unit.min(self.whole_unit);
        self.units.drain(..done - self.first_unit);
        self.first_unit = done;
        let compressed = if with_compressed { self.compressed.take() } else { None };
        let whole = if with_whole { self.whole.take() } else { None };
        Task::Hash(compressed, whole, work)
    }

    fn speculate(&mut self) -> Option<Task<B, C, W, O>> {
        // One worker is left to the joiner, whose way of decoding costs least.
        let running = self.claims.iter().filter(|claim| claim.result.is_none()).count();
        let threads = self.settings.threads;
        if self.is_joined || running + 1 >= threads || self.claims.len() > threads {
            return None;
        }
        let here = self.unit_of(self.joined);
        if here < self.resume_at {
            return None;
        }
        let first_unit = self.claimed.max(here + 1) + self.gap;
        // The last block of a range ends behind it.
        let end_unit = first_unit + RANGE_LEN;
        if end_unit >= self.end_unit() && !(self.is_ended && first_unit < self.end_unit()) {
            return None;
        }
        let end_unit = end_unit.min(self.end_unit());
        self.claimed = end_unit;
        self.claims.push_back(Claim { first_unit, end_unit, result: None, was_awaited: false });
        Some(Task::Speculate {
            first_unit,
            stretch: self.stretch(first_unit - 1, end_unit + 1),
            range: self.start_of(first_unit)..self.start_of(end_unit),
        })
    }

    /// The joiner has to wait for a claim: it shall have more to decode itself before the next.
    fn widen_gap(&mut self) {
        if let Some(claim) = self.claims.front_mut()
            && !std::mem::replace(&mut claim.was_awaited, true)
        {
            self.gap = (self.gap + 1).min(max_gap(self.settings));
        }
    }

    /// Takes in what a task came to.
    pub(super) fn put_back(&mut self, outcome: Outcome<B, C, W, O>, tools: &Tools) {
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
            Outcome::Hashed(compressed, whole, work) => {
                self.compressed = self.compressed.take().or(compressed);
                self.whole = self.whole.take().or(whole);
                let units = work.into_iter().filter_map(|work| Arc::into_inner(work.unit));
                units.for_each(|unit| tools.units.give(unit));
            }
            Outcome::Speculated(first_unit, result) => {
                let mut claims = self.claims.iter_mut();
                if let Some(claim) = claims.find(|claim| claim.first_unit == first_unit) {
                    claim.result = Some(result);
                }
            }
        }
    }
}

/// The widest gap that the joiner fills while as many others decode a range each. What is claimed with a
/// wider one, when the joiner had to wait once, holds all of them up later.
const fn max_gap(settings: Settings) -> usize {
    let others = settings.threads.saturating_sub(1);
    if others == 0 { MAX_GAP } else { MAX_GAP.div_ceil(others) }
}
