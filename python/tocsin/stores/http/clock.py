"""Time and randomness, which tests replace."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_WAIT = 0.25
"""Maximum wait after the first failure, in seconds."""

LONGEST_WAIT = 10.0
"""Maximum wait after any failure, in seconds."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The time source of HTTP requests, in seconds.

    Attributes:
        monotonic: returns a monotonic time, for durations.
        wall: returns the time since 1970, for dates in responses.
        sleep: sleeps for a number of seconds.
        jitter: returns a random number in ``[0, 1)``.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random

    def backoff(self, failures: int) -> float:
        """Return how long to wait after `failures` failures in a row.

        The maximum wait doubles with each failure; the upper half of the wait is random.
        """
        longest = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** (failures - 1))
        return longest * (0.5 + 0.5 * self.jitter())

    def retry_after(self, header: str) -> float | None:
        """Return the wait that a ``Retry-After`` header requests; ``None`` if it is not valid.

        The header is a number of seconds or a date. Source: RFC 9110, 10.2.3.
        """
        text = header.strip()
        if text.isascii() and text.isdigit():
            return float(text[:9])
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - self.wall())
        except (ValueError, TypeError, OverflowError):
            return None
