"""CPUs: how many this process may use, and how concurrent layers share the threads.

No other module counts CPUs. This one deals only with numbers and imports neither layers nor stores.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_Key = TypeVar("_Key")
_MAX_DEFAULT_JOBS = 4


def available(root: Path = Path("/")) -> int:
    """Return the number of CPUs this process may use: its affinity mask, limited by its CPU quota.

    A container limited to two CPUs has a quota, but its mask still lists every CPU of the machine.
    A fraction of a CPU counts as one.

    Args:
        root: directory that contains ``proc`` and ``sys``.
    """
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return max(1, min([count, *_quotas(root)]))


def resolve_threads(threads: int | None) -> int:
    """Return `threads`, or the number of available CPUs if it is ``None``.

    Raises:
        ValueError: `threads` is less than 1.
    """
    if threads is None:
        return available()
    if threads < 1:
        raise ValueError(f"threads is {threads}, expected 1 or more")
    return threads


def default_jobs() -> int:
    """Return the default number of layers indexed at once: one per CPU, at most 4."""
    return min(_MAX_DEFAULT_JOBS, available())


def _quotas(root: Path) -> Iterator[int]:
    """Yield the quota of each control group of this process, in CPUs, rounded up."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if not controllers:
            top, files = root / "sys/fs/cgroup", ["cpu.max"]
        elif "cpu" in controllers.split(","):
            top, files = root / "sys/fs/cgroup/cpu", ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        else:
            continue
        group = PurePosixPath(name.lstrip("/"))
        # A parent group may have a lower quota. A container may see neither its parents' files nor
        # its own.
        for folder in (group, *group.parents):
            yield from _quota([top / folder / file for file in files])


def _quota(files: list[Path]) -> Iterator[int]:
    try:
        quota, period = (int(word) for file in files for word in file.read_text().split())
    except (OSError, ValueError):  # the files are missing, or the quota is "max": no limit
        return
    if quota > 0 < period:  # in cgroups v1, -1 means no limit
        yield -(-quota // period)


def share(threads: int, *, free: int, size: int, unfinished: int, starting: int) -> int:
    """Return the number of threads that a layer gets for its whole run.

    The share is proportional to the layer's size, so that all layers finish at about the same time
    and one dominant layer gets every thread. It is at least an equal share of the free threads, so
    that no thread is idle.

    Args:
        threads: total number of threads.
        free: threads that no layer holds.
        size: bytes of the layer.
        unfinished: bytes of this layer and of all running and waiting layers.
        starting: number of layers that may start now, including this one.

    Returns:
        1 to `free`, and 1 if no thread is free.
    """
    # Fractions of a third or more round up: with two threads, a layer with two thirds of the bytes
    # gets both. That finishes sooner if the second thread adds more than half of the first's speed.
    part = (3 * threads * size + 2 * unfinished) // (3 * unfinished) if unfinished else 1
    return max(1, min(free, max(part, free // starting)))


class Shares(Generic[_Key]):
    """Distributes a fixed number of threads among layers, largest layer first.

    Each layer must call `take` and, even after an error, `done`. A layer that turns out to need no
    threads calls only `done`. `take` blocks until all larger layers have taken their threads or are
    done, so the caller must start larger layers first. If there are more layers than threads, each
    layer has one thread, and `turn` limits how many of them compute at once; the others can wait
    for the network meanwhile.

    Args:
        threads: total number of threads.
        jobs: number of layers that run at once.
        sizes: size of each layer.

    Attributes:
        turn: semaphore that the caller holds while a layer's indexer is working.
    """

    def __init__(self, threads: int, *, jobs: int, sizes: Mapping[_Key, int]) -> None:
        self.turn = threading.Semaphore(threads)
        self._threads = threads
        self._jobs = jobs
        self._sizes = dict(sizes)
        self._waiting = dict.fromkeys(sorted(sizes, key=lambda key: -sizes[key]))
        self._given: dict[_Key, int] = {}
        self._stopped = False
        self._changed = threading.Condition()

    def take(self, key: _Key) -> int:
        """Wait for a layer's threads and return their number; after `stop`, return 1 at once."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._may_start(key))
            if self._stopped:
                return 1
            given = share(
                self._threads,
                free=self._threads - sum(self._given.values()),
                size=self._sizes[key],
                unfinished=sum(self._sizes[one] for one in (*self._given, *self._waiting)),
                starting=max(1, min(self._jobs - len(self._given), len(self._waiting))),
            )
            del self._waiting[key]
            self._given[key] = given
            self._changed.notify_all()
            return given

    def done(self, key: _Key) -> None:
        """Release a layer's threads, if it has any, so that no other layer waits for it."""
        with self._changed:
            self._waiting.pop(key, None)
            self._given.pop(key, None)
            self._changed.notify_all()

    def stop(self) -> None:
        """Wake all waiting layers; from now on, `take` never blocks."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _may_start(self, key: _Key) -> bool:
        given = sum(self._given.values())
        # Even if no thread is free, a layer may start while every running layer has only one.
        may_take = given < self._threads or given == len(self._given)
        return may_take and next(iter(self._waiting)) == key
