"""``index rm``: take version 1 SOCI indexes off an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.errors import NotFoundError
from tocsin.images.soci_indexes import referring_indexes
from tocsin.images.walk import walk_manifests
from tocsin.model.reference import parse_reference
from tocsin.stores.opening import open_store

if TYPE_CHECKING:
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.reference import Reference
    from tocsin.stores.registry import RegistryOptions


def remove_indexes(
    image: str | Reference, *, dry_run: bool = False, registry: RegistryOptions | None = None
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
    reference = parse_reference(image) if isinstance(image, str) else image
    with open_store(reference, write=not dry_run, registry=registry) as store:
        target = store.resolve(reference.selector)
        entries = {target.digest, *(entry.digest for entry in walk_manifests(store, target))}
        found = {
            index.digest: index for digest in entries for index in referring_indexes(store, digest)
        }
        if not found:
            raise NotFoundError(
                f"{reference}: no version 1 SOCI index refers to it",
                hint="Delete the tag of a converted image to remove its version 2 indexes.",
            )
        if not dry_run:
            for index in found.values():
                store.delete_manifest(index)
    return tuple(found.values())
