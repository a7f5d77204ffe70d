"""Processors: how many this process may use, and how layers that are indexed at once share them.

The one place that counts them. It knows numbers only, neither layers nor stores.
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
    """Return the processors this process may use: its affinity mask, and no more than its quota.

    A container that is given two of many processors is given a quota; the mask has all of them. A
    part of a processor counts as one.

    Args:
        root: what the files of Linux's control groups lie below.
    """
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return max(1, min([count, *_quotas(root)]))


def wanted(threads: int | None) -> int:
    """Return a number of threads that was asked for, ``None`` being all processors there are.

    Raises:
        ValueError: it is less than 1.
    """
    if threads is None:
        return available()
    if threads < 1:
        raise ValueError(f"threads is {threads}, wanted 1 or more")
    return threads


def default_jobs() -> int:
    """Return how many layers are indexed at once by default: the processors, at most 4."""
    return min(_MAX_DEFAULT_JOBS, available())


def _quotas(root: Path) -> Iterator[int]:
    """Yield the quota of each control group this process is in, in processors, rounded up."""
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
        # A group above may allow less; in a container those above, and maybe its own, are not seen.
        for folder in (group, *group.parents):
            yield from _quota([top / folder / file for file in files])


def _quota(files: list[Path]) -> Iterator[int]:
    try:
        quota, period = (int(word) for file in files for word in file.read_text().split())
    except (OSError, ValueError):  # none here, or "max": no limit
        return
    if quota > 0 < period:  # -1 is no limit, in version 1
        yield -(-quota // period)


def share(threads: int, *, free: int, size: int, unfinished: int, starting: int) -> int:
    """Return how many threads a layer gets for all of its time.

    They are its part of the bytes there are, so that all layers end together and one that
    outweighs the rest has all threads; but no fewer than an equal part of the free ones, so that
    none is idle.

    Args:
        threads: in all.
        free: of them, given to no layer.
        size: of the layer.
        unfinished: bytes of this layer, of those that run and of those that wait.
        starting: layers that may start now, this one among them.

    Returns:
        1 to `free`; 1 also when none is free.
    """
    # Rounded up from a third on: of two processors, a layer of two thirds of all bytes gets both.
    # All is done sooner so, if the second helps with more than half of its power.
    part = (3 * threads * size + 2 * unfinished) // (3 * unfinished) if unfinished else 1
    return max(1, min(free, max(part, free // starting)))


class Shares(Generic[_Key]):
    """Gives threads to layers, the largest layer first, and never more than there are.

    Each layer does `take`, then `done`, whatever happens; one that turns out to need no threads
    only `done`. A layer waits until all larger ones have got theirs or are done, so whoever starts
    layers must start larger ones first. Where more layers run than there are threads, each has one
    thread, and `turn` lets no more of them work at once than there are threads: the others wait for
    the network, which is what they are many for.

    Args:
        threads: in all.
        jobs: layers that run at once.
        sizes: of all layers.

    Attributes:
        turn: to be held by the caller while it lets a layer's indexer work.
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
        """Wait for the threads of a layer and return how many they are; 1 at once after `stop`."""
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
        """Take the threads of a layer back, if it got any, and let it not be waited for."""
        with self._changed:
            self._waiting.pop(key, None)
            self._given.pop(key, None)
            self._changed.notify_all()

    def stop(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _may_start(self, key: _Key) -> bool:
        given = sum(self._given.values())
        # Either all threads given out are there, or each layer has only one.
        is_room = given < self._threads or given == len(self._given)
        return is_room and next(iter(self._waiting)) == key
