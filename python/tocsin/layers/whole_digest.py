"""The digest of a whole layer that was fetched span by span.

Spans are verified with the digests in a zTOC. Once all spans of a layer have been read, the layer's
own digest can be verified too, and that does not depend on an index.
"""

from __future__ import annotations

import hashlib
import threading

MAX_PENDING_SIZE = 64 << 20
"""Maximum number of bytes that wait for earlier ones: the size of all requests in flight."""


class WholeDigest:
    """SHA-256 of a layer whose ranges arrive in any order; may be used by several threads.

    Args:
        size: size of the layer in bytes.
        max_pending_size: maximum number of bytes that wait for earlier ones. If there are more, the
            digest is given up: the spans are still verified, but not the layer as a whole.
    """

    def __init__(self, size: int, *, max_pending_size: int = MAX_PENDING_SIZE) -> None:
        self._size = size
        self._max_pending_size = max_pending_size
        self._lock = threading.Lock()
        self._hash = hashlib.sha256()
        self._hashed = 0
        self._pending: dict[int, bytes] = {}
        self._pending_size = 0
        self._given_up = False

    def add(self, start: int, data: bytes) -> None:
        """Add the bytes from `start` on; ranges may overlap, and repeated ones are ignored."""
        with self._lock:
            if self._given_up or start + len(data) <= self._hashed:
                return
            if start > self._hashed:
                self._hold(start, data)
                return
            self._take(start, data)
            while self._pending and (first := min(self._pending)) <= self._hashed:
                held = self._pending.pop(first)
                self._pending_size -= len(held)
                self._take(first, held)

    def _take(self, start: int, data: bytes) -> None:
        new = memoryview(data)[self._hashed - start :]
        self._hash.update(new)
        self._hashed += len(new)

    def _hold(self, start: int, data: bytes) -> None:
        before = self._pending.get(start, b"")
        if len(before) >= len(data):
            return
        self._pending[start] = data
        self._pending_size += len(data) - len(before)
        if self._pending_size > self._max_pending_size:
            self._given_up = True
            self._pending.clear()

    def missing(self) -> list[tuple[int, int]] | None:
        """Return the ranges that have not arrived; ``None`` if the digest was given up."""
        with self._lock:
            if self._given_up:
                return None
            ranges = []
            at = self._hashed
            for start in sorted(self._pending):
                if start > at:
                    ranges.append((at, start))
                at = max(at, start + len(self._pending[start]))
            if at < self._size:
                ranges.append((at, self._size))
            return ranges

    def hexdigest(self) -> str | None:
        """Return the digest once every byte has arrived; ``None`` before that."""
        with self._lock:
            return self._hash.hexdigest() if self._hashed == self._size else None
