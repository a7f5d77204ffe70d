"""Spans and zTOCs kept on disk between processes.

What is kept is exactly what was fetched, and whoever takes it out verifies it as if it had just
been fetched. So nothing needs a lock, a half-written or tampered file heals itself, and the
directory need not be trusted.
"""

from __future__ import annotations

import hashlib
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.layers.forking import forget_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.model.digest import Digest


class DiskCache:
    """A directory of spans and zTOCs; may be shared by threads and processes.

    A cache that cannot be written, full or read-only, is no failure: it is told once, and nothing
    more is written.

    Args:
        directory: made when first written to.
        note: called with a sentence.
    """

    def __init__(self, directory: str | os.PathLike[str], note: Callable[[str], None]) -> None:
        self._directory = Path(directory)
        self._note = note
        self._writes = True
        self._lock = threading.Lock()
        forget_after_fork(self)

    def after_fork(self) -> None:
        """Forget a lock that another thread may have held."""
        self._lock = threading.Lock()

    def blob(self, digest: Digest, size: int) -> bytes | None:
        """Return a zTOC, verified; ``None`` if it is not there, or not what it should be."""
        path = self._blob_path(digest)
        data = _read(path)
        if data is None:
            return None
        if len(data) == size and hashlib.sha256(data).hexdigest() == digest.hex:
            return data
        self.remove(path)
        return None

    def keep_blob(self, digest: Digest, data: bytes) -> None:
        """Keep a verified zTOC."""
        if digest.algorithm == "sha256":
            self.write(self._blob_path(digest), data)

    def spans_of(self, layer: Digest, ztoc: str) -> KeptSpans:
        """Return the spans that are kept of one layer.

        Args:
            layer: its digest.
            ztoc: a name for how it was cut into spans: the zTOC's digest, or what it was made with.
        """
        return KeptSpans(self, self._directory / "spans" / layer.hex / ztoc.rpartition(":")[2])

    def _blob_path(self, digest: Digest) -> Path:
        return self._directory / "ztocs" / digest.hex

    def write(self, path: Path, data: bytes) -> None:
        """Write a file below the directory, so that it is complete or missing."""
        if not self._writes:
            return
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            temporary.replace(path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            with self._lock:
                told, self._writes = not self._writes, False
            if not told:
                self._note(
                    f"cache {self._directory}: nothing more is kept: {error.strerror or error}"
                )

    def remove(self, path: Path) -> None:
        """Delete a file that turned out wrong, if it can be deleted."""
        with suppress(OSError):
            path.unlink()


class KeptSpans:
    """The spans of one layer that are kept on disk."""

    def __init__(self, cache: DiskCache, directory: Path) -> None:
        self._cache = cache
        self._directory = directory

    def span(self, span_id: int) -> bytes | None:
        """Return the compressed bytes of a span, **unverified**; ``None`` if they are missing."""
        return _read(self._directory / str(span_id))

    def keep(self, span_id: int, data: bytes) -> None:
        """Keep the compressed bytes of a span."""
        self._cache.write(self._directory / str(span_id), data)

    def drop(self, span_id: int) -> None:
        """Forget a span that turned out wrong."""
        self._cache.remove(self._directory / str(span_id))


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
