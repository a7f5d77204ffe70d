"""Which images a reference means: one for each platform that is to be indexed.

Source: docs/format.md#which-platforms; containerd/platforms, platforms.go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.errors import FormatError, NotFoundError
from tocsin.images.walk import MAX_DEPTH, walk_manifests
from tocsin.model.image_config import MAX_CONFIG_SIZE, ImageConfig
from tocsin.model.manifest import ImageIndex, Manifest, parse_manifest
from tocsin.model.media_types import DOCKER_CONFIG, OCI_CONFIG, is_index, is_manifest
from tocsin.model.soci_index import is_soci_entry
from tocsin.quoting import shown
from tocsin.stores.base import read_blob

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
    """One platform's image.

    Attributes:
        platform: as it was asked for, else as the image says; ``None`` when it says none.
        descriptor: of the manifest, as the image index (or the store) lists it.
        manifest: what it says.
    """

    platform: Platform | None
    descriptor: Descriptor
    manifest: Manifest


def resolve_image(store: Source, selector: str | Digest | None) -> Descriptor:
    """Return what `selector` names, without image indexes around a single image index.

    nerdctl and ``docker save`` wrap images so.
    """
    target = store.resolve(selector)
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
) -> list[PlatformImage]:
    """Return the images to be indexed: in the order asked, or in that of the image index.

    Attestations, SOCI indexes and other artifacts are no images, nor are entries whose manifest is
    not here: ``docker save`` and partial pulls leave such. Of several images for one platform the
    first counts.

    Args:
        store: where the image is.
        target: its manifest or image index.
        platforms: ``None`` for all there are.
        nested: whether images count that only an image index inside `target` lists.

    Raises:
        NotFoundError: there is no image for a platform asked for, or none at all.
        FormatError: a manifest is not one.
    """
    images = list(_all_images(store, target, nested=nested))
    if platforms is None:
        chosen = _first_of_each_platform(images)
        if not chosen:
            raise NotFoundError(f"{store.name}: {target.digest} lists no image")
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
            there = platforms_shown([image.platform for image in images])
            raise NotFoundError(
                f"{store.name}: image manifest for {asked}: not found, there are: {there}"
            )
    return chosen


def platforms_shown(platforms: Sequence[Platform | None]) -> str:
    """Return what an image has, for a message."""
    names = [shown(str(one), limit=_MAX_PLATFORM_LEN) for one in platforms[:_MAX_PLATFORMS_SHOWN]]
    more = len(platforms) - len(names)
    return (", ".join(names) or "none") + (f" and {more} more" if more else "")


def _all_images(store: Source, target: Descriptor, *, nested: bool) -> Iterator[PlatformImage]:
    entries: Iterable[Descriptor] = walk_manifests(store, target)
    if not nested and is_index(target.media_type):
        entries = ImageIndex.from_json(store.manifest(target)).manifests or ()
    for entry in entries:
        marked = entry.platform is not None and entry.platform.unknown
        if is_soci_entry(entry) or marked:
            continue
        if not is_manifest(entry.media_type) and entry.digest != target.digest:
            continue
        try:
            data = store.manifest(entry)
        except NotFoundError:
            if entry.digest == target.digest:
                raise
            continue
        document = parse_manifest(data, entry.media_type)
        if isinstance(document, Manifest) and document.config.media_type in _IMAGE_CONFIGS:
            platform = entry.platform or _platform_in_config(store, document)
            yield PlatformImage(platform, entry, document)


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
