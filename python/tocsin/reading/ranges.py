"""Reading ranges of many files with few requests."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tocsin.reading.merged import MergedLayers
    from tocsin.reading.tree import Node

_BATCH_SIZE = 32 << 20
"""Uncompressed bytes of a batch. Two are fetched ahead, well below the size of a cache."""

_END = (1 << 63) - 1
"""An end beyond that of any file."""


@dataclass(frozen=True, slots=True)
class FileRange:
    """Bytes ``[start, end)`` of a file; negative ones count from its end, as in slices.

    Attributes:
        path: path in the image.
        start: offset of the first byte; ``None`` for the beginning.
        end: offset after the last byte; ``None`` for the end of the file.
    """

    path: str
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """Location of a range according to the index, which is verified when the range is read."""

    number: int
    node: Node
    offset: int
    start: int
    end: int


def read_ranges(
    image: MergedLayers, ranges: Sequence[FileRange]
) -> Iterator[tuple[int, bytes | Exception]]:
    """Yield the data of each range, or the error, with its index in `ranges`.

    Ranges in memory come first. The order of the others is that of their bytes in the layers, so
    that ranges next to each other share spans, and spans next to each other share a request.
    """
    left = []
    for number, wanted in enumerate(ranges):
        data = _in_memory(image, wanted)
        if data is None:
            left.append((number, wanted))
        else:
            yield number, data
    if len(left) > 1:
        image.tree.will_find(wanted.path for _, wanted in left)
    places = []
    for number, wanted in left:
        try:
            places.append(_place(image, number, wanted))
        except Exception as error:
            yield number, error
    places.sort(key=lambda place: (place.node.layer, place.offset + place.start))
    for batch in _ahead(image, _batches(places)):
        for place in batch:
            try:
                holder, location = image.file_data(place.node)
                yield place.number, holder.read(location, place.start, place.end)
            except Exception as error:
                yield place.number, error


def _ahead(image: MergedLayers, batches: Iterator[list[_Place]]) -> Iterator[list[_Place]]:
    """Yield batches, each once it and the next one are being fetched, so that no request waits."""
    begun: list[_Place] = []
    for batch in batches:
        for layer, together in groupby(batch, key=lambda place: place.node.layer):
            image.layer(layer).read_ahead(
                (place.node.entry or 0, place.start, place.end) for place in together
            )
        yield begun
        begun = batch
    yield begun


def _in_memory(image: MergedLayers, wanted: FileRange) -> bytes | None:
    start, end = wanted.start or 0, _END if wanted.end is None else wanted.end
    return None if start < 0 or end < 0 else image.read_cached(wanted.path, start, end)


def _place(image: MergedLayers, number: int, wanted: FileRange) -> _Place:
    node = image.regular_file(wanted.path)
    assert node.entry is not None  # noqa: S101 (a regular file has an entry)
    _, offset, size = image.layer(node.layer).place(node.entry)
    start, end, _ = slice(wanted.start, wanted.end).indices(size)
    return _Place(number, node, offset, start, end)


def _batches(places: list[_Place]) -> Iterator[list[_Place]]:
    batch: list[_Place] = []
    size = 0
    for place in places:
        batch.append(place)
        size += max(0, place.end - place.start)
        if size >= _BATCH_SIZE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
