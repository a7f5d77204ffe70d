"""The manifests of an image, when image indexes list image indexes."""

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
"""Image indexes accepted inside each other; containerd and nerdctl write two."""


def walk_manifests(store: Source, root: Descriptor) -> Iterator[Descriptor]:
    """Yield every entry below `root` that is not itself an image index, in order.

    A `root` that is no index is yielded itself. Entries of unknown type and entries whose blob is
    absent are yielded too: whoever reads them decides.

    Raises:
        FormatError: an index lists itself or one above it, nests deeper than `MAX_DEPTH`, or more
            than `fields.MAX_ENTRIES` entries come together; `what` is ``manifest.loop``,
            ``manifest.depth`` or ``manifest.entries``.
        NotFoundError: an image index is not there.
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
            f"{store.name}: image index {entry.digest} lists itself", what="manifest.loop"
        )
    if len(above) == MAX_DEPTH:
        raise FormatError(
            f"{store.name}: image index {entry.digest} is nested deeper than {MAX_DEPTH} levels",
            what="manifest.depth",
        )
    index = ImageIndex.from_json(store.manifest(entry))
    for child in index.manifests or ():
        yield from _walk(store, child, (*above, entry.digest))
