"""``index rm``: take version 1 SOCI indexes off an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.errors import NotFoundError
from tocsin.images.soci_indexes import referring_indexes
from tocsin.images.walk import walk_manifests
from tocsin.stores.opening import open_sink, open_source
from tocsin.stores.places import reference_of

if TYPE_CHECKING:
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.reference import Reference, ReferenceLike
    from tocsin.stores.base import Source
    from tocsin.stores.registry import RegistryOptions


def remove_indexes(
    image: ReferenceLike, *, dry_run: bool = False, registry: RegistryOptions | None = None
) -> tuple[Descriptor, ...]:
    """Remove the version 1 SOCI indexes that refer to an image; their zTOCs are left to clean-up.

    Those of version 2 are part of a converted image: delete its tag instead.

    Args:
        image: every platform of it.
        dry_run: only say which.
        registry: how to reach a registry.

    Returns:
        The indexes removed.

    Raises:
        NotFoundError: no such image, or it has no such index.
        RegistryError: the registry does not delete manifests.
    """
    reference = reference_of(image)
    if dry_run:
        with open_source(reference, registry=registry) as source:
            return _find(source, reference)
    with open_sink(reference, registry=registry) as sink:
        found = _find(sink, reference)
        for index in found:
            sink.delete(index)
    return found


def _find(source: Source, reference: Reference) -> tuple[Descriptor, ...]:
    target = source.resolve(reference.selector)
    entries = {target.digest, *(entry.digest for entry in walk_manifests(source, target))}
    found = {
        index.digest: index for digest in entries for index in referring_indexes(source, digest)
    }
    if not found:
        raise NotFoundError(
            f"{reference}: no version 1 SOCI index refers to it",
            hint="Delete the tag of a converted image to remove its version 2 indexes.",
        )
    return tuple(found.values())
