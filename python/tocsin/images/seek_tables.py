"""Finds the seek tables of an image: the one that its manifest names, and those that refer to it.

Source: docs/seek-table.md#parts.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tocsin.errors import FormatError, NotFoundError, UnsupportedError, VerificationError
from tocsin.model.digest import Digest
from tocsin.model.manifest import ImageIndex, Manifest
from tocsin.model.media_types import is_index, is_manifest
from tocsin.model.seek_manifest import (
    MAX_PACK_INDEX_SIZE,
    MAX_ROOT_SIZE,
    SEEK_ROOT,
    SEEK_TABLE_DIGEST,
    SeekManifest,
    is_seek_entry,
)
from tocsin.stores.base import read_blob

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.errors import TocsinError
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.document import Document
    from tocsin.stores.base import Source

PROBLEMS = (FormatError, NotFoundError, UnsupportedError, VerificationError)
"""Errors that affect only one seek table and not the others."""


@dataclass(frozen=True, slots=True)
class FoundSeekTable:
    """A seek table that belongs to an image.

    Attributes:
        digest: digest of its manifest.
        is_bound: whether the image's manifest names it.
        manifest: the parsed manifest; ``None`` if there is an error.
        root: verified bytes of the root; ``None`` if there is an error.
        error: why it cannot be used.
        descriptor: descriptor of its manifest; ``None`` if that is missing.
        taken: whether tocsin uses it by default, which is ``--index auto``.
        reason: why it is used or not; empty if this was not determined.
    """

    digest: Digest
    is_bound: bool
    manifest: SeekManifest | None = None
    root: bytes | None = field(default=None, repr=False)
    error: TocsinError | None = field(default=None, compare=False)
    descriptor: Descriptor | None = None
    taken: bool = False
    reason: str = ""

    @property
    def size(self) -> int:
        """Size in bytes of its root, file list, seek blobs and pack; 0 if it cannot be used."""
        return 0 if self.manifest is None else self.manifest.size

    @property
    def pack_size(self) -> int:
        """Size in bytes of its pack, which `size` includes; 0 without a pack."""
        return 0 if self.manifest is None else self.manifest.pack_size

    def to_dict(self) -> Document:
        """Return what ``--json`` prints for a seek table."""
        found = self.descriptor
        return {
            "digest": str(self.digest),
            "media_type": None if found is None else found.media_type,
            "manifest_size": None if found is None else found.size,
            "size": self.size,
            "pack_size": self.pack_size,
            "bound": self.is_bound,
            "problem": self.problem,
            "taken": self.taken,
            "reason": self.reason,
        }

    @property
    def problem(self) -> str | None:
        """Why the seek table cannot be used, as text."""
        return None if self.error is None else self.error.message


def bound_seek_table(store: Source, manifest: Manifest) -> FoundSeekTable | None:
    """Return the seek table that an image's manifest names; ``None`` if it names none."""
    named = manifest.annotations.get(SEEK_TABLE_DIGEST)
    if named is None:
        return None
    try:
        digest = Digest.parse(named)
    except (FormatError, UnsupportedError):
        return None
    return _load(store, digest, None, is_bound=True)


def seek_tables_of(
    store: Source,
    entry: Descriptor,
    manifest: Manifest,
    *,
    pinned: bool,
    has_v2: bool,
    every: bool = False,
) -> tuple[FoundSeekTable, ...]:
    """Return the seek tables of an image, in the order in which readers try them.

    Args:
        store: store with the seek tables.
        entry: descriptor of the image's manifest.
        manifest: the manifest.
        pinned: whether the image was given by digest.
        has_v2: whether it has a version 2 SOCI index that can be used.
        every: whether to search for tables that refer to the image even if it names a seek table or
            SOCI index that can be used, which readers prefer.
    """
    bound = bound_seek_table(store, manifest)
    tables = [] if bound is None else [bound]
    if every or not (has_v2 or any(table.error is None for table in tables)):
        tables += referring_seek_tables(store, entry)
    judged: list[FoundSeekTable] = []
    for table in tables:
        taken = False
        if table.error is not None:
            reason = "it cannot be used"
        elif any(before.taken for before in judged):
            reason = "another seek table comes first"
        elif table.is_bound:
            taken, reason = True, "the image names it"
        elif pinned:
            reason = "the digest in the image's reference does not cover it"
        elif has_v2:
            reason = "the image names a SOCI index, which comes first"
        else:
            taken, reason = True, "it refers to the image"
        judged.append(replace(table, taken=taken, reason=reason))
    return tuple(judged)


def referrers_with_seek_tables(
    store: Source, subject: Digest, *, lenient: bool = False
) -> list[Descriptor]:
    """Return the seek tables that refer to a manifest, in the store's order, without reading them.

    Args:
        store: store with the seek tables.
        subject: digest of the manifest.
        lenient: as in `Source.referrers`.
    """
    return store.referrers(subject, SEEK_ROOT, lenient=lenient)


def referring_seek_tables(store: Source, image: Descriptor) -> Iterator[FoundSeekTable]:
    """Yield the seek tables that refer to an image's manifest, in the store's order."""
    for referrer in referrers_with_seek_tables(store, image.digest, lenient=True):
        yield _load(store, referrer.digest, referrer, is_bound=False)


def requested_seek_table(store: Source, digest: Digest) -> FoundSeekTable | None:
    """Return the seek table that the caller names; ``None`` if that is anything else.

    Raises:
        NotFoundError, FormatError, VerificationError: the manifest is missing or damaged.
    """
    descriptor = store.resolve(digest, will_read=True)
    if not is_manifest(descriptor.media_type):
        return None
    if Manifest.from_json(store.manifest(descriptor)).config.media_type != SEEK_ROOT:
        return None
    return _load(store, digest, descriptor, is_bound=False)


def listed_seek_tables(store: Source, target: Descriptor) -> Iterator[FoundSeekTable]:
    """Yield the seek tables that an image index lists; for a manifest, there are none.

    Raises:
        FormatError: `target` has the media type of an image index but is not one.
    """
    if not is_index(target.media_type):
        return
    for entry in ImageIndex.from_json(store.manifest(target)).manifests or ():
        if is_seek_entry(entry):
            yield _load(store, entry.digest, entry, is_bound=True)


def _load(
    store: Source, digest: Digest, descriptor: Descriptor | None, *, is_bound: bool
) -> FoundSeekTable:
    try:
        descriptor = descriptor or store.resolve(digest, will_read=True)
        manifest = SeekManifest.from_json(store.manifest(descriptor))
        root = _embedded(store, manifest.root, MAX_ROOT_SIZE)
    except PROBLEMS as error:
        return FoundSeekTable(digest, is_bound, error=error, descriptor=descriptor)
    return FoundSeekTable(digest, is_bound, manifest, root, descriptor=descriptor)


def read_pack_index(store: Source, descriptor: Descriptor) -> bytes:
    """Return the index of a pack, after verifying its digest.

    Raises:
        NotFoundError, VerificationError: it is missing or damaged.
        UnsupportedError: it is too large.
    """
    return _embedded(store, descriptor, MAX_PACK_INDEX_SIZE)


def _embedded(store: Source, descriptor: Descriptor, max_size: int) -> bytes:
    """Return a blob that may be in its descriptor, after verifying its digest."""
    data = descriptor.data
    if data and len(data) == descriptor.size and Digest.of(data) == descriptor.digest:
        return data
    return read_blob(store, descriptor, max_size=max_size)
