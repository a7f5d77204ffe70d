"""What must be forgotten when a process with an open image is copied by ``fork``."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forgetful(Protocol):
    """Something that holds locks, threads or connections."""

    def after_fork(self) -> None:
        """Forget, in the copy, what belongs to the original or may be half done."""
        ...


_KNOWN: weakref.WeakSet[Forgetful] = weakref.WeakSet()


def forget_after_fork(thing: Forgetful) -> None:
    """Have `thing` told of forks as long as it lives."""
    _KNOWN.add(thing)


def _after_fork() -> None:
    for thing in list(_KNOWN):
        thing.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
