//! The worker threads: the lock around the state, and the loop that runs tasks.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::schedule::State;
use super::tools::Tools;
use super::{ConsumerSet, Consumers, Progress, Settings};
use crate::error::{Error, Result};

/// Maximum bytes of buffers in the result of one speculation.
const MAX_SPECULATION_LEN: usize = 16 << 20;

/// What all threads of a pipeline share.
#[derive(Debug)]
pub(super) struct Shared<C: Consumers> {
    locked: Mutex<Locked<C>>,
    /// Signalled when a waiting worker may find a task or has to end.
    changed: Condvar,
    tools: Tools,
}

#[derive(Debug)]
struct Locked<C: Consumers> {
    state: State<C>,
    run: Run,
}

/// Whether the workers continue.
#[derive(Debug)]
enum Run {
    Running,
    /// No more work is needed.
    Stopped,
    /// A task panicked with this payload, which is rethrown on the caller's thread.
    Panicked(Box<dyn Any + Send>),
}

impl Run {
    const fn is_running(&self) -> bool {
        matches!(self, Self::Running)
    }

    /// Stops the workers, unless a panic has already stopped them.
    fn stop(&mut self) {
        if self.is_running() {
            *self = Self::Stopped;
        }
    }

    /// Takes the payload of a panic, if there is one.
    fn take_panic(&mut self) -> Option<Box<dyn Any + Send>> {
        match std::mem::replace(self, Self::Stopped) {
            Self::Panicked(panic) => Some(panic),
            other => {
                *self = other;
                None
            }
        }
    }
}

impl<C: Consumers> Shared<C> {
    pub(super) fn new(settings: Settings, from: Progress, consumers: ConsumerSet<C>) -> Self {
        let tools = Tools::new(MAX_SPECULATION_LEN, settings.traces);
        let state = State::new(settings, from, consumers);
        Self {
            locked: Mutex::new(Locked { state, run: Run::Running }),
            changed: Condvar::new(),
            tools,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Locked<C>> {
        // Only a bug in the scheduler can panic while the lock is held.
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes all workers end.
    pub(super) fn stop(&self) {
        self.tools.is_stopped.store(true, Ordering::Relaxed);
        self.lock().run.stop();
        self.changed.notify_all();
    }

    /// Returns an empty buffer for a unit.
    pub(super) fn new_unit(&self) -> Vec<u8> {
        let mut unit = self.tools.units.take().unwrap_or_default();
        unit.clear();
        unit.reserve_exact(self.lock().state.unit_len());
        unit
    }

    /// Adds a unit.
    pub(super) fn add_unit(&self, unit: Vec<u8>) {
        self.lock().state.add_unit(unit);
        self.changed.notify_all();
    }

    /// Adds the last unit, which may be shorter or empty.
    pub(super) fn end(&self, unit: Vec<u8>) {
        let mut locked = self.lock();
        if !unit.is_empty() {
            locked.state.add_unit(unit);
        }
        locked.state.end();
        self.changed.notify_all();
    }

    /// Works until the pipeline stops. Run by the worker threads.
    pub(super) fn work(&self) {
        let mut locked = self.lock();
        while locked.run.is_running() {
            locked = self.work_or_wait(locked);
        }
    }

    /// Works until `is_enough`. Run by the caller's thread.
    pub(super) fn work_until(&self, is_enough: impl Fn(&State<C>) -> bool) -> Result<()> {
        let mut locked = self.lock();
        loop {
            if let Some(panic) = locked.run.take_panic() {
                drop(locked);
                resume_unwind(panic);
            }
            if let Some(error) = locked.state.failure() {
                return Err(error.clone());
            }
            if is_enough(&locked.state) {
                return Ok(());
            }
            if !locked.run.is_running() {
                return Err(Error::AlreadyFinished);
            }
            locked = self.work_or_wait(locked);
        }
    }

    /// Runs one task, or waits until there may be one.
    fn work_or_wait<'a>(
        &'a self,
        mut locked: MutexGuard<'a, Locked<C>>,
    ) -> MutexGuard<'a, Locked<C>> {
        let Some(task) = locked.state.choose() else {
            return self.changed.wait(locked).unwrap_or_else(PoisonError::into_inner);
        };
        drop(locked);
        let outcome = catch_unwind(AssertUnwindSafe(|| task.run(&self.tools)));
        let mut locked = self.lock();
        match outcome {
            Ok(outcome) => locked.state.put_back(outcome, &self.tools),
            Err(panic) => locked.run = Run::Panicked(panic),
        }
        if locked.state.failure().is_some() {
            locked.run.stop();
        }
        if !locked.run.is_running() {
            self.tools.is_stopped.store(true, Ordering::Relaxed);
        }
        self.changed.notify_all();
        locked
    }

    /// Returns the consumers, once all work is done.
    pub(super) fn take_consumers(&self) -> Result<ConsumerSet<C>> {
        self.lock().state.take_consumers().ok_or(Error::AlreadyFinished)
    }
}
