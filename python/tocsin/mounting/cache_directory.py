"""The cache directory of mounts, and the directories of inflated layers in it."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from tocsin.layers.cache_space import INFLATED
from tocsin.layers.inflated_layers import LOCK
from tocsin.layers.untrusted_directory import (
    UntrustedFileError,
    open_directory,
    open_file,
    open_root,
)
from tocsin.operating_system import lock_shared

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tocsin.model.digest import Digest

_MAX_TRIES = 10
"""Number of times that a directory is made again if the cache is cleaned at the same moment."""


class InflatedLayers:
    """The directories that hold the inflated spans of layers, which live mounts share.

    A mount holds a shared lock on the file ``lock`` of each directory that it uses, so that
    cleaning the cache leaves these alone. The kernel releases the locks of a process that dies.

    Args:
        directory: the cache directory.
        note: called with messages for the user.
    """

    def __init__(self, directory: Path, note: Callable[[str], None]) -> None:
        self._directory = directory
        self._note = note
        self._locks: list[int] = []
        self._is_usable = True

    def directory_of(self, layer: Digest, table: str) -> str | None:
        """Make and lock the directory of a layer.

        Args:
            layer: digest of the layer.
            table: hexadecimal digest of what cuts the layer into spans.

        Returns:
            Its path; ``None`` if the cache cannot be used, which is noted once.
        """
        return self.locked(f"{layer.hex}-{table}")

    def locked(self, name: str) -> str | None:
        """Make and lock a directory, given by its name; return its path as `directory_of`."""
        if not self._is_usable:
            return None
        try:
            with open_root(self._directory, make=True) as root:
                self._locks.append(_make_and_lock(root, name))
        except (OSError, UntrustedFileError) as error:
            self._is_usable = False
            reason = error.reason if isinstance(error, UntrustedFileError) else error.strerror
            self._note(f"cache {self._directory}: not used, so that files stay in memory: {reason}")
            return None
        return str(self._directory / INFLATED / name)

    def close(self) -> None:
        """Release the locks."""
        for lock in self._locks:
            with suppress(OSError):
                os.close(lock)
        self._locks.clear()


def _make_and_lock(root: int, name: str) -> int:
    """Make the directory of a layer, and return the descriptor of its lock, which is held."""
    for _ in range(_MAX_TRIES):
        with (
            # A process that cleans the cache may remove the directory before it is locked.
            suppress(FileNotFoundError),
            open_directory(root, [INFLATED, name], make=True) as directory,
            open_file(LOCK, directory, write=True) as lock,
        ):
            # Waits only while the cache is being cleaned. A lock belongs to the open file, so that
            # the copy of the descriptor holds it.
            lock_shared(lock)
            if os.fstat(lock).st_nlink:
                os.utime(lock)  # the time of the last use
                return os.dup(lock)
    raise UntrustedFileError(f"{name} was removed again and again")
