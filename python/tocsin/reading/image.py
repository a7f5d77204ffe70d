"""An image as a read-only file system: ``tocsin.open``."""

from __future__ import annotations

import json
import platform as machine
import threading
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from tocsin import processors
from tocsin.errors import NotFoundError
from tocsin.images.selection import platform_images, platforms_shown, resolve_image
from tocsin.layers.disk_cache import DEFAULT_DISK_CACHE_SIZE, DiskCache
from tocsin.layers.fetchers import Fetchers
from tocsin.layers.forking import forget_after_fork
from tocsin.layers.spans import DEFAULT_CACHE_SIZE, SpanCache
from tocsin.model.digest import Digest
from tocsin.model.image_config import MAX_CONFIG_SIZE
from tocsin.model.index_choice import IndexChoice
from tocsin.model.platform import Platform, platform_of
from tocsin.model.soci_index import PREFETCH
from tocsin.reading.files import Files
from tocsin.reading.merged import MergedLayers
from tocsin.reading.notes import Notes
from tocsin.reading.opening import LayerOpener
from tocsin.stores.base import read_blob
from tocsin.stores.metering import Meter, MeteredSource
from tocsin.stores.opening import open_source
from tocsin.stores.places import reference_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from tocsin.images.selection import PlatformImage
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.events import Progress
    from tocsin.model.manifest import Manifest
    from tocsin.model.reference import Reference, ReferenceLike
    from tocsin.stores.base import Source
    from tocsin.stores.metering import Traffic
    from tocsin.stores.registry import RegistryOptions


def open(  # noqa: A001 (as in gzip and tarfile)
    reference: ReferenceLike,
    *,
    platform: str | Platform | None = None,
    index: str | Digest = "auto",
    index_missing: bool = True,
    threads: int | None = None,
    cache_size: int = DEFAULT_CACHE_SIZE,
    cache_dir: str | os.PathLike[str] | None = None,
    cache_dir_size: int = DEFAULT_DISK_CACHE_SIZE,
    registry: RegistryOptions | None = None,
    note: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> Image:
    """Open an image for reading single files, without fetching its layers.

    Args:
        reference: the image, as for ``tocsin.create``.
        platform: which of its platforms, such as ``linux/arm64``; by default the only one, or that
            of this machine with Linux.
        index: which SOCI indexes to read by. ``auto``: the one that the image's manifest names
            (version 2); if `reference` has no digest, also those that refer to the manifest
            (version 1). ``v2`` or ``v1``: only those. ``none``: no index. Else the digest of one.
        index_missing: layers without a zTOC are read in full, once, when the image is first looked
            into; ``False`` raises `UnsupportedError` instead.
        threads: processors that read such layers, all together or a single one, and that inflate
            spans; all that this process may use if ``None``.
        cache_size: bytes of spans kept in memory.
        cache_dir: directory where zTOCs and spans are kept for later; may be shared by processes
            of one user, and need not be trusted: what is found in it is verified.
        cache_dir_size: bytes that the directory may grow to; what was used least recently is
            removed from it.
        registry: how to reach a registry.
        note: called with sentences a user should know, such as what reading a layer whole cost;
            they are in ``Image.notes`` too, and logged.
        progress: called while layers without a zTOC are read, see `Progress`; such a layer starts,
            advances and finishes.

    What is guaranteed depends on what the bytes are bound to:

    - ``repo@sha256:…``: manifests, index, zTOCs and data are bound by that digest, whatever the
      registry or anyone who may push to it does; with a version 2 index the publisher of the image
      vouches for the zTOCs.
    - ``repo:tag``: the same, below whatever manifest the registry says the tag names.
    - a version 1 index, and one given by its digest: spans are verified by its zTOCs, but nothing
      binds these to the image. Whoever could push the index chooses what is read.
    - ``index="none"``, and layers without a zTOC: verified by the layer's own digest.

    Raises:
        NotFoundError: no such image, platform or index.
        FormatError: it is not an image.
        RegistryError, OSError: it cannot be reached or read.
    """
    threads = processors.resolve_threads(threads)
    parsed = reference_of(reference)
    choice = IndexChoice.of(index)
    asked = None if platform is None else platform_of(platform)
    stores = _SourceHolder(parsed, registry)
    try:
        found = _choose(stores(), parsed, asked)
    except BaseException:
        stores.close()
        raise
    return Image(
        parsed,
        found,
        stores,
        choice=choice,
        index_missing=index_missing,
        threads=threads,
        cache_size=cache_size,
        cache_dir=cache_dir,
        cache_dir_size=cache_dir_size,
        note=note,
        progress=progress,
    )


@dataclass(frozen=True, slots=True)
class ImageLayer:
    """One layer of an image that is open.

    Attributes:
        descriptor: as in the image's manifest.
        index_origin: where its zTOC is from: ``v2`` or ``v1`` for a SOCI index of that version,
            ``given`` for the index that was asked for, ``made`` when the layer was read for it,
            ``none`` when it cannot be read.
        entry_count: entries of its tar.
        problem: why it cannot be read; ``None`` when it can.
    """

    descriptor: Descriptor
    index_origin: str
    entry_count: int
    problem: str | None = None


class Image(Files):
    """The files of an image, merged from its layers; a context manager.

    Made by ``tocsin.open``. Paths are absolute or relative to the root; symbolic links are followed
    inside the image only. Methods may be called from several threads, and after a fork. What is
    read is verified: manifests and zTOCs by their digests, file data by the digests of its spans.

    Attributes:
        reference: as it was opened.
        descriptor: of the platform's manifest.
        platform: of the image; ``None`` when it says none.
        manifest: of the image.
        notes: sentences worth knowing, such as what reading a layer whole cost.
    """

    reference: Reference
    descriptor: Descriptor
    platform: Platform | None
    manifest: Manifest
    notes: list[str]

    def __init__(
        self,
        reference: Reference,
        found: PlatformImage,
        stores: _SourceHolder,
        *,
        choice: IndexChoice,
        index_missing: bool,
        threads: int,
        cache_size: int,
        cache_dir: str | os.PathLike[str] | None,
        cache_dir_size: int,
        note: Callable[[str], None] | None,
        progress: Progress | None,
    ) -> None:
        self.reference = reference
        self.descriptor = found.descriptor
        self.platform = found.platform
        self.manifest = found.manifest
        self._notes = notes = Notes(note)
        self.notes = notes.sentences
        self._stores = stores
        self._choice = choice
        self._fetchers = Fetchers(threads)
        disk = None
        if cache_dir is not None:
            disk = DiskCache(cache_dir, notes.warn, size=cache_dir_size)
        self._opener = LayerOpener(
            store=stores,
            cache=SpanCache(cache_size),
            fetchers=self._fetchers,
            disk=disk,
            notes=notes,
            may_index=index_missing,
            threads=threads,
            progress=progress,
        )
        self._lock = threading.RLock()
        self._opened: MergedLayers | None = None
        forget_after_fork(self)

    # -- the image -----------------------------------------------------------------------------

    @cached_property
    def config(self) -> dict[str, Any]:
        """The image's config, decoded from JSON."""
        data = read_blob(self._stores(), self.manifest.config, max_size=MAX_CONFIG_SIZE)
        return cast("dict[str, Any]", json.loads(data))

    @property
    def layer_descriptors(self) -> list[Descriptor]:
        """Of the layers, from the lowest up; nothing is fetched."""
        return [layer for layer in self.manifest.layers or () if layer.media_type != PREFETCH]

    @property
    def layers(self) -> tuple[ImageLayer, ...]:
        """The layers, from the lowest up; their zTOCs are fetched, or made, when first asked for.

        A layer that cannot be read has a `problem`, and paths fail that it may change.

        Raises:
            UnsupportedError: a layer has no zTOC and none may be made.
        """
        return tuple(
            ImageLayer(layer.descriptor, layer.index_origin, layer.entry_count, layer.problem)
            for layer in self._merged.layers
        )

    @property
    def _merged(self) -> MergedLayers:
        with self._lock:
            if self._opened is None:
                indexes = self._opener.indexes(
                    self.descriptor,
                    self.manifest,
                    self._choice,
                    pinned=isinstance(self.reference.selector, Digest),
                )
                layers = self._opener.open(self.layer_descriptors, indexes)
                self._opened = MergedLayers(layers, self._notes)
            return self._opened

    @property
    def traffic(self) -> Traffic:
        """Bytes read so far of manifests, indexes, zTOCs and layers."""
        return self._stores.meter.traffic

    # -- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """Close connections and end threads; files that are open can no longer be read."""
        self._fetchers.close()
        self._stores.close()

    def __repr__(self) -> str:
        return f"<Image {self.reference} {self.platform or ''} {self.descriptor.digest}>"

    def after_fork(self) -> None:
        """Forget locks that another thread may have held."""
        self._lock = threading.RLock()
        self._opener.after_fork()


class _SourceHolder:
    """The source of an image, opened again in a forked process: connections cannot be shared."""

    def __init__(self, reference: Reference, registry: RegistryOptions | None) -> None:
        self._reference = reference
        self._registry = registry
        self.meter = Meter()
        self._lock = threading.Lock()
        self._store: Source | None = None
        forget_after_fork(self)

    def __call__(self) -> Source:
        store = self._store
        if store is None:
            with self._lock:
                store = self._store
                if store is None:
                    inner = open_source(self._reference, registry=self._registry)
                    store = self._store = _OwnedSource(inner, self.meter)
        return store

    def close(self) -> None:
        with self._lock:
            if self._store is not None:
                self._store.close()

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        # Not closed: that would say good-bye on connections of the other process.
        _ABANDONED.append(self._store)
        self._store = None


_ABANDONED: list[Source | None] = []


class _OwnedSource(MeteredSource):
    """A metered source that closes what it meters."""

    def close(self) -> None:
        """Close the source."""
        self._inner.close()


def _choose(store: Source, reference: Reference, asked: Platform | None) -> PlatformImage:
    target = resolve_image(store, reference.selector)
    images = platform_images(store, target, None if asked is None else (asked,))
    if len(images) == 1:
        return images[0]
    here = Platform.parse(f"linux/{machine.machine()}")
    for image in images:
        if image.platform is not None and here.matches(image.platform):
            return image
    there = platforms_shown([image.platform for image in images])
    raise NotFoundError(
        f"{store.name}: image manifest for {here}: not found, there are: {there}",
        hint="Choose one of them with --platform (platform=).",
    )
