"""A blob in a store, such as a layer, as a source of ranges for `LayerSpans`."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from tocsin.layers.sources import REQUEST_SIZE
from tocsin.stores.origins import RepositoryOrigin

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.model.descriptor import Descriptor
    from tocsin.stores.base import Source


class BlobRanges:
    """Ranges of a blob, in any order.

    Args:
        store: returns the source that holds the blob; called for each read, since a forked process
            opens another one.
        blob: descriptor of the blob.
        kind: what it is, in error messages.
    """

    in_order = False

    def __init__(self, store: Callable[[], Source], blob: Descriptor, kind: str = "layer") -> None:
        self._store = store
        self._blob = blob
        self._kind = kind

    @cached_property
    def request_size(self) -> int:
        """Bytes worth reading at once; 0 for a store on this machine."""
        return REQUEST_SIZE if isinstance(self._store().origin, RepositoryOrigin) else 0

    @property
    def name(self) -> str:
        """Name in error messages."""
        return f"{self._store().name}: {self._kind} {self._blob.digest}"

    def read(self, start: int, end: int) -> bytes:
        """Return bytes ``[start, end)``, unverified."""
        return self._store().blob_range(self._blob, start, end)
