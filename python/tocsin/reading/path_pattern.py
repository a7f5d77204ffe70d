"""Path patterns for `Files.glob`, matched name by name.

Matching simulates a nondeterministic automaton: after each name, it has the set of pattern parts
that the next name may match. So the cost of a path is at most the number of its names times the
number of parts, even with many ``**``, and a directory that cannot contain a match is not searched.
"""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_WILDCARD = re.compile(r"[*?[]")

Positions = frozenset[int]
"""Indexes of the parts that the next name may match; the number of parts means a full match."""


def has_wildcard(part: str) -> bool:
    """Return whether a part of a pattern contains a wildcard."""
    return _WILDCARD.search(part) is not None


class PathPattern:
    """A pattern of paths relative to a directory.

    Args:
        parts: one part for each name, as in a shell: ``*``, ``?`` and ``[…]`` match within a name;
            ``**`` matches any number of directories and, as the last part, everything below.
    """

    def __init__(self, parts: Sequence[str]) -> None:
        self._matchers: list[Callable[[str], object] | None] = [
            None if part == "**" else re.compile(fnmatch.translate(part)).match for part in parts
        ]

    @property
    def start(self) -> Positions:
        """Positions before the first name."""
        return self._with_empty_matches({0})

    def advance(self, positions: Positions, name: str) -> Positions:
        """Return the positions after one more name; empty if nothing can match any more."""
        after = set()
        for position in positions:
            if position == len(self._matchers):
                continue
            matcher = self._matchers[position]
            if matcher is None:
                after.add(position)
            elif matcher(name):
                after.add(position + 1)
        return self._with_empty_matches(after)

    def is_match(self, positions: Positions) -> bool:
        """Return whether the names so far match the whole pattern."""
        return len(self._matchers) in positions

    def _with_empty_matches(self, positions: set[int]) -> Positions:
        """Add the positions that are reached if ``**`` matches zero directories."""
        reached = set()
        for first in positions:
            position = first
            reached.add(position)
            while position < len(self._matchers) and self._matchers[position] is None:
                position += 1
                reached.add(position)
        return frozenset(reached)
