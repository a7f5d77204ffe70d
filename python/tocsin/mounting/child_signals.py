"""Signals for a program that this process waits for."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

FORWARDED = (signal.SIGTERM, signal.SIGHUP)
"""Signals passed on to the program. A terminal sends SIGINT and SIGQUIT to it directly."""
FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
_GRACE = 10.0
"""Seconds that a program has to end after SIGTERM, as in Docker."""


class TimeLimit:
    """Stops a program after a time: first with SIGTERM, and later with SIGKILL.

    Args:
        seconds: time from the start of the program.

    Attributes:
        is_reached: whether the program was stopped.
    """

    def __init__(self, seconds: float) -> None:
        self.is_reached = False
        self._seconds = seconds

    @contextmanager
    def of(self, child: int) -> Iterator[None]:
        """Limit the time of the block, which waits for a child."""

        def stop(_number: int, _frame: FrameType | None) -> None:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL if self.is_reached else signal.SIGTERM)
            self.is_reached = True
            signal.setitimer(signal.ITIMER_REAL, _GRACE)

        before = signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


class Forwarding:
    """Passes signals on to a child, as long as the ``with`` block runs."""

    def __init__(self, child: int) -> None:
        self._child = child
        self._before: dict[int, object] = {}

    def __enter__(self) -> None:
        for number in FORWARDED:
            self._before[number] = signal.signal(number, self._forward)
        for number in FROM_TERMINAL:
            self._before[number] = signal.signal(number, signal.SIG_IGN)

    def _forward(self, number: int, _frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._child, number)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # as `signal` returned it
