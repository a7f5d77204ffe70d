"""Makes an access log from the reads of a mounted image, in bounded memory.

Source: docs/access-log.md#what-is-recorded.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from tocsin.model.access_log import (
    MAX_FILE_RANGES,
    MAX_FILES,
    MAX_RANGES,
    MAX_SIZE,
    AccessedFile,
    AccessLog,
    encoded_size,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tocsin.model.digest import Digest
    from tocsin.model.platform import Platform

_HEADER_SIZE = 64 << 10
"""Maximum size of a header in bytes."""


class AccessRecorder:
    """Collects what is opened and read.

    Once a limit of the format is reached, files that were not used before are no longer recorded.

    Attributes:
        is_full: whether files are missing in the log because of a limit.
    """

    def __init__(self) -> None:
        self.is_full = False
        self._files: dict[str, _RecordedFile] = {}

    def add(self, accesses: Iterable[tuple[float, str, int, int]]) -> None:
        """Add accesses in the order in which they happened.

        Args:
            accesses: each is the seconds since the mount, a path, and the start and end of what
                was read; both are equal if the file was only opened.
        """
        for time, name, start, end in accesses:
            path = name.lstrip("/")
            file = self._files.get(path)
            if file is None:
                if len(self._files) == MAX_FILES:
                    self.is_full = True
                    continue
                file = self._files[path] = _RecordedFile(time)
            if start < end:
                file.add(start, end)

    def log(
        self, *, image: Digest | None = None, platform: Platform | None = None, tool: str = ""
    ) -> AccessLog:
        """Return the log of all accesses so far."""
        files = []
        size, range_count = _HEADER_SIZE, 0
        for path, recorded in self._files.items():
            file = AccessedFile(recorded.time, path, recorded.ranges())
            size += encoded_size(file)
            range_count += len(file.ranges)
            if size > MAX_SIZE or range_count > MAX_RANGES:
                self.is_full = True
                break
            files.append(file)
        return AccessLog(tuple(files), image, platform, tool)


class _RecordedFile:
    """The time of first use and the ranges of one file."""

    __slots__ = ("_count", "_ends", "_orders", "_starts", "time")

    def __init__(self, time: float) -> None:
        self.time = round(time, 6)
        self._starts: list[int] = []  # sorted; the ranges neither overlap nor touch
        self._ends: list[int] = []
        self._orders: list[int] = []
        self._count = 0

    def add(self, start: int, end: int) -> None:
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        self._count += 1
        order = min(self._orders[first:last], default=self._count)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]
        self._orders[first:last] = [order]
        if len(self._starts) > 2 * MAX_FILE_RANGES:
            self._join()

    def ranges(self) -> tuple[tuple[int, int], ...]:
        if len(self._starts) > MAX_FILE_RANGES:
            self._join()
        found = sorted(zip(self._orders, self._starts, self._ends, strict=True))
        return tuple((start, end) for _, start, end in found)

    def _join(self) -> None:
        """Join ranges across the smallest gaps, until the format allows their number."""
        gaps = zip(self._starts[1:], self._ends, strict=False)
        by_gap = sorted((start - end, at) for at, (start, end) in enumerate(gaps))
        joined = {at for _, at in by_gap[: len(self._starts) - MAX_FILE_RANGES]}
        starts, ends, orders = self._starts, self._ends, self._orders
        self._starts, self._ends, self._orders = [], [], []
        for at, (start, end, order) in enumerate(zip(starts, ends, orders, strict=True)):
            if at - 1 in joined:
                self._ends[-1] = end
                self._orders[-1] = min(self._orders[-1], order)
            else:
                self._starts.append(start)
                self._ends.append(end)
                self._orders.append(order)
