"""``index rm``: take version 1 SOCI indexes off an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.errors import NotFoundError, UnsupportedError
from tocsin.images.selection import platform_images
from tocsin.images.soci_indexes import load_soci_index, referring_indexes
from tocsin.images.walk import walk_manifests
from tocsin.model.digest import Digest, digest_of
from tocsin.model.media_types import is_manifest
from tocsin.model.platform import platforms_of
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
    """Remove the version 1 SOCI indexes that refer to an image; their zTOCs are left to clean-up.

    Those of version 2 are part of a converted image: delete its tag instead.

    Args:
        image: what the indexes refer to, or by its digest one index.
        indexes: digests of those to remove; all if ``None``.
        platforms: of the image whose indexes are removed; all if ``None``.
        dry_run: only say which.
        registry: how to reach a registry.

    Returns:
        The indexes removed.

    Raises:
        NotFoundError: no such image or platform, or it has no such index.
        UnsupportedError: `image` is a version 2 index.
        RegistryError: the registry does not delete manifests.
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
        index.digest: index for digest in subjects for index in referring_indexes(source, digest)
    }
    if not found:
        of = "it" if platforms is None else f"its {' or '.join(map(str, platforms))}"
        raise NotFoundError(
            f"{reference}: no version 1 SOCI index refers to {of}",
            hint="Delete the tag of a converted image to remove its version 2 indexes.",
        )
    for digest in only or ():
        if digest not in found:
            raise NotFoundError(
                f"{reference}: SOCI index {digest}: no such version 1 index refers to it",
                hint="List the digests with tocsin index ls --quiet IMAGE.",
            )
    return tuple(found[digest] for digest in dict.fromkeys(found if only is None else only))


def _is_index(source: Source, reference: Reference, target: Descriptor) -> bool:
    """Return whether `target` is a version 1 index itself.

    Raises:
        UnsupportedError: it is one of version 2.
    """
    if not is_manifest(target.media_type):
        return False
    index = load_soci_index(source, 0, target.digest, target).soci_index
    if index is not None and index.version != 1:
        raise UnsupportedError(
            f"{reference}: a version 2 SOCI index is part of its image",
            hint="Delete the tag of the converted image instead.",
        )
    return index is not None
