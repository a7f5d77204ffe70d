"""Packs: the recorded parts of an image's layers, in the order of their first use.

Source: docs/pack.md#parts.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from tocsin import _core
from tocsin.errors import VerificationError
from tocsin.layers.seek_contents import CheckpointReader
from tocsin.model.compression import ZSTD
from tocsin.model.descriptor import Descriptor
from tocsin.model.seek_manifest import PACK_FRAMES, pack_index_descriptor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from typing_extensions import Buffer

    from tocsin.layers.seek_table import SeekParts, SeekTableBlobs

_REQUEST_SIZE = 8 << 20
"""Maximum compressed bytes of neighbouring spans that are read at once."""


class Extent(NamedTuple):
    """A part of a layer.

    Attributes:
        layer: number of the layer, 0 for the lowest.
        start: offset of the first byte in the uncompressed layer.
        end: offset after the last byte.
    """

    layer: int
    start: int
    end: int


class PackIndex:
    """The index of a pack: which parts of layers are in which frame.

    Args:
        data: bytes of the index, whose digest has been verified.

    Raises:
        SeekTableError: it is not an index, or it is damaged.

    Attributes:
        core: the index in the core.
    """

    def __init__(self, data: Buffer) -> None:
        self.core = _core.Pack(data)

    @property
    def size(self) -> int:
        """Bytes of all frames as stored."""
        return self.core.size

    @property
    def content_size(self) -> int:
        """Bytes of all frames after decompression."""
        return self.core.content_size

    @property
    def frame_count(self) -> int:
        """The number of frames."""
        return self.core.frame_count

    @property
    def extent_count(self) -> int:
        """The number of parts of layers in all frames."""
        return self.core.extent_count

    @property
    def layers(self) -> list[tuple[str, int]]:
        """The digest and the uncompressed size of each layer, from the lowest up."""
        return self.core.layers

    def frame_range(self, frame: int) -> tuple[int, int]:
        """Return where a frame is in the pack."""
        return self.core.frame_range(frame)

    def extents(self, frame: int) -> Iterator[Extent]:
        """Yield the parts of layers in a frame, in the order of its content."""
        return (Extent(*each) for each in self.core.extents(frame))

    def open_frame(self, frame: int, stored: Buffer) -> bytes:
        """Return the content of a frame, after verifying its digest.

        Raises:
            VerificationError: the digest differs.
            SeekTableError: it cannot be decompressed.
        """
        return self.core.open_frame(frame, stored)

    def check_layers(self, layers: Iterable[tuple[str, int]]) -> None:
        """Check that the pack was made for these layers.

        Args:
            layers: the digest and the uncompressed size of each layer, from the lowest up.

        Raises:
            VerificationError: it was not.
        """
        expected, found = list(layers), self.layers
        if found != expected:
            same = sum(one == other for one, other in zip(found, expected, strict=False))
            raise VerificationError(
                f"pack: made for another image ({same} of {len(expected)} layers are the same, "
                f"and {len(found)} are listed)",
                expected=", ".join(digest for digest, _ in expected),
                actual=", ".join(digest for digest, _ in found),
            )


@dataclass(frozen=True, slots=True)
class PackBlobs:
    """A pack that has been made.

    Attributes:
        index: bytes of the index.
        frames: bytes of the frames.
    """

    index: bytes
    frames: bytes

    @property
    def index_descriptor(self) -> Descriptor:
        """The descriptor of the index in a seek manifest, with its bytes unless it is large."""
        return pack_index_descriptor(self.index)

    @property
    def frames_descriptor(self) -> Descriptor:
        """The descriptor of the frames in a seek manifest."""
        return Descriptor.of(self.frames, PACK_FRAMES)


class PackPlan:
    """What goes into the pack of an image.

    Args:
        table: the seek table of the image.
        layers: the parts of its layers, from the lowest up.
        reads: path, start and end of each recorded read, in the order of first use.

    Attributes:
        frames: the extents of each frame.
        unknown: number of reads of files that the image does not have.
        unusable: number of reads of layers without checkpoints, which are read in full anyway.
        left_out: number of bytes that do not fit.
    """

    def __init__(
        self,
        table: SeekTableBlobs,
        layers: Sequence[SeekParts],
        reads: Sequence[tuple[str, int, int]],
    ) -> None:
        self._layers = layers
        self._spans = [CheckpointReader.of_blob(layer.seek) for layer in layers]
        self._sizes = [spans.sizes[2] for spans in self._spans]
        usable = [None if spans.sizes[0] == ZSTD else spans.sizes[2] for spans in self._spans]
        frames, self.unknown, self.unusable, self.left_out = _core.plan_pack(
            _tree(table), usable, reads
        )
        self.frames = [[Extent(*each) for each in frame] for frame in frames]

    def make(self, read: Callable[[int, int, int], bytes]) -> PackBlobs:
        """Read the parts and return the pack.

        Args:
            read: returns a range of a layer as stored, given its number, start and end.

        Raises:
            VerificationError: a layer does not match the seek table.
            SeekTableError, FormatError: a span cannot be decoded.
        """
        contents = read_extents(self.frames, self._spans, read)
        writer = _core.PackWriter(
            [(layer.digest, size) for layer, size in zip(self._layers, self._sizes, strict=True)]
        )
        for extents, content in zip(self.frames, contents, strict=True):
            writer.add(extents, bytes(content))
        return PackBlobs(*writer.finish())


def read_extents(
    frames: Sequence[Sequence[Extent]],
    spans: Sequence[CheckpointReader | None],
    read: Callable[[int, int, int], bytes],
) -> list[bytearray]:
    """Return the content of frames from the layers; each span is read once.

    Args:
        frames: the extents of each frame.
        spans: the spans of each layer, with the chunks that they need; ``None`` for a layer
            without extents.
        read: returns a range of a layer as stored, given its number, start and end.

    Raises:
        VerificationError: a layer does not match its spans.
        SeekTableError, FormatError: a span cannot be decoded.
    """
    contents = [bytearray(sum(end - start for _, start, end in one)) for one in frames]
    for layer, places in _places(frames).items():
        table = spans[layer]
        assert table is not None  # noqa: S101 (as documented)
        for start, data in _spans_with(table, places, partial(read, layer)):
            _fill(contents, places, start, data)
    return contents


class _Place(NamedTuple):
    start: int
    end: int
    frame: int
    at: int


def _tree(table: SeekTableBlobs) -> _core.SeekTree:
    """Return the file list of a seek table, with all its chunks."""
    root = _core.SeekRoot(table.root)
    tree = _core.SeekTree(root)
    for chunk in range(root.toc_chunk_count):
        start, end = root.toc_chunk_range(chunk)
        tree.add_chunk(chunk, table.file_list[start:end])
    return tree


def _places(frames: Sequence[Sequence[Extent]]) -> dict[int, list[_Place]]:
    """Return where each part goes, by layer and in the order of the layer's bytes."""
    places: dict[int, list[_Place]] = {}
    for frame, extents in enumerate(frames):
        at = 0
        for layer, start, end in extents:
            places.setdefault(layer, []).append(_Place(start, end, frame, at))
            at += end - start
    for of_layer in places.values():
        of_layer.sort()
    return places


def _spans_with(
    table: CheckpointReader, places: list[_Place], read: Callable[[int, int], bytes]
) -> Iterator[tuple[int, bytes]]:
    """Yield the offset and the bytes of each span that holds one of the parts, once each."""
    needed = dict.fromkeys(
        span for place in places for span in table.span_ids(place.start, place.end)
    )
    for run in _runs(list(needed), table):
        first, last = table.compressed_range(run[0])[0], table.compressed_range(run[-1])[1]
        stored = read(first, last)
        for span in run:
            start, end = table.compressed_range(span)
            data = table.inflate(span, stored[start - first : end - first])
            yield table.uncompressed_range(span)[0], data


def _runs(spans: list[int], table: CheckpointReader) -> Iterator[list[int]]:
    """Yield neighbouring spans together, as long as one request can have them."""
    run: list[int] = []
    for span in spans:
        if run and (
            span != run[-1] + 1
            or table.compressed_range(span)[1] - table.compressed_range(run[0])[0] > _REQUEST_SIZE
        ):
            yield run
            run = []
        run.append(span)
    if run:
        yield run


def _fill(contents: list[bytearray], places: list[_Place], start: int, data: bytes) -> None:
    """Copy the part of a span that each place needs."""
    end = start + len(data)
    # The first place that ends after the start of the span: places do not overlap.
    first = bisect_right(places, start, key=lambda place: place.end)
    for place in places[first:]:
        if place.start >= end:
            return
        low, high = max(start, place.start), min(end, place.end)
        at = place.at + low - place.start
        contents[place.frame][at : at + high - low] = data[low - start : high - start]
