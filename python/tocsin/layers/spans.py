"""The uncompressed bytes of a layer: spans are fetched, verified, inflated and cached.

A span table says which spans hold the uncompressed bytes of a read. Spans that are not cached are
fetched, neighbours with one request, and several requests run at once; the size of a request does
not depend on that of the spans. The digest of a span is checked before any of it is inflated, and
a span is inflated only as far as reads need.
"""

from __future__ import annotations

import copy
import io
import threading
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

from tocsin import _core
from tocsin.errors import TocsinError, UnsupportedError, VerificationError
from tocsin.layers.fetchers import CLOSED
from tocsin.layers.forking import forget_after_fork
from tocsin.layers.whole_digest import WholeDigest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tocsin.layers.disk_cache import KeptParts
    from tocsin.layers.fetchers import Fetchers
    from tocsin.layers.inflated_spans import InflatedSpans
    from tocsin.layers.sources import RangeSource
    from tocsin.layers.span_table import SpanTable

DEFAULT_CACHE_SIZE = 256 << 20
"""Default limit on the spans kept in memory, in bytes."""
MAX_REQUEST_SIZE = 8 << 20
"""Maximum size of one request in compressed bytes; larger reads send several at once."""
MAX_SPAN_SIZE = 1 << 30
"""Maximum size of one span in bytes, compressed or inflated; a decompression bomb is one span."""
MAX_GAP = 128 << 10
"""Maximum number of unneeded bytes between two spans that are fetched with one request: on a link
of 200 Mbit/s, they take as long as the request that they save."""
_REMOTE = _core.RequestPolicy(MAX_GAP, MAX_REQUEST_SIZE)
_LOCAL = _core.RequestPolicy(0, MAX_REQUEST_SIZE)
"""Where small reads cost no more than large ones, nothing that is not needed is read."""
_MAX_CACHE_SIZE = (1 << 63) - 1
"""Maximum limit of a cache; a larger one is the same as none."""
_MAX_RESERVED = 256 << 20
"""Maximum number of bytes that a read reserves at once, since a zTOC may claim any size."""
_BATCH_SIZE = 32 << 20
"""Uncompressed bytes of the spans that a read fetches ahead of the one that it copies; more are
fetched once half of them have been copied."""

VerifiedFiles = _core.VerifiedFiles
"""Where the data of verified files is; `LayerSpans.cached` are the spans that hold it."""


class SpanCache:
    """Spans of any number of layers in memory; the least recently used are dropped first.

    Args:
        size: limit in bytes, compressed and inflated together; the span in use is always kept.

    Attributes:
        size: the same limit.
    """

    def __init__(self, size: int = DEFAULT_CACHE_SIZE) -> None:
        self.size = size
        self._core = _core.SpanCache(min(max(0, size), _MAX_CACHE_SIZE))
        forget_after_fork(self)

    def layer(self) -> _core.CachedLayer:
        """Return the spans of a new layer, of which there are none yet."""
        return self._core.layer()

    def after_fork(self) -> None:
        """Drop all spans, since another thread may have been inflating them during the fork."""
        self._core.clear()


class LayerSpans:
    """One layer's uncompressed bytes; may be used by several threads.

    Args:
        table: the layer's spans.
        source: source of its bytes.
        cache: cache of spans, shared by the layers of an image.
        fetchers: threads, shared in the same way.
        kept: spans of the layer in the disk cache, if there is one.
        inflated: the layer in the cache, if it may be inflated there.
        cached: spans of the layer in memory, if several objects share them.

    Attributes:
        cached: spans of the layer in memory.
    """

    def __init__(
        self,
        table: SpanTable,
        *,
        source: RangeSource,
        cache: SpanCache,
        fetchers: Fetchers,
        kept: KeptParts | None = None,
        inflated: InflatedSpans | None = None,
        cached: _core.CachedLayer | None = None,
    ) -> None:
        self.table = table
        self.cached = cache.layer() if cached is None else cached
        self._source = source
        self._cache = cache
        self._fetchers = fetchers
        self._kept = kept
        self._inflated = inflated
        self._whole: WholeDigest | None = None
        self._lock = threading.Lock()
        self._in_flight: dict[int, Future[_core.SpanReader]] = {}
        forget_after_fork(self)

    def read(self, start: int, end: int, *, until: int = 0) -> bytes:
        """Return uncompressed bytes ``[start, end)``, or fewer if the layer ends before `end`.

        Args:
            start: offset of the first byte.
            end: offset after the last one.
            until: offset up to which later reads may need bytes: if any must be fetched, the
                request includes more of them, as many as are worth a request.

        Raises:
            VerificationError: the bytes of a span are not those that the table was made from.
            GzipError, SeekTableError: a span does not decode: the table is wrong.
            TocsinError, OSError: the source cannot be read.
        """
        found = self.cached.read(start, end)
        if found is not None:
            return found
        spans = self._span_ids(start, end)
        if until > end and self._source.request_size and self._is_missing(spans):
            self._launch(self._extended(spans, until), end)
        if len(spans) == 1:
            span = self._span(spans[0], end)
            self._check_size(spans[0], min(end, span.end) - span.start)
            data = span.read(start, end)
            self.cached.put(spans[0], span)
            return data
        # Joining a list of pieces would hold all of them twice. The whole size is reserved first,
        # but pages use no memory until something is written to them.
        whole = io.BytesIO(bytes(min(end - start, _MAX_RESERVED)))
        for piece in self._read_many(spans, start, end):
            whole.write(piece)
        whole.truncate()
        return whole.getvalue()

    def read_ahead(self, start: int, end: int, *, until: int | None = None) -> None:
        """Start to fetch and inflate the spans of ``[start, end)``, without waiting for them.

        Args:
            start: offset of the first uncompressed byte.
            end: offset after the last one.
            until: offset up to which the last span is inflated, if more of it will be read; by
                default, `end`.
        """
        if start < end:
            self._launch(self._span_ids(start, end), until or end)

    def read_all_ahead(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Start to fetch and inflate the spans of all these ranges, with as few requests as useful.

        Args:
            ranges: start and end of each, as for `read_ahead`, in ascending order.
        """
        wanted: list[int] = []
        end = 0
        for start, stop in ranges:
            if start < stop:
                spans = self._span_ids(start, stop)
                first = max(spans.start, wanted[-1] + 1) if wanted else spans.start
                wanted += range(first, spans.stop)
                end = max(end, stop)
        if wanted:
            self._launch(wanted, end)

    @property
    def source(self) -> RangeSource:
        """Source of the layer's bytes, which are not verified."""
        return self._source

    @property
    def is_remote(self) -> bool:
        """Whether each request to the source takes a round trip."""
        return self._source.request_size > 0

    @property
    def in_order(self) -> bool:
        """Whether the source is slow unless spans are read in order."""
        return self._source.in_order

    @property
    def cache_size(self) -> int:
        """Limit of the spans in memory of all layers together, in bytes."""
        return self._cache.size

    def stream(self, start: int, end: int) -> Iterator[bytes]:
        """Yield uncompressed bytes ``[start, end)`` span by span, while the next are fetched."""
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

    def verify_inflated(self, size: int, *, max_missing_size: int) -> None:
        """Compare a layer that is inflated in the cache with its diff ID, if most of it is needed.

        If it differs, nothing of it is used.

        Args:
            size: number of uncompressed bytes that will be read.
            max_missing_size: as for `whole_digest`; a layer of this size is always compared.
        """
        inflated = self._inflated
        if inflated is None or not inflated.open(self.table.core):
            return
        is_small = self.table.compressed_size <= max_missing_size
        if (is_small or size >= inflated.size // 2) and not inflated.verify():
            self._inflated = None

    def begin_whole_digest(self) -> None:
        """Hash all bytes that are fetched from now on, for `whole_digest`."""
        self._whole = WholeDigest(self.table.compressed_size)

    def whole_digest(self, *, max_missing_size: int) -> str | None:
        """Return the SHA-256 of the whole layer, if nearly all of it has been fetched.

        Args:
            max_missing_size: maximum number of compressed bytes to fetch for the digest. The bytes
                before the first span and the end of the archive, for example, hold no file.

        Returns:
            64 hex digits; ``None`` if more bytes than that are missing, or if the layer was read
            from the cache after `verify_inflated` had compared it.
        """
        whole, self._whole = self._whole, None
        inflated = self._inflated
        if inflated is not None and inflated.is_verified:
            if not inflated.is_damaged:
                return None
            # Spans that were fetched in place of damaged ones were not compared with the diff ID.
            max_missing_size = self.table.compressed_size
        missing = None if whole is None else whole.missing()
        if whole is None or missing is None:
            return None
        if sum(end - start for start, end in missing) > max_missing_size:
            return None
        for start, end in missing:
            whole.add(start, self._source.read(start, end))
        return whole.hexdigest()

    def _span_ids(self, start: int, end: int) -> range:
        first, last = self.table.span_of(start), self.table.span_of(end - 1)
        if first is None or last is None:
            raise VerificationError(
                f"{self._source.name}: the {self.table.name} has no spans for bytes {start} to "
                f"{end}",
                expected=str(end),
                actual="0",
            )
        return range(first, last + 1)

    def _is_missing(self, spans: range) -> bool:
        """Return whether one of these spans is neither cached nor being fetched."""
        with self._lock:
            return bool(self._plan(spans))

    @property
    def _policy(self) -> _core.RequestPolicy:
        return _REMOTE if self._source.request_size else _LOCAL

    def _plan(self, spans: Iterable[int]) -> list[list[int]]:
        """Return the spans of each request for those that are neither cached nor in flight.

        The caller holds the lock, so that no other thread plans to fetch them too.
        """
        return self._policy.plan(self.table.core, self.cached, self._in_flight, spans)

    def _extended(self, spans: range, until: int) -> range:
        """Return these spans and the next, up to `until` or to the size of a good request."""
        stop = self._span_ids(until - 1, until).stop
        size = self._source.request_size
        policy = _core.RequestPolicy(size, size)
        stop = policy.first_request(self.table.core, spans.start, stop)
        return range(spans.start, max(stop, spans.stop))

    def _read_many(self, spans: range, start: int, end: int) -> Iterator[bytes]:
        launched, at, ahead = spans.start, start, start
        for span_id in spans:
            if launched < spans.stop and (launched <= span_id or ahead - at <= _BATCH_SIZE // 2):
                ahead = min(end, at + _BATCH_SIZE)
                first, launched = launched, max(span_id + 1, self._span_ids(at, ahead).stop)
                self._launch(range(first, launched), end)
            span = self._span(span_id, end)
            self._check_size(span_id, min(end, span.end) - span.start)
            yield span.read(start, end)
            self.cached.put(span_id, span)
            at = min(end, span.end)

    def _span(self, span_id: int, end: int) -> _core.SpanReader:
        """Return a span; fetch it in this thread unless another thread is fetching it."""
        found = self.cached.get(span_id)
        if found is not None:
            return found
        with self._lock:
            # It may have arrived meanwhile.
            found = self.cached.get(span_id)
            if found is not None:
                return found
            future = self._in_flight.get(span_id)
            is_new = future is None
            if future is None:
                future = self._in_flight[span_id] = Future()
        if is_new:
            self._fetch(range(span_id, span_id + 1), {span_id: future}, end)
            return future.result()
        try:
            return future.result()
        except TocsinError as error:
            # Each thread raises its own copy, since each adds a note about a different file.
            raise copy.copy(error) from None

    def _launch(self, spans: Sequence[int], end: int) -> None:
        """Fetch the spans that are neither cached nor in flight, with few requests."""
        wanted: dict[int, Future[_core.SpanReader]] = {}
        try:
            self._submit(spans, wanted, end)
        except BaseException as error:
            # An interrupt, or no thread could be started: no task will resolve these futures.
            self._fail(wanted, error)
            raise

    def _submit(
        self, spans: Sequence[int], wanted: dict[int, Future[_core.SpanReader]], end: int
    ) -> None:
        with self._lock:
            groups = self._plan(spans)
            for group in groups:
                for span_id in group:
                    wanted[span_id] = self._in_flight[span_id] = Future()
        pool = self._fetchers.pool()
        # Before the first group, so that the parts of the table arrive first. If one fails, the
        # group that needs it tries again and raises the error.
        for part in [] if self._is_inflated else self.table.missing_parts(wanted):
            pool.submit(part)
        # Several threads would read a stream at different offsets and so restart it again and
        # again.
        for together in [groups] if self._source.in_order else [[group] for group in groups]:
            futures = {span_id: wanted[span_id] for group in together for span_id in group}
            task = pool.submit(self._fetch_groups, together, futures, end)
            task.add_done_callback(partial(self._fail_if_cancelled, futures))

    def _fail_if_cancelled(
        self, futures: dict[int, Future[_core.SpanReader]], task: Future[None]
    ) -> None:
        """Raise in the threads that wait for a task that never ran."""
        if task.cancelled():
            self._fail(futures, ValueError(CLOSED))

    def _fetch_groups(
        self, groups: list[list[int]], futures: dict[int, Future[_core.SpanReader]], end: int
    ) -> None:
        for group in groups:
            of_group = {span_id: futures[span_id] for span_id in group}
            self._fetch(group, of_group, end, parts_begun=True)

    def _fetch(
        self,
        spans: Sequence[int],
        futures: dict[int, Future[_core.SpanReader]],
        end: int,
        *,
        parts_begun: bool = False,
    ) -> None:
        """Fetch spans, verify and inflate each, and resolve their futures.

        Args:
            spans: spans to fetch.
            futures: future of each span.
            end: offset up to which the waiting read needs bytes.
            parts_begun: whether other threads are fetching what is missing of the table.
        """
        try:
            missing = self._from_inflated(spans, futures, end) if self._is_inflated else spans
            if self._kept is not None:
                missing = self._from_disk(missing, futures, end)
            for group in self._policy.requests(self.table.core, missing):
                self._fetch_group(group, futures, end, parts_begun=parts_begun)
        except BaseException as error:
            self._fail(futures, error)
            if not isinstance(error, Exception):
                raise

    def _fetch_group(
        self,
        spans: list[int],
        futures: dict[int, Future[_core.SpanReader]],
        end: int,
        *,
        parts_begun: bool,
    ) -> None:
        ranges = [self.table.compressed_range(span_id) for span_id in spans]
        start, stop = ranges[0][0], ranges[-1][1]
        self._check_size(spans[0], stop - start)
        data = self._read_with_parts(spans, start, stop, parts_begun=parts_begun)

        def take(span_id: int, first: int, last: int) -> None:
            compressed = data if len(spans) == 1 else data[first - start : last - start]
            try:
                self._take(span_id, compressed, futures, end)
            except Exception as error:
                # The adjacent spans of the same request may still be correct.
                self._fail({span_id: futures[span_id]}, error)

        # A thread that waits for the first span need not wait for the others.
        self._fetchers.run_in_parallel(
            [partial(take, span_id, *range_) for span_id, range_ in zip(spans, ranges, strict=True)]
        )

    def _read_with_parts(
        self, spans: list[int], start: int, stop: int, *, parts_begun: bool
    ) -> bytes:
        """Return bytes of the layer; fetch missing parts of the table at the same time."""
        parts = [] if parts_begun else self.table.missing_parts(spans)
        if not parts:
            data = self._source.read(start, stop)
            # Usually they have arrived; if not, this waits for the thread that fetches them.
            for part in self.table.missing_parts(spans):
                part()
            return data
        found: list[bytes] = []
        # They wait for the network, not for a processor.
        self._fetchers.run_in_parallel(
            [lambda: found.append(self._source.read(start, stop)), *parts], waiting=True
        )
        return found[0]

    def _take(
        self,
        span_id: int,
        compressed: bytes,
        futures: dict[int, Future[_core.SpanReader]],
        end: int,
    ) -> None:
        """Verify a span that was fetched, keep it, and resolve its future."""
        try:
            with self._fetchers.working:
                span = self.table.reader(span_id, compressed)
        except VerificationError:
            # Some proxies corrupt bytes: fetch the span again, and report the source if that fails.
            compressed = self._source.read(*self.table.compressed_range(span_id))
            span = self._verified(span_id, compressed)
        # Not earlier, since bytes that were corrupted in transit must not be hashed.
        if self._whole is not None:
            self._whole.add(self.table.compressed_range(span_id)[0], compressed)
        if self._kept is not None:
            self._kept.keep(span_id, compressed)
        self._resolve(span_id, span, futures, end)

    def _verified(self, span_id: int, compressed: bytes) -> _core.SpanReader:
        try:
            return self.table.reader(span_id, compressed)
        except VerificationError as error:
            raise VerificationError(
                f"{self._source.name}: {error}", expected=error.expected, actual=error.actual
            ) from None

    @property
    def _is_inflated(self) -> bool:
        """Whether the whole layer is inflated in the cache."""
        return self._inflated is not None and self._inflated.open(self.table.core)

    def _from_inflated(
        self, spans: Sequence[int], futures: dict[int, Future[_core.SpanReader]], end: int
    ) -> list[int]:
        """Resolve the futures of spans that are inflated on disk; return the damaged ones."""
        missing = []
        for span_id in spans:
            with self._fetchers.working:
                span = None if self._inflated is None else self._inflated.span(span_id)
            if span is None:
                missing.append(span_id)
            else:
                self._resolve(span_id, span, futures, end)
        return missing

    def _from_disk(
        self, spans: Sequence[int], futures: dict[int, Future[_core.SpanReader]], end: int
    ) -> list[int]:
        """Resolve the futures of spans that are on disk; return the other spans."""
        assert self._kept is not None  # noqa: S101 (the caller checks it)
        found: dict[int, bytes] = {}
        for span_id in spans:
            start, stop = self.table.compressed_range(span_id)
            # A zTOC may claim any size, and the cache may hold a file of that size.
            if stop - start <= MAX_SPAN_SIZE:
                compressed = self._kept.part(span_id, stop - start)
                if compressed is not None:
                    found[span_id] = compressed
        for part in self.table.missing_parts(found):
            part()
        missing = []
        for span_id in spans:
            compressed = found.pop(span_id, None)
            if compressed is None:
                missing.append(span_id)
                continue
            try:
                span = self.table.reader(span_id, compressed)
            except VerificationError:
                self._kept.ignore(span_id)
                missing.append(span_id)
                continue
            if self._whole is not None:
                self._whole.add(self.table.compressed_range(span_id)[0], compressed)
            self._resolve(span_id, span, futures, end)
        return missing

    def _resolve(
        self,
        span_id: int,
        span: _core.SpanReader,
        futures: dict[int, Future[_core.SpanReader]],
        end: int,
    ) -> None:
        # Inflate as far as the waiting read needs; read(x, x) returns nothing but inflates to x.
        until = max(span.start, min(end, span.end))
        self._check_size(span_id, until - span.start)
        with self._fetchers.working:
            span.read(until, until)
        self.cached.put(span_id, span)
        with self._lock:
            self._in_flight.pop(span_id, None)
        if not futures[span_id].done():  # it failed when its request could not be submitted
            futures[span_id].set_result(span)

    def _check_size(self, span_id: int, size: int) -> None:
        if size > MAX_SPAN_SIZE:
            raise UnsupportedError(
                f"{self._source.name}: span {span_id} is too large to be held in memory (found "
                f"{size} bytes, expected at most {MAX_SPAN_SIZE})"
            )

    def _fail(self, futures: dict[int, Future[_core.SpanReader]], error: BaseException) -> None:
        for span_id, future in futures.items():
            if not future.done():
                with self._lock:
                    self._in_flight.pop(span_id, None)
                future.set_exception(error)

    def after_fork(self) -> None:
        """Forget requests in flight, whose threads do not exist in a forked process."""
        self._lock = threading.Lock()
        self._in_flight = {}
