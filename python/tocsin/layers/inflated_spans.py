"""Spans of layers that are inflated in the cache as a whole, read in place of being fetched.

``tocsin fetch`` and mounts leave them there, in the format of ``layer_file.rs``: the uncompressed
layer, and the SHA-256 of each span. Nothing is written here. A span is compared with its digest
each time it is read; if it differs, it is fetched. Before most of a layer is read, all of it is
compared with the diff ID in the image's config, which depends neither on an index nor on the cache.

The files are read and never mapped into memory, since they may become shorter.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from tocsin import _core
from tocsin import operating_system as system
from tocsin.errors import TocsinError
from tocsin.layers.cache_space import INFLATED
from tocsin.layers.forking import forget_after_fork
from tocsin.layers.inflated_layers import DATA, LOCK, SPANS
from tocsin.layers.untrusted_directory import (
    UntrustedFileError,
    open_directory,
    open_file,
    open_root,
)
from tocsin.tar.headers import BLOCK_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tocsin.model.digest import Digest

_MAGIC = b"tocsin spans 1\n\0"
_DIGEST_SIZE = 32
_MISSING = bytes(_DIGEST_SIZE)
"""In place of the digest of a span that is not on disk."""
_BLOCK = 4096
"""The size of the data is rounded up to a multiple of this."""
_PIECE = 1 << 20
"""Bytes that are read and hashed at once."""
_TAR_RECORD = 20 * BLOCK_SIZE
"""Many programs pad a tar with zeros to a multiple of this."""
_PROBLEMS = (OSError, UntrustedFileError, TocsinError)


class InflatedCache:
    """The inflated layers in a cache directory, for the layers of one image.

    Args:
        directory: the cache directory, which may be missing.
        diff_ids: returns the digest of each uncompressed layer by that of the layer; called when
            the first layer is compared with it.
        note: called with messages for the user.
    """

    def __init__(
        self,
        directory: Path,
        diff_ids: Callable[[], Mapping[Digest, Digest]],
        note: Callable[[str], None],
    ) -> None:
        self.directory = directory
        self.diff_ids = diff_ids
        self.note = note
        self._layers: list[InflatedSpans] = []

    def spans_of(self, layer: Digest, table: Callable[[], str]) -> InflatedSpans:
        """Return the spans of a layer; nothing is opened yet.

        Args:
            layer: digest of the layer.
            table: returns the hexadecimal digest of what cuts it into spans.
        """
        found = InflatedSpans(self, layer, table)
        self._layers.append(found)
        return found

    def close(self) -> None:
        """Close all files, and release their locks."""
        for layer in self._layers:
            layer.close()


class InflatedSpans:
    """The spans of one layer; may be used by several threads.

    Args:
        cache: the cache.
        layer: digest of the layer.
        table: returns the hexadecimal digest of what cuts it into spans.

    Attributes:
        is_verified: whether all of the layer was compared with its diff ID, and is the same.
        is_damaged: whether a span was found to be damaged.
    """

    def __init__(self, cache: InflatedCache, layer: Digest, table: Callable[[], str]) -> None:
        self._cache = cache
        self._layer = layer
        self._table = table
        self._files: _Files | None = None
        self._was_opened = False
        self._lock = threading.Lock()
        self.is_verified = False
        self.is_damaged = False
        forget_after_fork(self)

    def after_fork(self) -> None:
        """Forget a lock that another thread may have held."""
        self._lock = threading.Lock()

    def open(self, core: _core.Ztoc | _core.SeekSpans) -> bool:
        """Open and lock the files at the first call; return whether no span is missing.

        Args:
            core: the spans, as the core has them.
        """
        if not self._was_opened:
            with self._lock:
                if not self._was_opened:
                    with suppress(*_PROBLEMS):
                        self._files = self._opened(core)
                    self._was_opened = True
        return self._files is not None

    def span(self, span_id: int) -> _core.SpanReader | None:
        """Return a span after comparing it with its digest; ``None`` if it must be fetched."""
        files = self._files
        found = None
        if files is not None:
            with suppress(OSError, ValueError):  # the latter, if another thread closes the image
                found = files.span(span_id)
            if found is None and not self.is_damaged:
                self.is_damaged = True
                self._note("has damaged spans there, which are fetched")
        return found

    def verify(self) -> bool:
        """Compare the whole layer with its diff ID; return whether it is the same."""
        with suppress(OSError, ValueError, TocsinError):
            expected = self._cache.diff_ids().get(self._layer)
            if self._files is not None and expected is not None:
                self.is_verified = self._files.has_digest(expected.hex)
        if not self.is_verified:
            self._note(
                "cannot be verified with the diff ID in the image's config, so it is fetched"
            )
        return self.is_verified

    @property
    def size(self) -> int:
        """Size of the uncompressed layer in bytes."""
        return 0 if self._files is None else self._files.size

    def close(self) -> None:
        """Close the files, and release the lock."""
        files, self._files = self._files, None
        if files is not None:
            files.close()

    def _opened(self, core: _core.Ztoc | _core.SeekSpans) -> _Files | None:
        with open_root(self._cache.directory) as root:
            with open_directory(root, [INFLATED]) as above, os.scandir(above) as entries:
                # First, since computing the digest of a zTOC takes longer.
                if not any(entry.name.startswith(f"{self._layer.hex}-") for entry in entries):
                    return None
            name = f"{self._layer.hex}-{self._table()}"
            with open_directory(root, [INFLATED, name]) as directory:
                return _Files.opened(directory, _core.uncompressed_ranges(core))

    def _note(self, problem: str) -> None:
        self._cache.note(f"cache {self._cache.directory}: layer {self._layer} {problem}")


class _Files:
    """The open files of a layer.

    Args:
        lock: the locked file.
        data: the file with the uncompressed layer.
        digests: digests of all spans.
        ranges: their uncompressed bytes.
    """

    def __init__(
        self, lock: io.FileIO, data: io.FileIO, digests: bytes, ranges: list[tuple[int, int]]
    ) -> None:
        self._lock = lock
        self._data = data
        self._digests = digests
        self._ranges = ranges
        self.size = ranges[-1][1] if ranges else 0

    @classmethod
    def opened(cls, directory: int, ranges: list[tuple[int, int]]) -> _Files | None:
        """Return the files in a directory; ``None`` if a span is missing."""
        with ExitStack() as stack, ExitStack() as on_failure:
            # Like a mount, so that the layer is not removed from the cache meanwhile.
            lock = _copy(stack.enter_context(open_file(LOCK, directory)))
            on_failure.callback(lock.close)
            system.lock_shared(lock.fileno())
            if not os.fstat(lock.fileno()).st_nlink:
                return None  # it was removed before it was locked
            size = ranges[-1][1] if ranges else 0
            header = _MAGIC + len(ranges).to_bytes(8, "little") + size.to_bytes(8, "little")
            with open_file(SPANS, directory) as fd:
                found = _read(fd, 0, len(header) + len(ranges) * _DIGEST_SIZE)
            digests = found[len(header) :]
            if found[: len(header)] != header or not _all_there(digests, ranges):
                return None
            data = _copy(stack.enter_context(open_file(DATA, directory)))
            on_failure.callback(data.close)
            if os.fstat(data.fileno()).st_size != -(-size // _BLOCK) * _BLOCK:
                return None
            with suppress(OSError):  # a read-only file system
                os.utime(lock.fileno())  # the time of the last use
            on_failure.pop_all()
            return cls(lock, data, digests, ranges)

    def span(self, span_id: int) -> _core.SpanReader | None:
        """Return a span; ``None`` if it differs from its digest."""
        start, end = self._ranges[span_id]
        data = _read(self._data.fileno(), start, end - start)
        if len(data) != end - start or (data and not self._is_span(span_id, hashlib.sha256(data))):
            return None
        return _core.SpanReader.inflated_before(start, data)

    def has_digest(self, expected: str) -> bool:
        """Return whether this is the SHA-256 of the whole layer, and each span has its digest.

        Spans that are read later are the same, since each is compared with its digest then too.
        The spans of a zTOC end at the end of the tar, which zeros may follow.
        """
        whole = hashlib.sha256()
        for span_id, (start, end) in enumerate(self._ranges):
            one = hashlib.sha256()
            for at in range(start, end, _PIECE):
                piece = _read(self._data.fileno(), at, min(end - at, _PIECE))
                whole.update(piece)
                one.update(piece)
            if start < end and not self._is_span(span_id, one):
                return False
        for _ in range(self.size % _TAR_RECORD, _TAR_RECORD, BLOCK_SIZE):
            if whole.hexdigest() == expected:
                return True
            whole.update(bytes(BLOCK_SIZE))
        return whole.hexdigest() == expected

    def close(self) -> None:
        """Close the files."""
        self._data.close()
        self._lock.close()

    def _is_span(self, span_id: int, found: hashlib._Hash) -> bool:
        at = span_id * _DIGEST_SIZE
        return found.digest() == self._digests[at : at + _DIGEST_SIZE]


def _all_there(digests: bytes, ranges: list[tuple[int, int]]) -> bool:
    """Return whether each span that is not empty has a digest."""
    places = range(0, len(ranges) * _DIGEST_SIZE, _DIGEST_SIZE)
    return len(digests) == len(ranges) * _DIGEST_SIZE and not any(
        start < end and digests[at : at + _DIGEST_SIZE] == _MISSING
        for at, (start, end) in zip(places, ranges, strict=True)
    )


def _copy(fd: int) -> io.FileIO:
    return io.FileIO(os.dup(fd))


def _read(fd: int, start: int, size: int) -> bytes:
    """Return the bytes at an offset, or fewer at the end of the file."""
    parts = []
    while size and (part := system.read_at(fd, size, start)):
        parts.append(part)
        start += len(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
