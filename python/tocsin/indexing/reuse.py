"""Finds zTOCs and seek blobs that exist at the destination, so that layers need not be read again.

They are found through SOCI indexes and seek tables: those that refer to the source image, those
that the destination's tag lists, and, only for layers in none of these, those that other tags of
the same repository list. Images with common layers can thus share them, such as the images of two
commits.
"""

from __future__ import annotations

import re
import threading
from itertools import chain, takewhile
from typing import TYPE_CHECKING

from tocsin.errors import (
    FormatError,
    NotFoundError,
    TocsinError,
    UnsupportedError,
    VerificationError,
)
from tocsin.images.seek_tables import listed_seek_tables, referring_seek_tables
from tocsin.images.soci_indexes import listed_indexes, load_soci_index, referring_indexes
from tocsin.images.ztocs import load_ztoc
from tocsin.layers.seek_table import SeekBlob, layer_digests
from tocsin.stores.base import read_blob

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tocsin.images.seek_tables import FoundSeekTable
    from tocsin.images.selection import PlatformImage
    from tocsin.layers.ztoc import Ztoc
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.digest import Digest
    from tocsin.model.soci_index import SociIndex
    from tocsin.stores.base import Source


_MAX_SEEK_BLOB_SIZE = 1 << 30
"""Maximum bytes of a seek blob; the blob of a 10 GiB layer has about 150 MiB."""
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


class ReusableSeekBlobs:
    """Seek blobs listed by existing seek tables, not verified yet; can be used by several threads.

    Args:
        tables: seek tables; they are consumed only until a layer is found.
        span_size: span size that a blob must have.
    """

    def __init__(self, tables: Iterable[FoundSeekTable], *, span_size: int) -> None:
        self._span_size = span_size
        self._lock = threading.Lock()
        self._found: dict[str, list[Descriptor]] = {}
        self._others = iter(tables)

    def load(self, store: Source, layer: Descriptor) -> SeekBlob | None:
        """Return the seek blob of a layer, if `store` has a usable one.

        It must match its descriptor, the span size and the size of the layer. Others are ignored,
        since a seek blob can always be made again.
        """
        for descriptor in self._listed(str(layer.digest)):
            try:
                found = SeekBlob.parse(read_blob(store, descriptor, max_size=_MAX_SEEK_BLOB_SIZE))
            except (NotFoundError, FormatError, UnsupportedError, VerificationError):
                continue
            if found.span_size == self._span_size and found.layer_size == layer.size:
                return found
        return None

    def _listed(self, layer: str) -> list[Descriptor]:
        with self._lock:
            while layer not in self._found:
                table = next(self._others, None)
                if table is None:
                    break
                self._add(table)
            return self._found.get(layer, [])

    def _add(self, table: FoundSeekTable) -> None:
        if table.manifest is None or table.root is None:
            return
        try:
            digests = layer_digests(table.root)
        except TocsinError:
            return
        for digest, descriptor in zip(digests, table.manifest.layers, strict=False):
            self._found.setdefault(digest, []).append(descriptor)


def find_seek_blobs(
    store: Source, images: Iterable[PlatformImage], tag: str | None, *, span_size: int
) -> ReusableSeekBlobs:
    """Return the existing seek blobs for `images`.

    Args:
        store: destination of the result.
        images: images to index.
        tag: tag of the result; a previous result may already have it.
        span_size: span size of the new seek tables.
    """
    tags = chain([] if tag is None else [tag], _other_tags(store, tag))
    tables = chain(
        _seek_tables_by_referrer(store, [image.descriptor for image in images]),
        chain.from_iterable(_seek_tables_by_tag(store, name) for name in tags),
    )
    return ReusableSeekBlobs(tables, span_size=span_size)


def _seek_tables_by_referrer(
    store: Source, images: Iterable[Descriptor]
) -> Iterator[FoundSeekTable]:
    for image in images:
        try:
            yield from referring_seek_tables(store, image)
        except TocsinError:  # as in `_by_referrer`
            return


def _seek_tables_by_tag(store: Source, tag: str) -> Iterator[FoundSeekTable]:
    try:
        yield from listed_seek_tables(store, store.resolve(tag))
    except TocsinError:
        return


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
    for name in _other_tags(store, tag):
        yield from _by_tag(store, name)


def _other_tags(store: Source, tag: str | None) -> Iterator[str]:
    """Yield the tags whose images are the most likely to share layers with that of `tag`."""
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
    yield from sorted(others, key=similarity, reverse=True)[:MAX_OTHER_TAGS]


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
