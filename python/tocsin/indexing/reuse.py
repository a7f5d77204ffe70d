"""zTOCs that the destination has already: a layer that has one need not be read again.

They are found through SOCI indexes: those that refer to the source image, those that the
destination's tag lists, and, only for layers that are in none of these, those that other tags of
the same repository list. Images that share layers share zTOCs that way, such as those of two
commits, or of two runs with other options.
"""

from __future__ import annotations

import re
import threading
from itertools import chain, takewhile
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


MAX_OTHER_TAGS = 16
"""Tags looked at besides the destination's; each costs some requests, a layer that is read more."""


class ReusableZtocs:
    """What SOCI indexes at a place say about layers, unchecked; may be used by several threads.

    Args:
        indexes: read one by one, and only until a layer is found.
    """

    def __init__(self, indexes: Iterable[SociIndex] = ()) -> None:
        self._lock = threading.Lock()
        self._found: list[SociIndex] = []
        self._others = iter(indexes)

    def load(self, store: Source, layer: Descriptor, *, span_size: int) -> Ztoc | None:
        """Return the zTOC of a layer, if `store` has one that can be used.

        It must be what its descriptor says, made with `span_size`, and for a layer of this size;
        one that is not is passed over, since making it anew is always possible.
        """
        for index in self._indexes():
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

    def _indexes(self) -> Iterator[SociIndex]:
        at = 0
        while True:
            with self._lock:
                if at == len(self._found):
                    following = next(self._others, None)
                    if following is None:
                        return
                    self._found.append(following)
                index = self._found[at]
            yield index
            at += 1


def find_ztocs(store: Source, images: Iterable[PlatformImage], tag: str | None) -> ReusableZtocs:
    """Return the zTOCs that `store` knows of for `images`.

    Args:
        store: where the result will be.
        images: whose layers will be indexed.
        tag: what the result will be called there; an older result may have that name.
    """
    digests = [image.descriptor.digest for image in images]
    return ReusableZtocs(
        chain(_by_referrer(store, digests), _by_tag(store, tag), _by_other_tags(store, tag))
    )


def _by_referrer(store: Source, subjects: Iterable[Digest]) -> Iterator[SociIndex]:
    for subject in subjects:
        try:
            yield from _usable(store, 1, referring_indexes(store, subject))
        except TocsinError:
            # Finding nothing is not a failure; if the place is out of order, writing to it fails.
            return


def _by_tag(store: Source, tag: str | None) -> Iterator[SociIndex]:
    if tag is None:
        return
    try:
        yield from _usable(store, 2, listed_indexes(store, store.resolve(tag)))
    except TocsinError:
        return


def _by_other_tags(store: Source, tag: str | None) -> Iterator[SociIndex]:
    try:
        there = store.tags()
    except (TocsinError, OSError):  # as above; not everyone may list tags
        return

    def likeness(name: str) -> tuple[int, str]:
        pairs = zip(name, tag or "", strict=False)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        return same, name

    # Those that begin like the destination's, then the last by name: tags are numbered or dated.
    others = [name for name in there if name != tag and not _is_referrers_tag(name)]
    for name in sorted(others, key=likeness, reverse=True)[:MAX_OTHER_TAGS]:
        yield from _by_tag(store, name)


def _is_referrers_tag(name: str) -> bool:
    """Return whether a tag stands in for the referrers API (distribution-spec 1.1)."""
    return re.fullmatch(r"sha256-[0-9a-f]{64}", name) is not None


def _usable(store: Source, version: int, found: list[Descriptor]) -> Iterator[SociIndex]:
    for descriptor in found:
        try:
            loaded = load_soci_index(store, version, descriptor.digest, descriptor)
        except TocsinError:  # as above
            continue
        if loaded.soci_index is not None:
            yield loaded.soci_index
