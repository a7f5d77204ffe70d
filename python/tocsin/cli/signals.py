"""Handles Ctrl-C and other signals: the first one raises, so that partial output is removed."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from tocsin.cli import exit_codes
from tocsin.operating_system import STOP_SIGNALS

if TYPE_CHECKING:
    from types import FrameType

_GRACE_PERIOD = 1.0
"""Seconds during which further signals are ignored, since users may press Ctrl-C twice."""


class Stopped(KeyboardInterrupt):
    """A signal that ends the process, raised as an exception.

    Attributes:
        number: number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def raise_on_signals() -> None:
    """Let SIGINT, SIGTERM and SIGHUP raise `Stopped`, unless the parent process ignores them.

    After the first signal, further ones are ignored for a second, so that cleanup can finish; later
    ones end the process immediately.
    """
    first: list[float] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        if not first:
            first.append(time.monotonic())
            raise Stopped(number)
        if time.monotonic() - first[0] > _GRACE_PERIOD:
            os._exit(exit_codes.SIGNAL + number)

    for number in STOP_SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, stop)
