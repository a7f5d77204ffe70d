"""Spans, zTOCs and parts of seek tables kept on disk between processes.

A file holds exactly what was fetched, and its reader verifies it as if it had just been fetched, so
a damaged file is replaced by the next run. The directory need not be trusted: links that another
user puts into it are not followed, FIFOs are not waited for, and no read is unbounded.
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.layers.cache_space import SEEK, SPANS, ZTOCS, cost, room_for
from tocsin.layers.forking import forget_after_fork
from tocsin.layers.untrusted_directory import (
    UntrustedFileError,
    open_directory,
    open_root,
    read_file,
    write_file,
)
from tocsin.model.soci_index import MAX_ZTOC_SIZE
from tocsin.operating_system import require_directory_descriptors

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from tocsin.model.digest import Digest

DEFAULT_DISK_CACHE_SIZE = 2 << 30
"""Limit of a cache directory, in bytes."""

_Place = tuple[str, ...]
"""The path of a file below the cache directory, as names."""


class DiskCache:
    """A directory of spans, zTOCs and parts of seek tables.

    It may be shared by threads, and by processes of one user.

    An unusable cache does not make reads fail: data is fetched instead, and one note reports why.

    Args:
        directory: created when first written to, with access for this user only.
        note: called with messages for the user.
        size: limit in bytes; the least recently used files are removed.

    Raises:
        UnsupportedError: this is Windows.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        note: Callable[[str], None],
        *,
        size: int = DEFAULT_DISK_CACHE_SIZE,
    ) -> None:
        require_directory_descriptors("cache_dir")
        self._directory = Path(directory)
        self._note = note
        self._size = size
        self._writes = True
        self._noted: set[str] = set()
        self._lock = threading.Lock()
        self._note_lock = threading.Lock()
        forget_after_fork(self)

    def after_fork(self) -> None:
        """Forget locks that other threads may have held."""
        self._lock = threading.Lock()
        self._note_lock = threading.Lock()

    def blob(self, digest: Digest, size: int) -> bytes | None:
        """Return a verified zTOC; ``None`` if it is missing or damaged."""
        if size > MAX_ZTOC_SIZE:
            return None
        place = (ZTOCS, digest.hex)
        data = self.read(place, size)
        if data is not None and hashlib.sha256(data).hexdigest() != digest.hex:
            self.ignore(place)
            return None
        return data

    def keep_blob(self, digest: Digest, data: bytes) -> None:
        """Keep a verified zTOC."""
        self.write((ZTOCS, digest.hex), data)

    def spans_of(self, layer: Digest, table: str) -> KeptParts:
        """Return the kept spans of one layer, numbered by span id.

        Args:
            layer: its digest.
            table: name of the division into spans: the digest of the zTOC, the digest of the
                layer's seek blob, or the options of an index that is made while reading.
        """
        return KeptParts(self, (SPANS, layer.hex, table.rpartition(":")[2]))

    def parts_of(self, blob: Digest) -> KeptParts:
        """Return the kept parts of a blob of a seek table, numbered by their offsets."""
        return KeptParts(self, (SEEK, blob.hex))

    def read(self, place: _Place, size: int) -> bytes | None:
        """Return the unverified data of a file of `size` bytes; ``None`` if there is none."""
        *directories, name = place
        try:
            with open_root(self._directory) as root:
                try:
                    with open_directory(root, directories) as directory:
                        return read_file(name, directory, size)
                except FileNotFoundError:
                    pass
                except (UntrustedFileError, OSError) as error:
                    self.ignore(place, _reason(error))
        except FileNotFoundError:
            pass
        except (UntrustedFileError, OSError) as error:
            self._refuse(error)
        return None

    def write(self, place: _Place, data: bytes) -> None:
        """Write a file so that it appears whole or not at all."""
        if not self._writes or cost(len(data)) > self._size:
            return
        try:
            with self._lock, open_root(self._directory, make=True) as root:
                problem = self._write_below(root, place, data)
        except UntrustedFileError as error:
            self._refuse(error)
        except OSError as error:
            self._writes = False
            self._note_once("full", f"no longer written to: {_reason(error)}")
        else:
            if problem:
                self.ignore(place, problem)

    def _write_below(self, root: int, place: _Place, data: bytes) -> str:
        """Write a file if there is room; return why this path cannot be used, or ``""``."""
        *directories, name = place
        with room_for(root, cost(len(data)), self._size) as has_room:
            if has_room:
                try:
                    with open_directory(root, directories, make=True) as directory:
                        write_file(name, directory, data)
                except UntrustedFileError as error:
                    return _reason(error)
        return ""

    def ignore(self, place: _Place, reason: str = "does not match its digest") -> None:
        """Report that a file is ignored and fetched again; only the first one is reported."""
        self._note_once("ignored", f"{'/'.join(place)} is ignored and fetched again: {reason}")

    def _refuse(self, error: UntrustedFileError | OSError) -> None:
        self._writes = False
        self._note_once("refused", f"not used: {_reason(error)}")

    def _note_once(self, kind: str, text: str) -> None:
        with self._note_lock:
            is_new = kind not in self._noted
            self._noted.add(kind)
        if is_new:
            self._note(f"cache {self._directory}: {text}")


class KeptParts:
    """The parts of one blob that are kept on disk, such as the spans of a layer."""

    def __init__(self, cache: DiskCache, directory: _Place) -> None:
        self._cache = cache
        self._directory = directory

    def part(self, number: int, size: int) -> bytes | None:
        """Return the `size` bytes of a part, **unverified**; ``None`` if missing."""
        return self._cache.read((*self._directory, str(number)), size)

    def keep(self, number: int, data: bytes) -> None:
        """Keep the bytes of a part."""
        self._cache.write((*self._directory, str(number)), data)

    def ignore(self, number: int) -> None:
        """Note that a part did not match its digest."""
        self._cache.ignore((*self._directory, str(number)))


def _reason(error: UntrustedFileError | OSError) -> str:
    if isinstance(error, UntrustedFileError):
        return error.reason
    return error.strerror or "input/output error"
