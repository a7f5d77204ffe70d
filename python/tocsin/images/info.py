"""``info``, ``indexes`` and ``resolve``: questions about an image that read no layer."""

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
    """Return what an image's name means now: media type, digest and size of what it names.

    That is a manifest or, for images of several platforms, an image index. Of a registry this is
    one HEAD request, which most do not count against limits; nothing is downloaded.

    Args:
        image: such as ``ghcr.io/team/app:1``.
        registry: how to reach a registry.

    Raises:
        NotFoundError: no such image.
        RegistryError: the registry refused or could not be reached; `AuthError` if for want of a
            credential.
        OSError: the place cannot be read.
    """
    reference = reference_of(image)
    with open_source(reference, registry=registry) as store:
        return store.resolve(reference.selector).plain()


def info(image: ReferenceLike, *, registry: RegistryOptions | None = None) -> ImageCoverage:
    """Return which layers of an image have a zTOC, for each platform: what ``tocsin info`` shows.

    Every zTOC that a SOCI index lists is read and verified. An index or zTOC that is missing or
    broken is a `problem` in the result, not an error; ``verify`` judges them.

    Args:
        image: such as ``ghcr.io/team/app:1``.
        registry: how to reach a registry.

    Raises:
        NotFoundError: no such image.
        FormatError: it is not an image.
        VerificationError: its bytes are not what its digest says.
        RegistryError: the registry refused or could not be reached; `AuthError` if for want of a
            credential.
        OSError: the place cannot be read.
    """
    reference = reference_of(image)
    with open_source(reference, registry=registry) as store:
        named = store.resolve(reference.selector)
        found = image_coverage(store, named, pinned=isinstance(reference.selector, Digest))
    return replace(found, image=str(reference))


def indexes(image: ReferenceLike, *, registry: RegistryOptions | None = None) -> ImageIndexes:
    """Return the SOCI indexes of an image, for each platform: what ``tocsin index ls`` shows.

    zTOCs are not read. Otherwise as `info`, errors too.

    Args:
        image: such as ``ghcr.io/team/app:1``.
        registry: how to reach a registry.
    """
    reference = reference_of(image)
    with open_source(reference, registry=registry) as store:
        named = store.resolve(reference.selector)
        found = image_indexes(store, named, pinned=isinstance(reference.selector, Digest))
    return replace(found, image=str(reference))
