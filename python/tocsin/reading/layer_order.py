"""Many files of one layer, in the order in which the layer holds them.

So that each span is fetched and inflated once, and the next ones are on their way meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tocsin.errors import TocsinError
from tocsin.quoting import shown
from tocsin.reading.layer import FAR
from tocsin.tar.headers import BLOCK_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tocsin.reading.layer import Layer
    from tocsin.tar.file_data import FileData

_AHEAD = 64 << 20
"""Uncompressed bytes fetched and inflated before they are asked for, at most."""
_STEP = 8 << 20
"""Uncompressed bytes asked for ahead at once: a request or two."""
_GAP = 64 << 10
"""Bytes between two files, up to which they count as neighbours."""
_SMALL = 1 << 20
"""Bytes of a file that is read in one piece, with its headers."""
_MANY_HEADERS = 64 << 10
"""Bytes of headers that are not read along."""
_NEVER = 1 << 63
"""A place that no layer has."""


class FilesInLayerOrder:
    """The data of some regular files of a layer.

    Args:
        layer: the layer.
        entries: numbers of the files in it.
    """

    def __init__(self, layer: Layer, entries: Sequence[int]) -> None:
        self._layer = layer
        chosen = np.array(entries, dtype=np.int64)
        files = layer.files
        order = files["uncompressed_offset"][chosen].argsort(kind="stable")
        chosen = chosen[order]
        offsets = files["uncompressed_offset"][chosen]
        sizes = files["uncompressed_size"][chosen]
        starts = layer.header_starts[chosen]
        self._rows = zip(
            order.tolist(),
            chosen.tolist(),
            starts.tolist(),
            offsets.tolist(),
            sizes.tolist(),
            strict=True,
        )
        # Not all that the cache holds, or spans would push each other out before they are read.
        self._ahead = min(_AHEAD, layer.spans.cache_size // 4)
        ends = np.minimum(offsets, FAR) + np.minimum(sizes, FAR)
        self._steps = _steps(starts, np.minimum(ends, layer.data_limits[chosen]))
        self._next = next(self._steps, None)
        self._trigger = _NEVER if layer.spans.in_order else 0

    def __iter__(self) -> Iterator[tuple[int, memoryview | FileData]]:
        """Give each file: its place in `entries`, and its data, or where to `stream` it from.

        Raises:
            VerificationError: a span is not what the zTOC says, or the zTOC lies about a file; its
                notes name the file.
        """
        layer, read = self._layer, self._layer.spans.read
        for place, entry, start, offset, size in self._rows:
            try:
                if start >= self._trigger:
                    self._look_ahead(start)
                header_size = offset - start
                if size <= _SMALL and BLOCK_SIZE <= header_size <= _MANY_HEADERS:
                    found = read(start, offset + size)
                    if len(found) == header_size + size and layer.announces(
                        found[:header_size], entry
                    ):
                        yield place, memoryview(found)[header_size:]
                        continue
                yield place, layer.data(entry)
            except TocsinError as error:
                error.add_note(f"at file {shown(f'/{layer.paths[entry]}')}")
                raise

    def stream(self, data: FileData) -> Iterator[tuple[int, bytes]]:
        """Give the data of a file in pieces, each with where in the file it belongs; no holes."""
        offset = data.extents[0].offset if data.extents else 0
        for at, piece in self._layer.stream(data):
            if offset + at >= self._trigger:
                self._look_ahead(offset + at)
            yield at, piece

    def _look_ahead(self, at: int) -> None:
        while self._next is not None and self._next[0] < at + self._ahead:
            start, end, until = self._next
            self._layer.spans.read_ahead(start, end, until=until)
            self._next = next(self._steps, None)
        self._trigger = _NEVER if self._next is None else self._next[0] - self._ahead + 1


def _steps(
    starts: np.ndarray[tuple[int], np.dtype[np.int64]],
    ends: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> Iterator[tuple[int, int, int]]:
    """Yield (start, end, end of the neighbours' run) of what to fetch, in order."""
    if not len(starts):
        return
    ends = np.maximum.accumulate(ends)
    breaks = np.flatnonzero(starts[1:] - ends[:-1] > _GAP) + 1
    firsts = starts[np.concatenate(([0], breaks))].tolist()
    lasts = ends[np.concatenate((breaks - 1, [len(ends) - 1]))].tolist()
    for first, last in zip(firsts, lasts, strict=True):
        for start in range(first, last, _STEP):
            yield start, min(start + _STEP, last), last
