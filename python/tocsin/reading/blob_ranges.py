"""A layer's blob in a store, as ranges for `LayerSpans`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.model.descriptor import Descriptor
    from tocsin.stores.base import Source


class BlobRanges:
    """Ranges of a layer's blob, in any order.

    Args:
        store: gives the source that holds it; asked each time, since a fork makes another one.
        layer: the blob.
    """

    in_order = False

    def __init__(self, store: Callable[[], Source], layer: Descriptor) -> None:
        self._store = store
        self._layer = layer

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"{self._store().name}: layer {self._layer.digest}"

    def read(self, start: int, end: int) -> bytes:
        """Return bytes ``[start, end)``, unverified."""
        return self._store().blob_range(self._layer, start, end)
