"""Time and chance, handed in so that tests neither wait nor wonder."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_WAIT = 0.25
LONGEST_WAIT = 10.0


@dataclass(frozen=True, slots=True)
class Clock:
    """What the registry room knows of time, in seconds.

    Attributes:
        monotonic: for durations.
        wall: since 1970, for dates the far side names.
        sleep: waits.
        jitter: a number in ``[0, 1)``.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random

    def backoff(self, failures: int) -> float:
        """Return how long to wait after the `failures`-th failure: doubling, half of it chance."""
        longest = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** (failures - 1))
        return longest * (0.5 + 0.5 * self.jitter())

    def retry_after(self, header: str) -> float | None:
        """Return the wait that a ``Retry-After`` header asks for; ``None`` when it asks nothing.

        Seconds or a date. Source: RFC 9110, 10.2.3.
        """
        text = header.strip()
        if text.isascii() and text.isdigit():
            return float(text[:9])
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - self.wall())
        except (ValueError, TypeError, OverflowError):
            return None
