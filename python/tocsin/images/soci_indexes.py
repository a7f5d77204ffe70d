"""Finds the SOCI indexes of an image, in the same order as readers.

The index that the image's manifest names (version 2) comes first, then those that refer to the
manifest (version 1). No other module knows where indexes are stored.

Source: docs/format.md#how-an-index-is-found.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tocsin.errors import FormatError, NotFoundError, UnsupportedError, VerificationError
from tocsin.model.digest import Digest
from tocsin.model.index_choice import IndexKind
from tocsin.model.manifest import ImageIndex
from tocsin.model.media_types import is_index
from tocsin.model.soci_index import INDEX_DIGEST, SOCI_INDEX_V1, SociIndex, is_soci_entry

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from tocsin.errors import TocsinError
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.document import Document
    from tocsin.model.index_choice import IndexChoice
    from tocsin.model.manifest import Manifest
    from tocsin.stores.base import Source

PROBLEMS = (FormatError, NotFoundError, UnsupportedError, VerificationError)
"""Errors that affect only one index and not the others."""


@dataclass(frozen=True, slots=True)
class FoundIndex:
    """A SOCI index that belongs to an image.

    Attributes:
        version: 2 if the image's manifest names the index, 1 if the index refers to the manifest.
        digest: digest of the index.
        descriptor: descriptor of the index; ``None`` if it is missing.
        soci_index: the parsed index; ``None`` if there is an error.
        error: why the index cannot be used.
        data: bytes of the index; ``None`` if they cannot be read.
        taken: whether tocsin uses the index by default, which is ``--index auto``.
        reason: why the index is used or not; empty if this was not determined.
    """

    version: int
    digest: Digest
    descriptor: Descriptor | None = None
    soci_index: SociIndex | None = None
    error: TocsinError | None = field(default=None, compare=False)
    data: bytes | None = field(default=None, repr=False)
    taken: bool = False
    reason: str = ""

    @property
    def problem(self) -> str | None:
        """Why the index cannot be used, as text."""
        return None if self.error is None else self.error.message

    @property
    def ztoc_count(self) -> int:
        """Number of zTOCs in the index; 0 if it cannot be used."""
        return len(self.soci_index.ztocs) if self.soci_index else 0

    @property
    def ztoc_size(self) -> int:
        """Total size in bytes of the zTOCs in the index; 0 if it cannot be used."""
        return sum(ztoc.size for ztoc in self.soci_index.ztocs) if self.soci_index else 0

    def to_dict(self) -> Document:
        """Return what ``--json`` prints for a SOCI index."""
        found = self.descriptor
        return {
            "digest": str(self.digest),
            "media_type": None if found is None else found.media_type,
            "size": None if found is None else found.size,
            "version": self.version,
            "problem": self.problem,
            "ztoc_count": self.ztoc_count,
            "ztoc_size": self.ztoc_size,
            "taken": self.taken,
            "reason": self.reason,
        }


def soci_indexes_of(
    store: Source,
    entry: Descriptor,
    manifest: Manifest,
    *,
    versions: Container[int] = (2, 1),
    every: bool = False,
) -> Iterator[FoundIndex]:
    """Yield the SOCI indexes of the image for one platform, in the order in which readers try them.

    Args:
        store: store with the indexes.
        entry: descriptor of the manifest.
        manifest: manifest of the image.
        versions: versions to search for; no requests are made for others.
        every: whether to search for version 1 indexes even if the manifest names a usable version 2
            index, which readers prefer.
    """
    named = manifest.annotations.get(INDEX_DIGEST) if 2 in versions else None  # noqa: PLR2004
    if named is not None:
        try:
            digest = Digest.parse(named)
        except (FormatError, UnsupportedError):
            pass  # readers ignore it too
        else:
            found = load_soci_index(store, 2, digest)
            yield found
            if found.error is None and not every:
                return
    if 1 in versions:
        for referrer in referring_indexes(store, entry.digest, lenient=True):
            yield load_soci_index(store, 1, referrer.digest, referrer)


def indexes_to_use(
    store: Source, entry: Descriptor, manifest: Manifest, choice: IndexChoice, *, pinned: bool
) -> list[FoundIndex]:
    """Return the SOCI indexes to use for an image, in the order in which to try them.

    Args:
        store: store with the indexes.
        entry: descriptor of the manifest.
        manifest: manifest of the image.
        choice: requested indexes.
        pinned: whether the image was given by digest. ``auto`` then includes only the index that
            this digest covers: anyone with push access to a repository can add a version 1 index
            that refers to any manifest.

    Raises:
        NotFoundError, FormatError, VerificationError: the index requested by digest cannot be used.
    """
    if choice.kind is IndexKind.NONE:
        return []
    if choice.digest is not None:
        found = load_soci_index(store, 0, choice.digest)
        if found.error is not None:
            raise found.error
        return [found]
    versions = {
        IndexKind.AUTO: (2,) if pinned else (2, 1),
        IndexKind.V2: (2,),
        IndexKind.V1: (1,),
    }[choice.kind]
    return list(soci_indexes_of(store, entry, manifest, versions=versions))


def with_choice(
    found: Iterable[FoundIndex], *, pinned: bool, after_seek: bool = False
) -> tuple[FoundIndex, ...]:
    """Return the indexes with ``taken`` and ``reason`` set as in `indexes_to_use` for ``auto``.

    soci-snapshotter uses a version 1 index only if it is configured to, and then the first one that
    the registry lists. No specification defines this order.

    Args:
        found: all indexes of an image, in the order of `soci_indexes_of`.
        pinned: whether the image was given by digest.
        after_seek: whether a seek table is used instead.
    """
    found = tuple(found)
    referring = sum(index.version == 1 and index.error is None for index in found)
    judged: list[FoundIndex] = []
    for index in found:
        taken = False
        if index.error is not None:
            reason = "it cannot be used"
        elif index.version == 1 and pinned:
            reason = "the digest in the image's reference does not cover it"
        elif after_seek:
            reason = "a seek table comes first"
        elif any(before.taken for before in judged):
            reason = "another index comes first; this one is used only for layers not listed there"
        else:
            taken = True
            reason = "the image names it"
            if index.version == 1:
                first = f"it is the first of {referring} in the store's order"
                reason = "it refers to the image" if referring == 1 else first
        judged.append(replace(index, taken=taken, reason=reason))
    return tuple(judged)


def referring_indexes(store: Source, subject: Digest, *, lenient: bool = False) -> list[Descriptor]:
    """Return the version 1 indexes that refer to a manifest, in the store's order.

    Args:
        store: store with the indexes.
        subject: digest of the manifest.
        lenient: as in `Source.referrers`.
    """
    return store.referrers(subject, SOCI_INDEX_V1, lenient=lenient)


def listed_indexes(store: Source, target: Descriptor) -> list[Descriptor]:
    """Return the SOCI indexes that an image index lists; for a manifest, return an empty list.

    Raises:
        FormatError: `target` has the media type of an image index but is not one.
    """
    if not is_index(target.media_type):
        return []
    entries = ImageIndex.from_json(store.manifest(target)).manifests or ()
    return [entry for entry in entries if is_soci_entry(entry)]


def load_soci_index(
    store: Source, version: int, digest: Digest, descriptor: Descriptor | None = None
) -> FoundIndex:
    """Return the SOCI index with a digest, or why it cannot be used."""
    data: bytes | None = None
    try:
        descriptor = descriptor or store.resolve(digest, will_read=True)
        data = store.manifest(descriptor)
        soci_index = SociIndex.from_json(data)
    except PROBLEMS as error:
        return FoundIndex(version, digest, descriptor, error=error, data=data)
    return FoundIndex(version, digest, descriptor, soci_index, data=data)
