"""Temporary, unnamed files for blobs that will be written to an archive.

The system removes an unnamed file when the process ends, even if it is killed. Small blobs share
one file; each large blob has its own, whose space is freed as soon as the blob is copied.
"""

from __future__ import annotations

import tempfile
from itertools import chain
from threading import Lock
from typing import IO, TYPE_CHECKING

from tocsin.operating_system import write_at
from tocsin.staged_file import place_in_errors
from tocsin.stores.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SMALL = 4 << 20
"""Maximum bytes of a small blob, which is held in memory until it is complete."""


class Spool:
    """Unnamed files in `directory`, which should be the directory of the archive."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = Lock()
        self._shared: IO[bytes] | None = None
        self._end = 0
        self._large: dict[int, IO[bytes]] = {}

    def stage(self, pieces: Iterable[bytes]) -> Window:
        """Store a blob; nothing is kept if reading or writing raises.

        Raises:
            OSError: the disk is full or broken; ``filename`` is the directory.
        """
        rest = iter(pieces)
        held: list[bytes] = []
        size = 0
        for piece in rest:
            held.append(piece)
            size += len(piece)
            if size > SMALL:
                return self._stage_large(chain(held, rest))
        return self._stage_small(b"".join(held))

    def release(self, window: Window) -> None:
        """Free the disk space of a large blob; its window must not be used afterwards."""
        with self._lock:
            file = self._large.pop(window.fd, None)
        if file is not None:
            file.close()

    def close(self) -> None:
        """Free the disk space of all blobs."""
        with self._lock:
            files = [*self._large.values(), *([self._shared] if self._shared else [])]
            self._large.clear()
            self._shared = None
            self._end = 0
        for file in files:
            file.close()

    def _stage_small(self, data: bytes) -> Window:
        with self._lock:
            if self._shared is None:
                self._shared = self._new_file()
            window = Window(self._shared.fileno(), self._end, len(data))
            self._end += len(data)
        self._write(window.fd, data, window.offset)
        return window

    def _stage_large(self, pieces: Iterable[bytes]) -> Window:
        file = self._new_file()
        try:
            size = 0
            for piece in pieces:
                self._write(file.fileno(), piece, size)
                size += len(piece)
        except BaseException:
            file.close()
            raise
        with self._lock:
            self._large[file.fileno()] = file
        return Window(file.fileno(), 0, size)

    def _new_file(self) -> IO[bytes]:
        with place_in_errors(self._directory):
            return tempfile.TemporaryFile(dir=self._directory, prefix=".tocsin-", buffering=0)

    def _write(self, fd: int, data: bytes, offset: int) -> None:
        rest = memoryview(data)
        with place_in_errors(self._directory):
            while rest:
                written = write_at(fd, rest, offset)
                rest = rest[written:]
                offset += written
