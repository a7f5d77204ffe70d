"""Opening the layers of one platform's image: finds the zTOC of each, or makes one.

Source: docs/format.md#how-an-index-is-found.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from tocsin import processors
from tocsin.errors import (
    FormatError,
    NotFoundError,
    TocsinError,
    UnsupportedError,
    VerificationError,
)
from tocsin.images.soci_indexes import indexes_to_use
from tocsin.images.ztocs import load_ztoc
from tocsin.layers.fetchers import FETCH_THREADS
from tocsin.layers.indexer import LayerPass
from tocsin.layers.known_ztocs import KNOWN
from tocsin.layers.sources import BytesRanges, StreamRanges
from tocsin.layers.zstd import unpack_zstd
from tocsin.model.compression import GZIP, ZSTD, compression_of, with_head
from tocsin.model.events import LayerAdvanced, LayerFinished, LayerStarted
from tocsin.model.index_choice import IndexKind
from tocsin.model.media_types import is_tar_layer, layer_type
from tocsin.model.ztoc_defaults import DEFAULT_SPAN_SIZE
from tocsin.quoting import shown
from tocsin.reading.blob_ranges import BlobRanges
from tocsin.reading.unreadable import UnreadableLayer, is_about_layer
from tocsin.reading.ztoc_layer import ZtocLayer
from tocsin.stores.origins import RepositoryOrigin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tocsin.images.soci_indexes import FoundIndex
    from tocsin.layers.disk_cache import DiskCache
    from tocsin.layers.fetchers import Fetchers
    from tocsin.layers.inflated_spans import InflatedCache, InflatedSpans
    from tocsin.layers.kept_layers import KeptLayer, KeptLayers
    from tocsin.layers.sources import FileRanges, RangeSource
    from tocsin.layers.spans import SpanCache
    from tocsin.layers.ztoc import Ztoc
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.events import Event, Progress
    from tocsin.model.index_choice import IndexChoice
    from tocsin.model.manifest import Manifest
    from tocsin.reading.layer import Layer
    from tocsin.reading.notes import Notes
    from tocsin.stores.base import Source

_MAX_KEPT_LAYER_SIZE = 10 << 20
"""Maximum compressed size of a layer that is kept in memory after it was read to make its zTOC."""
_MAX_KEPT_LAYERS_SIZE = 64 << 20
"""Maximum compressed size of all layers kept in this way."""
_MIB = 1 << 20


@dataclass
class LayerOpener:
    """Opens layers of one image.

    Attributes:
        store: returns the source that holds the image.
        cache: cache of spans in memory.
        fetchers: threads that fetch and inflate.
        disk: cache on disk, if there is one.
        notes: receives notes for the user.
        may_index: whether layers without a zTOC are read once to make one.
        threads: number of threads for that, shared between layers.
        progress: called while layers are read, never by two threads at once.
        kept_layers: where layers without an index are kept on disk once they have been read; if
            ``None``, or if nothing is written there, they are fetched again when files are read.
        inflated: layers that may be inflated in the cache.
    """

    store: Callable[[], Source]
    cache: SpanCache
    fetchers: Fetchers
    disk: DiskCache | None
    notes: Notes
    may_index: bool = True
    threads: int = 1
    progress: Progress | None = None
    kept_layers: KeptLayers | None = None
    inflated: InflatedCache | None = None
    _files: list[FileRanges] = field(default_factory=list, init=False)
    _kept: int = field(default=0, init=False)
    _small_sizes: list[int] = field(default_factory=list, init=False)
    _progress_lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def after_fork(self) -> None:
        """Forget a lock that another thread may have held."""
        self._progress_lock = threading.Lock()

    def indexes(
        self, image: Descriptor, manifest: Manifest, choice: IndexChoice, *, pinned: bool
    ) -> list[FoundIndex]:
        """Return the SOCI indexes to use, in order.

        Args:
            image: descriptor of the image's manifest.
            manifest: manifest of the image.
            choice: which indexes were requested.
            pinned: whether the reference of the image has a digest.

        Raises:
            NotFoundError, FormatError: the index requested by digest is missing or not an index.
        """
        usable = []
        for found in indexes_to_use(self.store(), image, manifest, choice, pinned=pinned):
            if found.soci_index is None:
                self.notes.warn(f"SOCI index {found.digest} is not used: {found.problem}")
            else:
                usable.append(found)
        size = sum(layer.size for layer in manifest.layers or ())
        if pinned and not usable and choice.kind is IndexKind.AUTO and size >= _MIB:
            self.notes.note(
                "the image is pinned by digest and its manifest does not name an index, so layers "
                "are read in full and verified with their own digests; to trust the indexes that "
                "refer to the image, use --index v1 (index='v1')"
            )
        return usable

    def open(
        self, layers: list[Descriptor], indexes: list[FoundIndex]
    ) -> list[Layer | UnreadableLayer]:
        """Return all layers; several are fetched or read at once.

        Raises:
            UnsupportedError: a layer has no zTOC, and `may_index` is off.
            RegistryError, OSError: a layer cannot be read because of a temporary problem.
        """
        sizes = {at: layer.size for at, layer in enumerate(layers)}
        shares = processors.Shares(self.threads, jobs=FETCH_THREADS, sizes=sizes)

        def open_layer(at: int) -> Layer | UnreadableLayer:
            try:
                return self._open(layers[at], indexes, shares, at)
            finally:
                shares.done(at)

        # Larger layers first: smaller ones may wait for them, and that blocks threads.
        order = sorted(sizes, key=lambda at: -sizes[at])
        found = dict(zip(order, self.fetchers.pool().map(open_layer, order), strict=True))
        opened = [found[at] for at in sizes]
        for layer in opened:
            if isinstance(layer, UnreadableLayer):
                self.notes.warn(
                    f"layer {layer.descriptor.digest} cannot be read: {layer.problem}; only files "
                    "that it cannot affect can be read"
                )
        # Nearly every indexed image has a few tiny layers without a zTOC, which cost nothing.
        if (size := sum(self._small_sizes)) >= _MIB:
            count = len(self._small_sizes)
            subject = "1 small layer has" if count == 1 else f"{count} small layers have"
            self.notes.note(f"{subject} no ztoc: {size / _MIB:.1f} MiB were read")
        return opened

    def _open(
        self,
        layer: Descriptor,
        indexes: list[FoundIndex],
        shares: processors.Shares[int],
        at: int,
    ) -> Layer | UnreadableLayer:
        for found in indexes:
            assert found.soci_index is not None  # noqa: S101 (only usable ones are kept)
            descriptor = found.soci_index.ztoc_of(layer.digest)
            if descriptor is None:
                continue
            try:
                ztoc = load_ztoc(self.store(), layer, descriptor, known=KNOWN, disk=self.disk)
            except (FormatError, NotFoundError, VerificationError) as error:
                self.notes.warn(f"ztoc {descriptor.digest} is not used: {error}")
                continue
            source = BlobRanges(self.store, layer)
            origin = {1: "v1", 2: "v2"}.get(found.version, "given")
            return self._layer(layer, ztoc, str(descriptor.digest), source, origin)
        if reason := _unsupported_reason(layer):
            return UnreadableLayer(layer, UnsupportedError(reason))
        kept = None if self.kept_layers is None else self.kept_layers.find(layer)
        if kept is not None:
            if kept.source is not None:
                self._files.append(kept.source)
            stored = kept.source or BlobRanges(self.store, layer)
            return self._layer(layer, kept.ztoc, kept.ztoc.digest, stored, "made")
        if not self.may_index:
            raise UnsupportedError(
                f"layer {layer.digest}: has no ztoc, {layer.size} bytes would have to be read",
                hint="Make one with tocsin create --min-layer-size 0, or read the layer in full "
                "without --require-index (index_missing=True).",
            )
        threads = shares.take(at)
        self._report(LayerStarted(layer))
        begun = time.monotonic()
        try:
            opened = self._index(layer, threads, shares.turn)
        except (TocsinError, OSError) as error:
            if not is_about_layer(error):
                error.add_note(f"layer {layer.digest}")
                raise
            return UnreadableLayer(layer, error)
        finally:
            self._report(LayerFinished(layer, time.monotonic() - begun))
        return opened

    def _layer(
        self,
        layer: Descriptor,
        ztoc: Ztoc,
        spans_name: str,
        source: RangeSource,
        origin: str,
    ) -> Layer:
        spans = ztoc._open_spans(
            source,
            cache=self.cache,
            fetchers=self.fetchers,
            kept=None if self.disk is None else self.disk.spans_of(layer.digest, spans_name),
            inflated=self.inflated_spans(layer, lambda: ztoc.digest.rpartition(":")[2]),
        )
        return ZtocLayer(layer, ztoc, spans, index_origin=origin)

    def inflated_spans(self, layer: Descriptor, table: Callable[[], str]) -> InflatedSpans | None:
        """Return the spans of a layer that may be inflated in the cache; see `InflatedCache`."""
        return None if self.inflated is None else self.inflated.spans_of(layer.digest, table)

    def close(self) -> None:
        """Close files of the cache."""
        if self.inflated is not None:
            self.inflated.close()
        for file in self._files:
            file.close()

    def _index(self, layer: Descriptor, threads: int, turn: AbstractContextManager[Any]) -> Layer:
        """Make the missing zTOC of a layer by reading all of it."""
        name = f"{self.store().name}: layer {layer.digest}"
        begun = time.monotonic()
        head, pieces = with_head(self._read_whole(layer))
        compression = compression_of(head)
        kept: list[bytes] | None = None
        source: RangeSource
        if compression == ZSTD:
            source = StreamRanges(name, partial(self._unpack_zstd, layer))
        elif self._may_keep(layer):
            kept = []
        to_disk = self._kept_layer(layer, compression)
        if to_disk is not None:
            kept = None
        try:
            layer_format = GZIP if compression == GZIP else "uncompressed"
            stored = unpack_zstd(pieces) if compression == ZSTD else _keeping(pieces, kept)
            if to_disk is not None:
                stored = _written(stored, to_disk)
            ztoc = _make_ztoc(stored, layer_format, threads, turn)
        except (FormatError, UnsupportedError) as error:
            if to_disk is not None:
                to_disk.abandon()
            for _ in pieces:  # to the end, where the digest shows whether the layer is damaged
                pass
            if compression in (None, GZIP, ZSTD):
                raise
            raise UnsupportedError(f"compressed with {compression}, not gzip or zstd") from error
        if compression != ZSTD:
            source = (
                BlobRanges(self.store, layer) if kept is None else BytesRanges(name, b"".join(kept))
            )
        on_disk = None if to_disk is None else to_disk.finish(ztoc)
        if on_disk is not None:
            source = on_disk
        if layer.size <= _MAX_KEPT_LAYER_SIZE and compression != ZSTD:
            self._small_sizes.append(layer.size)
        else:
            again = compression == ZSTD and on_disk is None
            more = ", and again whenever a read goes back" if again else ""
            self.notes.note(
                f"layer {layer.digest} has no ztoc: {layer.size / _MIB:.1f} MiB were read to make "
                f"one, in {time.monotonic() - begun:.1f} s{more}"
            )
        return self._layer(layer, ztoc, f"made:{DEFAULT_SPAN_SIZE}", source, "made")

    def _kept_layer(self, layer: Descriptor, compression: str | None) -> KeptLayer | None:
        """Return what keeps a layer on disk while it is read; ``None`` if it is not kept."""
        if self.kept_layers is None or not self.kept_layers.writes:
            return None
        # A layer on this machine is read where it is, unless it has to be unpacked.
        is_remote = isinstance(self.store().origin, RepositoryOrigin)
        return self.kept_layers.begin(layer, data=is_remote or compression == ZSTD)

    def _report(self, event: Event) -> None:
        if self.progress is not None:
            with self._progress_lock:
                self.progress(event)

    def _may_keep(self, layer: Descriptor) -> bool:
        # Without a lock, several threads may together keep somewhat more than the limit.
        if layer.size > _MAX_KEPT_LAYER_SIZE or self._kept + layer.size > _MAX_KEPT_LAYERS_SIZE:
            return False
        self._kept += layer.size
        return True

    def _read_whole(self, layer: Descriptor) -> Iterator[bytes]:
        done = 0
        for piece in self.store().blob(layer):
            yield piece
            done += len(piece)
            self._report(LayerAdvanced(layer, done))

    def _unpack_zstd(self, layer: Descriptor) -> Iterator[bytes]:
        return unpack_zstd(self.store().blob(layer))


def _unsupported_reason(layer: Descriptor) -> str | None:
    """Return why a layer of this type cannot be read; ``None`` if its bytes decide."""
    if is_tar_layer(layer.media_type):
        return None
    kind = layer_type(layer.media_type)
    if kind is not None and kind.encrypted:
        return "it is encrypted"
    return f"media type {shown(layer.media_type)} is not supported"


def _keeping(pieces: Iterator[bytes], kept: list[bytes] | None) -> Iterator[bytes]:
    for piece in pieces:
        if kept is not None:
            kept.append(piece)
        yield piece


def _written(pieces: Iterator[bytes], layer: KeptLayer) -> Iterator[bytes]:
    try:
        for piece in pieces:
            layer.write(piece)
            yield piece
    except BaseException:
        layer.abandon()
        raise


def _make_ztoc(
    pieces: Iterator[bytes], layer_format: str, threads: int, turn: AbstractContextManager[Any]
) -> Ztoc:
    layer_pass = LayerPass(
        format=layer_format, span_size=DEFAULT_SPAN_SIZE, threads=threads, for_reading=True
    )
    for piece in pieces:
        with turn:
            layer_pass.push(piece)
    with turn:
        return layer_pass.finish().ztoc
