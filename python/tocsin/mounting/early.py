"""The first bytes of a pack, requested while the names of the image are still being fetched."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING

from tocsin.errors import TocsinError

if TYPE_CHECKING:
    from tocsin.layers.sources import RangeSource

_EARLY_SIZE = 1 << 20
"""Maximum bytes requested early: what a link of 200 Mbit/s brings during two round trips."""
_REQUEST_SIZE = 256 << 10


class EarlyRanges:
    """A blob whose first bytes are requested at once, by threads that end after that.

    Each of these bytes is returned only once, so that they do not stay in memory. If they cannot be
    read early, they are read again when they are needed.

    Args:
        source: bytes of the blob.
        size: size of the blob.
        connections: maximum number of requests at a time.
    """

    in_order = False

    def __init__(self, source: RangeSource, size: int, connections: int) -> None:
        self._source = source
        end = min(size, _EARLY_SIZE)
        self._early: dict[tuple[int, int], Future[bytes]] = {
            (start, min(start + _REQUEST_SIZE, end)): Future()
            for start in range(0, end, _REQUEST_SIZE)
        }
        self._waiting = deque(self._early.items())
        for number in range(min(connections, len(self._early))):
            # Daemons: a thread that waits for a registry must not keep the process alive.
            threading.Thread(target=self._work, name=f"tocsin-early-{number}", daemon=True).start()

    def _work(self) -> None:
        while self._waiting:
            try:
                (start, end), future = self._waiting.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                future.set_result(self._source.read(start, end))
            except Exception as error:  # raised where the bytes are read
                future.set_exception(error)

    @property
    def request_size(self) -> int:
        """As for the source."""
        return self._source.request_size

    @property
    def name(self) -> str:
        """Name in error messages."""
        return self._source.name

    def read(self, start: int, end: int) -> bytes:
        """Return bytes ``[start, end)``, unverified."""
        parts, at = [], start
        for (first, last), future in list(self._early.items()):
            if not first <= at < last:
                continue
            try:
                data = future.result()
            except (TocsinError, OSError):
                break
            parts.append(data[at - first : end - first])
            if last <= end:
                self._early.pop((first, last), None)
            at = min(last, end)
        if at < end:
            parts.append(self._source.read(at, end))
        return b"".join(parts)
