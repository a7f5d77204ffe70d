"""Finds zTOCs that already exist at the destination, so that their layers need not be read again.

They are found through SOCI indexes: those that refer to the source image, those that the
destination's tag lists, and, only for layers in none of these, those that other tags of the same
repository list. Images with common layers can thus share zTOCs, such as the images of two commits.
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
"""Number of other tags to search; each costs a few requests, but reading a layer costs more."""


class ReusableZtocs:
    """zTOCs listed by existing SOCI indexes, not verified yet; can be used by several threads.

    Args:
        indexes: SOCI indexes; the iterable is consumed only until a layer is found.
    """

    def __init__(self, indexes: Iterable[SociIndex] = ()) -> None:
        self._lock = threading.Lock()
        self._found: list[SociIndex] = []
        self._others = iter(indexes)

    def load(self, store: Source, layer: Descriptor, *, span_size: int) -> Ztoc | None:
        """Return the zTOC of a layer, if `store` has a usable one.

        It must match its descriptor, `span_size` and the size of the layer. Others are ignored,
        since a zTOC can always be rebuilt.
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
    """Return the existing zTOCs for `images`.

    Args:
        store: destination of the result.
        images: images to index.
        tag: tag of the result; a previous result may already have it.
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
            # Reuse is optional; if the store is broken, writing to it fails.
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
        names = store.tags()
    except (TocsinError, OSError):  # as above; listing tags may not be allowed
        return

    def similarity(name: str) -> tuple[int, str]:
        pairs = zip(name, tag or "", strict=False)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        return same, name

    # Longest common prefix first, then the last by name: tags often contain numbers or dates.
    others = [name for name in names if name != tag and not _is_referrers_tag(name)]
    for name in sorted(others, key=similarity, reverse=True)[:MAX_OTHER_TAGS]:
        yield from _by_tag(store, name)


def _is_referrers_tag(name: str) -> bool:
    """Return whether a tag belongs to the referrers tag schema (distribution-spec 1.1)."""
    return re.fullmatch(r"sha256-[0-9a-f]{64}", name) is not None


def _usable(store: Source, version: int, found: list[Descriptor]) -> Iterator[SociIndex]:
    for descriptor in found:
        try:
            loaded = load_soci_index(store, version, descriptor.digest, descriptor)
        except TocsinError:  # as above
            continue
        if loaded.soci_index is not None:
            yield loaded.soci_index
