"""Ctrl-C and its kin: the first one unwinds, so that everything half-made is removed."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from tocsin.cli import exit_codes

if TYPE_CHECKING:
    from types import FrameType

_PATIENCE = 1.0
"""Seconds in which a second signal does not count: people press Ctrl-C twice."""


class Stopped(KeyboardInterrupt):
    """A signal asks the process to end; unwinds everything, as Ctrl-C does.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def raise_on_signals() -> None:
    """Let SIGINT, SIGTERM and SIGHUP raise `Stopped`, unless the parent process had them ignored.

    Once one has come, another within a second is not heard, so that clean-up finishes; one after
    that ends the process at once.
    """
    first: list[float] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        if not first:
            first.append(time.monotonic())
            raise Stopped(number)
        if time.monotonic() - first[0] > _PATIENCE:
            os._exit(exit_codes.SIGNAL + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, stop)
