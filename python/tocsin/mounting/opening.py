"""Opening an image to mount it: the names of all its files, and where the bytes of each layer are.

Images are opened as for reading, with the same choice of indexes and the same rules of trust. The
difference is that everything that names need is fetched now, and that layers without an index are
read in full into the cache directory.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tocsin.errors import TocsinError
from tocsin.layers.kept_layers import KeptLayers
from tocsin.layers.seek import SeekSpanTable
from tocsin.layers.sources import FileRanges
from tocsin.layers.span_table import ZtocSpans
from tocsin.model.index_choice import IndexKind
from tocsin.model.reference import ContainerdReference, RegistryReference
from tocsin.mounting.cache_directory import InflatedLayers
from tocsin.mounting.early import EarlyRanges
from tocsin.mounting.remembered import RememberedSource
from tocsin.reading.files import merged_of
from tocsin.reading.image import open_image
from tocsin.reading.unreadable import UnreadableLayer
from tocsin.stores.opening import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tocsin.layers.disk_cache import KeptParts
    from tocsin.layers.sources import RangeSource
    from tocsin.model.events import Progress
    from tocsin.model.reference import Reference
    from tocsin.mounting.options import MountOptions
    from tocsin.reading.image import Image
    from tocsin.reading.layer import Layer
    from tocsin.reading.pack import ImagePack
    from tocsin.stores.base import Source

CONNECTIONS = 6
"""Requests in flight that no program waits for, also the limit of the core: on a link of 200 Mbit/s
and 20 ms, more are not faster."""
_FOR_READERS = 1
FETCH_THREADS = CONNECTIONS + _FOR_READERS
"""Number of threads that fetch. One is free for what a program waits for, while all others hang or
load the rest of the image."""
_SPARE_CONNECTIONS = 2
"""Connections for other requests, such as those of tokens."""
_TRIES = 2
"""Number of requests for which the time limit of a read suffices, if the registry hangs."""


@dataclass(frozen=True, slots=True)
class FillSource:
    """Where the spans of one layer, or the frames of a pack, come from, and where they are kept.

    Attributes:
        table: the spans, or the pack, as the core has them.
        source: bytes of the layer, unverified.
        chunks: ranges of the chunks in the layer's seek blob, or of the frames in a pack; empty if
            there are none.
        chunk_source: bytes of that blob, or of the pack, unverified.
        kept_chunks: chunks of that blob, or frames of the pack, in the disk cache.
        directory: directory of the inflated spans; ``None`` to keep them in memory.
    """

    table: Any
    source: RangeSource
    chunks: tuple[tuple[int, int], ...]
    chunk_source: RangeSource | None
    kept_chunks: KeptParts | None
    directory: str | None


@dataclass(slots=True)
class OpenedImage:
    """An image that can be mounted.

    Attributes:
        image: the image, which must stay open as long as it is mounted.
        tree: names of all files, as the core has them.
        layers: sources of the layers, from the lowest up.
        index: the index with which most of the image is read: ``seek``, ``v2``, ``v1``, ``given``
            or ``made``, as in ``ImageLayer``; ``none`` for an image without layers.
        inflated: the locked directories of the layers.
        pack: source of the pack; ``None`` without one.
    """

    image: Image
    tree: Any
    layers: tuple[FillSource, ...]
    index: str
    inflated: InflatedLayers
    pack: FillSource | None = None

    @property
    def size(self) -> int:
        """Total size of the layers as the registry stores them, in bytes."""
        return sum(layer.size for layer in self.image.layer_descriptors)

    def take_tree(self) -> Any:  # noqa: ANN401 (a class of the core)
        """Return `tree`, and keep no names: a mount has its own table, and they take memory."""
        tree, self.tree = self.tree, None
        merged_of(self.image).tree.forget()
        return tree

    def close(self) -> None:
        """Close files and connections, and release locks."""
        for layer in self.layers:
            if isinstance(layer.source, FileRanges):
                layer.source.close()
        self.image.close()
        self.inflated.close()


def open_for_mount(
    options: MountOptions,
    *,
    note: Callable[[str], None],
    progress: Progress | None = None,
    with_pack: bool = True,
) -> OpenedImage:
    """Open an image, and read its layers without an index.

    Args:
        options: options of the mount.
        note: called with messages for the user.
        progress: called while layers are read.
        with_pack: whether the pack of the image is used.

    Raises:
        NotFoundError: the image, platform or index is missing.
        FormatError, UnsupportedError, VerificationError: a layer or an index is damaged or is not
            supported.
        RegistryError, OSError: the image cannot be reached or read.
    """
    image = open_image(
        options.reference,
        platform=options.platform,
        index=options.index,
        threads=options.threads,
        cache_size=0,
        cache_dir=options.cache_dir,
        cache_dir_size=options.cache_size,
        note=note,
        progress=progress,
        open_store=_store_of(options, note),
        kept_layers=KeptLayers(options.cache_dir, note),
        layer_count=options.layer_count,
    )
    inflated = InflatedLayers(options.cache_dir, note)
    try:
        merged = merged_of(image)
        _check_readable(merged.layers)
        # Before the names are fetched, so that the first frames come with them.
        pack = _pack_source(merged.pack, note) if with_pack else None
        tree = merged.tree.complete()
        layers = [merged.layer(number) for number in range(len(merged.layers))]
        sources = tuple(_fill_source(layer, inflated) for layer in layers)
        index = _main_index(layers)
        if index == "made" and options.index != IndexKind.NONE and image.layer_descriptors:
            note("the image has no index that can be used, so its layers were read in full")
        return OpenedImage(image, tree, sources, index, inflated, pack)
    except BaseException:
        image.close()
        inflated.close()
        raise


def _check_readable(layers: Sequence[Layer | UnreadableLayer]) -> None:
    for layer in layers:
        if isinstance(layer, UnreadableLayer):
            raise layer.error


def _store_of(options: MountOptions, note: Callable[[str], None]) -> Callable[[], Source]:
    """Return what opens the store of the image, which works in any directory."""
    reference = _absolute(options.reference)
    if not isinstance(reference, RegistryReference):
        return partial(open_source, reference)
    name = f"docker://{reference.host}/{reference.repository}"
    return lambda: RememberedSource(
        name, partial(_open_registry, reference, options), options.cache_dir, note
    )


def _open_registry(reference: RegistryReference, options: MountOptions) -> Source:
    from tocsin.stores.registry import RegistryOptions  # noqa: PLC0415 (slow to import)

    registry = options.registry or RegistryOptions()
    if options.credentials is not None:
        from tocsin.mounting.pull_credentials import ask_for_credential  # noqa: PLC0415 (as above)

        registry = replace(registry, _ask=partial(ask_for_credential, options.credentials))
    # A request that hangs must fail early enough for the read to be answered by another one.
    timeout = min(registry.timeout, options.read_timeout / _TRIES)
    jobs = max(registry.jobs, FETCH_THREADS + _SPARE_CONNECTIONS)
    return open_source(reference, registry=replace(registry, timeout=timeout, jobs=jobs))


def _absolute(reference: Reference) -> Reference:
    if isinstance(reference, RegistryReference | ContainerdReference):
        return reference
    return replace(reference, path=reference.path.absolute())


def _fill_source(layer: Layer, inflated: InflatedLayers) -> FillSource:
    spans = layer.spans
    table = spans.table
    digest = layer.descriptor.digest
    if isinstance(table, SeekSpanTable):
        return FillSource(
            table.core,
            spans.source,
            tuple(table.chunk_ranges()),
            table.parts.source,
            table.parts.kept,
            inflated.directory_of(digest, table.blob.hex),
        )
    assert isinstance(table, ZtocSpans)  # noqa: S101 (there is no third kind)
    directory = inflated.directory_of(digest, table.digest().rpartition(":")[2])
    return FillSource(table.core, spans.source, (), None, None, directory)


def _pack_source(pack: ImagePack | None, note: Callable[[str], None]) -> FillSource | None:
    """Return the source of a pack; ``None`` if there is none that can be used."""
    if pack is None:
        return None
    try:
        index = pack.open()
    except (TocsinError, OSError) as error:
        reason = error.message if isinstance(error, TocsinError) else error.strerror
        note(f"the pack of the image is not used: {reason}")
        return None
    frames = tuple(index.frame_range(frame) for frame in range(index.frame_count))
    source: RangeSource = pack.parts.source
    kept = pack.parts.kept
    is_kept = kept is not None and kept.part(0, frames[0][1]) is not None if frames else True
    if not is_kept and source.request_size:
        source = EarlyRanges(source, index.size, CONNECTIONS)
    return FillSource(index.core, source, frames, source, kept, None)


def _main_index(layers: list[Layer]) -> str:
    """Return the origin of the indexes of most bytes."""
    sizes: dict[str, int] = {}
    for layer in layers:
        sizes[layer.index_origin] = sizes.get(layer.index_origin, 0) + layer.descriptor.size
    return max(sizes, key=lambda origin: sizes[origin], default="none")
