//! The threads' side of the schedule: one lock, and what is done around it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::schedule::State;
use super::tools::Tools;
use super::{Boundaries, Compressed, Consumers, Output, Progress, Settings, Whole};
use crate::error::{Error, Result};

/// Bytes of buffers that the result of one speculation may fill.
const MAX_SPECULATION_LEN: usize = 16 << 20;

/// What all threads of a pipeline share.
#[derive(Debug)]
pub(super) struct Shared<B, C, W, O> {
    locked: Mutex<Locked<B, C, W, O>>,
    /// Something has changed that a waiting worker may want to know of.
    changed: Condvar,
    tools: Tools,
}

#[derive(Debug)]
struct Locked<B, C, W, O> {
    state: State<B, C, W, O>,
    /// What a task panicked with.
    panic: Option<Box<dyn Any + Send>>,
    /// Nothing is to be done any more.
    is_stopped: bool,
}

impl<B, C, W, O> Shared<B, C, W, O> {
    fn lock(&self) -> MutexGuard<'_, Locked<B, C, W, O>> {
        // A panic under the lock would be a bug of the schedule's own; the next one to look finds out.
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets all workers end.
    pub(super) fn stop(&self) {
        self.tools.is_stopped.store(true, Ordering::Relaxed);
        self.lock().is_stopped = true;
        self.changed.notify_all();
    }
}

impl<B: Boundaries, C: Compressed<W>, W: Whole, O: Output> Shared<B, C, W, O> {
    pub(super) fn new(
        settings: Settings,
        from: Progress,
        consumers: Consumers<B, C, W, O>,
    ) -> Self {
        let state = State::new(settings, from, consumers);
        Self {
            locked: Mutex::new(Locked { state, panic: None, is_stopped: false }),
            changed: Condvar::new(),
            tools: Tools::new(MAX_SPECULATION_LEN),
        }
    }

    /// An empty unit.
    pub(super) fn new_unit(&self) -> Vec<u8> {
        let mut unit = self.tools.units.take().unwrap_or_default();
        unit.clear();
        unit.reserve_exact(self.lock().state.unit_len());
        unit
    }

    /// Gives workers another unit.
    pub(super) fn add_unit(&self, unit: Vec<u8>) {
        self.lock().state.add_unit(unit);
        self.changed.notify_all();
    }

    /// Gives workers the last, perhaps shorter unit.
    pub(super) fn end(&self, unit: Vec<u8>) {
        let mut locked = self.lock();
        if !unit.is_empty() {
            locked.state.add_unit(unit);
        }
        locked.state.end();
        self.changed.notify_all();
    }

    /// Works until the pipeline stops: what a thread of its own does.
    pub(super) fn work(&self) {
        let mut locked = self.lock();
        while !locked.is_stopped {
            locked = self.work_or_wait(locked);
        }
    }

    /// Works until `is_enough`: what the caller does.
    pub(super) fn work_until(&self, is_enough: impl Fn(&State<B, C, W, O>) -> bool) -> Result<()> {
        let mut locked = self.lock();
        loop {
            if let Some(panic) = locked.panic.take() {
                drop(locked);
                resume_unwind(panic);
            }
            if let Some(error) = locked.state.failure() {
                return Err(error.clone());
            }
            if is_enough(&locked.state) {
                return Ok(());
            }
            if locked.is_stopped {
                return Err(Error::AlreadyFinished);
            }
            locked = self.work_or_wait(locked);
        }
    }

    /// Does one task, or waits until there may be one.
    fn work_or_wait<'a>(
        &'a self,
        mut locked: MutexGuard<'a, Locked<B, C, W, O>>,
    ) -> MutexGuard<'a, Locked<B, C, W, O>> {
        let Some(task) = locked.state.choose() else {
            return self.changed.wait(locked).unwrap_or_else(PoisonError::into_inner);
        };
        drop(locked);
        let outcome = catch_unwind(AssertUnwindSafe(|| task.run(&self.tools)));
        let mut locked = self.lock();
        match outcome {
            Ok(outcome) => locked.state.put_back(outcome, &self.tools),
            Err(panic) => locked.panic = Some(panic),
        }
        if locked.state.failure().is_some() || locked.panic.is_some() {
            locked.is_stopped = true;
            self.tools.is_stopped.store(true, Ordering::Relaxed);
        }
        self.changed.notify_all();
        locked
    }

    /// Gives the consumers back; all is done.
    pub(super) fn take_consumers(&self) -> Result<Consumers<B, C, W, O>> {
        self.lock().state.take_consumers().ok_or(Error::AlreadyFinished)
    }
}
