"""Processes of this machine: which one is which, and which ones use a mount."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROC = Path("/proc")
_START_TIME = 19
"""Index of ``starttime`` among the fields of ``/proc/PID/stat`` after the name of the program.

It is field 22, and the name is field 2. Source: Linux man-pages, proc_pid_stat(5).
"""
_ZOMBIE = "Z"
_MAX_USERS = 5
"""Maximum number of processes that are named in an error."""


def start_time(pid: int) -> int | None:
    """Return when a process was started, in clock ticks after the machine; ``None`` if it ended."""
    try:
        text = (_PROC / str(pid) / "stat").read_text("utf-8", "replace")
        # The name of the program may contain spaces and parentheses.
        found = text[text.rindex(")") + 2 :].split()
        return None if found[0] == _ZOMBIE else int(found[_START_TIME])
    except (OSError, ValueError, IndexError):
        return None


def is_running(pid: int, started: int) -> bool:
    """Return whether a process is running, and not another one with its number."""
    return start_time(pid) == started


class User(NamedTuple):
    """A process that uses a mount."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} ({self.pid})"


def users_of(device: int) -> list[User]:
    """Return some of the processes with a file, a working directory or a root on a file system.

    Only processes of this user are found, unless it is root.

    Args:
        device: device number of the file system (``st_dev``).
    """
    found = []
    for pid in _pids():
        if any(_device_of(path) == device for path in _uses(pid)):
            with suppress(OSError):
                name = (_PROC / str(pid) / "comm").read_text("utf-8", "replace").strip()
                found.append(User(pid, name))
            if len(found) == _MAX_USERS:
                break
    return found


def _pids() -> Iterator[int]:
    with suppress(OSError):
        for path in _PROC.iterdir():
            if path.name.isdigit() and int(path.name) != os.getpid():
                yield int(path.name)


def _uses(pid: int) -> Iterator[Path]:
    process = _PROC / str(pid)
    yield process / "cwd"
    yield process / "root"
    yield process / "exe"
    with suppress(OSError):
        yield from (process / "fd").iterdir()


def _device_of(path: Path) -> int | None:
    with suppress(OSError):
        return path.stat().st_dev
    return None
