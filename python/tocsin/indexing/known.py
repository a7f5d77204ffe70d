"""Layers that were indexed before: a store of zTOCs, and the results of other runs.

Unlike `reuse`, which finds zTOCs at the destination, these are found anywhere by the digest of the
layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tocsin.errors import FormatError
from tocsin.layers.ztoc import Ztoc
from tocsin.log import LOG
from tocsin.model.soci_index import MAX_ZTOC_SIZE

if TYPE_CHECKING:
    from tocsin.indexing.options import IndexingOptions
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.digest import Digest
    from tocsin.model.layer_result import LayerResult
    from tocsin.stores.base import Sink


class ZtocStore(Protocol):
    """A store of zTOCs, found by the digest of the layer and the span size.

    `ZtocDirectory` is one. Methods may be called from several threads. A zTOC from a store is not
    compared with the layer, so the store must be trusted as much as the destination.
    """

    def find(self, layer: Digest, span_size: int) -> bytes | None:
        """Return the bytes of a zTOC, or ``None`` if the store does not have it."""
        ...

    def keep(self, layer: Digest, span_size: int, ztoc: bytes) -> None:
        """Add a zTOC that was built from the layer."""
        ...


@dataclass(frozen=True, slots=True)
class KnownLayer:
    """What another run found out about a layer.

    Attributes:
        result: its result; either with a zTOC or with the reason why it has none.
        disable_xattrs: as in `IndexedLayer`.
        repository: ``HOST/REPO`` that has the zTOC; empty without a zTOC.
    """

    result: LayerResult
    disable_xattrs: bool = False
    repository: str = ""


class KnownLayers(Protocol):
    """Layers that were indexed before, whose zTOCs may be in other repositories."""

    def find(self, layer: Descriptor) -> KnownLayer | None:
        """Return what is known about a layer."""
        ...

    def bring(self, known: KnownLayer, sink: Sink) -> bool:
        """Store the zTOC of a known layer in `sink`; return ``False`` if it no longer exists."""
        ...


def find_in_store(store: ZtocStore, layer: Descriptor, options: IndexingOptions) -> Ztoc | None:
    """Return the zTOC of a layer from a store, if it has a usable one.

    As with zTOCs at the destination, others are ignored, since a zTOC can always be rebuilt.
    """
    blob = store.find(layer.digest, options.span_size)
    if blob is None:
        return None
    return usable_ztoc(blob, layer, span_size=options.span_size)


def usable_ztoc(blob: bytes, layer: Descriptor, *, span_size: int) -> Ztoc | None:
    """Return a zTOC if it can belong to a layer and soci-snapshotter can read it."""
    if len(blob) > MAX_ZTOC_SIZE:
        return None
    try:
        ztoc = Ztoc.from_bytes(blob)
    except FormatError as error:
        LOG.warning("layer %s: the zTOC in the store is ignored: %s", layer.digest, error.message)
        return None
    belongs = ztoc.compressed_archive_size == layer.size and ztoc.span_size == span_size
    return ztoc if belongs and not ztoc.reader_refusals() else None
