"""Decisions read from arbitrary bytes, so that a fuzzer controls what a test does."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


class Instructions:
    """Bytes that are read from the front, followed by infinitely many zeros.

    Zero always means the harmless decision, so a conversation ends soon after its instructions end.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        """Return the next byte."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def below(self, count: int) -> int:
        """Return a number from 0 to `count` - 1; `count` must be at most 65,536."""
        number = self.byte() if count <= 1 << 8 else self.byte() | self.byte() << 8
        return number % count

    def pick(self, choices: Sequence[T]) -> T:
        """Return one of `choices`; the first is the harmless one."""
        return choices[self.below(len(choices))]

    def take(self, count: int) -> bytes:
        """Return at most `count` of the remaining bytes."""
        taken = self._data[self._at : self._at + count]
        self._at += len(taken)
        return taken
