"""How much of an image can be loaded lazily: which of its layers have a zTOC that can be read.

Looks where a reader looks: at the SOCI index that the image's manifest names (version 2), then at
those that refer to the manifest (version 1). Every zTOC is read, verified and held against its
layer. Nothing is judged beyond that. Source: docs/format.md#how-an-index-is-found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tocsin.errors import UnsupportedError
from tocsin.images.prefetches import prefetches_of
from tocsin.images.soci_indexes import PROBLEMS, FoundIndex, soci_indexes_of, with_choice
from tocsin.images.walk import walk_manifests
from tocsin.images.ztocs import load_ztoc
from tocsin.layers.known_ztocs import KnownZtocs
from tocsin.model.document import document_of, text_of
from tocsin.model.image_config import MAX_CONFIG_SIZE, ImageConfig
from tocsin.model.manifest import Manifest
from tocsin.model.media_types import DOCKER_CONFIG, OCI_CONFIG, is_manifest
from tocsin.model.soci_index import is_soci_entry
from tocsin.quoting import shown
from tocsin.stores.base import read_blob

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.images.prefetches import PrefetchInfo
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.digest import Digest
    from tocsin.model.document import Document
    from tocsin.model.platform import Platform
    from tocsin.stores.base import Source


@dataclass(frozen=True, slots=True)
class LayerCoverage:
    """What one layer has.

    Attributes:
        layer: as in the image's manifest.
        ztoc: as the SOCI index lists it; from the version 2 index where both list one.
        soci_versions: of the SOCI indexes that list a zTOC for it.
        span_size: uncompressed bytes between checkpoints.
        span_count: spans.
        entry_count: entries of the layer's tar.
        uncompressed_size: bytes of the layer's tar.
        problem: why its zTOC cannot be used.
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
        """Return what ``--json`` prints of a layer."""
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
        """Whether it has a zTOC that can be used."""
        return self.ztoc is not None and self.problem is None

    @property
    def ztoc_size(self) -> int:
        """Bytes of its zTOC; 0 without one."""
        return 0 if self.ztoc is None else self.ztoc.size


@dataclass(frozen=True, slots=True)
class PlatformCoverage:
    """What one platform's image has.

    Attributes:
        platform: as the image index says, else the config; ``None`` when neither does.
        manifest: of the image.
        soci_indexes: those that belong to it, in the order a reader tries them.
        layers: from the lowest up.
        prefetches: the prefetch artifacts that these indexes list, in their order.
        problem: why nothing is known of it, for example that its manifest is not there.
    """

    platform: Platform | None
    manifest: Descriptor
    soci_indexes: tuple[FoundIndex, ...] = ()
    layers: tuple[LayerCoverage, ...] = ()
    prefetches: tuple[PrefetchInfo, ...] = ()
    problem: str | None = None

    def to_dict(self) -> Document:
        """Return what ``--json`` prints of a platform."""
        return {
            "platform": text_of(self.platform),
            "manifest": self.manifest.to_dict(),
            "problem": self.problem,
            "soci_indexes": [found.to_dict() for found in self.soci_indexes],
            "layer_size": self.layer_size,
            "covered_size": self.covered_size,
            "ztoc_size": self.ztoc_size,
            "layers": [layer.to_dict() for layer in self.layers],
            "prefetches": [prefetch.to_dict() for prefetch in self.prefetches],
        }

    @property
    def layer_size(self) -> int:
        """Compressed bytes of all layers."""
        return sum(layer.layer.size for layer in self.layers)

    @property
    def covered_size(self) -> int:
        """Compressed bytes of the layers with a zTOC."""
        return sum(layer.layer.size for layer in self.layers if layer.covered)

    @property
    def ztoc_size(self) -> int:
        """Bytes of all zTOCs."""
        return sum(layer.ztoc_size for layer in self.layers)


@dataclass(frozen=True, slots=True)
class ImageCoverage:
    """What an image has.

    Attributes:
        image: as a reference.
        manifest: the image's manifest or image index.
        platforms: one for each image in it; attestations and SOCI indexes are none.
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
        """Compressed bytes of all layers of all platforms."""
        return sum(platform.layer_size for platform in self.platforms)

    @property
    def covered_size(self) -> int:
        """Compressed bytes of the layers with a zTOC."""
        return sum(platform.covered_size for platform in self.platforms)

    @property
    def ztoc_size(self) -> int:
        """Bytes of all zTOCs."""
        return sum(platform.ztoc_size for platform in self.platforms)


@dataclass(frozen=True, slots=True)
class PlatformIndexes:
    """The SOCI indexes of one platform's image.

    Attributes:
        platform: as in `PlatformCoverage`.
        manifest: of the image.
        layer_count: layers it has.
        soci_indexes: in the order a reader tries them.
        problem: why nothing is known of it.
    """

    platform: Platform | None
    manifest: Descriptor
    layer_count: int = 0
    soci_indexes: tuple[FoundIndex, ...] = ()
    problem: str | None = None

    def to_dict(self) -> Document:
        """Return what ``--json`` prints of a platform."""
        return {
            "platform": text_of(self.platform),
            "manifest": self.manifest.to_dict(),
            "layer_count": self.layer_count,
            "problem": self.problem,
            "soci_indexes": [found.to_dict() for found in self.soci_indexes],
        }


@dataclass(frozen=True, slots=True)
class ImageIndexes:
    """The SOCI indexes of an image.

    Attributes:
        image: as a reference.
        manifest: the image's manifest or image index.
        platforms: one for each image in it.
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
    """Return the SOCI indexes of an image; zTOCs are not read. As `image_coverage` otherwise."""
    platforms = []
    for entry, manifest in _images(store, image):
        if isinstance(manifest, str):
            platforms.append(PlatformIndexes(entry.platform, entry, problem=manifest))
            continue
        platforms.append(
            PlatformIndexes(
                entry.platform or _platform_of(store, manifest),
                entry,
                len(manifest.layers or ()),
                with_choice(soci_indexes_of(store, entry, manifest, every=True), pinned=pinned),
            )
        )
    return ImageIndexes(_name(store, image), image, tuple(platforms))


def image_coverage(store: Source, image: Descriptor, *, pinned: bool = False) -> ImageCoverage:
    """Return which layers of an image have a zTOC.

    A SOCI index or zTOC that is missing or broken is a `problem` in the answer, not an error.

    Args:
        store: that holds the image and its indexes.
        image: its manifest or image index, as `Source.resolve` gives it.
        pinned: whether it was asked for by digest.

    Raises:
        NotFoundError: the image itself is not there.
        FormatError: it is no image.
        VerificationError: its bytes are not what its digest says.
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
    """Yield each platform's entry with its manifest, or with why that cannot be read."""
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
                f"{store.name}: {entry.digest} is no image but {shown(manifest.kind or 'artifact')}"
            )


def _may_be_image(entry: Descriptor) -> bool:
    attestation = entry.platform is not None and entry.platform.unknown
    known = not entry.media_type or is_manifest(entry.media_type)
    return known and not attestation and not is_soci_entry(entry)


def _is_image(manifest: Manifest) -> bool:
    return manifest.config.media_type in (OCI_CONFIG, DOCKER_CONFIG)


def _platform_coverage(
    store: Source,
    entry: Descriptor,
    manifest: Manifest,
    ztocs: dict[tuple[Digest, Digest], LayerCoverage],
    pinned: bool,  # noqa: FBT001 (of this module)
) -> PlatformCoverage:
    found = with_choice(soci_indexes_of(store, entry, manifest), pinned=pinned)
    usable = [(index.digest, index.soci_index) for index in found if index.soci_index is not None]
    # Kept only where they are looked at twice.
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
    return PlatformCoverage(platform, entry, found, layers, prefetches)


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
        seen = ztocs[layer.digest, ztoc.digest] = _look_into(store, layer, ztoc, known)
    return replace(seen, layer=layer, ztoc=ztoc, soci_versions=versions)


def _look_into(
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
