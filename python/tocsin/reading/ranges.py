"""Reading ranges of many files with few requests."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tocsin.reading.layer import Layer
    from tocsin.reading.merged import MergedLayers
    from tocsin.reading.tree import Node

_BATCH_SIZE = 64 << 20
"""Uncompressed bytes fetched ahead; well below the size of a cache."""
_HEADER_SIZE = 512
"""Bytes of the tar header before a file, which is read too; longer ones are fetched when read."""


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
    """Location of a range according to the zTOC, which is verified when the range is read."""

    number: int
    node: Node
    layer: Layer
    size: int
    offset: int
    start: int
    end: int


def read_ranges(
    image: MergedLayers, ranges: Sequence[FileRange]
) -> Iterator[tuple[int, bytes | Exception]]:
    """Yield the data of each range, or the error, with its index in `ranges`.

    The order is that of the bytes in the layers, not that of `ranges`, so that ranges next to each
    other share spans, and spans next to each other share a request.
    """
    places = []
    for number, wanted in enumerate(ranges):
        try:
            places.append(_place(image, number, wanted))
        except Exception as error:
            yield number, error
    places.sort(key=lambda place: (place.node.layer, place.offset + place.start))
    for batch in _batches(places):
        with suppress(VerificationError):  # reading the affected file raises it again
            _fetch(batch)
        for place in batch:
            try:
                layer, data = image.file_data(place.node)
                yield place.number, layer.read(data, place.start, place.end)
            except Exception as error:
                yield place.number, error


def _place(image: MergedLayers, number: int, wanted: FileRange) -> _Place:
    node = image.regular_file(wanted.path)
    assert node.entry is not None  # noqa: S101 (a regular file has an entry)
    layer = image.layer(node.layer)
    size = layer.sizes[node.entry]
    start, end, _ = slice(wanted.start, wanted.end).indices(size)
    offset = int(layer.files["uncompressed_offset"][node.entry])
    return _Place(number, node, layer, size, offset, start, end)


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


def _fetch(batch: list[_Place]) -> None:
    """Start to fetch the spans of a batch, adjacent ones together."""
    layer: Layer | None = None
    first = last = 0
    for place in batch:
        for start, end in _needed(place):
            if layer is place.layer and _touch(layer, last, start):
                last = max(last, end)
                continue
            if layer is not None:
                layer.spans.read_ahead(first, last)
            layer, first, last = place.layer, start, end
    if layer is not None:
        layer.spans.read_ahead(first, last)


def _needed(place: _Place) -> Iterator[tuple[int, int]]:
    """Yield the ranges of the layer to read: the file's header, then data of at most a batch."""
    if place.offset >= _HEADER_SIZE:
        yield place.offset - _HEADER_SIZE, place.offset
    if place.start < place.end:
        end = min(place.end, place.start + _BATCH_SIZE)
        yield place.offset + place.start, place.offset + end


def _touch(layer: Layer, end: int, start: int) -> bool:
    """Return whether ``…, end)`` and ``[start, …`` are in the same or adjacent spans."""
    if start <= end:
        return True
    return layer.spans.span_ids(start, start + 1).start <= layer.spans.span_ids(end - 1, end).stop
