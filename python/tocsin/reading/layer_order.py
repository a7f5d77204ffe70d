"""Reading many files of one layer in the order in which the layer holds them.

Each span is then fetched and inflated once, and the next spans are fetched in the background.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.errors import TocsinError
from tocsin.quoting import shown
from tocsin.tar.headers import BLOCK_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from tocsin.reading.layer import Layer
    from tocsin.tar.file_data import FileData

_AHEAD = 64 << 20
"""Maximum number of uncompressed bytes fetched and inflated ahead."""
_STEP_SIZE = 8 << 20
"""Uncompressed bytes fetched ahead at once, with one or two requests."""
_MAX_GAP = 64 << 10
"""Maximum number of unused bytes between two files that are fetched together."""
_MAX_SMALL_FILE_SIZE = 1 << 20
"""Maximum size of a file that is read in one piece with its headers, in bytes."""
_MAX_SMALL_HEADER_SIZE = 64 << 10
"""Maximum size of the headers that are read in one piece with a file, in bytes."""
FAR = 1 << 61
"""An offset beyond the end of any layer; the sum of two fits 64 bits, whatever a zTOC claims."""
_NEVER = 1 << 63
"""An offset that no layer reaches."""


class FilesInLayerOrder:
    """The data of some regular files of a layer.

    Args:
        layer: the layer.
        entries: entry numbers of the files.
    """

    def __init__(self, layer: Layer, entries: Sequence[int]) -> None:
        import numpy as np  # noqa: PLC0415 (slow, and a mount needs no arrays)

        self._layer = layer
        places = layer.places(entries)
        order = places.offsets.argsort(kind="stable")
        offsets, sizes, starts = places.offsets[order], places.sizes[order], places.starts[order]
        self._rows = zip(
            order.tolist(),
            np.array(entries, dtype=np.int64)[order].tolist(),
            starts.tolist(),
            offsets.tolist(),
            sizes.tolist(),
            strict=True,
        )
        # Only a part of the cache, or spans would be evicted before they are read.
        self._ahead = min(_AHEAD, layer.spans.cache_size // 4)
        ends = np.minimum(offsets, FAR) + np.minimum(sizes, FAR)
        self._steps = _steps(starts, np.minimum(ends, places.limits[order]))
        self._next = next(self._steps, None)
        self._trigger = _NEVER if layer.spans.in_order else 0

    def __iter__(self) -> Iterator[tuple[int, memoryview | FileData]]:
        """Yield each file: its index in `entries`, and its data or the argument for `stream`.

        Raises:
            VerificationError: a span does not match the zTOC, or the zTOC lies about a file; the
                notes of the error name the file.
        """
        layer, read = self._layer, self._layer.spans.read
        for index, entry, start, offset, size in self._rows:
            try:
                if start >= self._trigger:
                    self._look_ahead(start)
                header_size = offset - start
                if (
                    size <= _MAX_SMALL_FILE_SIZE
                    and BLOCK_SIZE <= header_size <= _MAX_SMALL_HEADER_SIZE
                ):
                    found = read(start, offset + size)
                    if len(found) == header_size + size and layer.headers_match(
                        found[:header_size], entry
                    ):
                        yield index, memoryview(found)[header_size:]
                        continue
                yield index, layer.data(entry)
            except TocsinError as error:
                error.add_note(f"at file {shown(f'/{layer.claims(entry).path}')}")
                raise

    def stream(self, data: FileData) -> Iterator[tuple[int, bytes]]:
        """Yield the data of a file in pieces, each with its offset in the file, without holes."""
        offset = data.extents[0].offset if data.extents else 0
        for at, piece in self._layer.stream(data):
            if offset + at >= self._trigger:
                self._look_ahead(offset + at)
            yield at, piece

    def _look_ahead(self, at: int) -> None:
        ranges = []
        while self._next is not None and self._next[0] < at + self._ahead:
            ranges.append(self._next)
            self._next = next(self._steps, None)
        # Passed all at once, since ranges near each other share a request.
        self._layer.spans.read_all_ahead(ranges)
        self._trigger = _NEVER if self._next is None else self._next[0] - self._ahead // 2


def _steps(
    starts: np.ndarray[tuple[int], np.dtype[np.int64]],
    ends: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> Iterator[tuple[int, int]]:
    """Yield the ranges to fetch in order."""
    import numpy as np  # noqa: PLC0415 (slow, and a mount needs no arrays)

    if not len(starts):
        return
    ends = np.maximum.accumulate(ends)
    breaks = np.flatnonzero(starts[1:] - ends[:-1] > _MAX_GAP) + 1
    firsts = starts[np.concatenate(([0], breaks))].tolist()
    lasts = ends[np.concatenate((breaks - 1, [len(ends) - 1]))].tolist()
    for first, last in zip(firsts, lasts, strict=True):
        for start in range(first, last, _STEP_SIZE):
            yield start, min(start + _STEP_SIZE, last)
