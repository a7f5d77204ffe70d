"""The size limit of a cache directory: a total that processes share, and eviction.

The file ``.tocsin-usage`` holds the total; a process locks it before it writes to the cache. The
total is raised before a file is written, so a process that dies leaves it too high, never too low.
All files are counted again once a day and whenever the cache is full; a full cache loses the files
that were used least recently.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from tocsin.layers.untrusted_directory import (
    UntrustedFileError,
    open_directory,
    open_file,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

SEEK = "seek"
SPANS = "spans"
ZTOCS = "ztocs"
_USAGE = ".tocsin-usage"
_USAGE_TEXT = re.compile(rb"([0-9]{1,19}) ([0-9]{1,19})\n")
_LOCK_TIMEOUT = 5.0
"""Seconds to wait for other processes; one of them may be counting all files."""
_PAUSE = 0.01
_MAX_AGE = 86_400
"""Seconds until all files are counted again, since a user may have added or removed some."""
_KEPT_PERCENT = 90
"""Percentage of the limit that eviction leaves in use, so that not every write evicts files."""
_BLOCK = 4096
"""Allocation unit of most file systems, in bytes."""
_HEX = re.compile(r"[0-9a-f]{1,64}")
_NUMBER = re.compile(r"[0-9]{1,19}")


def cost(size: int) -> int:
    """Return the disk space that a file of `size` bytes takes, in bytes."""
    return -(-size // _BLOCK) * _BLOCK


class _Kept(NamedTuple):
    """A file in the cache; sorts by the time of its last use."""

    used_ns: int
    cost: int
    directory: tuple[str, ...]
    name: str


@contextmanager
def room_for(root: int, needed: int, limit: int) -> Iterator[bool]:
    """Lock a cache, evict files if it is full, and add the next file to the total.

    Args:
        root: descriptor of the cache directory.
        needed: cost of the next file.
        limit: maximum cost of all files together.

    Yields:
        Whether the next file may be written.

    Raises:
        UntrustedFileError, OSError: the cache cannot be locked.
    """
    with _open_usage(root) as fd:
        _lock(fd)
        try:
            total, counted = _read_usage(fd)
            now = int(time.time())
            if total is None or total + needed > limit or not 0 <= now - counted <= _MAX_AGE:
                total, counted = _evict(root, needed, limit), now
            has_room = total + needed <= limit
            _write_usage(fd, total + needed if has_room else total, counted)
            yield has_room
        finally:
            # Closing is not enough: a process forked meanwhile has a copy that holds the lock.
            fcntl.flock(fd, fcntl.LOCK_UN)


@contextmanager
def _open_usage(root: int) -> Iterator[int]:
    with ExitStack() as stack:
        try:
            fd = stack.enter_context(open_file(_USAGE, root, write=True))
        except UntrustedFileError:
            try:
                os.unlink(_USAGE, dir_fd=root)
            except IsADirectoryError as error:
                raise OSError(error.errno, f"{_USAGE} is a directory") from None
            fd = stack.enter_context(open_file(_USAGE, root, write=True))
        yield fd


def _lock(fd: int) -> None:
    deadline = time.monotonic() + _LOCK_TIMEOUT
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise OSError(error.errno, "another process keeps it locked") from None
            time.sleep(_PAUSE)
        else:
            return


def _read_usage(fd: int) -> tuple[int | None, int]:
    found = _USAGE_TEXT.fullmatch(os.pread(fd, 64, 0))
    return (int(found[1]), int(found[2])) if found else (None, 0)


def _write_usage(fd: int, total: int, counted: int) -> None:
    text = b"%d %d\n" % (total, counted)
    os.pwrite(fd, text, 0)
    os.ftruncate(fd, len(text))


def _evict(root: int, needed: int, limit: int) -> int:
    """Count all files, remove some if there is no room for `needed`, and return the total."""
    # A file larger than the limit was not written by a DiskCache: remove it first.
    kept = sorted(_files(root), key=lambda each: (each.cost <= limit, each))
    total = sum(each.cost for each in kept)
    if total + needed <= limit:
        return total
    most = max(0, limit * _KEPT_PERCENT // 100 - needed)
    left = set()
    for each in kept:
        if total <= most:
            break
        with suppress(OSError, UntrustedFileError), open_directory(root, each.directory) as fd:
            os.unlink(each.name, dir_fd=fd)
            total -= each.cost
            left.add(each.directory)
    for directory in left:
        _remove_empty(root, directory)
    return total


def _remove_empty(root: int, directory: tuple[str, ...]) -> None:
    """Remove a directory if it is empty, then its parents likewise."""
    while len(directory) > 1:
        *above, name = directory
        directory = tuple(above)
        try:
            with open_directory(root, directory) as fd:
                os.rmdir(name, dir_fd=fd)
        except (OSError, UntrustedFileError):
            return


def _files(root: int) -> Iterator[_Kept]:
    """Yield all files of the cache, and remove half-written and special files."""
    yield from _files_in(root, (ZTOCS,), _HEX)
    for blob in _directories(root, (SEEK,)):
        yield from _files_in(root, (SEEK, blob), _NUMBER)
    for layer in _directories(root, (SPANS,)):
        for ztoc in _directories(root, (SPANS, layer)):
            yield from _files_in(root, (SPANS, layer, ztoc), _NUMBER)


def _directories(root: int, at: tuple[str, ...]) -> list[str]:
    with _listed(root, at) as (_, entries):
        return [
            each.name
            for each in entries
            if _HEX.fullmatch(each.name) and each.is_dir(follow_symlinks=False)
        ]


@contextmanager
def _listed(root: int, at: tuple[str, ...]) -> Iterator[tuple[int, Iterator[os.DirEntry[str]]]]:
    """Yield the descriptor of a directory and its entries; none if it cannot be read."""
    with ExitStack() as stack:
        try:
            fd = stack.enter_context(open_directory(root, at))
            entries = stack.enter_context(os.scandir(fd))
        except (OSError, UntrustedFileError):
            yield -1, iter(())
        else:
            yield fd, entries


def _files_in(root: int, at: tuple[str, ...], names: re.Pattern[str]) -> list[_Kept]:
    found = []
    with _listed(root, at) as (fd, entries):
        for each in entries:
            with suppress(OSError):
                status = each.stat(follow_symlinks=False)
                # The cache is locked, so the writer of a half-written file has died.
                if each.name.startswith(".") or not stat.S_ISREG(status.st_mode):
                    os.unlink(each.name, dir_fd=fd)
                elif names.fullmatch(each.name):
                    found.append(_Kept(status.st_mtime_ns, cost(status.st_size), at, each.name))
    return found
