"""Makes Python look to tocsin as on Windows or macOS; only for a process that ends after it.

Neither system runs these tests, so what differs is taken away: modules, functions, flags, signals.
On Windows, a file that is open can be neither renamed nor removed, directories cannot be opened,
and files opened without ``O_BINARY`` are text.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import sys
import tempfile
import types
from typing import TYPE_CHECKING, Any

# Libraries, and what they use, look at the system when they are imported: before it changes.
import click.shell_completion
import fsspec
import numpy as np
import requests
import rich.console
import rich.progress
import rich.table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LIBRARIES = (click, fsspec, np, requests, rich)
_UNIX_MODULES = ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty")
_LINUX_FUNCTIONS = (
    *("O_PATH", "O_TMPFILE", "copy_file_range", "getxattr", "listxattr", "memfd_create", "pipe2"),
    *("posix_fadvise", "posix_fallocate", "sched_getaffinity", "setns", "setxattr", "unshare"),
)
_UNIX_FUNCTIONS = (
    *("O_CLOEXEC", "O_DIRECTORY", "O_NOCTTY", "O_NOFOLLOW", "O_NONBLOCK", "chown", "fchmod"),
    *("fchown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getuid", "killpg", "lchown"),
    *("major", "makedev", "minor", "mkfifo", "mknod", "pread", "pwrite", "register_at_fork"),
    *("sendfile", "setsid", "statvfs", "sysconf", "uname", "wait", "waitpid"),
)
_UNIX_SIGNALS = ("SIGALRM", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGXFSZ", "setitimer")
_BINARY = 0x8000
"""``O_BINARY`` of Windows."""


def pretend(platform: str) -> None:
    """Change this process.

    Args:
        platform: ``win32`` or ``darwin``.
    """
    flock, unlock = fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_UN
    _remove(os, _LINUX_FUNCTIONS)
    tempfile._O_TMPFILE_WORKS = False  # type: ignore[attr-defined]  # its flag is gone
    if platform == "win32":
        _remove(os, _UNIX_FUNCTIONS)
        _remove(signal, _UNIX_SIGNALS)
        _remove(socket, ("AF_UNIX",))
        os.O_BINARY = _BINARY  # type: ignore[attr-defined]
        for name in _UNIX_MODULES:
            sys.modules.pop(name, None)
        sys.meta_path.insert(0, _Missing())
        sys.modules["msvcrt"] = _msvcrt(fcntl.flock, flock, unlock)
        _Files().install()
    sys.platform = platform


def _remove(module: types.ModuleType, names: Sequence[str]) -> None:
    for name in names:
        if hasattr(module, name):
            delattr(module, name)


class _Missing:
    """Finds that a module is missing."""

    def find_spec(self, name: str, *_: object) -> None:
        if name in _UNIX_MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _msvcrt(flock: Callable[[int, int], None], lock: int, unlock: int) -> Any:
    """Return the part of ``msvcrt`` that locks files."""
    module: Any = types.ModuleType("msvcrt")
    module.LK_NBLCK, module.LK_UNLCK = 2, 0

    def locking(fd: int, mode: int, size: int) -> None:
        assert size == 1
        assert os.lseek(fd, 0, os.SEEK_CUR) < 1 << 31, "the C library has 32 bits for the place"
        try:
            flock(fd, lock if mode == module.LK_NBLCK else unlock)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None

    module.locking = locking
    return module


class _Files:
    """Functions of ``os`` that fail as on Windows."""

    def __init__(self) -> None:
        self._open: set[int] = set()
        self._real = {name: getattr(os, name) for name in ("open", "close")}

    def install(self) -> None:
        os.open, os.close = self.open, self.close
        for name in ("rename", "replace", "remove", "unlink", "link"):
            setattr(os, name, self._refusing(getattr(os, name)))

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if dir_fd is not None:
            raise NotImplementedError("dir_fd unavailable on this platform")
        if os.path.isdir(path):  # noqa: PTH112 (any kind of path)
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        caller = sys._getframe(1).f_globals["__name__"]
        assert flags & _BINARY or not caller.startswith("tocsin"), f"{path} is opened as text"
        fd: int = self._real["open"](path, flags & ~_BINARY, mode)
        if caller.startswith("tocsin"):
            self._open.add(fd)
        return fd

    def close(self, fd: int) -> None:
        self._open.discard(fd)
        self._real["close"](fd)

    def _is_open(self, path: str) -> bool:
        # A file object may have closed a descriptor, whose number may be used again.
        return any(os.path.realpath(f"/proc/self/fd/{fd}") == path for fd in self._open)

    def _refusing(self, real: Callable[..., None]) -> Callable[..., None]:
        def refusing(path: Any, *others: Any, **options: Any) -> None:
            if any(value is not None for value in options.values()):
                raise NotImplementedError("dir_fd unavailable on this platform")
            for each in (path, *others):
                if self._is_open(os.path.realpath(each)):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), each)
            real(path, *others)

        return refusing
