"""Selects the images of a reference: one for each platform to index.

Source: docs/format.md#which-platforms; containerd/platforms, platforms.go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.errors import FormatError, NotFoundError
from tocsin.images.walk import MAX_DEPTH, walk_manifests
from tocsin.log import LOG
from tocsin.model.image_config import MAX_CONFIG_SIZE, ImageConfig
from tocsin.model.manifest import ImageIndex, Manifest, parse_manifest
from tocsin.model.media_types import DOCKER_CONFIG, OCI_CONFIG, is_index, is_manifest, layer_type
from tocsin.model.seek_manifest import is_seek_entry
from tocsin.model.soci_index import is_soci_entry
from tocsin.quoting import shown
from tocsin.stores.base import read_blob
from tocsin.stores.origins import ContainerdOrigin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tocsin.model.descriptor import Descriptor
    from tocsin.model.digest import Digest
    from tocsin.model.platform import Platform
    from tocsin.stores.base import Source

_MAX_PLATFORMS_SHOWN = 20
_MAX_PLATFORM_LEN = 60


@dataclass(frozen=True, slots=True)
class PlatformImage:
    """The image for one platform.

    Attributes:
        platform: requested platform, or else that of the image; ``None`` if unknown.
        descriptor: descriptor of the manifest in the image index or the store.
        manifest: manifest of the image.
    """

    platform: Platform | None
    descriptor: Descriptor
    manifest: Manifest


def resolve_image(store: Source, selector: str | Digest | None) -> Descriptor:
    """Resolve `selector`, and unwrap image indexes that list only another image index.

    nerdctl and ``docker save`` write such wrappers.
    """
    target = store.resolve(selector, will_read=True)
    for _ in range(MAX_DEPTH):
        if not is_index(target.media_type):
            break
        entries = ImageIndex.from_json(store.manifest(target)).manifests or ()
        if len(entries) != 1 or not is_index(entries[0].media_type):
            break
        target = entries[0]
    return target


def platform_images(
    store: Source,
    target: Descriptor,
    platforms: Iterable[Platform] | None,
    *,
    nested: bool = True,
    indexing: bool = False,
) -> list[PlatformImage]:
    """Return the images to index, in the order of `platforms` or else of the image index.

    Attestations, SOCI indexes and other artifacts are skipped. Entries with a missing manifest are
    skipped too, since ``docker save`` and partial pulls leave such entries. If there are several
    images for a platform, the first one is used.

    Args:
        store: store with the image.
        target: manifest or image index.
        platforms: requested platforms; ``None`` for all.
        nested: whether to include images of image indexes inside `target`.
        indexing: whether the images will be indexed: if `platforms` is ``None``, those whose layers
            are known to be missing are skipped too, and the missing platforms are logged.

    Raises:
        NotFoundError: there is no image, or none for a requested platform.
        FormatError: a manifest is invalid.
    """
    missing: list[Platform] = []
    images = list(_all_images(store, target, missing, nested=nested))
    if platforms is None:
        if indexing:
            images = _with_layers(store, images, missing)
        chosen = _first_of_each_platform(images)
        if indexing and missing:
            LOG.warning(
                "%s: not indexed, since they are missing from the store: %s",
                store.name,
                platforms_shown(missing),
            )
        if not chosen:
            raise NotFoundError(f"{store.name}: {target.digest} does not list any image")
        return chosen
    chosen = []
    for asked in platforms:
        if any(seen.platform is not None and asked.matches(seen.platform) for seen in chosen):
            continue
        for image in images:
            if image.platform is not None and asked.matches(image.platform):
                chosen.append(PlatformImage(asked, image.descriptor, image.manifest))
                break
        else:
            available = platforms_shown([image.platform for image in images])
            raise NotFoundError(f"{store.name}: no image for {asked} (available: {available})")
    return chosen


def platforms_shown(platforms: Sequence[Platform | None]) -> str:
    """Return a list of platforms for a message."""
    names = [
        shown(str(platform or "unknown"), limit=_MAX_PLATFORM_LEN)
        for platform in platforms[:_MAX_PLATFORMS_SHOWN]
    ]
    more = len(platforms) - len(names)
    return (", ".join(names) or "none") + (f" and {more} more" if more else "")


def _all_images(
    store: Source, target: Descriptor, missing: list[Platform], *, nested: bool
) -> Iterator[PlatformImage]:
    """Yield the images, and add the platforms of missing manifests to `missing`."""
    entries: Iterable[Descriptor] = walk_manifests(store, target)
    if not nested and is_index(target.media_type):
        entries = ImageIndex.from_json(store.manifest(target)).manifests or ()
    for entry in entries:
        is_artifact = entry.platform is not None and entry.platform.unknown
        if is_soci_entry(entry) or is_seek_entry(entry) or is_artifact:
            continue
        if not is_manifest(entry.media_type) and entry.digest != target.digest:
            continue
        try:
            data = store.manifest(entry)
        except NotFoundError:
            if entry.digest == target.digest:
                raise
            if entry.platform is not None:
                missing.append(entry.platform)
            continue
        document = parse_manifest(data, entry.media_type)
        if isinstance(document, Manifest) and document.config.media_type in _IMAGE_CONFIGS:
            platform = entry.platform or _platform_in_config(store, document)
            yield PlatformImage(platform, entry, document)


def _with_layers(
    store: Source, images: list[PlatformImage], missing: list[Platform]
) -> list[PlatformImage]:
    """Return the images of which containerd has the layers, and add the others to `missing`.

    containerd pulls the manifests of all platforms, but the layers of one. Other stores have all
    layers, or are damaged. If no image has its layers, all are returned, and reading them fails.
    """
    if not isinstance(store.origin, ContainerdOrigin):
        return images
    found = [image for image in images if _has_layers(store, image.manifest)]
    if not found:
        return images
    missing += [
        image.platform for image in images if image not in found and image.platform is not None
    ]
    return found


def _has_layers(store: Source, manifest: Manifest) -> bool:
    for layer in manifest.layers or ():
        kind = layer_type(layer.media_type)
        if not (kind is not None and kind.foreign) and not store.has_blob(layer):
            return False
    return True


_IMAGE_CONFIGS = (OCI_CONFIG, DOCKER_CONFIG)


def _platform_in_config(store: Source, manifest: Manifest) -> Platform | None:
    config = read_blob(store, manifest.config, max_size=MAX_CONFIG_SIZE)
    try:
        platform = ImageConfig.from_json(config).platform.normalized()
    except FormatError:
        return None
    return platform if platform.os and platform.architecture else None


def _first_of_each_platform(images: Iterable[PlatformImage]) -> list[PlatformImage]:
    chosen: list[PlatformImage] = []
    for image in images:
        asked = image.platform
        repeated = asked is not None and any(
            seen.platform is not None and asked.matches(seen.platform) for seen in chosen
        )
        if not repeated:
            chosen.append(image)
    return chosen
