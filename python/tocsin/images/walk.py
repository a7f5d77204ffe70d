"""Walks over the manifests of an image, including nested image indexes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.errors import FormatError
from tocsin.model.fields import MAX_ENTRIES
from tocsin.model.manifest import ImageIndex
from tocsin.model.media_types import is_index

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.model.descriptor import Descriptor
    from tocsin.model.digest import Digest
    from tocsin.stores.base import Source

MAX_DEPTH = 4
"""Maximum depth of nested image indexes; containerd and nerdctl write two levels."""


def walk_manifests(store: Source, root: Descriptor) -> Iterator[Descriptor]:
    """Yield all entries below `root` that are not image indexes, in order.

    If `root` is not an image index, it is the only entry. Entries with an unknown type or a missing
    blob are included; the caller decides what to do with them.

    Raises:
        FormatError: an index contains itself, is nested deeper than `MAX_DEPTH`, or there are more
            than `fields.MAX_ENTRIES` entries in total; `what` is ``manifest.loop``,
            ``manifest.depth`` or ``manifest.entries``.
        NotFoundError: an image index is missing.
    """
    for count, entry in enumerate(_walk(store, root, above=())):
        if count == MAX_ENTRIES:
            raise FormatError(
                f"{store.name}: {root.digest} lists more than {MAX_ENTRIES} manifests",
                what="manifest.entries",
            )
        yield entry


def _walk(store: Source, entry: Descriptor, above: tuple[Digest, ...]) -> Iterator[Descriptor]:
    if not is_index(entry.media_type):
        yield entry
        return
    if entry.digest in above:
        raise FormatError(
            f"{store.name}: image index {entry.digest} contains itself", what="manifest.loop"
        )
    if len(above) == MAX_DEPTH:
        raise FormatError(
            f"{store.name}: image index {entry.digest} is nested deeper than {MAX_DEPTH} levels",
            what="manifest.depth",
        )
    index = ImageIndex.from_json(store.manifest(entry))
    for child in index.manifests or ():
        yield from _walk(store, child, (*above, entry.digest))
