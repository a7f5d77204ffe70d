"""The spans of a layer in a seek table, whose checkpoints are fetched chunk by chunk.

docs/seek-table.md explains the format.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from tocsin import _core
from tocsin.layers.forking import forget_after_fork
from tocsin.layers.seek_parts import Part, grouped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tocsin.layers.seek_parts import BlobParts
    from tocsin.model.digest import Digest

_MAX_REQUEST_SIZE = 256 << 10
"""Maximum size of one request for several chunks in bytes; a real chunk has at most 100 KiB. Spans
are inflated only when their checkpoints have arrived, so a larger request would delay the first."""


class SeekSpanTable:
    """The spans of one layer in a seek table; implements `SpanTable`.

    Args:
        compressed_size: size of the layer, as the root says.
        spans: returns the layer's spans; their positions are fetched at the first call.
        chunk_range: returns the range of a chunk in the layer's seek blob.
        parts: parts of that blob.
        blob: digest of that blob.

    Attributes:
        parts: parts of the seek blob.
        blob: digest of the seek blob.
    """

    name = "seek table"

    def __init__(
        self,
        *,
        compressed_size: int,
        spans: Callable[[], _core.SeekSpans],
        chunk_range: Callable[[int], tuple[int, int]],
        parts: BlobParts,
        blob: Digest,
    ) -> None:
        self.compressed_size = compressed_size
        self._open = spans
        self._chunk_range = chunk_range
        self.parts = parts
        self.blob = blob
        self._spans: _core.SeekSpans | None = None
        self._lock = threading.Lock()
        self._locks: dict[int, threading.Lock] = {}
        forget_after_fork(self)

    def after_fork(self) -> None:
        """Forget locks that other threads may have held."""
        self._lock = threading.Lock()
        self._locks = {}

    @property
    def core(self) -> _core.SeekSpans:
        """The spans, without the chunks that have not been fetched."""
        return self._loaded

    def chunk_ranges(self) -> list[tuple[int, int]]:
        """Return the range of each chunk in the seek blob."""
        return [self._chunk_range(chunk) for chunk in range(self._loaded.chunk_count)]

    @property
    def _loaded(self) -> _core.SeekSpans:
        spans = self._spans
        if spans is None:
            spans = self._spans = self._open()
        return spans

    def span_of(self, offset: int) -> int | None:
        """Return the id of the span that holds an uncompressed byte; ``None`` if none does."""
        return self._loaded.span_of(offset)

    def compressed_range(self, span_id: int) -> tuple[int, int]:
        """Return the compressed bytes that a span needs; neighbours may share one byte."""
        return self._loaded.compressed_range(span_id)

    def missing_parts(self, spans: Iterable[int]) -> list[Callable[[], None]]:
        """Return tasks that fetch the chunks with the checkpoints of these spans."""
        core = self._loaded
        chunks = dict.fromkeys(map(core.chunk_of, spans))
        missing = [self._part(chunk) for chunk in chunks if not core.has_chunk(chunk)]
        return [partial(self._load, group) for group in grouped(missing, _MAX_REQUEST_SIZE)]

    def reader(self, span_id: int, compressed: bytes) -> _core.SpanReader:
        """Return a span after verifying its compressed bytes."""
        return _core.SpanReader(self._loaded, span_id, compressed)

    def _part(self, chunk: int) -> Part:
        return Part(chunk, *self._chunk_range(chunk))

    def _load(self, chunks: list[Part]) -> None:
        core = self._loaded
        with self._lock:
            locks = [self._locks.setdefault(part.number, threading.Lock()) for part in chunks]
        with ExitStack() as held:
            # Other threads that need the same chunks wait here instead of fetching them too. All
            # threads lock chunks in ascending order, so none waits for another one forever.
            for lock in locks:
                held.enter_context(lock)
            missing = [part for part in chunks if not core.has_chunk(part.number)]
            for fetch in self.parts.tasks(missing, core.add_chunk):
                fetch()
