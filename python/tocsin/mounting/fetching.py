"""The threads that fetch what a mount asks for: bytes of layers, of seek tables and of packs.

The core decides what is fetched and when; a thread only moves the bytes. What a thread gets is not
verified: the core verifies it before it is used.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tocsin.errors import TocsinError
from tocsin.log import LOG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from tocsin.mounting.opening import FillSource

_WAIT = 1.0
"""Seconds after which a thread without work checks whether it should stop."""
_PAUSE = 0.2
"""Seconds that a thread waits after a failure at first, so that a refused request is not repeated
at once; doubled after each further failure."""
_MAX_PAUSE = 2.0


class Fetch(NamedTuple):
    """A request of the core.

    Attributes:
        number: its number, for the answer.
        layer: number of the layer, 0 for the lowest; that of a pack follows the highest one.
        is_chunk: whether the bytes are those of the layer's seek blob, or of the pack, and not of
            the layer.
        start: offset of the first byte.
        end: offset after the last one.
        purpose: ``demand``, ``list`` or ``background``.
    """

    number: int
    layer: int
    is_chunk: bool
    start: int
    end: int
    purpose: str


class FetchQueue(Protocol):
    """What fetch threads need of ``_core.Mount``."""

    def next_fetch(self, timeout: float) -> tuple[int, int, bool, int, int, str] | None: ...  # noqa: D102
    def answer(self, number: int, data: Buffer) -> str | None: ...  # noqa: D102
    def fail(self, number: int, error: str) -> None: ...  # noqa: D102


class FetchThreads:
    """Threads that answer the fetches of one mount.

    Args:
        queue: gives fetches, and takes their answers.
        layers: sources of the layers, and of the pack if there is one.
        count: number of threads, and so of requests in flight.
        has_pack: whether the last source is that of a pack.

    Attributes:
        failure: the exception of the last fetch that failed; ``None`` if none has.
    """

    def __init__(
        self,
        queue: FetchQueue,
        layers: Sequence[FillSource],
        count: int,
        *,
        has_pack: bool = False,
    ) -> None:
        self._queue = queue
        self._layers = layers
        self._pack = len(layers) - 1 if has_pack else None
        self._stop = threading.Event()
        self._failures = 0
        self.failure: Exception | None = None
        self._damaged: set[tuple[int, int]] = set()
        """Layer and offset of chunks in the disk cache that did not match their digest."""
        self._threads = [
            # Daemons: a thread that waits for a registry must not keep the process alive.
            threading.Thread(target=self._work, name=f"tocsin-fetch-{number}", daemon=True)
            for number in range(count)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float = 0.0) -> None:
        """Let the threads end after their current fetch; wait for them for `timeout` seconds."""
        self._stop.set()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while not self._stop.is_set():
            fetch = self._queue.next_fetch(_WAIT)
            if fetch is not None:
                self._answer(Fetch(*fetch))

    def _answer(self, fetch: Fetch) -> None:
        try:
            problem = self._fetch(fetch)
        except (TocsinError, OSError) as error:
            self.failure = error
            self._fail(fetch, _text(error))
        except Exception as error:
            # Without an answer, the read would wait until its time limit.
            self.failure = error
            LOG.exception("%s", self._place(fetch))
            self._fail(fetch, f"bug in tocsin: {type(error).__name__}")
        else:
            self._failures = 0
            if problem is not None:
                LOG.warning("%s: %s", self._place(fetch), problem)

    def _fetch(self, fetch: Fetch) -> str | None:
        """Fetch and answer; return what is wrong with the bytes."""
        layer = self._layers[fetch.layer]
        start, end = fetch.start, fetch.end
        if not fetch.is_chunk:
            return self._queue.answer(fetch.number, layer.source.read(start, end))
        assert layer.chunk_source is not None  # noqa: S101 (the mount has chunks of this layer)
        inside = [each for each in layer.chunks if start <= each[0] and each[1] <= end]
        is_damaged = (fetch.layer, start) in self._damaged
        kept = None if is_damaged else _kept(layer, inside, start, end)
        if kept is not None:
            problem = self._queue.answer(fetch.number, kept)
            if problem is not None:
                # The core asks again, and then the bytes are fetched.
                self._damaged.add((fetch.layer, start))
            return problem
        data = layer.chunk_source.read(start, end)
        problem = self._queue.answer(fetch.number, data)
        if problem is None and layer.kept_chunks is not None:
            for first, last in inside:
                layer.kept_chunks.keep(first, data[first - start : last - start])
        return problem

    def _fail(self, fetch: Fetch, reason: str) -> None:
        self._failures += 1
        if self._failures == 1:
            LOG.warning("%s: %s", self._place(fetch), reason)
        # A program that waits has a deadline; background loading has time.
        doublings = min(self._failures, 5) if fetch.purpose == "background" else 0
        self._stop.wait(min(_MAX_PAUSE, _PAUSE * 2**doublings))
        self._queue.fail(fetch.number, reason)

    def _place(self, fetch: Fetch) -> str:
        what = f"{'seek table' if fetch.is_chunk else 'layer'} {fetch.layer + 1}"
        if fetch.layer == self._pack:
            what = "pack"
        return f"{what}, bytes {fetch.start} to {fetch.end}"


def _kept(layer: FillSource, chunks: list[tuple[int, int]], start: int, end: int) -> bytes | None:
    """Return the bytes of neighbouring chunks from the disk cache, if it has all of them."""
    if layer.kept_chunks is None or not chunks or (chunks[0][0], chunks[-1][1]) != (start, end):
        return None
    parts = []
    at = start
    for first, last in chunks:
        part = layer.kept_chunks.part(first, last - first) if first == at else None
        if part is None:
            return None
        parts.append(part)
        at = last
    return b"".join(parts)


def _text(error: TocsinError | OSError) -> str:
    if isinstance(error, TocsinError):
        return error.message
    return error.strerror or type(error).__name__
