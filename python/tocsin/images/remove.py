"""``index rm``: removes the SOCI indexes, seek tables and access logs that refer to an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.errors import NotFoundError, UnsupportedError
from tocsin.images.access_logs import referring_access_logs
from tocsin.images.seek_tables import referrers_with_seek_tables
from tocsin.images.selection import platform_images
from tocsin.images.soci_indexes import load_soci_index, referring_indexes
from tocsin.images.walk import walk_manifests
from tocsin.model.access_log_manifest import ACCESS_LOG
from tocsin.model.digest import Digest, digest_of
from tocsin.model.manifest import Manifest, parse_manifest
from tocsin.model.media_types import is_manifest
from tocsin.model.platform import platforms_of
from tocsin.model.seek_manifest import SEEK_ROOT
from tocsin.stores.opening import open_sink, open_source
from tocsin.stores.places import reference_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tocsin.model.descriptor import Descriptor
    from tocsin.model.platform import Platform
    from tocsin.model.reference import Reference, ReferenceLike
    from tocsin.stores.base import Source
    from tocsin.stores.registry import RegistryOptions


def remove_indexes(
    image: ReferenceLike,
    *,
    indexes: str | Digest | Iterable[str | Digest] | None = None,
    platforms: str | Platform | Iterable[str | Platform] | None = None,
    dry_run: bool = False,
    registry: RegistryOptions | None = None,
) -> tuple[Descriptor, ...]:
    """Remove the version 1 SOCI indexes, seek tables and access logs that refer to an image.

    Their blobs remain until the registry collects unreferenced blobs. Version 2 indexes, and seek
    tables that the image names, are part of a converted image: to remove them, delete its tag.

    Args:
        image: reference of the image, or of an index or access log by its digest.
        indexes: digests of the indexes and access logs to remove; ``None`` for all.
        platforms: one or several platforms for which they are removed; ``None`` for all.
        dry_run: return what would be removed, without removing it.
        registry: options for access to a registry.

    Returns:
        The manifests that were removed.

    Raises:
        NotFoundError: the image, platform or index does not exist.
        UnsupportedError: `image` is a version 2 index, or a seek table that an image names.
        RegistryError: the registry does not support deleting manifests.
    """
    reference = reference_of(image)
    only = None if indexes is None else _digests(indexes)
    wanted = None if platforms is None else platforms_of(platforms)
    if dry_run:
        with open_source(reference, registry=registry) as source:
            return _find(source, reference, only, wanted)
    with open_sink(reference, registry=registry) as sink:
        found = _find(sink, reference, only, wanted)
        for index in found:
            sink.delete(index)
    return found


def _digests(given: str | Digest | Iterable[str | Digest]) -> tuple[Digest, ...]:
    return tuple(map(digest_of, (given,) if isinstance(given, str | Digest) else given))


def _find(
    source: Source,
    reference: Reference,
    only: tuple[Digest, ...] | None,
    platforms: tuple[Platform, ...] | None,
) -> tuple[Descriptor, ...]:
    target = source.resolve(reference.selector)
    if isinstance(reference.selector, Digest) and _is_index(source, reference, target):
        return (target,)
    if platforms is None:
        subjects = {target.digest, *(entry.digest for entry in walk_manifests(source, target))}
    else:
        images = platform_images(source, target, platforms)
        subjects = {image.descriptor.digest for image in images}
    found = {
        index.digest: index
        for digest in subjects
        for index in (
            *referring_indexes(source, digest),
            *referrers_with_seek_tables(source, digest),
            *referring_access_logs(source, digest),
        )
    }
    if not found:
        suffix = "" if platforms is None else f" for {' or '.join(map(str, platforms))}"
        raise NotFoundError(
            f"{reference}: no index refers to it{suffix}",
            hint="To remove indexes that an image names, delete the tag of the converted image.",
        )
    for digest in only or ():
        if digest not in found:
            raise NotFoundError(
                f"{reference}: index {digest} does not refer to it",
                hint="List the digests with tocsin index ls --quiet IMAGE.",
            )
    return tuple(found[digest] for digest in dict.fromkeys(found if only is None else only))


def _is_index(source: Source, reference: Reference, target: Descriptor) -> bool:
    """Return whether `target` is a version 1 index, seek table or access log of an image.

    Raises:
        UnsupportedError: it is an index that is part of an image.
    """
    if not is_manifest(target.media_type):
        return False
    manifest = parse_manifest(source.manifest(target), target.media_type)
    if isinstance(manifest, Manifest) and manifest.config.media_type == SEEK_ROOT:
        if manifest.subject is None:
            raise UnsupportedError(
                f"{reference}: a seek table that an image names cannot be removed from it",
                hint="Delete the tag of the converted image instead.",
            )
        return True
    if isinstance(manifest, Manifest) and manifest.kind == ACCESS_LOG:
        return True
    index = load_soci_index(source, 0, target.digest, target).soci_index
    if index is not None and index.version != 1:
        raise UnsupportedError(
            f"{reference}: a version 2 SOCI index cannot be removed from its image",
            hint="Delete the tag of the converted image instead.",
        )
    return index is not None
