"""State of open images that a forked process must discard."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class ForkAware(Protocol):
    """An object that holds locks, threads or connections."""

    def after_fork(self) -> None:
        """Discard state that belongs to the parent process or may be inconsistent."""
        ...


_REGISTERED: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def forget_after_fork(holder: ForkAware) -> None:
    """Call ``holder.after_fork()`` in every forked process, as long as `holder` is alive."""
    _REGISTERED.add(holder)


def _after_fork() -> None:
    for holder in list(_REGISTERED):
        holder.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
