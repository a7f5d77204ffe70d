"""Runs items on an executor: a few at the same time, small ones together, and again if they fail.

It knows neither the plan nor the journal: its caller chooses the next items and records results.
"""

from __future__ import annotations

import heapq
import queue
import time
import uuid
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from tocsin.errors import EngineError, RegistryError, TocsinError
from tocsin.fleet.tasks import Batch, perform, stop
from tocsin.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tocsin.fleet.schedule import Item
    from tocsin.fleet.tasks import SingleTask, TaskResult

_MAX_PAUSE = 60.0
"""Maximum pause between two attempts of a task, in seconds."""

_Done: TypeAlias = "Future[TaskResult | tuple[TaskResult | Exception, ...]]"


@dataclass(slots=True)
class Attempts:
    """Counts the attempts of each task, and keeps those that wait for the next one.

    Attributes:
        tries: maximum number of attempts.
        pause: seconds before the second attempt.
    """

    tries: int
    pause: float
    _failures: dict[Item, int] = field(default_factory=dict)
    _waiting: list[tuple[float, Item]] = field(default_factory=list)

    def again(self, item: Item) -> bool:
        """Schedule another attempt; return ``False`` if there were enough."""
        failures = self._failures[item] = self._failures.get(item, 0) + 1
        if failures >= self.tries:
            return False
        pause = min(_MAX_PAUSE, self.pause * 2 ** (failures - 1))
        heapq.heappush(self._waiting, (time.monotonic() + pause, item))
        return True

    def is_repeated(self, item: Item) -> bool:
        """Return whether there was an attempt that failed, and may have done a part."""
        return item in self._failures

    def due(self) -> Item | None:
        """Return an item whose pause is over."""
        if self._waiting and self._waiting[0][0] <= time.monotonic():
            return heapq.heappop(self._waiting)[1]
        return None

    @property
    def pause_left(self) -> float | None:
        """Seconds until the next item is due; ``None`` if no item waits."""
        return max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else None


@dataclass(frozen=True, slots=True)
class Work:
    """What a dispatcher runs, and what it calls with the results.

    Attributes:
        next_items: returns the items of the next task; empty if nothing can start now.
        task: makes the task of an item.
        finished: called with the result of an item.
        failed: called with the error of an item that is not tried again.
    """

    next_items: Callable[[], Sequence[Item]]
    task: Callable[[Item], SingleTask]
    finished: Callable[[Item, TaskResult], None]
    failed: Callable[[Item, BaseException], None]


class Dispatcher:
    """Runs items on an executor; used by one thread, while futures end in others.

    Args:
        executor: where the tasks run.
        jobs: maximum number of tasks at the same time.
        attempts: attempts for each item.

    Attributes:
        run: name of the run, by which its tasks are stopped.
    """

    def __init__(self, executor: Executor, jobs: int, attempts: Attempts) -> None:
        self._executor = executor
        self._jobs = jobs
        self._attempts = attempts
        self.run = uuid.uuid4().hex
        self._done: queue.SimpleQueue[_Done] = queue.SimpleQueue()
        self._running: dict[_Done, Sequence[Item]] = {}

    def work(self, work: Work) -> None:
        """Run items until there are none; what is running is stopped if this raises.

        Raises:
            EngineError: the executor failed.
        """
        try:
            while True:
                while len(self._running) < self._jobs:
                    due = self._attempts.due()
                    # Repeated items run alone: one of them may have stopped the worker.
                    items = work.next_items() if due is None else (due,)
                    if not items:
                        break
                    self._submit(items, work)
                pause = self._attempts.pause_left
                if not self._running:
                    if pause is None:
                        return
                    time.sleep(pause)
                    continue
                try:
                    is_full = len(self._running) >= self._jobs
                    future = self._done.get(timeout=None if is_full else pause)
                except queue.Empty:
                    continue
                self._end(self._running.pop(future), future, work)
        except BaseException:
            stop(self.run)
            for future in self._running:
                future.cancel()
            raise

    def _submit(self, items: Sequence[Item], work: Work) -> None:
        tasks = tuple(map(work.task, items))
        task = tasks[0] if len(tasks) == 1 else Batch(tasks)
        try:
            future: _Done = self._executor.submit(perform, task)
        except (BrokenExecutor, RuntimeError) as error:
            raise _broken(error) from error
        self._running[future] = items
        future.add_done_callback(self._done.put)

    def _end(self, items: Sequence[Item], future: _Done, work: Work) -> None:
        try:
            result = future.result()
        except BrokenExecutor as error:
            raise _broken(error) from error
        except CancelledError as error:  # not ours: nothing is waited for after a cancellation
            for item in items:
                if not self._attempts.again(item):
                    raise _broken(error) from error
        except Exception as error:  # of a single task; a lost worker; a task that cannot be run
            for item in items:
                self._not_done(item, error, work)
        else:
            outcomes = result if isinstance(result, tuple) else (result,)
            for item, outcome in zip(items, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    self._not_done(item, outcome, work)
                else:
                    work.finished(item, outcome)

    def _not_done(self, item: Item, error: Exception, work: Work) -> None:
        # Of our own errors, only temporary ones can end differently the next time.
        is_final = isinstance(error, TocsinError) and not (
            isinstance(error, RegistryError) and error.temporary
        )
        if is_final or not self._attempts.again(item):
            work.failed(item, error)


def _broken(error: BaseException) -> EngineError:
    reason = quoted(f"{type(error).__name__}: {error}")
    return EngineError(
        f"engine: it stopped, or does not accept tasks: {reason}",
        hint="Start it again and repeat the command; what is done is in the journal.",
    )
