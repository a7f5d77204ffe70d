"""Indexes the layers of an image in parallel: reads each layer once and stores what it makes."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tocsin import processors
from tocsin.errors import FormatError, UnsupportedError, VerificationError
from tocsin.images.copying import copy_blob, stream_blob
from tocsin.layers.indexer import IndexedLayerBytes, LayerPass
from tocsin.layers.seek_table import SeekBlob, SeekParts
from tocsin.layers.zstd import unpack_zstd
from tocsin.log import LOG
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.events import LayerAdvanced, LayerFinished, LayerStarted, Planned
from tocsin.model.layer_result import LayerResult
from tocsin.model.media_types import OCTET_STREAM, Compression, layer_type
from tocsin.model.prefetch import FoundEntry, SearchableLayer, entry_names
from tocsin.model.seek_manifest import SEEK_LAYER
from tocsin.model.soci_index import PREFETCH, IndexedLayer
from tocsin.model.ztoc_defaults import DEFAULT_SPAN_SIZE
from tocsin.quoting import shown
from tocsin.stores.base import MustStream, MustVerify

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from tocsin.indexing.options import IndexingOptions
    from tocsin.indexing.reuse import ReusableSeekBlobs, ReusableZtocs
    from tocsin.layers.ztoc import Ztoc
    from tocsin.model.events import Event, Progress
    from tocsin.stores.base import Sink, Source, Takeover

_FORMATS = {
    Compression.GZIP: None,
    Compression.NONE: "uncompressed",
    Compression.UNKNOWN: "uncompressed",
}
"""Expected format for each compression; ``None`` to detect it from the first bytes.

The reference's reader uses the format in the zTOC, not the media type, so a plain tar with a gzip
media type gets the zTOC of a plain tar. Docker's media type without a compression means a plain
tar, as in the reference.
"""

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
    """A layer cannot be indexed; `verified` is true if its digest has been verified."""

    def __init__(self, reason: str, *, verified: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.verified = verified


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
            carry: whether to copy the layers to the sink.
            progress: called with progress events.
        """
        self._source = source
        self._sink = sink
        self._options = options
        self._known = known
        self._known_seek = known_seek
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
            except _CancelledError:  # completed before the future with the reason
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
        problem = self._unreadable_reason(layer) if self._options.seek else None
        reason = self._skip_reason(layer)
        if reason is None or (self._options.seek and problem is None):
            return None
        return LayerOutcome(LayerResult(layer, skipped=reason), seek_problem=problem)

    def _unreadable_reason(self, layer: Descriptor) -> str | None:
        """Return why a layer cannot be read at all; ``None`` if its bytes decide."""
        kind = layer_type(layer.media_type)
        if kind is None:
            return "not a layer"
        if kind.encrypted:
            return "encrypted"
        if kind.compression not in _FORMATS and kind.compression is not Compression.ZSTD:
            return f"unsupported compression ({shown(layer.media_type)})"
        if kind.foreign and not self._source.has_blob(layer):
            return "foreign layer that is missing from the source"
        return None

    def _skip_reason(self, layer: Descriptor) -> str | None:
        """Return why a layer gets no zTOC, if its descriptor determines it, as in the reference."""
        kind = layer_type(layer.media_type)
        reason = None
        if kind is None:
            media_type = shown(layer.media_type) if layer.media_type else "missing"
            reason = f"not a layer (media type: {media_type})"
        elif layer.size < self._options.min_layer_size:
            reason = (
                f"size {layer.size} is less than the minimum layer size "
                f"{self._options.min_layer_size}"
            )
        elif kind.encrypted:
            reason = "encrypted"
        elif kind.compression not in _FORMATS:
            name = "zstd" if kind.compression is Compression.ZSTD else shown(layer.media_type)
            reason = f"unsupported compression ({name}); SOCI supports only gzip and plain tar"
        elif kind.foreign and not self._source.has_blob(layer):
            reason = "foreign layer that is missing from the source"
        elif self._options.span_size == 0 and _FORMATS[kind.compression] == "uncompressed":
            reason = "uncompressed tar, which cannot have spans of 0 bytes"
        return reason

    def _index(self, layer: Descriptor) -> LayerOutcome:
        with self._stopping_others():
            try:
                return self._outcome_of(layer)
            finally:
                self._shares.done(layer_key(layer))

    def _outcome_of(self, layer: Descriptor) -> LayerOutcome:
        started = time.monotonic()
        self._check_cancelled()
        known = self._known and self._known.load(
            self._sink, layer, span_size=self._options.span_size
        )
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
        reason = self._skip_reason(layer)
        try:
            found = self._read(layer, threads, takeover)
        except _NotIndexableError as error:
            # If the layer matches its digest, it is unusual but not damaged: skip only this layer,
            # whereas the reference fails for the whole image.
            if not error.verified:
                self._verify(layer)
            outcome = LayerOutcome(LayerResult(layer, skipped=reason or error.reason))
            if self._options.seek:
                outcome = self._with_seek(layer, outcome, self._read_for_seek_table(layer, threads))
        else:
            outcome = self._keep(layer, found, takeover, reason)
            if self._options.seek:
                outcome = self._with_seek(layer, outcome, self._seek_parts(layer, found))
        outcome = replace(
            outcome, result=replace(outcome.result, seconds=time.monotonic() - started)
        )
        self._report(_finished(outcome.result))
        return outcome

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

    def _read(
        self, layer: Descriptor, threads: int, takeover: Takeover | None
    ) -> IndexedLayerBytes:
        kind = layer_type(layer.media_type)
        assert kind is not None  # noqa: S101 (others are not read)
        is_gzip = kind.compression is Compression.GZIP
        is_zstd = kind.compression is Compression.ZSTD
        indexer = LayerPass(
            # A plain tar cannot have spans of 0 bytes; such a layer gets no zTOC.
            span_size=self._options.span_size or (0 if is_gzip else DEFAULT_SPAN_SIZE),
            # With a gzip media type, the reference does not accept an empty blob as an empty tar.
            format="gzip" if is_gzip and not layer.size else _FORMATS.get(kind.compression),
            reference_identical=self._options.reference_identical,
            threads=threads,
            for_reading=self._options.seek_only,
            seek_span_size=self._options.seek_span_size if self._options.seek else None,
        )
        if is_zstd:
            # Rejected at its first bytes: SOCI has no zTOCs of zstd layers.
            indexer = LayerPass(format="gzip")
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
            raise _NotIndexableError(error.message, verified=streamed) from error
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
        self, layer: Descriptor, indexer: LayerPass, refused: list[FormatError | UnsupportedError]
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

    def _read_for_seek_table(self, layer: Descriptor, threads: int) -> SeekParts | str:
        """Read a layer that has no zTOC for SOCI; return why it cannot be in a seek table."""
        kind = layer_type(layer.media_type)
        pieces = self._pieces(layer)
        is_zstd = kind is not None and kind.compression is Compression.ZSTD
        span_size = self._options.seek_span_size
        indexer = LayerPass(
            format="uncompressed" if is_zstd else None,
            threads=threads,
            for_reading=True,
            seek_span_size=None if is_zstd else span_size,
        )
        try:
            for piece in unpack_zstd(pieces) if is_zstd else pieces:
                indexer.push(piece)
            found = indexer.finish()
        except (FormatError, UnsupportedError) as error:
            return error.message
        if not is_zstd:
            return self._seek_parts(layer, found)
        seek = SeekBlob.of_whole_layer(
            "zstd", size=layer.size, uncompressed_size=found.size, span_size=span_size
        )
        return SeekParts(found.ztoc, seek, str(layer.digest))

    @staticmethod
    def _seek_parts(layer: Descriptor, found: IndexedLayerBytes) -> SeekParts:
        assert found.seek is not None  # noqa: S101 (requested)
        return SeekParts(found.ztoc, found.seek, str(layer.digest))

    def _with_seek(
        self, layer: Descriptor, outcome: LayerOutcome, parts: SeekParts | str
    ) -> LayerOutcome:
        """Store a layer's seek blob and return the outcome with it."""
        if isinstance(parts, str):
            return replace(outcome, seek_problem=parts)
        descriptor = self._sink.put_blob(parts.seek.blob, media_type=SEEK_LAYER)
        return replace(outcome, seek=parts, result=replace(outcome.result, seek_blob=descriptor))

    def _keep(
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
        return self._with_seek(layer, outcome, SeekParts(ztoc, seek, str(layer.digest)))

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
