"""Threads that fetch spans, verify and inflate them: of one image or layer, for all its readers."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from tocsin import processors
from tocsin.layers.forking import forget_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

FETCH_THREADS = 8
"""Requests in flight, at most."""
CLOSED = "the image is closed"


class Fetchers:
    """Threads that fetch, verify and inflate; started when first needed.

    Args:
        threads: processors that inflate at once; all that this process may use if ``None``.

    Attributes:
        working: to be held by whoever verifies or inflates; so many hold it at once.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._threads = processors.resolve_threads(threads)
        self._lock = threading.Lock()
        self.working = threading.Semaphore(self._threads)
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False
        forget_after_fork(self)

    def pool(self) -> ThreadPoolExecutor:
        """Return the threads.

        Raises:
            ValueError: they have been ended.
        """
        with self._lock:
            if self._closed:
                raise ValueError(CLOSED)
            if self._pool is None:
                self._pool = ThreadPoolExecutor(FETCH_THREADS, thread_name_prefix="tocsin-fetch")
            return self._pool

    def side_by_side(self, tasks: Iterable[Callable[[], None]]) -> None:
        """Do tasks in this thread and in idle ones, begun in order; return when all are done.

        This thread does what no other takes, so it does not matter whether any is idle, or ended
        meanwhile.
        """
        left = deque(tasks)

        def work() -> None:
            while left:
                try:
                    task = left.popleft()
                except IndexError:  # another was faster
                    return
                task()

        helpers: list[Future[None]] = []
        try:
            with suppress(ValueError, RuntimeError):  # ended, or no thread to be had
                for _ in range(min(self._threads, FETCH_THREADS, len(left)) - 1):
                    helpers.append(self.pool().submit(work))  # noqa: PERF401 (some may fail)
            work()
        finally:
            for helper in helpers:
                if not helper.cancel():
                    helper.result()

    def close(self) -> None:
        """End the threads; what they do now is finished first."""
        with self._lock:
            pool, self._pool, self._closed = self._pool, None, True
        if pool is not None:
            pool.shutdown(cancel_futures=True)

    def after_fork(self) -> None:
        """Forget threads that the process was copied without."""
        self._lock = threading.Lock()
        self.working = threading.Semaphore(self._threads)
        self._pool = None
