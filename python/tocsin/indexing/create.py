"""``create``: a version 1 SOCI index for each platform of an image, found by its subject.

The image itself does not change. Source: docs/format.md#the-soci-index.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tocsin.images.copying import copy_manifest_blobs
from tocsin.images.selection import platform_images, resolve_image
from tocsin.images.soci_indexes import referring_indexes
from tocsin.images.targets import image_in_the_way, open_pair, pair_of, refuse_to_replace
from tocsin.indexing.options import IndexingOptions
from tocsin.indexing.platforms import index_platforms
from tocsin.indexing.results import CreateResult

if TYPE_CHECKING:
    from tocsin.model.events import Progress
    from tocsin.model.reference import ReferenceLike
    from tocsin.stores.registry import RegistryOptions


def create(
    source: ReferenceLike,
    destination: ReferenceLike | None = None,
    *,
    output: ReferenceLike | None = None,
    options: IndexingOptions | None = None,
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
    """
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
        for image in images:
            # A place that cannot list what refers to an image fails here, before a layer is read.
            referring_indexes(sink, image.descriptor.digest)
        indexed = index_platforms(
            read,
            sink,
            images,
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
        platforms=indexed.results,
        missing_prefetch=indexed.missing_prefetch,
        seconds=time.monotonic() - started,
        traffic=meter.traffic,
        dry_run=dry_run,
    )
