"""``convert``: adds version 2 SOCI indexes to an image.

An annotation of each manifest names its index. The result is always an image index with new digests
and a separate tag.

Source: docs/format.md#converted-images.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tocsin.errors import NotFoundError, TocsinError
from tocsin.images.copying import copy_entry, copy_manifest_blobs
from tocsin.images.seek_tables import listed_seek_tables
from tocsin.images.selection import platform_images, resolve_image
from tocsin.images.soci_indexes import listed_indexes
from tocsin.images.targets import image_in_the_way, open_pair, pair_of, refuse_to_replace
from tocsin.indexing.options import IndexingOptions
from tocsin.indexing.platforms import index_platforms
from tocsin.indexing.results import ConvertResult
from tocsin.model.descriptor import Descriptor
from tocsin.model.media_types import OCI_INDEX, OCI_MANIFEST
from tocsin.model.seek_manifest import is_seek_entry
from tocsin.model.soci_index import (
    SPAN_SIZE,
    PlatformIndex,
    SociIndex,
    convert_image,
    is_soci_entry,
    start_index,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tocsin.images.selection import PlatformImage
    from tocsin.indexing.known import KnownLayers, ZtocStore
    from tocsin.model.digest import Digest
    from tocsin.model.events import Progress
    from tocsin.model.manifest import ImageIndex
    from tocsin.model.reference import ReferenceLike
    from tocsin.stores.base import Sink, Source
    from tocsin.stores.registry import RegistryOptions


def convert(
    source: ReferenceLike,
    destination: ReferenceLike,
    *,
    options: IndexingOptions | None = None,
    force: bool = False,
    dry_run: bool = False,
    known: ZtocStore | None = None,
    registry: RegistryOptions | None = None,
    progress: Progress | None = None,
) -> ConvertResult:
    """Convert an image to one with version 2 SOCI indexes.

    Args:
        source: reference of the image, such as ``oci:some/dir:tag``.
        destination: reference of the converted image; its tag defaults to the source's, or to
            ``latest``.
        options: indexing options; ``None`` for the defaults of the reference tool.
        force: replace a different image at `destination`, including the source.
        dry_run: do everything except writing.
        known: zTOCs of layers that were indexed before, as in `create`.
        registry: options for access to registries; ``jobs`` is taken from `options`.
        progress: called with progress events; see `Progress`.

    Raises:
        NotFoundError: the image, a platform or a blob does not exist.
        UnsupportedError: no layer can be indexed, or the destination cannot be written.
        ConflictError: `destination` is an image that differs from the result.
        VerificationError: a blob does not match its descriptor; it is not stored.
        RegistryError: a registry rejected a request or could not be reached; `AuthError` if
            credentials are missing or insufficient.
        OSError: a local file cannot be read or written.
    """
    return convert_with(
        source,
        destination,
        options=options,
        force=force,
        dry_run=dry_run,
        known=known,
        registry=registry,
        progress=progress,
    )


def convert_with(
    source: ReferenceLike,
    destination: ReferenceLike,
    *,
    options: IndexingOptions | None = None,
    force: bool = False,
    dry_run: bool = False,
    known: ZtocStore | None = None,
    elsewhere: KnownLayers | None = None,
    registry: RegistryOptions | None = None,
    progress: Progress | None = None,
) -> ConvertResult:
    """Do what `convert` does, with layers that were indexed before in `elsewhere`."""
    started = time.monotonic()
    options = options or IndexingOptions()
    pair = pair_of(source, destination)
    opened = open_pair(pair, registry=registry, dry_run=dry_run, jobs=options.jobs)
    with opened as (read, sink, meter):
        existing = image_in_the_way(sink, pair, force=force)
        target = resolve_image(read, pair.source.selector)
        images = platform_images(read, target, options.platforms, nested=False, indexing=True)
        if existing is not None and not _may_be_the_result(sink, existing, images, options):
            raise refuse_to_replace(pair, existing)
        indexed = index_platforms(
            read,
            sink,
            images,
            version=2,
            tag=pair.tag,
            options=options,
            store=known,
            elsewhere=elsewhere,
            carry=pair.carries,
            progress=progress,
        )
        made = [
            PlatformIndex(
                result.platform, result.manifest.digest, result.soci_index, result.seek_table
            )
            for result in indexed.results
            if result.soci_index is not None or result.seek_table is not None
        ]
        start = start_index(read.manifest(target), target, images[0].platform)
        converted = convert_image(start, made, lambda entry: _manifest_if_exists(read, entry))
        data = converted.index.to_json()
        image = Descriptor.of(data, OCI_INDEX)
        if existing is not None and existing.digest != image.digest:
            raise refuse_to_replace(pair, existing)
        if existing is None:
            indexed.store(sink)
            if pair.carries:
                _copy_children(read, sink, start, converted.index)
            for manifest in converted.manifests:
                sink.put_manifest(manifest, OCI_MANIFEST)
            sink.put_manifest(data, OCI_INDEX, tag=pair.tag)
    return ConvertResult(
        source=str(pair.source),
        destination=str(pair.named_sink),
        platforms=indexed.results,
        missing_prefetch=indexed.missing_prefetch,
        seconds=time.monotonic() - started,
        traffic=meter.traffic,
        dry_run=dry_run,
        image=image,
        unchanged=existing is not None,
    )


def _may_be_the_result(
    sink: Source, existing: Descriptor, images: Sequence[PlatformImage], options: IndexingOptions
) -> bool:
    """Return whether an existing image may be the result of converting `images`.

    In that case the conversion is cheap: the zTOCs already exist, so no layer is read. For a seek
    table, layers without a zTOC are read in any case.
    """
    try:
        indexes = listed_indexes(sink, existing)
        tables = listed_seek_tables(sink, existing) if options.seek else iter(())
        has_indexes = bool(indexes) or next(tables, None) is not None
        converted = platform_images(sink, existing, options.platforms) if has_indexes else []
        span_sizes = {
            entry.annotations.get(SPAN_SIZE)
            for index in indexes
            for entry in SociIndex.from_json(sink.manifest(index)).ztocs
        }
    except TocsinError:
        return False
    contents = {_content(image) for image in images}
    same_contents = contents <= {_content(image) for image in converted}
    return same_contents and (options.seek_only or span_sizes <= {str(options.span_size)})


def _content(image: PlatformImage) -> tuple[Digest, ...]:
    return image.manifest.config.digest, *(layer.digest for layer in image.manifest.layers or ())


def _manifest_if_exists(store: Source, entry: Descriptor) -> bytes | None:
    try:
        return store.manifest(entry)
    except NotFoundError:
        return None


def _copy_children(source: Source, sink: Sink, before: ImageIndex, after: ImageIndex) -> None:
    """Copy what the converted manifests list, and the entries that do not change."""
    kept = {entry.digest for entry in after.manifests or ()}
    for entry in before.manifests or ():
        if entry.digest in kept:
            copy_entry(source, sink, entry)
        elif not is_soci_entry(entry) and not is_seek_entry(entry):
            # Converted here. SOCI indexes and seek tables that are not kept were replaced.
            copy_manifest_blobs(source, sink, source.manifest(entry), entry.media_type)
