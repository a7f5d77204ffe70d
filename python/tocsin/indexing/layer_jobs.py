"""Indexes the layers of an image in parallel: reads each layer once and stores the results."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tocsin import processors
from tocsin.errors import FormatError, SeekTableError, UnsupportedError, VerificationError
from tocsin.images.copying import copy_blob, stream_blob
from tocsin.indexing.known import find_in_store
from tocsin.indexing.layer_rules import (
    indexing_pass,
    skip_reason,
    unreadable_reason,
    unsupported,
)
from tocsin.layers.seek_table import SeekParts
from tocsin.log import LOG
from tocsin.model.compression import ZSTD
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.events import LayerAdvanced, LayerFinished, LayerStarted, Planned
from tocsin.model.layer_result import LayerResult
from tocsin.model.media_types import OCTET_STREAM
from tocsin.model.prefetch import FoundEntry, SearchableLayer, entry_names
from tocsin.model.seek_manifest import SEEK_LAYER
from tocsin.model.soci_index import PREFETCH, IndexedLayer
from tocsin.quoting import shown
from tocsin.stores.base import MustStream, MustVerify

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from tocsin.indexing.known import KnownLayers, ZtocStore
    from tocsin.indexing.options import IndexingOptions
    from tocsin.indexing.reuse import ReusableSeekBlobs, ReusableZtocs
    from tocsin.layers.indexer import IndexedLayerBytes, LayerPass
    from tocsin.layers.seek_pass import SeekPass
    from tocsin.layers.seek_table import SeekBlob
    from tocsin.layers.ztoc import Ztoc
    from tocsin.model.events import Event, Progress
    from tocsin.stores.base import Sink, Source, Takeover

_MAX_PROBLEMS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class LayerOutcome:
    """Outcome for a layer, with the data for later steps.

    Attributes:
        result: result for the user.
        indexed: data for the SOCI index; ``None`` if the layer was skipped.
        searchable: data for prefetching; ``None`` if the layer was skipped or nothing is
            prefetched.
        seek: data for the seek table; ``None`` if none is made, or the layer cannot be in one.
        seek_problem: why the layer cannot be in the requested seek table.
    """

    result: LayerResult
    indexed: IndexedLayer | None = None
    searchable: SearchableLayer | None = None
    seek: SeekParts | None = None
    seek_problem: str | None = None


LayerKey = tuple[str, str]


def layer_key(layer: Descriptor) -> LayerKey:
    """Return the key by which layers are deduplicated: digest and media type."""
    return str(layer.digest), layer.media_type


class _CancelledError(Exception):
    """Another layer failed, or the user interrupted; only the first reason is reported."""


class _NotIndexableError(Exception):
    """A layer cannot be indexed.

    Attributes:
        reason: why.
        verified: whether its digest has been verified.
        only_seek: whether the layer may still get a zTOC, and only a seek table is impossible.
    """

    def __init__(self, reason: str, *, verified: bool, only_seek: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.verified = verified
        self.only_seek = only_seek


class LayerJobs:
    """Indexes layers of one store and writes the zTOCs to another."""

    def __init__(
        self,
        source: Source,
        sink: Sink,
        *,
        options: IndexingOptions,
        known: ReusableZtocs | None = None,
        known_seek: ReusableSeekBlobs | None = None,
        store: ZtocStore | None = None,
        elsewhere: KnownLayers | None = None,
        carry: bool,
        progress: Progress | None,
    ) -> None:
        """Prepare the jobs without starting them.

        Args:
            source: store with the layers.
            sink: destination of the zTOCs.
            options: indexing options.
            known: zTOCs that already exist in the sink.
            known_seek: seek blobs that already exist in the sink.
            store: zTOCs to use, and where to keep those that are built.
            elsewhere: layers that were indexed before; not used for seek tables.
            carry: whether to copy the layers to the sink.
            progress: called with progress events.
        """
        self._source = source
        self._sink = sink
        self._options = options
        self._known = known
        self._known_seek = known_seek
        # A zTOC does not record whether it was built with reference_identical.
        unusable = options.reference_identical or options.seek_only
        self._store = None if unusable else store
        self._elsewhere = elsewhere
        self._carry = carry
        self._progress = progress
        self._progress_lock = threading.Lock()
        self._cancelled = threading.Event()
        self._shares: processors.Shares[LayerKey] = self._shares_of(())
        self._reason: BaseException | None = None

    def run(self, layers: Iterable[Descriptor]) -> dict[LayerKey, LayerOutcome]:
        """Index `layers` without duplicates; all threads have ended when this returns or raises.

        Raises:
            VerificationError: a layer does not match its descriptor.
            NotFoundError: a layer is missing.
            OSError: a store cannot be read or written.
        """
        wanted = {layer_key(layer): layer for layer in layers}
        outcomes = {
            key: outcome
            for key, layer in wanted.items()
            if (outcome := self._without_reading(layer))
        }
        # Largest first, so that the slowest layer does not start last.
        to_read = sorted(
            (layer for key, layer in wanted.items() if key not in outcomes),
            key=lambda layer: -layer.size,
        )
        self._shares = self._shares_of(to_read)
        self._report(Planned(tuple(to_read)))
        for outcome in outcomes.values():
            self._report(_finished(outcome.result))
        with ThreadPoolExecutor(self._options.jobs, thread_name_prefix="layer") as pool:
            futures = {pool.submit(self._index, layer): layer for layer in to_read}
            try:
                for future in as_completed(futures):
                    outcomes[layer_key(futures[future])] = future.result()
            except _CancelledError:  # this future ended before the one that failed
                pool.shutdown(cancel_futures=True)
                assert self._reason is not None  # noqa: S101 (set before cancelling)
                raise self._reason from None
            except BaseException:
                self._cancel()
                pool.shutdown(cancel_futures=True)
                raise
        return outcomes

    def _shares_of(self, layers: Iterable[Descriptor]) -> processors.Shares[LayerKey]:
        return processors.Shares(
            processors.resolve_threads(self._options.threads),
            jobs=self._options.jobs,
            sizes={layer_key(layer): layer.size for layer in layers},
        )

    def _cancel(self) -> None:
        self._cancelled.set()
        self._shares.stop()

    def _report(self, event: Event) -> None:
        if self._progress is not None:
            with self._progress_lock, self._stopping_others():
                self._check_cancelled()
                self._progress(event)

    @contextmanager
    def _stopping_others(self) -> Iterator[None]:
        """Cancel all other layers if this one fails; they are no longer reported."""
        try:
            yield
        except _CancelledError:
            raise
        except BaseException as error:
            self._reason = self._reason or error
            self._cancel()
            raise

    def _without_reading(self, layer: Descriptor) -> LayerOutcome | None:
        """Return the outcome for a layer if its descriptor determines it."""
        problem = unreadable_reason(self._source, layer) if self._options.seek else None
        reason = skip_reason(self._source, layer, self._options)
        if reason is None or (self._options.seek and problem is None):
            return None
        return LayerOutcome(LayerResult(layer, skipped=reason), seek_problem=problem)

    def _index(self, layer: Descriptor) -> LayerOutcome:
        with self._stopping_others():
            try:
                return self._outcome_of(layer)
            finally:
                self._shares.done(layer_key(layer))

    def _outcome_of(self, layer: Descriptor) -> LayerOutcome:
        started = time.monotonic()
        self._check_cancelled()
        if outcome := self._known_elsewhere(layer):
            self._report(_finished(outcome.result))
            return outcome
        known = self._find_ztoc(layer)
        known_seek = None
        if known and self._known_seek:
            known_seek = self._known_seek.load(self._sink, layer)
        is_complete = known_seek is not None or not self._options.seek
        if known and is_complete and (outcome := self._reuse(layer, known, known_seek)):
            self._report(_finished(outcome.result))
            return outcome
        threads = self._shares.take(layer_key(layer))
        self._check_cancelled()
        self._report(LayerStarted(layer))
        started = time.monotonic()
        takeover = self._take_over(layer)
        outcome = self._read_and_keep(layer, threads, takeover)
        outcome = replace(
            outcome, result=replace(outcome.result, seconds=time.monotonic() - started)
        )
        self._report(_finished(outcome.result))
        return outcome

    def _known_elsewhere(self, layer: Descriptor) -> LayerOutcome | None:
        """Return the outcome for a layer that was indexed before, without reading its zTOC."""
        if self._elsewhere is None or self._options.seek or self._options.prefetch:
            return None
        known = self._elsewhere.find(layer)
        if known is None:
            return None
        ztoc = known.result.ztoc
        if ztoc is not None and not self._elsewhere.bring(known, self._sink):
            return None
        self._shares.done(layer_key(layer))
        if self._carry:
            copy_blob(self._source, self._sink, layer)
        if ztoc is None:
            return LayerOutcome(replace(known.result, layer=layer))
        indexed = IndexedLayer(
            layer, ztoc, self._options.span_size, disable_xattrs=known.disable_xattrs
        )
        result = replace(known.result, layer=layer, ztoc=indexed.ztoc_descriptor, reused=True)
        return LayerOutcome(result, indexed)

    def _find_ztoc(self, layer: Descriptor) -> Ztoc | None:
        """Return an existing zTOC of a layer; one from the store is copied to the sink."""
        if self._known is None:
            return None
        found = self._known.load(self._sink, layer, span_size=self._options.span_size)
        if found is None and self._store is not None and not self._options.rebuild:
            found = find_in_store(self._store, layer, self._options)
            if found is not None:
                self._sink.put_blob(found.to_bytes())
        return found

    def _read_and_keep(
        self, layer: Descriptor, threads: int, takeover: Takeover | None
    ) -> LayerOutcome:
        reason = skip_reason(self._source, layer, self._options)
        seek_problem = None
        try:
            found = self._read(layer, self._pass(layer, threads, seek=self._options.seek), takeover)
        except _NotIndexableError as error:
            if not error.only_seek:
                return self._keep_unusual(layer, threads, error, reason)
            # The layer may still get a zTOC, but must be read again.
            seek_problem = error.reason
            try:
                found = self._read(layer, self._pass(layer, threads, seek=False))
            except _NotIndexableError as again:
                if not error.verified:
                    self._verify(layer)
                result = LayerResult(layer, skipped=reason or again.reason)
                return LayerOutcome(result, seek_problem=seek_problem)
        if found.format == ZSTD:
            reason = reason or unsupported(ZSTD)
        outcome = self._with_ztoc(layer, found, takeover, reason)
        if found.seek is None:
            return replace(outcome, seek_problem=seek_problem)
        return self._with_seek(outcome, SeekParts(found.ztoc, found.seek, str(layer.digest)))

    def _keep_unusual(
        self, layer: Descriptor, threads: int, error: _NotIndexableError, reason: str | None
    ) -> LayerOutcome:
        """Return the outcome for a layer that the reference refuses to index."""
        outcome = LayerOutcome(LayerResult(layer, skipped=reason or error.reason))
        problem = None
        if self._options.seek:
            try:
                found = self._read(layer, self._pass(layer, threads, seek=True, for_reading=True))
            except _NotIndexableError as again:
                problem = again.reason
            else:
                assert found.seek is not None  # noqa: S101 (requested)
                parts = SeekParts(found.ztoc, found.seek, str(layer.digest))
                return self._with_seek(outcome, parts)
        # If the layer matches its digest, it is unusual but not damaged: skip only this layer,
        # whereas the reference fails for the whole image.
        if not error.verified:
            self._verify(layer)
        return replace(outcome, seek_problem=problem)

    def _take_over(self, layer: Descriptor) -> Takeover | None:
        """Let the sink take over a layer as far as possible without reading it.

        This must happen before indexing: if the sink needs the bytes, they are sent while the layer
        is read for indexing.

        Returns:
            The remaining work; ``None`` if the sink does not need the layer.
        """
        if not self._carry or self._sink.has_blob(layer):
            return None
        return self._sink.take_over(layer, self._source.origin)

    def _pass(
        self, layer: Descriptor, threads: int, *, seek: bool, for_reading: bool = False
    ) -> LayerPass | SeekPass:
        # If no zTOC is stored, layers that the reference refuses to index are accepted.
        for_reading = (
            for_reading
            or self._options.seek_only
            or skip_reason(self._source, layer, self._options) is not None
        )
        return indexing_pass(
            layer, self._options, threads=threads, seek=seek, for_reading=for_reading
        )

    def _read(
        self,
        layer: Descriptor,
        indexer: LayerPass | SeekPass,
        takeover: Takeover | None = None,
    ) -> IndexedLayerBytes:
        refused: list[FormatError | UnsupportedError] = []
        streamed = isinstance(takeover, MustStream)
        indexed_pieces = self._pieces_through(layer, indexer, refused)
        with _preparing(takeover), closing(indexed_pieces) as pieces:
            if streamed:
                # One read for both purposes; a layer that the indexer rejects is still copied.
                self._sink.put_blob(pieces, digest=layer.digest, size=layer.size)
            else:
                for _ in pieces:
                    if refused:
                        break
        try:
            if refused:
                raise refused[0]
            with self._shares.turn:
                found = indexer.finish()
        except (FormatError, UnsupportedError) as error:
            only_seek = isinstance(error, SeekTableError)
            raise _NotIndexableError(
                error.message, verified=streamed, only_seek=only_seek
            ) from error
        finally:
            self._shares.done(layer_key(layer))
        if found.digest != str(layer.digest):
            raise VerificationError(
                f"{self._source.name}: layer does not match its digest (found {found.digest}, "
                f"expected {layer.digest})",
                expected=str(layer.digest),
                actual=found.digest,
            )
        return found

    def _pieces(self, layer: Descriptor) -> Iterator[bytes]:
        done = 0
        for piece in self._source.blob(layer, verify=False):
            self._check_cancelled()
            yield piece
            done += len(piece)
            self._report(LayerAdvanced(layer, done))

    def _pieces_through(
        self,
        layer: Descriptor,
        indexer: LayerPass | SeekPass,
        refused: list[FormatError | UnsupportedError],
    ) -> Generator[bytes, None, None]:
        """Yield the pieces of a layer; push each to the indexer first, until it refuses one."""
        for piece in self._pieces(layer):
            if not refused:
                try:
                    with self._shares.turn:
                        indexer.push(piece)
                except (FormatError, UnsupportedError) as error:
                    refused.append(error)
            yield piece

    def _verify(self, layer: Descriptor) -> None:
        for _ in self._source.blob(layer):
            self._check_cancelled()

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise _CancelledError

    def _with_seek(self, outcome: LayerOutcome, parts: SeekParts) -> LayerOutcome:
        """Store a layer's seek blob and return the outcome with it."""
        descriptor = self._sink.put_blob(parts.seek.blob, media_type=SEEK_LAYER)
        return replace(outcome, seek=parts, result=replace(outcome.result, seek_blob=descriptor))

    def _with_ztoc(
        self,
        layer: Descriptor,
        found: IndexedLayerBytes,
        takeover: Takeover | None,
        reason: str | None,
    ) -> LayerOutcome:
        """Store a layer's zTOC, unless it gets none for a `reason`."""
        if reason is not None or self._options.seek_only:
            if isinstance(takeover, MustVerify):
                self._finish(layer, takeover)
            counts = LayerResult(
                layer,
                skipped=None if self._options.seek_only else reason,
                entry_count=len(found.ztoc.entries),
                uncompressed_size=found.uncompressed_size,
            )
            return LayerOutcome(counts)
        notes = []
        broken = _what_breaks_readers(found)
        if broken and not self._options.reference_identical:
            reason = f"{broken}; --reference-identical indexes it anyway"
            return LayerOutcome(LayerResult(layer, skipped=reason))
        if broken:
            notes.append(broken)
        if found.dropped_checkpoint_count:
            notes.append(
                f"removed checkpoints before the first output: {found.dropped_checkpoint_count} "
                "(soci-snapshotter rejects them; --reference-identical keeps them)"
            )
        try:
            blob = found.ztoc.to_bytes()
        except FormatError as error:
            return LayerOutcome(LayerResult(layer, skipped=error.message))
        descriptor = self._sink.put_blob(blob)
        if self._store is not None:
            self._store.keep(layer.digest, self._options.span_size, blob)
        if isinstance(takeover, MustVerify):
            self._finish(layer, takeover)
        outcome = self._outcome_with(layer, found.ztoc, descriptor)
        result = replace(
            outcome.result, notes=tuple(notes), uncompressed_size=found.uncompressed_size
        )
        return replace(outcome, result=result)

    def _finish(self, layer: Descriptor, takeover: MustVerify) -> None:
        if self._sink.has_blob(layer):  # already stored for another media type
            return
        if isinstance(takeover.finish(), MustStream):
            stream_blob(self._source, self._sink, layer)

    def _reuse(self, layer: Descriptor, ztoc: Ztoc, seek: SeekBlob | None) -> LayerOutcome | None:
        """Reuse a zTOC, unless readers reject it; then the layer must be read."""
        if ztoc.reader_refusals():
            return None
        self._shares.done(layer_key(layer))
        if self._carry:
            copy_blob(self._source, self._sink, layer)
        # The zTOC was read from the sink, so the blob exists there.
        descriptor = Descriptor(OCTET_STREAM, Digest.parse(ztoc.digest), ztoc.size)
        outcome = self._outcome_with(layer, ztoc, descriptor)
        outcome = replace(outcome, result=replace(outcome.result, reused=True))
        if seek is None:
            return outcome
        return self._with_seek(outcome, SeekParts(ztoc, seek, str(layer.digest)))

    def _outcome_with(self, layer: Descriptor, ztoc: Ztoc, descriptor: Descriptor) -> LayerOutcome:
        indexed = IndexedLayer(
            layer,
            descriptor,
            self._options.span_size,
            disable_xattrs="xattr" in self._options.optimizations and not ztoc.needs_xattrs,
        )
        result = LayerResult(
            layer,
            ztoc=indexed.ztoc_descriptor,
            entry_count=len(ztoc.entries),
            span_count=ztoc.span_count,
            uncompressed_size=ztoc.uncompressed_archive_size,
        )
        return LayerOutcome(result, indexed, self._searchable(ztoc))

    def _searchable(self, ztoc: Ztoc) -> SearchableLayer | None:
        """Return the data for finding prefetch paths; ``None`` if there are no such paths."""
        names = set(entry_names(self._options.prefetch))
        if not names:
            return None
        first_entries: dict[str, int] = {}
        for index, name in enumerate(ztoc.paths):
            if name in names:
                first_entries.setdefault(name, index)
        starts = ztoc.spans["uncompressed_start"].copy()

        def find(name: str) -> FoundEntry | None:
            index = first_entries.get(name)
            return None if index is None else _found_entry(ztoc, index)

        def at_path(path: str) -> FoundEntry | None:
            index = ztoc.index_at(path)
            return None if index is None else _found_entry(ztoc, index)

        return SearchableLayer(
            find,
            # The last span that starts at or before the offset; the first one starts at 0.
            lambda offset: max(int(starts.searchsorted(offset, "right")) - 1, 0),
            None if self._options.reference_identical else at_path,
        )


def _found_entry(ztoc: Ztoc, index: int) -> FoundEntry:
    entry = ztoc.entries[index]
    return FoundEntry(
        entry.type, entry.linkname, entry.uncompressed_offset, entry.uncompressed_size
    )


@contextmanager
def _preparing(takeover: Takeover | None) -> Iterator[None]:
    """Let the sink prepare to take over a layer while it is read."""
    if not isinstance(takeover, MustVerify):
        yield
        return
    preparation = threading.Thread(target=takeover.prepare, name="layer-takeover")
    preparation.start()
    try:
        yield
    finally:
        preparation.join()


def _finished(result: LayerResult) -> LayerFinished:
    if result.skipped is not None:
        LOG.info("layer %s: skipped: %s", result.layer.digest, result.skipped)
    for note in result.notes:
        LOG.info("layer %s: %s", result.layer.digest, note)
    return LayerFinished(result.layer, result.seconds, result)


def _what_breaks_readers(found: IndexedLayerBytes) -> str | None:
    """Return why the reference's reader would fail; the reference's builder gives no warning."""
    problems = [
        f"{shown(found.ztoc.entries[hazard.entry_index].name)}: {hazard.reason}"
        for hazard in found.hazards
    ] or [refusal.text for refusal in found.ztoc.reader_refusals()]
    if not problems:
        return None
    more = len(problems) - _MAX_PROBLEMS_SHOWN
    rest = f" and {more} more" if more > 0 else ""
    return f"soci-snapshotter cannot read it ({', '.join(problems[:_MAX_PROBLEMS_SHOWN])}{rest})"


def is_prefetch_artifact(layer: Descriptor) -> bool:
    """Return whether a "layer" of a manifest is a prefetch artifact, which is skipped silently."""
    return layer.media_type == PREFETCH
