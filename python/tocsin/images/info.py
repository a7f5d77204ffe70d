"""``info``, ``indexes`` and ``resolve``: queries about an image that do not read its layers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tocsin.images.coverage import image_coverage, image_indexes
from tocsin.model.digest import Digest
from tocsin.stores.opening import open_source
from tocsin.stores.places import reference_of

if TYPE_CHECKING:
    from tocsin.images.coverage import ImageCoverage, ImageIndexes
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.reference import ReferenceLike
    from tocsin.stores.registry import RegistryOptions


def resolve(image: ReferenceLike, *, registry: RegistryOptions | None = None) -> Descriptor:
    """Resolve a reference to the media type, digest and size of a manifest or image index.

    In a registry, this takes one HEAD request, which most registries do not count against their
    rate limits. Nothing is downloaded.

    Args:
        image: reference such as ``ghcr.io/team/app:1``.
        registry: options for access to a registry.

    Raises:
        NotFoundError: the image does not exist.
        RegistryError: the registry rejected a request or could not be reached; `AuthError` if
            credentials are missing or insufficient.
        OSError: a local file cannot be read.
    """
    reference = reference_of(image)
    with open_source(reference, registry=registry) as store:
        return store.resolve(reference.selector).plain()


def info(image: ReferenceLike, *, registry: RegistryOptions | None = None) -> ImageCoverage:
    """Return which layers of an image have a zTOC, for each platform, as in ``tocsin info``.

    All zTOCs that the SOCI indexes list are read and verified. A missing or broken index or zTOC is
    a `problem` in the result, not an error; use ``verify`` for a full check.

    Args:
        image: reference such as ``ghcr.io/team/app:1``.
        registry: options for access to a registry.

    Raises:
        NotFoundError: the image does not exist.
        FormatError: not an image.
        VerificationError: the image does not match its digest.
        RegistryError: the registry rejected a request or could not be reached; `AuthError` if
            credentials are missing or insufficient.
        OSError: a local file cannot be read.
    """
    reference = reference_of(image)
    with open_source(reference, registry=registry) as store:
        named = store.resolve(reference.selector)
        found = image_coverage(store, named, pinned=isinstance(reference.selector, Digest))
    return replace(found, image=str(reference))


def indexes(image: ReferenceLike, *, registry: RegistryOptions | None = None) -> ImageIndexes:
    """Return the indexes and access logs of an image, as in ``tocsin index ls``.

    zTOCs are not read. Errors are the same as for `info`.

    Args:
        image: reference such as ``ghcr.io/team/app:1``.
        registry: options for access to a registry.
    """
    reference = reference_of(image)
    with open_source(reference, registry=registry) as store:
        named = store.resolve(reference.selector)
        found = image_indexes(store, named, pinned=isinstance(reference.selector, Digest))
    return replace(found, image=str(reference))
