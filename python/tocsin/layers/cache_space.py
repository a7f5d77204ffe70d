"""The size limit of a cache directory: a total that processes share, and eviction.

The file ``.tocsin-usage`` holds the total; a process locks it before it writes to the cache. The
total is raised before a file is written, so a process that dies leaves it too high, never too low.
All files are counted again once a day and whenever the cache is full; a full cache loses the files
that were used least recently.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tocsin import operating_system as system
from tocsin.layers.untrusted_directory import (
    UntrustedFileError,
    open_directory,
    open_file,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SEEK = "seek"
SPANS = "spans"
ZTOCS = "ztocs"
ANSWERS = "answers"
"""Directory of answers of registries about tags and referrers."""
IMAGES = "images"
"""Directory of manifests and other small blobs, by digest."""
INFLATED = "inflated"
"""Directory of inflated layers."""
LIMITED = (SPANS, ZTOCS, SEEK)
"""The directories whose files count towards the limit."""
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
_STAT_BLOCK = 512
"""Unit of ``st_blocks`` in bytes, whatever the file system."""
_HEX = re.compile(r"[0-9a-f]{1,64}")
_NUMBER = re.compile(r"[0-9]{1,19}")


def default_cache_directory() -> Path:
    """Return ``$XDG_CACHE_HOME/tocsin``, or ``~/.cache/tocsin``; relative paths are ignored."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "tocsin"


def cost(size: int) -> int:
    """Return the disk space that a file of `size` bytes takes, in bytes."""
    return -(-size // _BLOCK) * _BLOCK


def disk_size(status: os.stat_result) -> int:
    """Return the bytes that a file takes on the disk; holes take none."""
    return status.st_blocks * _STAT_BLOCK


class KeptFile(NamedTuple):
    """A file in the cache; sorts by the time of its last use.

    Attributes:
        used_ns: time of the last use, in nanoseconds since 1970.
        cost: bytes that count towards the limit.
        directory: names of the directories from the cache directory to the file.
        name: its name.
        disk_size: bytes that it takes on the disk now.
    """

    used_ns: int
    cost: int
    directory: tuple[str, ...]
    name: str
    disk_size: int


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
    with _locked_usage(root) as fd:
        total, counted = _read_usage(fd)
        now = int(time.time())
        if total is None or total + needed > limit or not 0 <= now - counted <= _MAX_AGE:
            total, counted = _evict(root, needed, limit), now
        has_room = total + needed <= limit
        _write_usage(fd, total + needed if has_room else total, counted)
        yield has_room


@contextmanager
def recounted(root: int) -> Iterator[None]:
    """Lock a cache, and count its files again before the lock is released.

    Args:
        root: descriptor of the cache directory.

    Raises:
        UntrustedFileError, OSError: the cache cannot be locked.
    """
    with _locked_usage(root) as fd:
        try:
            yield
        finally:
            _write_usage(fd, sum(each.cost for each in _files(root)), int(time.time()))


@contextmanager
def _locked_usage(root: int) -> Iterator[int]:
    with _open_usage(root) as fd:
        _lock(fd)
        try:
            yield fd
        finally:
            system.unlock(fd)


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
    while not system.try_lock(fd):
        if time.monotonic() > deadline:
            raise OSError(errno.EWOULDBLOCK, "another process keeps it locked")
        time.sleep(_PAUSE)


def _read_usage(fd: int) -> tuple[int | None, int]:
    found = _USAGE_TEXT.fullmatch(system.read_at(fd, 64, 0))
    return (int(found[1]), int(found[2])) if found else (None, 0)


def _write_usage(fd: int, total: int, counted: int) -> None:
    text = b"%d %d\n" % (total, counted)
    system.write_at(fd, text, 0)
    os.ftruncate(fd, len(text))


def _evict(root: int, needed: int, limit: int) -> int:
    """Count all files, remove some if there is no room for `needed`, and return the total."""
    # A file larger than the limit was not written by a DiskCache: remove it first.
    kept = sorted(_files(root), key=lambda each: (each.cost <= limit, each))
    total = sum(each.cost for each in kept)
    if total + needed <= limit:
        return total
    most = max(0, limit * _KEPT_PERCENT // 100 - needed)
    return total - sum(each.cost for each in remove_files(root, kept, total - most))


def remove_files(root: int, files: Iterable[KeptFile], needed: int | None = None) -> list[KeptFile]:
    """Remove files of a locked cache in order, and directories that become empty.

    Args:
        root: descriptor of the cache directory.
        files: the files.
        needed: stop when the removed files have this cost; ``None`` to remove all.

    Returns:
        The files that were removed.
    """
    removed: list[KeptFile] = []
    for each in files:
        if needed is not None and needed <= 0:
            break
        with suppress(OSError, UntrustedFileError), open_directory(root, each.directory) as fd:
            os.unlink(each.name, dir_fd=fd)
            removed.append(each)
            needed = None if needed is None else needed - each.cost
    for directory in {each.directory for each in removed}:
        _remove_empty(root, directory)
    return removed


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


def _files(root: int) -> Iterator[KeptFile]:
    """Yield the files of a locked cache, and remove half-written and special files."""
    for part in LIMITED:
        yield from files_of(root, part, clean=True)


def files_of(root: int, part: str, *, clean: bool) -> Iterator[KeptFile]:
    """Yield the files of one part of the cache.

    Args:
        root: descriptor of the cache directory.
        part: name of the part: `SPANS`, `SEEK`, or another one, whose files are named by digest.
        clean: whether to remove half-written and special files; only if the cache is locked.
    """
    if part == SEEK:
        for blob in _directories(root, (SEEK,)):
            yield from _files_in(root, (SEEK, blob), _NUMBER, clean=clean)
    elif part == SPANS:
        for layer in _directories(root, (SPANS,)):
            for ztoc in _directories(root, (SPANS, layer)):
                yield from _files_in(root, (SPANS, layer, ztoc), _NUMBER, clean=clean)
    else:
        yield from _files_in(root, (part,), _HEX, clean=clean)


def _directories(root: int, at: tuple[str, ...]) -> list[str]:
    with listed(root, at) as (_, entries):
        return [
            each.name
            for each in entries
            if _HEX.fullmatch(each.name) and each.is_dir(follow_symlinks=False)
        ]


@contextmanager
def listed(root: int, at: tuple[str, ...]) -> Iterator[tuple[int, Iterator[os.DirEntry[str]]]]:
    """Yield the descriptor of a directory and its entries; none if it cannot be read."""
    with ExitStack() as stack:
        try:
            fd = stack.enter_context(open_directory(root, at))
            entries = stack.enter_context(os.scandir(fd))
        except (OSError, UntrustedFileError):
            yield -1, iter(())
        else:
            yield fd, entries


def _files_in(
    root: int, at: tuple[str, ...], names: re.Pattern[str], *, clean: bool
) -> list[KeptFile]:
    found = []
    with listed(root, at) as (fd, entries):
        for each in entries:
            with suppress(OSError):
                status = each.stat(follow_symlinks=False)
                if each.name.startswith(".") or not stat.S_ISREG(status.st_mode):
                    # The writer of a half-written file has died if the cache is locked.
                    if clean:
                        os.unlink(each.name, dir_fd=fd)
                elif names.fullmatch(each.name):
                    found.append(
                        KeptFile(
                            status.st_mtime_ns,
                            cost(status.st_size),
                            at,
                            each.name,
                            disk_size(status),
                        )
                    )
    return found
