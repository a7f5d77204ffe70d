"""Finds the seek tables of an image: the one that its manifest names, and those that refer to it.

Source: docs/seek-table.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tocsin.errors import FormatError, NotFoundError, UnsupportedError, VerificationError
from tocsin.model.digest import Digest
from tocsin.model.manifest import ImageIndex
from tocsin.model.media_types import is_index
from tocsin.model.seek_manifest import (
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
    from tocsin.model.manifest import Manifest
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
    """

    digest: Digest
    is_bound: bool
    manifest: SeekManifest | None = None
    root: bytes | None = field(default=None, repr=False)
    error: TocsinError | None = field(default=None, compare=False)

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


def referring_seek_tables(store: Source, image: Descriptor) -> Iterator[FoundSeekTable]:
    """Yield the seek tables that refer to an image's manifest, in the store's order."""
    for referrer in store.referrers(image.digest, SEEK_ROOT, lenient=True):
        yield _load(store, referrer.digest, referrer, is_bound=False)


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
        data = store.manifest(descriptor or store.resolve(digest, will_read=True))
        manifest = SeekManifest.from_json(data)
        return FoundSeekTable(digest, is_bound, manifest, _root(store, manifest.root))
    except PROBLEMS as error:
        return FoundSeekTable(digest, is_bound, error=error)


def _root(store: Source, descriptor: Descriptor) -> bytes:
    """Return the root, after verifying its digest."""
    data = descriptor.data
    if data and len(data) == descriptor.size and Digest.of(data) == descriptor.digest:
        return data
    return read_blob(store, descriptor, max_size=MAX_ROOT_SIZE)
