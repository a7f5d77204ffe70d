"""Patterns of paths, as `Files.glob` takes them, matched name by name.

A pattern is matched the way a nondeterministic automaton is simulated: after each name, the set of
its parts that may come next is known. So the cost of a path is at most its names times the parts,
however many ``**`` there are, and a directory that cannot hold a match is never looked into.
"""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_WILDCARD = re.compile(r"[*?[]")

Positions = frozenset[int]
"""Parts of a pattern that the next name may match; the number of parts stands for a whole match."""


def has_wildcard(part: str) -> bool:
    """Return whether a part of a pattern matches more than one name."""
    return _WILDCARD.search(part) is not None


class PathPattern:
    """A pattern below some directory.

    Args:
        parts: one for each name, as the shell's: ``*``, ``?`` and ``[…]`` stay within a name;
            ``**`` matches any number of directories, and at the end everything below.
    """

    def __init__(self, parts: Sequence[str]) -> None:
        self._matchers: list[Callable[[str], object] | None] = [
            None if part == "**" else re.compile(fnmatch.translate(part)).match for part in parts
        ]

    @property
    def start(self) -> Positions:
        """Where matching begins, before the first name."""
        return self._without_names({0})

    def advance(self, positions: Positions, name: str) -> Positions:
        """Return where matching stands after one more name; empty if nothing can match any more."""
        after = set()
        for position in positions:
            if position == len(self._matchers):
                continue
            matcher = self._matchers[position]
            if matcher is None:
                after.add(position)
            elif matcher(name):
                after.add(position + 1)
        return self._without_names(after)

    def is_match(self, positions: Positions) -> bool:
        """Return whether the names so far are a whole match."""
        return len(self._matchers) in positions

    def _without_names(self, positions: set[int]) -> Positions:
        """Add what ``**`` lets be reached without a name."""
        reached = set()
        for first in positions:
            position = first
            reached.add(position)
            while position < len(self._matchers) and self._matchers[position] is None:
                position += 1
                reached.add(position)
        return frozenset(reached)
