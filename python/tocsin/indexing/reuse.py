"""zTOCs that are there already: a layer that has one need not be read again.

They are found through the SOCI indexes at the destination: version 1 by referrer, version 2 by the
image index that the destination's tag names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.errors import FormatError, NotFoundError, TocsinError, VerificationError
from tocsin.layers.ztoc import Ztoc
from tocsin.model.manifest import ImageIndex
from tocsin.model.media_types import is_index
from tocsin.model.soci_index import MAX_ZTOC_SIZE, SOCI_INDEX_V1, SociIndex, is_soci_entry
from tocsin.stores.base import read_blob

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tocsin.images.selection import PlatformImage
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.digest import Digest
    from tocsin.stores.base import Store


@dataclass(frozen=True, slots=True)
class KnownZtocs:
    """What SOCI indexes at a place say about layers, unchecked.

    Attributes:
        indexes: all that were found.
    """

    indexes: tuple[SociIndex, ...] = ()

    def load(self, store: Store, layer: Descriptor, *, span_size: int) -> Ztoc | None:
        """Return the zTOC of a layer, if `store` has one that can be used.

        It must be what its descriptor says, made with `span_size`, and for a layer of this size;
        one that is not is passed over, since making it anew is always possible.
        """
        for index in self.indexes:
            descriptor = index.ztoc_of(layer.digest, span_size=span_size)
            if descriptor is None:
                continue
            try:
                ztoc = Ztoc.from_bytes(read_blob(store, descriptor, max_size=MAX_ZTOC_SIZE))
            except (NotFoundError, FormatError, VerificationError):
                continue
            if ztoc.compressed_archive_size == layer.size and ztoc.span_size == span_size:
                return ztoc
        return None


def find_ztocs(store: Store, images: Iterable[PlatformImage], tag: str | None) -> KnownZtocs:
    """Return the zTOCs that `store` knows of for `images`.

    Args:
        store: where the result will be.
        images: whose layers will be indexed.
        tag: what the result will be called there; an older result may have that name.
    """
    digests = [image.descriptor.digest for image in images]
    return KnownZtocs((*_by_referrer(store, digests), *_by_tag(store, tag)))


def _by_referrer(store: Store, subjects: Iterable[Digest]) -> Iterator[SociIndex]:
    for subject in subjects:
        try:
            found = store.referrers(subject, SOCI_INDEX_V1)
        except TocsinError:
            # To know nothing is no failure; if the place is out of order, writing to it will tell.
            continue
        for descriptor in found:
            yield from _soci_index(store, descriptor)


def _by_tag(store: Store, tag: str | None) -> Iterator[SociIndex]:
    if tag is None:
        return
    try:
        target = store.resolve(tag)
        if not is_index(target.media_type):
            return
        entries = ImageIndex.from_json(store.manifest(target)).manifests or ()
    except TocsinError:
        return
    for entry in entries:
        if is_soci_entry(entry):
            yield from _soci_index(store, entry)


def _soci_index(store: Store, descriptor: Descriptor) -> Iterator[SociIndex]:
    try:
        yield SociIndex.from_json(store.manifest(descriptor))
    except TocsinError:  # as above
        return
