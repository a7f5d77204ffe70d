"""``create``: creates version 1 SOCI indexes, which refer to an image by their subject.

There is one for each platform. The image does not change. Source: docs/format.md#the-soci-index.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tocsin.images.copying import copy_manifest_blobs
from tocsin.images.seek_tables import referrers_with_seek_tables
from tocsin.images.selection import platform_images, resolve_image
from tocsin.images.soci_indexes import referring_indexes
from tocsin.images.targets import image_in_the_way, open_pair, pair_of, refuse_to_replace
from tocsin.indexing.options import IndexingOptions
from tocsin.indexing.platforms import index_platforms
from tocsin.indexing.results import CreateResult, PlatformResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.images.selection import PlatformImage
    from tocsin.indexing.known import KnownLayers, ZtocStore
    from tocsin.indexing.platforms import IndexedPlatforms
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.digest import Digest
    from tocsin.model.events import Progress
    from tocsin.model.reference import ReferenceLike
    from tocsin.stores.base import Source
    from tocsin.stores.registry import RegistryOptions

EXISTING_INDEX = ("warn", "skip", "allow")
"""Ways to handle existing version 1 indexes, as in ``soci push --existing-index``."""


def create(
    source: ReferenceLike,
    destination: ReferenceLike | None = None,
    *,
    output: ReferenceLike | None = None,
    options: IndexingOptions | None = None,
    existing_index: str = "warn",
    force: bool = False,
    dry_run: bool = False,
    known: ZtocStore | None = None,
    registry: RegistryOptions | None = None,
    progress: Progress | None = None,
) -> CreateResult:
    """Create a version 1 SOCI index for each platform of an image.

    Args:
        source: reference of the image, such as ``oci:some/dir:tag``.
        destination: reference of a copy of the image with its indexes, or another tag in the same
            store; ``None`` stores the indexes next to the source image.
        output: destination of the indexes and zTOCs without the image.
        options: indexing options; ``None`` for the defaults of the reference tool.
        existing_index: what to do if other version 1 indexes refer to the image at the destination:
            ``warn`` lists them in the result, ``skip`` skips the platform without reading its
            layers, ``allow`` does not check.
        force: replace a different image at `destination`.
        dry_run: do everything except writing.
        known: zTOCs of layers that were indexed before, such as a `ZtocDirectory`. Their layers are
            not read, and zTOCs that are built are added.
        registry: options for access to registries; ``jobs`` is taken from `options`.
        progress: called with progress events; see `Progress`.

    Raises:
        NotFoundError: the image, a platform or a blob does not exist.
        UnsupportedError: no layer can be indexed, or the destination cannot be written.
        ConflictError: `destination` is a different image.
        VerificationError: a blob does not match its descriptor; it is not stored.
        RegistryError: a registry rejected a request or could not be reached; `AuthError` if
            credentials are missing or insufficient.
        OSError: a local file cannot be read or written.
        ValueError: `existing_index` is not one of the three values.
    """
    return create_with(
        source,
        destination,
        output=output,
        options=options,
        existing_index=existing_index,
        force=force,
        dry_run=dry_run,
        known=known,
        registry=registry,
        progress=progress,
    )


def create_with(
    source: ReferenceLike,
    destination: ReferenceLike | None = None,
    *,
    output: ReferenceLike | None = None,
    options: IndexingOptions | None = None,
    existing_index: str = "warn",
    force: bool = False,
    dry_run: bool = False,
    known: ZtocStore | None = None,
    elsewhere: KnownLayers | None = None,
    is_repeated: bool = False,
    registry: RegistryOptions | None = None,
    progress: Progress | None = None,
) -> CreateResult:
    """Do what `create` does, with layers that were indexed before in `elsewhere`.

    With `elsewhere` and ``existing_index="allow"``, referrers are not listed at the start: few
    layers are read, so little is lost if the registry refuses that later. `is_repeated` says that
    another attempt may have stored the same indexes; those that are listed as referrers are not
    stored again.
    """
    if existing_index not in EXISTING_INDEX:
        raise ValueError(
            f"existing_index: unknown value (found {existing_index!r}, expected one of: "
            f"{', '.join(EXISTING_INDEX)})"
        )
    started = time.monotonic()
    options = options or IndexingOptions()
    pair = pair_of(source, destination, output=output)
    # The image does not change, so it is tagged only if the destination is not the source.
    named = pair.tag is not None and not pair.overwrites_source
    opened = open_pair(pair, registry=registry, dry_run=dry_run, jobs=options.jobs)
    with opened as (read, sink, meter):
        existing = image_in_the_way(sink, pair, force=force) if named else None
        target = resolve_image(read, pair.source.selector)
        if existing is not None and existing.digest != target.digest:
            raise refuse_to_replace(pair, existing)
        images = platform_images(read, target, options.platforms, indexing=True)
        if existing_index == "allow" and elsewhere is not None:
            others = [_Existing()] * len(images)
        else:
            others = _existing(sink, images, existing_index, options)
        wanted = [
            image for image, found in zip(images, others, strict=True) if not found.is_skipped
        ]
        indexed = index_platforms(
            read,
            sink,
            wanted,
            version=1,
            tag=pair.tag,
            options=options,
            store=known,
            elsewhere=elsewhere,
            carry=pair.carries,
            progress=progress,
        )
        if named:
            data = read.manifest(target)
            if pair.carries:
                copy_manifest_blobs(read, sink, data, target.media_type)
            sink.put_manifest(data, target.media_type, tag=pair.tag)
        # Last, so that an index never exists before the image to which it refers.
        stored = _listed(sink, wanted) if is_repeated else frozenset()
        indexed.store(sink, stored)
    return CreateResult(
        source=str(pair.source),
        destination=str(pair.named_sink),
        platforms=tuple(_results(images, others, indexed)),
        missing_prefetch=indexed.missing_prefetch,
        seconds=time.monotonic() - started,
        traffic=meter.traffic,
        dry_run=dry_run,
    )


@dataclass(frozen=True, slots=True)
class _Existing:
    """The indexes of the requested kinds that already refer to an image.

    Attributes:
        indexes: version 1 SOCI indexes, then seek tables.
        is_skipped: whether nothing is made for the image.
    """

    indexes: tuple[Descriptor, ...] = ()
    is_skipped: bool = False


def _existing(
    sink: Source, images: list[PlatformImage], existing_index: str, options: IndexingOptions
) -> list[_Existing]:
    """Return the indexes that already refer to each image; none for ``allow``.

    The referrers are listed in any case: if that fails, readers could not find the new index, so
    the command must fail before it reads a layer.

    Raises:
        RegistryError: the registry rejected the request.
    """
    found = []
    for image in images:
        digest = image.descriptor.digest
        soci = [] if options.seek_only else referring_indexes(sink, digest)
        seek = referrers_with_seek_tables(sink, digest) if options.seek else []
        # Skipped only if an index of each requested kind exists.
        has_all = bool(soci or options.seek_only) and bool(seek or not options.seek)
        found.append(_Existing((*soci, *seek), existing_index == "skip" and has_all))
    return [_Existing()] * len(images) if existing_index == "allow" else found


def _listed(sink: Source, images: list[PlatformImage]) -> frozenset[Digest]:
    """Return the digests of the SOCI indexes that refer to the images."""
    found = (referring_indexes(sink, image.descriptor.digest) for image in images)
    return frozenset(each.digest for indexes in found for each in indexes)


def _results(
    images: list[PlatformImage], existing: list[_Existing], indexed: IndexedPlatforms
) -> Iterator[PlatformResult]:
    """Yield a result for each image, including skipped ones."""
    made = iter(indexed.results)
    for image, found in zip(images, existing, strict=True):
        if found.is_skipped:
            yield PlatformResult(
                image.platform,
                image.descriptor,
                (),
                None,
                existing_indexes=found.indexes,
                skipped=True,
            )
            continue
        result = next(made)
        own = {index.digest for index in (result.soci_index, result.seek_table) if index}
        others = tuple(index for index in found.indexes if index.digest not in own)
        yield replace(result, existing_indexes=others)
