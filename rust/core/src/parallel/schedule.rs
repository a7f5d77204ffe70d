//! Who does what next.
//!
//! All workers share one state behind one lock, which is held to choose a task and to put its result back,
//! never while working. A worker takes the most urgent task there is: what output waits for first, what
//! only looks ahead last. So nobody idles while there is work, and speculation uses only time that would
//! be lost otherwise.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::join::{Joined, Joiner, Slot};
use super::piece::{CheckedPiece, MarkKind, Piece, Resolver};
use super::probe::Match;
use super::source::Stretch;
use super::speculate::{Speculation, Tools, speculate};
use super::{Boundaries, Compressed, Consumers, Output, Settings};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::gzip::MemberCheck;
use crate::span::BitOffset;

/// Units of a range that is speculated on.
const RANGE_LEN: usize = 4;
/// Bytes of buffers that the result of one speculation may fill.
const MAX_SPECULATION_LEN: usize = 14 << 20;
/// Slots of output that stop the joiner from making more.
const MAX_SLOTS: usize = 32;
/// Units hashed in one task.
const MAX_HASHED: usize = 4;
/// The widest gap between ranges.
const MAX_GAP: usize = 4 * RANGE_LEN;
/// The gap to start with.
const FIRST_GAP: usize = RANGE_LEN;
/// After so many failures in a row, speculation is as rare as it gets: one range in 2^n.
const MAX_BACKOFF: u32 = 6;

/// A range of units that some worker speculates on, or has.
#[derive(Debug)]
struct Claim {
    first_unit: usize,
    end_unit: usize,
    /// `None` while the worker is at it.
    result: Option<Option<Box<Speculation>>>,
    /// Whether a worker had nothing to do because the joiner waited for it.
    was_awaited: bool,
}

/// Hands output to its consumer and checks members.
#[derive(Debug)]
struct Scanner<O> {
    output: O,
    check: MemberCheck,
}

/// Everything that workers share.
#[derive(Debug)]
pub(super) struct State<B, C, O> {
    settings: Settings,
    /// Units that are still needed, `first_unit` the first one's number.
    units: VecDeque<Arc<Vec<u8>>>,
    first_unit: usize,
    /// Bytes given in units.
    len: u64,
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

    checkpoints: VecDeque<Checkpoint>,
    compressed: Option<Box<C>>,

    slots: VecDeque<Slot>,
    /// Number of the first slot.
    first_slot: u64,
    scanner: Option<Box<Scanner<O>>>,

    failure: Option<Error>,
    panic: Option<Box<dyn Any + Send>>,
    is_stopped: bool,
}

/// A piece of work, with all it needs.
enum Task<B, C, O> {
    Scan(Box<Scanner<O>>, Vec<Slot>),
    Resolve(u64, Piece<u16>, Arc<Resolver>),
    Accept(Box<Joiner<B>>, Box<Speculation>),
    Decode(Box<Joiner<B>>, Stretch, Option<BitOffset>),
    Finish(Box<Joiner<B>>),
    Hash(Box<C>, Vec<HashWork>),
    Speculate { first_unit: usize, stretch: Stretch, range: std::ops::Range<u64> },
}

struct HashWork {
    start: u64,
    unit: Arc<Vec<u8>>,
    checkpoints: Vec<Checkpoint>,
}

/// What a task came to.
enum Outcome<B, C, O> {
    Scanned(Box<Scanner<O>>, Result<()>),
    Resolved(u64, CheckedPiece),
    Joined(Box<Joiner<B>>, Joined),
    Hashed(Box<C>, Vec<HashWork>),
    Speculated(usize, Option<Box<Speculation>>),
}

impl<B: Boundaries, C: Compressed, O: Output> State<B, C, O> {
    fn new(settings: Settings, consumers: Consumers<B, C, O>) -> Self {
        Self {
            settings,
            units: VecDeque::new(),
            first_unit: 0,
            len: 0,
            is_ended: false,
            joiner: Some(Box::new(Joiner::new(consumers.boundaries))),
            joined: 0,
            is_joined: false,
            claims: VecDeque::new(),
            claimed: 0,
            gap: FIRST_GAP,
            failures: 0,
            checkpoints: VecDeque::new(),
            compressed: Some(Box::new(consumers.compressed)),
            slots: VecDeque::new(),
            first_slot: 0,
            scanner: Some(Box::new(Scanner {
                output: consumers.output,
                check: MemberCheck::new(),
            })),
            failure: None,
            panic: None,
            is_stopped: false,
        }
    }

    /// Whether another unit may come.
    pub(super) fn has_room(&self) -> bool {
        // Each worker's range, the gap before it, and what the joiner and the hash still need.
        self.units.len() < 4 * RANGE_LEN + MAX_GAP + self.settings.threads * (RANGE_LEN + 2)
    }

    /// Whether all consumers have everything.
    pub(super) fn is_finished(&self) -> bool {
        let all_back = self.joiner.is_some() && self.compressed.is_some() && self.scanner.is_some();
        all_back && self.is_joined && self.slots.is_empty() && self.units.is_empty()
    }

    fn unit_of(&self, byte: u64) -> usize {
        usize::try_from(byte / self.settings.unit_len as u64).unwrap_or(usize::MAX)
    }

    fn start_of(&self, unit: usize) -> u64 {
        unit as u64 * self.settings.unit_len as u64
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
    fn choose(&mut self) -> Option<Task<B, C, O>> {
        self.scan()
            .or_else(|| self.resolve())
            .or_else(|| self.join())
            .or_else(|| self.hash())
            .or_else(|| self.speculate())
    }

    fn scan(&mut self) -> Option<Task<B, C, O>> {
        let is_ready = |slot: &Slot| matches!(slot, Slot::Checked(_) | Slot::Failed(_));
        let count = self.slots.iter().take_while(|slot| is_ready(slot)).count();
        if count == 0 {
            return None;
        }
        let scanner = self.scanner.take()?;
        self.first_slot += count as u64;
        Some(Task::Scan(scanner, self.slots.drain(..count).collect()))
    }

    fn resolve(&mut self) -> Option<Task<B, C, O>> {
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

    fn join(&mut self) -> Option<Task<B, C, O>> {
        if self.is_joined || self.slots.len() >= MAX_SLOTS {
            return None;
        }
        let joiner = self.joiner.take()?;
        let position = joiner.position();
        let unit = self.unit_of(joiner.taken());
        while let Some(claim) = self.claims.front_mut() {
            let (first_unit, end_unit) = (claim.first_unit, claim.end_unit);
            let start = BitOffset(first_unit as u64 * self.settings.unit_len as u64 * 8);
            if unit > end_unit {
                // A block reached over all of it.
                self.drop_claim();
                continue;
            }
            if position < start || !joiner.is_at_header() {
                return self.decode(joiner, unit, Some(start));
            }
            let Some(result) = &mut claim.result else {
                self.joiner = Some(joiner);
                return None;
            };
            let Some(speculation) = result.take() else {
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
    ) -> Option<Task<B, C, O>> {
        if joiner.taken() < self.len || !joiner.is_starved() {
            // The unit before holds the byte in which a block may begin.
            let stretch = self.stretch(unit.saturating_sub(1), unit + 1);
            return Some(Task::Decode(joiner, stretch, stop));
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
    }

    fn hash(&mut self) -> Option<Task<B, C, O>> {
        let settled = if self.is_joined { self.end_unit() } else { self.unit_of(self.joined) };
        let count = settled.saturating_sub(self.first_unit).min(MAX_HASHED).min(self.units.len());
        if count == 0 {
            return None;
        }
        let compressed = self.compressed.take()?;
        let mut work = Vec::with_capacity(count);
        for unit in self.units.drain(..count) {
            let start = self.first_unit as u64 * self.settings.unit_len as u64;
            let end = start + unit.len() as u64;
            let is_inside = |checkpoint: &Checkpoint| checkpoint.first_byte().0 < end;
            let inside = self.checkpoints.iter().take_while(|next| is_inside(next)).count();
            let checkpoints = self.checkpoints.drain(..inside).collect();
            work.push(HashWork { start, unit, checkpoints });
            self.first_unit += 1;
        }
        Some(Task::Hash(compressed, work))
    }

    fn speculate(&mut self) -> Option<Task<B, C, O>> {
        if self.is_joined || self.claims.len() + 1 >= self.settings.threads {
            return None;
        }
        let behind = self.claimed.max(self.unit_of(self.joined) + 1);
        let gap = if self.failures < 3 { self.gap } else { RANGE_LEN << self.failures };
        let first_unit = behind + gap;
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

    /// Remembers that a worker has nothing to do while the joiner waits for a claim.
    fn note_idleness(&mut self) {
        if self.joiner.is_some()
            && !self.is_joined
            && let Some(claim) = self.claims.front_mut()
            && claim.result.is_none()
            && !claim.was_awaited
            && self.slots.is_empty()
        {
            claim.was_awaited = true;
            self.gap = (self.gap + 1).min(MAX_GAP);
        }
    }

    /// Takes in what a task came to.
    fn put_back(&mut self, outcome: Outcome<B, C, O>, tools: &Tools) {
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
            Outcome::Joined(joiner, joined) => {
                self.joined = joiner.position().byte().0;
                self.is_joined = joiner.is_finished();
                self.joiner = Some(joiner);
                self.slots.extend(joined.slots);
                self.checkpoints.extend(joined.checkpoints);
            }
            Outcome::Hashed(compressed, work) => {
                self.compressed = Some(compressed);
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

impl<B: Boundaries, C: Compressed, O: Output> Task<B, C, O> {
    fn run(self, tools: &Tools) -> Outcome<B, C, O> {
        match self {
            Self::Scan(mut scanner, slots) => {
                let result = slots.into_iter().try_for_each(|slot| scanner.take(slot, tools));
                Outcome::Scanned(scanner, result)
            }
            Self::Resolve(number, piece, resolver) => {
                let mut buffer = tools.byte_buffers.take_buffer();
                let range = piece.filled.range.clone();
                resolver.resolve(piece.filled.output(), &mut buffer[range.clone()]);
                tools.unit_buffers.give(piece.filled.buffer);
                let filled = crate::inflate::Filled { buffer, range };
                let piece = Piece { filled, marks: piece.marks };
                Outcome::Resolved(number, CheckedPiece::new(piece))
            }
            Self::Accept(mut joiner, speculation) => {
                let joined = joiner.accept(*speculation);
                Outcome::Joined(joiner, joined)
            }
            Self::Decode(mut joiner, stretch, stop) => {
                let joined = joiner.decode(&stretch, stop, tools);
                Outcome::Joined(joiner, joined)
            }
            Self::Finish(mut joiner) => {
                let joined = joiner.finish();
                Outcome::Joined(joiner, joined)
            }
            Self::Hash(mut compressed, mut work) => {
                for work in &mut work {
                    let checkpoints = std::mem::take(&mut work.checkpoints);
                    compressed.push(work.start, &work.unit, checkpoints);
                }
                Outcome::Hashed(compressed, work)
            }
            Self::Speculate { first_unit, stretch, range } => {
                Outcome::Speculated(first_unit, speculate(&stretch, range, tools).map(Box::new))
            }
        }
    }
}

impl<O: Output> Scanner<O> {
    fn take(&mut self, slot: Slot, tools: &Tools) -> Result<()> {
        let checked = match slot {
            Slot::Checked(checked) => checked,
            Slot::Failed(error) => return Err(error),
            // Only what is ready is given here.
            Slot::Marked(..) | Slot::Resolving => return Ok(()),
        };
        let CheckedPiece { piece, checks } = checked;
        let output = piece.filled.output();
        let mut done = 0;
        let ends = piece.marks.iter().filter_map(|mark| match mark.kind {
            MarkKind::MemberEnd(trailer) => Some((mark, trailer)),
            MarkKind::Block | MarkKind::MemberStart => None,
        });
        let mut checks = checks.into_iter();
        for (mark, trailer) in ends {
            self.output.push(&output[done..mark.offset])?;
            done = mark.offset;
            if let Some(check) = checks.next() {
                self.check.append(&check);
            }
            let check = std::mem::take(&mut self.check);
            check.compare(trailer).map_err(|kind| Error::Gzip { kind, at: mark.position })?;
        }
        self.output.push(&output[done..])?;
        if let Some(check) = checks.next() {
            self.check.append(&check);
        }
        tools.byte_buffers.give(piece.filled.buffer);
        Ok(())
    }
}

/// The state, its lock, and what needs none.
#[derive(Debug)]
pub(super) struct Shared<B, C, O> {
    state: Mutex<State<B, C, O>>,
    /// Something has changed that a waiting worker may want to know of.
    changed: Condvar,
    tools: Tools,
}

impl<B, C, O> Shared<B, C, O> {
    fn lock(&self) -> MutexGuard<'_, State<B, C, O>> {
        // Nothing that could panic leaves the state half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets all workers end.
    pub(super) fn stop(&self) {
        self.tools.is_stopped.store(true, Ordering::Relaxed);
        self.lock().is_stopped = true;
        self.changed.notify_all();
    }
}

impl<B: Boundaries, C: Compressed, O: Output> Shared<B, C, O> {
    pub(super) fn new(settings: Settings, consumers: Consumers<B, C, O>) -> Self {
        Self {
            state: Mutex::new(State::new(settings, consumers)),
            changed: Condvar::new(),
            tools: Tools::new(MAX_SPECULATION_LEN),
        }
    }

    /// An empty unit.
    pub(super) fn new_unit(&self) -> Vec<u8> {
        let mut unit = self.tools.units.take().unwrap_or_default();
        unit.clear();
        unit.reserve_exact(self.lock().settings.unit_len);
        unit
    }

    /// Gives workers another unit.
    pub(super) fn add_unit(&self, unit: Vec<u8>) {
        let mut state = self.lock();
        state.len += unit.len() as u64;
        state.units.push_back(Arc::new(unit));
        drop(state);
        self.changed.notify_all();
    }

    /// Gives workers the last, perhaps shorter unit.
    pub(super) fn end(&self, unit: Vec<u8>) {
        if !unit.is_empty() {
            self.add_unit(unit);
        }
        self.lock().is_ended = true;
        self.changed.notify_all();
    }

    /// Works until the pipeline stops.
    pub(super) fn work(&self) {
        let mut state = self.lock();
        while !state.is_stopped {
            state = self.work_or_wait(state);
        }
    }

    /// Does one task, or waits until there may be one.
    fn work_or_wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<B, C, O>>,
    ) -> MutexGuard<'a, State<B, C, O>> {
        let Some(task) = state.choose() else {
            state.note_idleness();
            return self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        drop(state);
        let outcome = catch_unwind(AssertUnwindSafe(|| task.run(&self.tools)));
        let mut state = self.lock();
        match outcome {
            Ok(outcome) => state.put_back(outcome, &self.tools),
            Err(panic) => state.panic = Some(panic),
        }
        if state.failure.is_some() || state.panic.is_some() {
            state.is_stopped = true;
            self.tools.is_stopped.store(true, Ordering::Relaxed);
        }
        self.changed.notify_all();
        state
    }

    /// Gives the consumers back; all is done.
    pub(super) fn take_consumers(&self) -> Result<Consumers<B, C, O>> {
        let mut state = self.lock();
        match (state.joiner.take(), state.compressed.take(), state.scanner.take()) {
            (Some(joiner), Some(compressed), Some(scanner)) => Ok(Consumers {
                boundaries: joiner.into_boundaries(),
                compressed: *compressed,
                output: scanner.output,
            }),
            _ => Err(Error::AlreadyFinished),
        }
    }
}

/// Lets the caller work until `is_enough`.
pub(super) fn help_until<B: Boundaries, C: Compressed, O: Output>(
    shared: &Shared<B, C, O>,
    is_enough: impl Fn(&State<B, C, O>) -> bool,
) -> Result<()> {
    let mut state = shared.lock();
    loop {
        if let Some(panic) = state.panic.take() {
            drop(state);
            resume_unwind(panic);
        }
        if let Some(error) = &state.failure {
            return Err(error.clone());
        }
        if is_enough(&state) {
            return Ok(());
        }
        if state.is_stopped {
            return Err(Error::AlreadyFinished);
        }
        state = shared.work_or_wait(state);
    }
}
