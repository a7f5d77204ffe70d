"""An image as a read-only file system: ``tocsin.open``."""

from __future__ import annotations

import json
import platform as machine
import threading
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tocsin import processors
from tocsin.errors import FormatError, NotFoundError
from tocsin.images.selection import platform_images, platforms_shown, resolve_image
from tocsin.layers.cache_space import default_cache_directory
from tocsin.layers.disk_cache import DEFAULT_DISK_CACHE_SIZE, DiskCache
from tocsin.layers.fetchers import Fetchers
from tocsin.layers.forking import forget_after_fork
from tocsin.layers.inflated_spans import InflatedCache
from tocsin.layers.kept_layers import KeptLayers
from tocsin.layers.spans import DEFAULT_CACHE_SIZE, SpanCache
from tocsin.model.digest import Digest
from tocsin.model.image_config import MAX_CONFIG_SIZE, ImageConfig
from tocsin.model.index_choice import IndexChoice
from tocsin.model.platform import Platform, platform_of
from tocsin.model.soci_index import PREFETCH
from tocsin.reading.files import Files
from tocsin.reading.notes import Notes
from tocsin.reading.opening import LayerOpener
from tocsin.reading.seek_image import open_lowest, open_merged
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
    from tocsin.reading.merged import MergedLayers
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
        platform: platform of the image, such as ``linux/arm64``; by default, the only one, or Linux
            on this machine's architecture.
        index: which indexes to use. ``auto``: the seek table that the image's manifest names, or
            else the SOCI index that it names (version 2); if `reference` has no digest, also seek
            tables and SOCI indexes (version 1) that refer to the manifest. ``seek``: a seek table,
            or an error. ``v2`` or ``v1``: only those SOCI indexes. ``none``: no index. A digest:
            that SOCI index.
        index_missing: whether to read layers without a zTOC once, in full, when the image is first
            accessed; if not, the access raises `UnsupportedError`.
        threads: number of threads that read such layers and inflate spans; by default, one for each
            processor that this process may use.
        cache_size: maximum size of the spans in memory, in bytes.
        cache_dir: directory where zTOCs and spans are cached; may be shared by processes of one
            user, and need not be trusted, since everything read from it is verified. Layers that
            ``tocsin fetch`` or a mount left complete there are read from it, if only this user may
            write to them; by default, those in the cache directory of mounts, to which nothing is
            written.
        cache_dir_size: maximum size of the directory, in bytes; the least recently used files are
            removed.
        registry: how to reach a registry.
        note: called with messages for the user, such as how long it took to read a layer in full;
            they are also in ``Image.notes`` and logged.
        progress: called while layers without a zTOC are read, when each one starts, advances and
            finishes; see `Progress`.

    What is verified depends on the reference and the index:

    - ``repo@sha256:…``: the digest binds manifests, index, zTOCs and data, so neither the registry
      nor anyone who may push to it can change them. With a seek table that the manifest names, or
      a version 2 index, the publisher of the image vouches for it.
    - ``repo:tag``: the same, for the manifest that the registry says the tag names.
    - A version 1 index, an index given by its digest, or a seek table that the manifest does not
      name: spans are verified with the digests in it, but nothing binds these to the image. Anyone
      who can push the index chooses what is read.
    - ``index="none"``, and layers without a zTOC: verified with the layer's own digest.

    Raises:
        NotFoundError: the image, platform or index is missing.
        FormatError: `reference` is invalid or does not name an image.
        RegistryError, OSError: the image cannot be reached or read.
    """
    return open_image(
        reference,
        platform=platform,
        index=index,
        index_missing=index_missing,
        threads=threads,
        cache_size=cache_size,
        cache_dir=cache_dir,
        cache_dir_size=cache_dir_size,
        registry=registry,
        note=note,
        progress=progress,
    )


def store_of(image: Image) -> Source:
    """Return the store of an image."""
    return image._stores()


def open_image(
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
    open_store: Callable[[], Source] | None = None,
    kept_layers: KeptLayers | None = None,
    layer_count: int | None = None,
) -> Image:
    """Open an image as `open` does.

    Args:
        reference: as for `open`, and all others too.
        platform: platform of the image.
        index: which indexes to use.
        index_missing: whether layers without a zTOC are read in full.
        threads: number of threads.
        cache_size: maximum size of the spans in memory.
        cache_dir: directory of the cache.
        cache_dir_size: maximum size of that directory.
        registry: how to reach a registry.
        note: called with messages for the user.
        progress: called while layers without a zTOC are read.
        open_store: opens the source in place of the one that `reference` names.
        kept_layers: where layers without an index are kept on disk.
        layer_count: number of layers to open, from the lowest up; ``None`` for all. The files are
            then those of these layers alone, as if the layers above did not exist.
    """
    threads = processors.resolve_threads(threads)
    parsed = reference_of(reference)
    choice = IndexChoice.of(index)
    requested = None if platform is None else platform_of(platform)
    stores = _SourceHolder(open_store or partial(open_source, parsed, registry=registry))
    try:
        found = _choose(stores(), parsed, requested)
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
        kept_layers=kept_layers,
        layer_count=layer_count,
    )


@dataclass(frozen=True, slots=True)
class ImageLayer:
    """One layer of an open image.

    Attributes:
        descriptor: descriptor of the layer in the image's manifest.
        index_origin: what it is read with: ``seek`` for a seek table; for a zTOC, ``v2`` or ``v1``
            if it is from a SOCI index of that version, ``given`` if it is from the index that was
            requested, ``made`` if the layer was read to make it; ``none`` if the layer cannot be
            read.
        entry_count: number of entries in its tar; ``None`` with a seek table, which does not say
            it.
        problem: why the layer cannot be read; ``None`` if it can.
    """

    descriptor: Descriptor
    index_origin: str
    entry_count: int | None
    problem: str | None = None


class Image(Files):
    """The files of an image, merged from its layers; a context manager.

    Made by ``tocsin.open``. Paths are absolute or relative to the root; symbolic links are followed
    only within the image. Methods may be called from several threads, and after a fork. Everything
    read is verified: manifests and zTOCs with their digests, file data with those of its spans.

    Attributes:
        reference: reference that was opened.
        descriptor: descriptor of the platform's manifest.
        platform: platform of the image; ``None`` if the image does not name one.
        manifest: manifest of the image.
        notes: messages for the user, such as how long it took to read a layer in full.
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
        kept_layers: KeptLayers | None,
        layer_count: int | None,
    ) -> None:
        self.reference = reference
        self.descriptor = found.descriptor
        self.platform = found.platform
        self.manifest = found.manifest
        self._notes = notes = Notes(note)
        self.notes = notes.sentences
        self._stores = stores
        self._choice = choice
        self._layer_count = layer_count
        self._fetchers = Fetchers(threads)
        directory = default_cache_directory() if cache_dir is None else Path(cache_dir)
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
            kept_layers=kept_layers or KeptLayers(directory, notes.warn, writes=False),
            inflated=InflatedCache(
                directory, partial(_diff_ids, stores, found.manifest), notes.warn
            ),
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
        """Descriptors of the layers, from the lowest up; nothing is fetched."""
        return self._all_layers[: self._layer_count]

    @property
    def _all_layers(self) -> list[Descriptor]:
        return [layer for layer in self.manifest.layers or () if layer.media_type != PREFETCH]

    @property
    def layers(self) -> tuple[ImageLayer, ...]:
        """The layers, from the lowest up; their zTOCs are fetched, or made, at the first access.

        A layer that cannot be read has a `problem`; reading a path fails if that layer may affect
        it.

        Raises:
            UnsupportedError: a layer has no zTOC, and `index_missing` is off.
        """
        return tuple(
            ImageLayer(layer.descriptor, layer.index_origin, layer.entry_count, layer.problem)
            for layer in self._merged.layers
        )

    @property
    def _merged(self) -> MergedLayers:
        opened = self._opened
        if opened is not None:
            return opened
        with self._lock:
            if self._opened is None:
                layers = self.layer_descriptors
                opened_by = open_merged if layers == self._all_layers else open_lowest
                self._opened = opened_by(
                    self._opener,
                    self.descriptor,
                    self.manifest,
                    layers,
                    self._choice,
                    pinned=isinstance(self.reference.selector, Digest),
                )
            return self._opened

    @property
    def traffic(self) -> Traffic:
        """Number of bytes read so far: manifests, indexes, zTOCs and layers."""
        return self._stores.meter.traffic

    # -- closing -------------------------------------------------------------------------------

    def close(self) -> None:
        """Close connections and stop threads; open files can no longer be read."""
        self._fetchers.close()
        self._opener.close()
        self._stores.close()

    def __repr__(self) -> str:
        return f"<Image {self.reference} {self.platform or ''} {self.descriptor.digest}>"

    def after_fork(self) -> None:
        """Forget locks that another thread may have held."""
        self._lock = threading.RLock()
        self._opener.after_fork()


class _SourceHolder:
    """The source of an image; a forked process reopens it, since connections cannot be shared."""

    def __init__(self, open_store: Callable[[], Source]) -> None:
        self._open_store = open_store
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
                    store = self._store = _OwnedSource(self._open_store(), self.meter)
        return store

    def close(self) -> None:
        with self._lock:
            if self._store is not None:
                self._store.close()

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        # Not closed: closing would shut down the parent's TLS connections.
        _ABANDONED.append(self._store)
        self._store = None


_ABANDONED: list[Source | None] = []


class _OwnedSource(MeteredSource):
    """A metered source that also closes the source."""

    def close(self) -> None:
        """Close the source."""
        self._inner.close()


def _diff_ids(store: Callable[[], Source], manifest: Manifest) -> dict[Digest, Digest]:
    """Return the digest of each uncompressed layer by that of the layer.

    Raises:
        FormatError: the config has another number of layers, or is damaged.
        NotFoundError, VerificationError, RegistryError, OSError: the config cannot be read.
    """
    config = read_blob(store(), manifest.config, max_size=MAX_CONFIG_SIZE)
    diff_ids = ImageConfig.from_json(config).diff_ids
    layers = [layer.digest for layer in manifest.layers or () if layer.media_type != PREFETCH]
    if len(diff_ids) != len(layers):
        raise FormatError(
            f"config {manifest.config.digest}: lists the wrong number of layers (found "
            f"{len(diff_ids)}, expected {len(layers)})",
            what="config",
        )
    return dict(zip(layers, diff_ids, strict=True))


def _choose(store: Source, reference: Reference, requested: Platform | None) -> PlatformImage:
    target = resolve_image(store, reference.selector)
    images = platform_images(store, target, None if requested is None else (requested,))
    if len(images) == 1:
        return images[0]
    this_machine = Platform.parse(f"linux/{machine.machine()}")
    for image in images:
        if image.platform is not None and this_machine.matches(image.platform):
            return image
    available = platforms_shown([image.platform for image in images])
    raise NotFoundError(
        f"{store.name}: image manifest for {this_machine}: not found (available: {available})",
        hint="Choose one of them with --platform (platform=).",
    )
