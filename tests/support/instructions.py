"""Any bytes as decisions: what a fuzzer changes is then what a test does."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


class Instructions:
    """Bytes that are used up from the front; behind their end there are only zeros.

    Zero is the tame decision everywhere, so that a conversation ends when its instructions do.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        """Return the next byte."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def below(self, count: int) -> int:
        """Return a number from 0 on, below `count`, which is at most 65,536."""
        number = self.byte() if count <= 1 << 8 else self.byte() | self.byte() << 8
        return number % count

    def pick(self, choices: Sequence[T]) -> T:
        """Return one of `choices`; the first is the tame one."""
        return choices[self.below(len(choices))]

    def take(self, count: int) -> bytes:
        """Return the next bytes, at most `count`."""
        taken = self._data[self._at : self._at + count]
        self._at += len(taken)
        return taken
