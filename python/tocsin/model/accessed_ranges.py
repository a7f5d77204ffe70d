"""The ranges of one file in an access log: joined where they touch, in the order of first use.

Source: docs/access-log.md#what-is-recorded.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

MAX_FILE_RANGES = 1000
"""Maximum ranges of one file; if it has more, the closest are joined."""


class AccessedRanges:
    """Collects the ranges of one file, in bounded memory."""

    __slots__ = ("_count", "_ends", "_orders", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []  # sorted; the ranges neither overlap nor touch
        self._ends: list[int] = []
        self._orders: list[int] = []
        self._count = 0

    def add(self, start: int, end: int) -> None:
        """Add a range that was read after all others."""
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

    def in_order(self) -> tuple[tuple[int, int], ...]:
        """Return at most `MAX_FILE_RANGES` ranges, in the order of their first use."""
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
