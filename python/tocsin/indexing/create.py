"""``create``: a version 1 SOCI index for each platform of an image, found by its subject.

The image itself does not change. Source: docs/format.md#the-soci-index.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from tocsin.images.copying import copy_manifest_blobs
from tocsin.images.selection import platform_images, resolve_image
from tocsin.images.soci_indexes import referring_indexes
from tocsin.images.targets import image_in_the_way, open_pair, pair_of, refuse_to_replace
from tocsin.indexing.options import IndexingOptions
from tocsin.indexing.platforms import index_platforms
from tocsin.indexing.results import CreateResult, PlatformResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.images.selection import PlatformImage
    from tocsin.indexing.platforms import IndexedPlatforms
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.events import Progress
    from tocsin.model.reference import ReferenceLike
    from tocsin.stores.base import Source
    from tocsin.stores.registry import RegistryOptions

EXISTING_INDEX = ("warn", "skip", "allow")
"""What may be done about version 1 indexes that are there, as ``soci push --existing-index``."""


def create(
    source: ReferenceLike,
    destination: ReferenceLike | None = None,
    *,
    output: ReferenceLike | None = None,
    options: IndexingOptions | None = None,
    existing_index: str = "warn",
    force: bool = False,
    dry_run: bool = False,
    registry: RegistryOptions | None = None,
    progress: Progress | None = None,
) -> CreateResult:
    """Make a version 1 SOCI index for each platform of an image.

    Args:
        source: the image, such as ``oci:some/dir:tag``.
        destination: where the image is copied with its indexes, or another tag for it in the same
            place; ``None`` puts the indexes beside the source image.
        output: where only the indexes and zTOCs go, without the image.
        options: how; the reference's defaults if ``None``.
        existing_index: what to do if other version 1 indexes refer to an image at the destination,
            so that readers have a choice: ``warn`` lists them in the result, ``skip`` leaves that
            platform as it is and does not read its layers, ``allow`` does not look.
        force: replace an image that `destination` names.
        dry_run: do everything but write.
        registry: how to reach registries; ``jobs`` is that of `options`.
        progress: told what happens, see `Progress`.

    Raises:
        NotFoundError: no such image, platform or blob.
        UnsupportedError: no layer can be indexed, or the place cannot be written.
        ConflictError: `destination` names another image.
        VerificationError: a blob is not what its descriptor says; nothing of it is kept.
        RegistryError: a registry refused or could not be reached; `AuthError` if for want of a
            credential.
        OSError: a place cannot be read or written.
        ValueError: `existing_index` is none of the three.
    """
    if existing_index not in EXISTING_INDEX:
        raise ValueError(
            f"existing_index: unknown value (found {existing_index!r}, expected one of: "
            f"{', '.join(EXISTING_INDEX)})"
        )
    started = time.monotonic()
    options = options or IndexingOptions()
    pair = pair_of(source, destination, output=output)
    # Another name for the image, here or elsewhere; its own name can stay, it does not change.
    named = pair.tag is not None and not pair.overwrites_source
    opened = open_pair(pair, registry=registry, dry_run=dry_run, jobs=options.jobs)
    with opened as (read, sink, meter):
        existing = image_in_the_way(sink, pair, force=force) if named else None
        target = resolve_image(read, pair.source.selector)
        if existing is not None and existing.digest != target.digest:
            raise refuse_to_replace(pair, existing)
        images = platform_images(read, target, options.platforms)
        others = _existing(sink, images, existing_index)
        wanted = [
            image
            for image, there in zip(images, others, strict=True)
            if not _skips(there, existing_index)
        ]
        indexed = index_platforms(
            read,
            sink,
            wanted,
            version=1,
            tag=pair.tag,
            options=options,
            carry=pair.carries,
            progress=progress,
        )
        if named:
            data = read.manifest(target)
            if pair.carries:
                copy_manifest_blobs(read, sink, data, target.media_type)
            sink.put_manifest(data, target.media_type, tag=pair.tag)
        # Last, so that an index is never there before the image it refers to.
        indexed.store(sink)
    return CreateResult(
        source=str(pair.source),
        destination=str(pair.named_sink),
        platforms=tuple(_results(images, others, indexed, existing_index)),
        missing_prefetch=indexed.missing_prefetch,
        seconds=time.monotonic() - started,
        traffic=meter.traffic,
        dry_run=dry_run,
    )


def _existing(
    sink: Source, images: list[PlatformImage], existing_index: str
) -> list[tuple[Descriptor, ...]]:
    """Return the version 1 indexes that refer to each image already, if anyone wants to know.

    They are always asked for: where nobody can list what refers to an image, nobody would find what
    is made, so that fails here, before a layer is read.

    Raises:
        RegistryError: the registry refuses.
    """
    found = [tuple(referring_indexes(sink, image.descriptor.digest)) for image in images]
    return [()] * len(images) if existing_index == "allow" else found


def _skips(existing: tuple[Descriptor, ...], existing_index: str) -> bool:
    return existing_index == "skip" and bool(existing)


def _results(
    images: list[PlatformImage],
    existing: list[tuple[Descriptor, ...]],
    indexed: IndexedPlatforms,
    existing_index: str,
) -> Iterator[PlatformResult]:
    """Yield a result for each image, also for those that were skipped."""
    made = iter(indexed.results)
    for image, there in zip(images, existing, strict=True):
        if _skips(there, existing_index):
            yield PlatformResult(
                image.platform, image.descriptor, (), None, existing_indexes=there, skipped=True
            )
            continue
        result = next(made)
        own = None if result.soci_index is None else result.soci_index.digest
        others = tuple(index for index in there if index.digest != own)
        yield replace(result, existing_indexes=others)
