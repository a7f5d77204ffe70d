"""The SOCI indexes of an image, found where and in the order a reader looks.

First the one that the image's manifest names (version 2), then those that refer to the manifest
(version 1). The only room that knows where indexes are looked for.

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
"""Errors that make one index unusable and say nothing about others."""


@dataclass(frozen=True, slots=True)
class FoundIndex:
    """A SOCI index that belongs to an image.

    Attributes:
        version: 2 when the image's manifest names it, 1 when it refers to the manifest.
        digest: of it.
        descriptor: ``None`` when it is missing.
        soci_index: ``None`` when there is an error.
        error: why it cannot be used.
        data: its bytes; ``None`` when they cannot be read.
        taken: whether tocsin reads the image by it, if asked for no other: ``--index auto``.
        reason: why, or why not; empty where nobody chose.
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
        """Why it cannot be used, as text."""
        return None if self.error is None else self.error.message

    @property
    def ztoc_count(self) -> int:
        """How many zTOCs it lists; 0 when it cannot be used."""
        return len(self.soci_index.ztocs) if self.soci_index else 0

    @property
    def ztoc_size(self) -> int:
        """Bytes of the zTOCs it lists; 0 when it cannot be used."""
        return sum(ztoc.size for ztoc in self.soci_index.ztocs) if self.soci_index else 0

    def to_dict(self) -> Document:
        """Return what ``--json`` prints of a SOCI index."""
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
    """Yield the SOCI indexes of one platform's image, in the order a reader tries them.

    Args:
        store: that holds them.
        entry: of the manifest.
        manifest: of the image.
        versions: which to look for; nothing is asked about others.
        every: also those that refer to an image whose manifest names a usable one, which is the
            one that readers use; else they are not asked for.
    """
    named = manifest.annotations.get(INDEX_DIGEST) if 2 in versions else None  # noqa: PLR2004
    if named is not None:
        try:
            digest = Digest.parse(named)
        except (FormatError, UnsupportedError):
            pass  # a reader ignores it too
        else:
            found = load_soci_index(store, 2, digest)
            yield found
            if found.error is None and not every:
                return
    if 1 in versions:
        for referrer in referring_indexes(store, entry.digest, lenient=True):
            yield load_soci_index(store, 1, referrer.digest, referrer)


def indexes_to_read_by(
    store: Source, entry: Descriptor, manifest: Manifest, choice: IndexChoice, *, pinned: bool
) -> list[FoundIndex]:
    """Return the SOCI indexes that an image is read by, in the order they are tried.

    Args:
        store: that holds them.
        entry: of the manifest.
        manifest: of the image.
        choice: what was asked for.
        pinned: whether the image was asked for by digest. ``auto`` then means only what that
            digest binds: whoever may push to a repository can make an index refer to any manifest.

    Raises:
        NotFoundError, FormatError, VerificationError: the index asked for by digest cannot be used.
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


def with_choice(found: Iterable[FoundIndex], *, pinned: bool) -> tuple[FoundIndex, ...]:
    """Return indexes with what ``auto`` makes of each; `indexes_to_read_by` does the same.

    soci-snapshotter takes a version 1 index only if it is configured to, and then the first that
    the registry lists: an order that no specification defines.

    Args:
        found: all indexes of an image, in the order of `soci_indexes_of`.
        pinned: whether the image was asked for by digest.
    """
    found = tuple(found)
    referring = sum(index.version == 1 and index.error is None for index in found)
    judged: list[FoundIndex] = []
    for index in found:
        taken = False
        if index.error is not None:
            reason = "it cannot be used"
        elif index.version == 1 and pinned:
            reason = "the digest that the image was asked for by does not bind it"
        elif any(before.taken for before in judged):
            reason = "another comes first; it serves only layers that the other does not list"
        else:
            taken = True
            reason = "the image names it"
            if index.version == 1:
                which = f"the first of {referring} in the store's order"
                reason = "it refers to the image" if referring == 1 else which
        judged.append(replace(index, taken=taken, reason=reason))
    return tuple(judged)


def referring_indexes(store: Source, subject: Digest, *, lenient: bool = False) -> list[Descriptor]:
    """Return the version 1 indexes that refer to a manifest, in the store's own order.

    Args:
        store: that holds them.
        subject: the manifest.
        lenient: as `Source.referrers` has it.
    """
    return store.referrers(subject, SOCI_INDEX_V1, lenient=lenient)


def listed_indexes(store: Source, target: Descriptor) -> list[Descriptor]:
    """Return the SOCI indexes that an image index lists; none for a manifest.

    Raises:
        FormatError: `target` is not an image index although its media type says so.
    """
    if not is_index(target.media_type):
        return []
    entries = ImageIndex.from_json(store.manifest(target)).manifests or ()
    return [entry for entry in entries if is_soci_entry(entry)]


def load_soci_index(
    store: Source, version: int, digest: Digest, descriptor: Descriptor | None = None
) -> FoundIndex:
    """Return the SOCI index with that digest, or why it cannot be used."""
    data: bytes | None = None
    try:
        descriptor = descriptor or store.resolve(digest)
        data = store.manifest(descriptor)
        soci_index = SociIndex.from_json(data)
    except PROBLEMS as error:
        return FoundIndex(version, digest, descriptor, error=error, data=data)
    return FoundIndex(version, digest, descriptor, soci_index, data=data)
