"""Threads that fetch, verify and inflate spans for all readers of one image or layer."""

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
"""Maximum number of requests in flight."""
CLOSED = "the image is closed"


class Fetchers:
    """Threads that fetch, verify and inflate; started when first needed.

    Args:
        threads: number of threads that inflate at once; by default, one for each processor that
            this process may use.

    Attributes:
        working: a semaphore to hold while verifying or inflating, with one slot for each of
            `threads`.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._threads = processors.resolve_threads(threads)
        self._lock = threading.Lock()
        self.working = threading.Semaphore(self._threads)
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False
        forget_after_fork(self)

    def pool(self) -> ThreadPoolExecutor:
        """Return the thread pool.

        Raises:
            ValueError: it has been closed.
        """
        with self._lock:
            if self._closed:
                raise ValueError(CLOSED)
            if self._pool is None:
                self._pool = ThreadPoolExecutor(FETCH_THREADS, thread_name_prefix="tocsin-fetch")
            return self._pool

    def run_in_parallel(
        self, tasks: Iterable[Callable[[], None]], *, waiting: bool = False
    ) -> None:
        """Run tasks in this thread and in idle ones, started in order; return when all are done.

        This thread runs every task that no other thread takes, so the tasks are done even if all
        other threads are busy or the pool is closed meanwhile.

        Args:
            tasks: the tasks.
            waiting: whether they mostly wait for the network, so that more of them may run at once
                than there are threads that inflate.
        """
        left = deque(tasks)
        limit = FETCH_THREADS if waiting else min(self._threads, FETCH_THREADS)

        def work() -> None:
            while left:
                try:
                    task = left.popleft()
                except IndexError:  # another thread took the last one
                    return
                task()

        helpers: list[Future[None]] = []
        try:
            with suppress(ValueError, RuntimeError):  # closed, or no thread can be started
                for _ in range(min(limit, len(left)) - 1):
                    helpers.append(self.pool().submit(work))  # noqa: PERF401 (some may fail)
            work()
        finally:
            for helper in helpers:
                if not helper.cancel():
                    helper.result()

    def close(self) -> None:
        """Stop the threads once they have finished their current tasks."""
        with self._lock:
            pool, self._pool, self._closed = self._pool, None, True
        if pool is not None:
            pool.shutdown(cancel_futures=True)

    def after_fork(self) -> None:
        """Forget the threads, which do not exist in a forked process."""
        self._lock = threading.Lock()
        self.working = threading.Semaphore(self._threads)
        self._pool = None
