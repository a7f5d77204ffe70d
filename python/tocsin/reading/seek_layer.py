"""One layer of an image with a seek table."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tocsin.layers.forking import forget_after_fork
from tocsin.reading.layer import Claims, Layer, Place, Places
from tocsin.reading.tree import Node
from tocsin.tar.headers import BLOCK_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tocsin.layers.spans import LayerSpans
    from tocsin.model.descriptor import Descriptor
    from tocsin.reading.seek_tree import SeekTree
    from tocsin.tar.file_data import FileData

_PERMISSIONS = 0o7777
"""The mode bits that a file list records."""
_SIZE, _MODE, _GID = 2, 3, 5
"""Indices in a row of metadata."""


class SeekLayer(Layer):
    """A layer of an image with a seek table; its entries are those of the image's file list.

    Args:
        descriptor: descriptor of the layer.
        number: number of the layer, 0 for the lowest.
        tree: names of the image.
        spans: returns the bytes of the layer; called at the first read.
        size: size of the uncompressed layer.
        is_bound: whether the image vouches for the seek table.
    """

    def __init__(
        self,
        descriptor: Descriptor,
        number: int,
        tree: SeekTree,
        spans: Callable[[], LayerSpans],
        *,
        size: int,
        is_bound: bool,
    ) -> None:
        super().__init__(descriptor, index_origin="seek", is_bound=is_bound)
        self._number = number
        self._tree = tree
        self._open_spans = spans
        self._spans: LayerSpans | None = None
        self._size = size
        self._lock = threading.Lock()
        forget_after_fork(self)

    def after_fork(self) -> None:
        """Forget a lock that another thread may have held."""
        self._lock = threading.Lock()

    @property
    def entry_count(self) -> int | None:
        """``None``: the file list leaves out the entries that upper layers hide."""
        return None

    @property
    def spans(self) -> LayerSpans:
        """Bytes of the layer."""
        spans = self._spans
        if spans is None:
            with self._lock:
                if self._spans is None:
                    self._spans = self._open_spans()
                spans = self._spans
        return spans

    def place(self, entry: int) -> Place:
        """Return where a regular file is, without verifying it."""
        found = self._tree.data_place(entry)
        start = max(0, found.offset - found.header_blocks * BLOCK_SIZE)
        return Place(start, found.offset, found.size)

    def size(self, entry: int) -> int:
        """Return the size of a regular file."""
        return self._tree.data_place(entry).size

    def places(self, entries: Sequence[int]) -> Places:
        """Return where several regular files are, without verifying it."""
        import numpy as np  # noqa: PLC0415 (slow, and a mount needs no arrays)

        found = np.array([self.place(entry) for entry in entries], dtype=np.int64)
        starts, offsets, sizes = found.reshape(-1, 3).T
        # A sparse file has less data than its size, but the start of the next file is unknown.
        return Places(starts, offsets, sizes, np.full(len(found), self._size, dtype=np.int64))

    def claims(self, entry: int) -> Claims:
        """Return what the headers of a regular file must say."""
        place = self._tree.data_place(entry)
        row = self._tree.stat_listed("", Node(self._number, entry, "file", 0))
        return Claims(
            place.path,
            (row[_SIZE], *row[_MODE : _GID + 1]),
            has_owner=place.has_owner,
            mode_mask=_PERMISSIONS,
        )

    def _look_up(self, entry: int) -> FileData:
        return self._data_at(entry, self.place(entry).start)
