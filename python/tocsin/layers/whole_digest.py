"""The digest of a layer of which, in the end, every byte was fetched, though span by span.

Spans are verified by what a zTOC says of them. Where all of a layer was read that way, its own
digest can be verified too, which does not depend on any index.
"""

from __future__ import annotations

import hashlib
import threading

MAX_PENDING_SIZE = 64 << 20
"""Bytes held that came before those in front of them: as many as requests bring at once."""


class WholeDigest:
    """SHA-256 of a layer whose ranges arrive in any order; may be used by several threads.

    Args:
        size: bytes of the layer.
        max_pending_size: bytes held at most. With more the digest is given up, which costs the
            check and nothing else.
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
        """Take the bytes from `start` on; neighbours may overlap, repeats are ignored."""
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
        """Return the ranges that did not arrive; ``None`` if the digest was given up."""
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
        """Return the digest once every byte has arrived; ``None`` before."""
        with self._lock:
            return self._hash.hexdigest() if self._hashed == self._size else None
