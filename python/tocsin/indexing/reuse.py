"""zTOCs that are there already: a layer that has one need not be read again.

They are found through the SOCI indexes at the destination: version 1 by referrer, version 2 by the
image index that the destination's tag names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.errors import FormatError, NotFoundError, TocsinError, VerificationError
from tocsin.images.soci_indexes import listed_indexes, load_soci_index, referring_indexes
from tocsin.images.ztocs import load_ztoc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tocsin.images.selection import PlatformImage
    from tocsin.layers.ztoc import Ztoc
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.digest import Digest
    from tocsin.model.soci_index import SociIndex
    from tocsin.stores.base import Source


@dataclass(frozen=True, slots=True)
class ReusableZtocs:
    """What SOCI indexes at a place say about layers, unchecked.

    Attributes:
        indexes: all that were found.
    """

    indexes: tuple[SociIndex, ...] = ()

    def load(self, store: Source, layer: Descriptor, *, span_size: int) -> Ztoc | None:
        """Return the zTOC of a layer, if `store` has one that can be used.

        It must be what its descriptor says, made with `span_size`, and for a layer of this size;
        one that is not is passed over, since making it anew is always possible.
        """
        for index in self.indexes:
            descriptor = index.ztoc_of(layer.digest, span_size=span_size)
            if descriptor is None:
                continue
            try:
                ztoc = load_ztoc(store, layer, descriptor)
            except (NotFoundError, FormatError, VerificationError):
                continue
            if ztoc.span_size == span_size:
                return ztoc
        return None


def find_ztocs(store: Source, images: Iterable[PlatformImage], tag: str | None) -> ReusableZtocs:
    """Return the zTOCs that `store` knows of for `images`.

    Args:
        store: where the result will be.
        images: whose layers will be indexed.
        tag: what the result will be called there; an older result may have that name.
    """
    digests = [image.descriptor.digest for image in images]
    return ReusableZtocs((*_by_referrer(store, digests), *_by_tag(store, tag)))


def _by_referrer(store: Source, subjects: Iterable[Digest]) -> Iterator[SociIndex]:
    for subject in subjects:
        try:
            yield from _usable(store, 1, referring_indexes(store, subject))
        except TocsinError:
            # Finding nothing is not a failure; if the place is out of order, writing to it fails.
            continue


def _by_tag(store: Source, tag: str | None) -> Iterator[SociIndex]:
    if tag is None:
        return
    try:
        yield from _usable(store, 2, listed_indexes(store, store.resolve(tag)))
    except TocsinError:
        return


def _usable(store: Source, version: int, found: list[Descriptor]) -> Iterator[SociIndex]:
    for descriptor in found:
        try:
            loaded = load_soci_index(store, version, descriptor.digest, descriptor)
        except TocsinError:  # as above
            continue
        if loaded.soci_index is not None:
            yield loaded.soci_index
