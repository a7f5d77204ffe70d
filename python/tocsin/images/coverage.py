"""How much of an image can be loaded lazily: which of its layers have a usable zTOC.

Indexes are searched as readers do: first the SOCI index that the image's manifest names (version
2), then those that refer to the manifest (version 1). Each zTOC is read, verified and compared with
its layer's size. Anything else is left to ``verify``.
Source: docs/format.md#how-an-index-is-found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tocsin.errors import UnsupportedError
from tocsin.images.access_logs import access_logs_of
from tocsin.images.prefetches import prefetches_of
from tocsin.images.seek_tables import seek_tables_of
from tocsin.images.soci_indexes import PROBLEMS, FoundIndex, soci_indexes_of, with_choice
from tocsin.images.walk import walk_manifests
from tocsin.images.ztocs import load_ztoc
from tocsin.layers.known_ztocs import KnownZtocs
from tocsin.model.document import document_of, text_of
from tocsin.model.image_config import MAX_CONFIG_SIZE, ImageConfig
from tocsin.model.manifest import Manifest
from tocsin.model.media_types import DOCKER_CONFIG, OCI_CONFIG, is_manifest
from tocsin.model.seek_manifest import is_seek_entry
from tocsin.model.soci_index import is_soci_entry
from tocsin.quoting import shown
from tocsin.stores.base import read_blob

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.images.access_logs import FoundAccessLog
    from tocsin.images.prefetches import PrefetchInfo
    from tocsin.images.seek_tables import FoundSeekTable
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.digest import Digest
    from tocsin.model.document import Document
    from tocsin.model.platform import Platform
    from tocsin.stores.base import Source


@dataclass(frozen=True, slots=True)
class LayerCoverage:
    """Coverage of one layer.

    Attributes:
        layer: descriptor in the image's manifest.
        ztoc: descriptor in the SOCI index; from the version 2 index if both versions list one.
        soci_versions: versions of the SOCI indexes that list a zTOC for the layer.
        span_size: minimum number of uncompressed bytes between checkpoints.
        span_count: number of spans.
        entry_count: number of entries in the layer's tar.
        uncompressed_size: size of the layer's tar in bytes.
        problem: why the zTOC cannot be used.
    """

    layer: Descriptor
    ztoc: Descriptor | None = None
    soci_versions: tuple[int, ...] = ()
    span_size: int = 0
    span_count: int = 0
    entry_count: int = 0
    uncompressed_size: int = 0
    problem: str | None = None

    def to_dict(self) -> Document:
        """Return what ``--json`` prints for a layer."""
        return {
            **self.layer.to_dict(),
            "ztoc": document_of(self.ztoc),
            "soci_versions": list(self.soci_versions),
            "span_size": self.span_size,
            "span_count": self.span_count,
            "entry_count": self.entry_count,
            "uncompressed_size": self.uncompressed_size,
            "problem": self.problem,
        }

    @property
    def covered(self) -> bool:
        """Whether the layer has a usable zTOC."""
        return self.ztoc is not None and self.problem is None

    @property
    def ztoc_size(self) -> int:
        """Size of the zTOC in bytes; 0 if there is none."""
        return 0 if self.ztoc is None else self.ztoc.size


@dataclass(frozen=True, slots=True)
class PlatformCoverage:
    """Coverage of the image for one platform.

    Attributes:
        platform: platform in the image index or else the config; ``None`` if neither has one.
        manifest: manifest of the image.
        soci_indexes: SOCI indexes of the image, in the order in which readers try them.
        layers: coverage of the layers, from the lowest up.
        prefetches: prefetch artifacts that the indexes list, in order.
        problem: why nothing is known about the image, for example a missing manifest.
        seek_tables: seek tables of the image, in the order in which readers try them.
    """

    platform: Platform | None
    manifest: Descriptor
    soci_indexes: tuple[FoundIndex, ...] = ()
    layers: tuple[LayerCoverage, ...] = ()
    prefetches: tuple[PrefetchInfo, ...] = ()
    problem: str | None = None
    seek_tables: tuple[FoundSeekTable, ...] = ()

    def to_dict(self) -> Document:
        """Return what ``--json`` prints for a platform."""
        return {
            "platform": text_of(self.platform),
            "manifest": self.manifest.to_dict(),
            "problem": self.problem,
            "soci_indexes": [found.to_dict() for found in self.soci_indexes],
            "seek_tables": [found.to_dict() for found in self.seek_tables],
            "layer_size": self.layer_size,
            "covered_size": self.covered_size,
            "ztoc_size": self.ztoc_size,
            "layers": [layer.to_dict() for layer in self.layers],
            "prefetches": [prefetch.to_dict() for prefetch in self.prefetches],
        }

    @property
    def layer_size(self) -> int:
        """Compressed size of all layers in bytes."""
        return sum(layer.layer.size for layer in self.layers)

    @property
    def covered_size(self) -> int:
        """Compressed size in bytes of the layers with a usable zTOC."""
        return sum(layer.layer.size for layer in self.layers if layer.covered)

    @property
    def ztoc_size(self) -> int:
        """Size of all zTOCs in bytes."""
        return sum(layer.ztoc_size for layer in self.layers)


@dataclass(frozen=True, slots=True)
class ImageCoverage:
    """Coverage of an image.

    Attributes:
        image: reference of the image.
        manifest: manifest or image index of the image.
        platforms: coverage for each platform; attestations and SOCI indexes do not count.
    """

    image: str
    manifest: Descriptor
    platforms: tuple[PlatformCoverage, ...]

    def to_dict(self) -> Document:
        """Return what ``tocsin info --json`` prints."""
        return {
            "image": self.image,
            "manifest": self.manifest.to_dict(),
            "layer_size": self.layer_size,
            "covered_size": self.covered_size,
            "ztoc_size": self.ztoc_size,
            "platforms": [platform.to_dict() for platform in self.platforms],
        }

    @property
    def layer_size(self) -> int:
        """Compressed size of all layers of all platforms in bytes."""
        return sum(platform.layer_size for platform in self.platforms)

    @property
    def covered_size(self) -> int:
        """Compressed size in bytes of the layers with a usable zTOC."""
        return sum(platform.covered_size for platform in self.platforms)

    @property
    def ztoc_size(self) -> int:
        """Size of all zTOCs in bytes."""
        return sum(platform.ztoc_size for platform in self.platforms)


@dataclass(frozen=True, slots=True)
class PlatformIndexes:
    """The indexes and access logs of the image for one platform.

    Attributes:
        platform: platform, as in `PlatformCoverage`.
        manifest: manifest of the image.
        layer_count: number of layers.
        soci_indexes: SOCI indexes, in the order in which readers try them.
        problem: why nothing is known about the image.
        seek_tables: seek tables, in the order in which readers try them.
        access_logs: access logs, in the order in which mounts try them.
    """

    platform: Platform | None
    manifest: Descriptor
    layer_count: int = 0
    soci_indexes: tuple[FoundIndex, ...] = ()
    problem: str | None = None
    seek_tables: tuple[FoundSeekTable, ...] = ()
    access_logs: tuple[FoundAccessLog, ...] = ()

    @property
    def all_indexes(self) -> tuple[FoundIndex | FoundSeekTable, ...]:
        """SOCI indexes, then seek tables."""
        return (*self.soci_indexes, *self.seek_tables)

    def to_dict(self) -> Document:
        """Return what ``--json`` prints for a platform."""
        return {
            "platform": text_of(self.platform),
            "manifest": self.manifest.to_dict(),
            "layer_count": self.layer_count,
            "problem": self.problem,
            "soci_indexes": [found.to_dict() for found in self.soci_indexes],
            "seek_tables": [found.to_dict() for found in self.seek_tables],
            "access_logs": [found.to_dict() for found in self.access_logs],
        }


@dataclass(frozen=True, slots=True)
class ImageIndexes:
    """The indexes and access logs of an image.

    Attributes:
        image: reference of the image.
        manifest: manifest or image index of the image.
        platforms: indexes for each platform.
    """

    image: str
    manifest: Descriptor
    platforms: tuple[PlatformIndexes, ...]

    def to_dict(self) -> Document:
        """Return what ``tocsin index ls --json`` prints."""
        return {
            "image": self.image,
            "manifest": self.manifest.to_dict(),
            "platforms": [platform.to_dict() for platform in self.platforms],
        }


def image_indexes(store: Source, image: Descriptor, *, pinned: bool = False) -> ImageIndexes:
    """Return the indexes and access logs of an image, without reading zTOCs."""
    platforms = []
    for entry, manifest in _images(store, image):
        if isinstance(manifest, str):
            platforms.append(PlatformIndexes(entry.platform, entry, problem=manifest))
            continue
        found, seek_tables = _indexes_of(store, entry, manifest, pinned=pinned, every=True)
        platforms.append(
            PlatformIndexes(
                entry.platform or _platform_of(store, manifest),
                entry,
                len(manifest.layers or ()),
                found,
                seek_tables=seek_tables,
                access_logs=access_logs_of(store, entry.digest),
            )
        )
    return ImageIndexes(_name(store, image), image, tuple(platforms))


def _indexes_of(
    store: Source, entry: Descriptor, manifest: Manifest, *, pinned: bool, every: bool = False
) -> tuple[tuple[FoundIndex, ...], tuple[FoundSeekTable, ...]]:
    found = tuple(soci_indexes_of(store, entry, manifest, every=every))
    has_v2 = any(index.error is None and index.version == 2 for index in found)  # noqa: PLR2004
    seek_tables = seek_tables_of(store, entry, manifest, pinned=pinned, has_v2=has_v2, every=every)
    after_seek = any(table.taken for table in seek_tables)
    return with_choice(found, pinned=pinned, after_seek=after_seek), seek_tables


def image_coverage(store: Source, image: Descriptor, *, pinned: bool = False) -> ImageCoverage:
    """Return which layers of an image have a zTOC.

    A missing or broken SOCI index or zTOC is a `problem` in the result, not an error.

    Args:
        store: store with the image and its indexes.
        image: manifest or image index, as returned by `Source.resolve`.
        pinned: whether the image was given by digest.

    Raises:
        NotFoundError: the image does not exist.
        FormatError: not an image.
        VerificationError: the image does not match its digest.
    """
    ztocs: dict[tuple[Digest, Digest], LayerCoverage] = {}
    platforms = []
    for entry, manifest in _images(store, image):
        if isinstance(manifest, str):
            platforms.append(PlatformCoverage(entry.platform, entry, problem=manifest))
        else:
            platforms.append(_platform_coverage(store, entry, manifest, ztocs, pinned))
    return ImageCoverage(_name(store, image), image, tuple(platforms))


def _name(store: Source, image: Descriptor) -> str:
    return f"{store.name}@{image.digest}"


def _images(store: Source, image: Descriptor) -> Iterator[tuple[Descriptor, Manifest | str]]:
    """Yield the entry of each platform with its manifest, or with the reason it cannot be read."""
    manifests = [d for d in walk_manifests(store, image) if _may_be_image(d)]
    single = len(manifests) == 1 and manifests[0].digest == image.digest
    for entry in manifests:
        try:
            manifest = Manifest.from_json(store.manifest(entry))
        except PROBLEMS as error:
            if single:
                raise
            yield entry, error.message
            continue
        if _is_image(manifest):
            yield entry, manifest
        elif single:
            raise UnsupportedError(
                f"{store.name}: {entry.digest} is not an image "
                f"(found {shown(manifest.kind or 'artifact')})"
            )


def _may_be_image(entry: Descriptor) -> bool:
    attestation = entry.platform is not None and entry.platform.unknown
    known = not entry.media_type or is_manifest(entry.media_type)
    return known and not attestation and not (is_soci_entry(entry) or is_seek_entry(entry))


def _is_image(manifest: Manifest) -> bool:
    return manifest.config.media_type in (OCI_CONFIG, DOCKER_CONFIG)


def _platform_coverage(
    store: Source,
    entry: Descriptor,
    manifest: Manifest,
    ztocs: dict[tuple[Digest, Digest], LayerCoverage],
    pinned: bool,  # noqa: FBT001 (a private function)
) -> PlatformCoverage:
    found, seek_tables = _indexes_of(store, entry, manifest, pinned=pinned)
    usable = [(index.digest, index.soci_index) for index in found if index.soci_index is not None]
    # zTOCs are kept only if there are prefetch artifacts, which need them a second time.
    known = KnownZtocs() if any(index.prefetches for _, index in usable) else None
    layers = tuple(
        _layer_coverage(store, layer, found, ztocs, known) for layer in manifest.layers or ()
    )
    prefetches = tuple(
        prefetch
        for digest, index in usable
        for prefetch in prefetches_of(store, digest, index, known=known)
    )
    platform = entry.platform or _platform_of(store, manifest)
    return PlatformCoverage(platform, entry, found, layers, prefetches, seek_tables=seek_tables)


def _platform_of(store: Source, manifest: Manifest) -> Platform | None:
    try:
        config = ImageConfig.from_json(read_blob(store, manifest.config, max_size=MAX_CONFIG_SIZE))
    except PROBLEMS:
        return None
    return config.platform if config.platform.os else None


def _layer_coverage(
    store: Source,
    layer: Descriptor,
    found: tuple[FoundIndex, ...],
    ztocs: dict[tuple[Digest, Digest], LayerCoverage],
    known: KnownZtocs | None,
) -> LayerCoverage:
    listed = [
        (index.version, ztoc)
        for index in found
        if index.soci_index and (ztoc := index.soci_index.ztoc_of(layer.digest))
    ]
    if not listed:
        return LayerCoverage(layer)
    ztoc = listed[0][1]
    versions = tuple(dict.fromkeys(version for version, _ in listed))
    seen = ztocs.get((layer.digest, ztoc.digest))
    if seen is None:
        seen = ztocs[layer.digest, ztoc.digest] = _read_coverage(store, layer, ztoc, known)
    return replace(seen, layer=layer, ztoc=ztoc, soci_versions=versions)


def _read_coverage(
    store: Source, layer: Descriptor, descriptor: Descriptor, known: KnownZtocs | None
) -> LayerCoverage:
    try:
        ztoc = load_ztoc(store, layer, descriptor, known=known)
    except PROBLEMS as error:
        return LayerCoverage(layer, problem=error.message)
    return LayerCoverage(
        layer,
        span_size=ztoc.span_size,
        span_count=ztoc.span_count,
        entry_count=ztoc.entry_count,
        uncompressed_size=ztoc.uncompressed_archive_size,
    )
