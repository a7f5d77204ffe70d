"""Inflated layers in a cache directory: which exist, which are in use, and removing them.

The directory ``inflated/LAYER-TABLE`` holds what is inflated of a layer, cut into spans by the
index with the digest TABLE. A mount holds a shared lock on the file ``lock`` in it. A process that
removes a layer holds an exclusive lock, so layers that are mounted are never removed.
"""

from __future__ import annotations

import os
import re
import stat
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin import operating_system as system
from tocsin.layers.cache_space import INFLATED, disk_size, listed
from tocsin.layers.untrusted_directory import (
    TEMPORARY_PREFIX,
    UntrustedFileError,
    open_directory,
    open_file,
)
from tocsin.model.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK = "lock"
DATA = "data"
"""Name of the file with the uncompressed layer."""
SPANS = "spans"
"""Name of the file with the digests of its spans."""
_NAME = re.compile(r"([0-9a-f]{64})-([0-9a-f]{1,64})")
_REMOVED_FIRST = (SPANS, "ztoc")
"""The files that make the data valid: without them, a partly removed layer is not used."""
_ABANDONED_AFTER = 86_400
"""Seconds without a write after which a half-written file is removed."""


@dataclass(frozen=True, slots=True)
class InflatedLayer:
    """A layer that is inflated in the cache, at least in part.

    Attributes:
        digest: digest of the layer.
        table: hexadecimal digest of the index that cuts it into spans.
        disk_size: bytes on the disk.
        used_ns: time of the last use, in nanoseconds since 1970.
        is_pinned: whether a mount uses it, so that it is neither removed nor counted.
    """

    digest: Digest
    table: str
    disk_size: int
    used_ns: int
    is_pinned: bool

    @property
    def name(self) -> str:
        """Name of the directory."""
        return f"{self.digest.hex}-{self.table}"


def inflated_layers(root: int) -> Iterator[InflatedLayer]:
    """Yield the inflated layers of a cache.

    Args:
        root: descriptor of the cache directory.
    """
    with listed(root, (INFLATED,)) as (_, entries):
        names = [each.name for each in entries if each.is_dir(follow_symlinks=False)]
    for name in sorted(names):
        if match := _NAME.fullmatch(name):
            with suppress(OSError, UntrustedFileError):
                yield _described(root, name, Digest.parse(f"sha256:{match[1]}"), match[2])


def remove_layer(root: int, layer: InflatedLayer) -> bool:
    """Remove an inflated layer unless it is in use; return whether it was removed.

    Args:
        root: descriptor of the cache directory.
        layer: the layer.
    """
    with (
        suppress(OSError, UntrustedFileError),
        open_directory(root, (INFLATED,)) as above,
        open_directory(root, (INFLATED, layer.name)) as directory,
        open_file(LOCK, directory, write=True) as lock,
        _locked(lock) as is_locked,
    ):
        # Another process may have removed the layer, and with it the lock, before this one had it.
        if is_locked and os.fstat(lock).st_nlink:
            _empty(directory)
            # Last, since a mount that waits for this lock then finds that it is gone.
            os.unlink(LOCK, dir_fd=directory)
            os.rmdir(layer.name, dir_fd=above)
            return True
    return False


def remove_abandoned_files(root: int) -> None:
    """Remove half-written files that nothing was written to for a day."""
    with listed(root, (INFLATED,)) as (fd, entries):
        for each in entries:
            with suppress(OSError):
                status = each.stat(follow_symlinks=False)
                if (
                    each.name.startswith(TEMPORARY_PREFIX)
                    and not stat.S_ISDIR(status.st_mode)
                    and status.st_mtime + _ABANDONED_AFTER < time.time()
                ):
                    os.unlink(each.name, dir_fd=fd)


def _described(root: int, name: str, digest: Digest, table: str) -> InflatedLayer:
    size, used_ns = 0, 0
    with open_directory(root, (INFLATED, name)) as directory, os.scandir(directory) as entries:
        for each in entries:
            with suppress(OSError):
                status = each.stat(follow_symlinks=False)
                size += disk_size(status)
                used_ns = max(used_ns, status.st_mtime_ns)
        return InflatedLayer(digest, table, size, used_ns, _is_pinned(directory))


def _is_pinned(directory: int) -> bool:
    try:
        with open_file(LOCK, directory) as lock, _locked(lock) as is_locked:
            return not is_locked
    except (OSError, UntrustedFileError):
        return False


@contextmanager
def _locked(lock: int) -> Iterator[bool]:
    """Hold an exclusive lock; yield whether it was free."""
    if not system.try_lock(lock):
        yield False
        return
    try:
        yield True
    finally:
        system.unlock(lock)


def _empty(directory: int) -> None:
    """Remove all files of a layer except the lock."""
    names = [name for name in os.listdir(directory) if name != LOCK]
    for name in sorted(names, key=lambda name: name not in _REMOVED_FIRST):
        os.unlink(name, dir_fd=directory)
