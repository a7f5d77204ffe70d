"""The uncompressed bytes of a layer, by its spans: fetched, verified, inflated, kept for a while.

A read names uncompressed bytes. The zTOC says which spans hold them; those that are not at hand
are fetched, neighbours in one request, several requests at once. Each span's digest is checked
before one byte of it is inflated, and a span is inflated only as far as reads need.
"""

from __future__ import annotations

import copy
import io
import threading
from collections import OrderedDict
from collections.abc import Hashable
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

from tocsin import _core
from tocsin.errors import TocsinError, UnsupportedError, VerificationError
from tocsin.layers.fetchers import CLOSED
from tocsin.layers.forking import forget_after_fork
from tocsin.layers.whole_digest import WholeDigest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.layers.disk_cache import KeptSpans
    from tocsin.layers.fetchers import Fetchers
    from tocsin.layers.sources import RangeSource

DEFAULT_CACHE_SIZE = 256 << 20
"""Bytes of spans kept in memory."""
MAX_REQUEST_SIZE = 8 << 20
"""Compressed bytes asked for at once; beyond that several requests run side by side."""
MAX_SPAN_SIZE = 1 << 30
"""Bytes of one span, compressed or inflated; a bomb is one span, however small others are."""
_MAX_RESERVED = 256 << 20
"""Bytes that a read begins with, since a zTOC may claim any size."""
_BATCH_SIZE = 32 << 20
"""Uncompressed bytes of spans that one read fetches ahead of those it is copying."""


SpanKey = tuple[Hashable, int]
"""Whose span, and its id."""


class SpanCache:
    """Spans in memory, of any number of layers, the least recently used given up first.

    Args:
        size: bytes, compressed and inflated together; the span in use is always kept.
    """

    def __init__(self, size: int = DEFAULT_CACHE_SIZE) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._spans: OrderedDict[SpanKey, tuple[_core.SpanReader, int]] = OrderedDict()
        self._used = 0
        forget_after_fork(self)

    @property
    def size(self) -> int:
        """Bytes kept at most."""
        return self._size

    def get(self, key: SpanKey) -> _core.SpanReader | None:
        """Return a span that is here."""
        with self._lock:
            found = self._spans.get(key)
            if found is None:
                return None
            self._spans.move_to_end(key)
            return found[0]

    def put(self, key: SpanKey, span: _core.SpanReader) -> None:
        """Keep a span, or learn how large it has grown."""
        memory = span.memory
        with self._lock:
            _, before = self._spans.get(key, (None, 0))
            self._spans[key] = (span, memory)
            self._spans.move_to_end(key)
            self._used += memory - before
            while self._used > self._size and len(self._spans) > 1:
                _, (_, freed) = self._spans.popitem(last=False)
                self._used -= freed

    def after_fork(self) -> None:
        """Forget everything: another thread may have been at work when the process was copied."""
        self._lock = threading.Lock()
        self._spans = OrderedDict()
        self._used = 0


class LayerSpans:
    """One layer's uncompressed bytes; may be used by several threads.

    Args:
        ztoc: of the layer.
        source: of its bytes.
        cache: shared by the layers of an image.
        fetchers: shared likewise.
        kept: spans kept on disk, if any are.
        owner: whose spans these are in `cache`; a new owner for each object if ``None``.
    """

    def __init__(
        self,
        ztoc: _core.Ztoc,
        *,
        source: RangeSource,
        cache: SpanCache,
        fetchers: Fetchers,
        kept: KeptSpans | None = None,
        owner: Hashable | None = None,
    ) -> None:
        self._ztoc = ztoc
        # An object of its own, not id(self): a number may be given again to a later object.
        self._owner = object() if owner is None else owner
        self._source = source
        self._cache = cache
        self._fetchers = fetchers
        self._kept = kept
        self._whole: WholeDigest | None = None
        self._lock = threading.Lock()
        self._flying: dict[int, Future[_core.SpanReader]] = {}
        # The span of the last read: most reads stay in it, and then need no look-up.
        self._last: _core.SpanReader | None = None
        forget_after_fork(self)

    def read(self, start: int, end: int) -> bytes:
        """Return uncompressed bytes ``[start, end)``; fewer where the layer ends before.

        Raises:
            VerificationError: a span's bytes are not those the zTOC was made from.
            GzipError: a span does not decode: the zTOC is wrong.
            TocsinError, OSError: of the source.
        """
        if end <= start:
            return b""
        last = self._last
        if (
            last is not None
            and last.start <= start
            and end <= last.end <= last.start + MAX_SPAN_SIZE
        ):
            return last.read(start, end)
        spans = self._span_ids(start, end)
        if len(spans) == 1:
            span = self._span(spans[0], end)
            self._check_size(spans[0], min(end, span.end) - span.start)
            data = span.read(start, end)
            self._cache.put((self._owner, spans[0]), span)
            self._last = span
            return data
        # Not joined from a list of pieces, which would all be there twice. A large read begins with
        # its whole size, and no memory: what is not written costs none.
        whole = io.BytesIO(bytes(min(end - start, _MAX_RESERVED)))
        for piece in self._read_many(spans, start, end):
            whole.write(piece)
        whole.truncate()
        return whole.getvalue()

    def read_ahead(self, start: int, end: int, *, until: int | None = None) -> None:
        """Have the spans of ``[start, end)`` fetched and inflated, without waiting for them.

        Args:
            start: uncompressed byte.
            end: the same; its span is fetched whole, and inflated
            until: this far, where more of it will be read.
        """
        if start < end:
            self._launch(self._span_ids(start, end), until or end)

    @property
    def in_order(self) -> bool:
        """Whether spans had better be asked for one after the other."""
        return self._source.in_order

    @property
    def cache_size(self) -> int:
        """Bytes of spans kept in memory, of all layers together."""
        return self._cache.size

    def stream(self, start: int, end: int) -> Iterator[bytes]:
        """Yield uncompressed bytes ``[start, end)`` span by span, the next ones on their way."""
        if start >= end:
            return
        spans = self._span_ids(start, end)
        if len(spans) == 1:
            yield self.read(start, end)
        else:
            yield from self._read_many(spans, start, end)

    def span_ids(self, start: int, end: int) -> range:
        """Return the spans that hold ``[start, end)``."""
        return self._span_ids(start, end) if start < end else range(0)

    def begin_whole_digest(self) -> None:
        """Hash what is fetched from now on, for `whole_digest`."""
        self._whole = WholeDigest(self._ztoc.compressed_archive_size)

    def whole_digest(self, *, max_missing_size: int) -> str | None:
        """Return the SHA-256 of the whole layer, if nearly all of it was fetched meanwhile.

        Args:
            max_missing_size: compressed bytes that are fetched for it: headers before the first
                span and the end of the archive belong to no file.

        Returns:
            64 hex digits; ``None`` if more than that is missing.
        """
        whole, self._whole = self._whole, None
        missing = None if whole is None else whole.missing()
        if whole is None or missing is None:
            return None
        if sum(end - start for start, end in missing) > max_missing_size:
            return None
        for start, end in missing:
            whole.add(start, self._source.read(start, end))
        return whole.hexdigest()

    def _span_ids(self, start: int, end: int) -> range:
        first, last = self._ztoc.span_of(start), self._ztoc.span_of(end - 1)
        if first is None or last is None:
            raise VerificationError(
                f"{self._source.name}: the ztoc has no spans for bytes {start} to {end}",
                expected=str(end),
                actual="0",
            )
        return range(first, last + 1)

    def _read_many(self, spans: range, start: int, end: int) -> Iterator[bytes]:
        launched = spans.start
        for span_id in spans:
            if launched <= span_id + 1:
                ahead = self._batch(launched, spans.stop)
                self._launch(ahead, end)
                launched = ahead.stop
            span = self._span(span_id, end)
            self._check_size(span_id, min(end, span.end) - span.start)
            yield span.read(start, end)
            self._cache.put((self._owner, span_id), span)

    def _batch(self, first: int, stop: int) -> range:
        step = max(1, _BATCH_SIZE // max(1, self._ztoc.span_size or _BATCH_SIZE))
        return range(first, min(stop, first + step))

    def _span(self, span_id: int, end: int) -> _core.SpanReader:
        """Return a span, fetched here unless somebody is at it already."""
        found = self._cache.get((self._owner, span_id))
        if found is not None:
            return found
        with self._lock:
            future = self._flying.get(span_id)
            mine = future is None
            if future is None:
                future = self._flying[span_id] = Future()
        if mine:
            self._fetch(range(span_id, span_id + 1), {span_id: future}, end)
            return future.result()
        try:
            return future.result()
        except TocsinError as error:
            # Each who waits gets an error of his own: they note different files on it.
            raise copy.copy(error) from None

    def _launch(self, spans: range, end: int) -> None:
        """Fetch those spans that are neither here nor on their way, in few requests."""
        wanted: dict[int, Future[_core.SpanReader]] = {}
        try:
            self._submit(spans, wanted, end)
        except BaseException as error:
            # Nobody else will: an interrupt, or no thread to be had.
            self._fail(wanted, error)
            raise

    def _submit(self, spans: range, wanted: dict[int, Future[_core.SpanReader]], end: int) -> None:
        with self._lock:
            for span_id in spans:
                here = self._cache.get((self._owner, span_id)) is not None
                if not here and span_id not in self._flying:
                    wanted[span_id] = self._flying[span_id] = Future()
        groups = list(self._groups(list(wanted)))
        pool = self._fetchers.pool()
        # Of a stream, threads beside each other would each want it from another place.
        for together in [groups] if self._source.in_order else [[group] for group in groups]:
            futures = {span_id: wanted[span_id] for group in together for span_id in group}
            task = pool.submit(self._fetch_groups, together, futures, end)
            task.add_done_callback(partial(self._given_up, futures))

    def _given_up(self, futures: dict[int, Future[_core.SpanReader]], task: Future[None]) -> None:
        """Tell who waits for a task that never ran."""
        if task.cancelled():
            self._fail(futures, ValueError(CLOSED))

    def _fetch_groups(
        self, groups: list[range], futures: dict[int, Future[_core.SpanReader]], end: int
    ) -> None:
        for group in groups:
            self._fetch(group, {span_id: futures[span_id] for span_id in group}, end)

    def _groups(self, spans: list[int]) -> Iterator[range]:
        """Yield runs of neighbours of `MAX_REQUEST_SIZE` bytes at most, or of one span."""
        at = 0
        while at < len(spans):
            first = spans[at]
            start = self._ztoc.span_range(first)[0]
            stop = first + 1
            at += 1
            while (
                at < len(spans)
                and spans[at] == stop
                and self._ztoc.span_range(stop)[1] - start <= MAX_REQUEST_SIZE
            ):
                stop += 1
                at += 1
            yield range(first, stop)

    def _fetch(self, spans: range, futures: dict[int, Future[_core.SpanReader]], end: int) -> None:
        """Fetch neighbouring spans, verify and inflate each, and tell who waits."""
        try:
            missing = []
            for span_id in spans:
                kept = self._from_disk(span_id)
                if kept is None:
                    missing.append(span_id)
                else:
                    self._tell(span_id, kept, futures, end)
            for group in self._groups(missing):
                self._fetch_group(group, futures, end)
        except BaseException as error:
            self._fail(futures, error)
            if not isinstance(error, Exception):
                raise

    def _fetch_group(
        self, spans: range, futures: dict[int, Future[_core.SpanReader]], end: int
    ) -> None:
        start, stop = self._ztoc.span_range(spans[0])[0], self._ztoc.span_range(spans[-1])[1]
        self._check_size(spans[0], stop - start)
        data = self._source.read(start, stop)

        def take(span_id: int) -> None:
            first, last = self._ztoc.span_range(span_id)
            compressed = data if len(spans) == 1 else data[first - start : last - start]
            try:
                self._take(span_id, compressed, futures, end)
            except Exception as error:
                # Its neighbours came with it, but what is wrong with it is not wrong with them.
                self._fail({span_id: futures[span_id]}, error)

        # Fetched together, but whoever waits for the first needs not wait for the others.
        self._fetchers.side_by_side([partial(take, span_id) for span_id in spans])

    def _take(
        self,
        span_id: int,
        compressed: bytes,
        futures: dict[int, Future[_core.SpanReader]],
        end: int,
    ) -> None:
        """Verify a span that was fetched, keep it, and tell who waits."""
        try:
            with self._fetchers.working:
                span = _core.SpanReader(self._ztoc, span_id, compressed)
        except VerificationError:
            # Proxies do garble bytes; what is wrong twice is wrong at the source.
            compressed = self._source.read(*self._ztoc.span_range(span_id))
            span = self._verified(span_id, compressed)
        # Only now: what was garbled on the way and fetched again must not be hashed.
        if self._whole is not None:
            self._whole.add(self._ztoc.span_range(span_id)[0], compressed)
        if self._kept is not None:
            self._kept.keep(span_id, compressed)
        self._tell(span_id, span, futures, end)

    def _verified(self, span_id: int, compressed: bytes) -> _core.SpanReader:
        try:
            return _core.SpanReader(self._ztoc, span_id, compressed)
        except VerificationError as error:
            raise VerificationError(
                f"{self._source.name}: {error}", expected=error.expected, actual=error.actual
            ) from None

    def _from_disk(self, span_id: int) -> _core.SpanReader | None:
        start, stop = self._ztoc.span_range(span_id)
        # A zTOC may claim any size, and then a file of that size may well be in the cache.
        if self._kept is None or stop - start > MAX_SPAN_SIZE:
            return None
        compressed = self._kept.span(span_id, stop - start)
        if compressed is None:
            return None
        try:
            span = _core.SpanReader(self._ztoc, span_id, compressed)
        except VerificationError:
            self._kept.ignore(span_id)
            return None
        if self._whole is not None:
            self._whole.add(self._ztoc.span_range(span_id)[0], compressed)
        return span

    def _tell(
        self,
        span_id: int,
        span: _core.SpanReader,
        futures: dict[int, Future[_core.SpanReader]],
        end: int,
    ) -> None:
        # As far as the read that asked will need; read(x, x) gives nothing but inflates to x.
        until = min(end, span.end)
        self._check_size(span_id, until - span.start)
        with self._fetchers.working:
            span.read(until, until)
        self._cache.put((self._owner, span_id), span)
        with self._lock:
            self._flying.pop(span_id, None)
        if not futures[span_id].done():  # given up by who asked
            futures[span_id].set_result(span)

    def _check_size(self, span_id: int, size: int) -> None:
        if size > MAX_SPAN_SIZE:
            raise UnsupportedError(
                f"{self._source.name}: span {span_id} has {size} bytes to be read, at most "
                f"{MAX_SPAN_SIZE} are held in memory"
            )

    def _fail(self, futures: dict[int, Future[_core.SpanReader]], error: BaseException) -> None:
        for span_id, future in futures.items():
            if not future.done():
                with self._lock:
                    self._flying.pop(span_id, None)
                future.set_exception(error)

    def after_fork(self) -> None:
        """Forget what other threads, which this process was copied without, had begun."""
        self._lock = threading.Lock()
        self._flying = {}
        self._last = None
