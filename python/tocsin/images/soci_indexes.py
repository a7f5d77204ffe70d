"""The SOCI indexes of an image, found where and in the order a reader looks.

At the one that the image's manifest names (version 2), then at those that refer to it (version 1).
Source: soci-format 6.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.errors import FormatError, NotFoundError, UnsupportedError, VerificationError
from tocsin.model.digest import Digest
from tocsin.model.soci_index import INDEX_DIGEST, SOCI_INDEX_V1, SociIndex

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.model.descriptor import Descriptor
    from tocsin.model.manifest import Manifest
    from tocsin.stores.base import Store

_PROBLEMS = (FormatError, NotFoundError, UnsupportedError, VerificationError)


@dataclass(frozen=True, slots=True)
class FoundIndex:
    """A SOCI index that belongs to an image.

    Attributes:
        version: 2 when the image's manifest names it, 1 when it refers to the manifest.
        digest: of it.
        descriptor: ``None`` when it is not there.
        soci_index: ``None`` when there is a problem.
        problem: why it cannot be used.
    """

    version: int
    digest: Digest
    descriptor: Descriptor | None = None
    soci_index: SociIndex | None = None
    problem: str | None = None

    @property
    def ztoc_size(self) -> int:
        """Bytes of the zTOCs it lists."""
        return sum(ztoc.size for ztoc in self.soci_index.ztocs) if self.soci_index else 0


def soci_indexes_of(store: Store, entry: Descriptor, manifest: Manifest) -> Iterator[FoundIndex]:
    """Yield the SOCI indexes of one platform's image, in the order a reader tries them.

    Args:
        store: that holds them.
        entry: of the manifest.
        manifest: of the image.
    """
    named = manifest.annotations.get(INDEX_DIGEST)
    if named is not None:
        try:
            digest = Digest.parse(named)
        except (FormatError, UnsupportedError):
            pass  # a reader takes no notice of it either
        else:
            yield load_soci_index(store, 2, digest)
    for referrer in store.referrers(entry.digest, SOCI_INDEX_V1):
        yield load_soci_index(store, 1, referrer.digest, referrer)


def load_soci_index(
    store: Store, version: int, digest: Digest, descriptor: Descriptor | None = None
) -> FoundIndex:
    """Return the SOCI index with that digest, or why it cannot be used."""
    try:
        descriptor = descriptor or store.resolve(digest)
        soci_index = SociIndex.from_json(store.manifest(descriptor))
    except _PROBLEMS as error:
        return FoundIndex(version, digest, descriptor, problem=str(error))
    return FoundIndex(version, digest, descriptor, soci_index)
