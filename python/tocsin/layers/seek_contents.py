"""The decoded contents of a seek table, so that it can be compared with its image.

Source: docs/seek-table.md#parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tocsin import _core
from tocsin.layers.seek_table import core_of_blob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Buffer

    from tocsin.layers.seek_table import SeekBlob

STAT_FIELDS = (
    "path",
    "type",
    "size",
    "mode",
    "uid",
    "gid",
    "uname",
    "gname",
    "mtime_ns",
    "linkname",
    "devmajor",
    "devminor",
    "xattrs",
)
"""Names of the first values of an entry in `ListedEntry.metadata`."""


class Start(NamedTuple):
    """What starts at a checkpoint.

    Attributes:
        kind: ``member``, ``block``, ``symbol`` (inside a block) or ``stored`` (inside a stored
            block).
        number: bits of the block header of a ``symbol``; bytes left in a ``stored`` block.
        is_last: whether the stored block is the last one of its member.
        header: bytes of the block header.
    """

    kind: str
    number: int
    is_last: bool
    header: bytes


class Checkpoint(NamedTuple):
    """A checkpoint of a seek table.

    Attributes:
        start: what starts there.
        runs: runs of known bytes in the window, as (offset in the window, bytes).
        digest: digest of the compressed bytes of its span.
    """

    start: Start
    runs: tuple[tuple[int, bytes], ...]
    digest: str


class RootLayer(NamedTuple):
    """A layer according to the root of a seek table.

    Attributes:
        digest: digest of the layer as stored.
        compression: ``gzip``, ``uncompressed`` or ``zstd``.
        size: bytes of the layer as stored.
        uncompressed_size: bytes of the uncompressed layer.
        span_count: number of spans.
        blob_size: bytes of its seek blob.
    """

    digest: str
    compression: str
    size: int
    uncompressed_size: int
    span_count: int
    blob_size: int


class DataPlace(NamedTuple):
    """Where the data of a regular file is.

    Attributes:
        layer: number of its layer.
        offset: offset of its data in the uncompressed layer.
        size: size of the file.
        header_blocks: number of blocks of 512 bytes that its headers take.
        path: clean path of its entry in the layer.
        has_owner: whether mode and owner in the file list are those of this entry.
    """

    layer: int
    offset: int
    size: int
    header_blocks: int
    path: str
    has_owner: bool


class ListedEntry(NamedTuple):
    """An entry of the file list.

    Attributes:
        metadata: values of `STAT_FIELDS`.
        layer: number of the layer that the file comes from.
        place: where the data of a regular file is; ``None`` for other types.
        first_name: number of the first name of the same file; hard links share it.
        target: target of a symbolic link, or of a hard link whose target is missing.
        is_implied: whether it is a directory that no layer lists.
    """

    metadata: tuple[Any, ...]
    layer: int
    place: DataPlace | None
    first_name: int
    target: str
    is_implied: bool

    @property
    def path(self) -> str:
        """The absolute path."""
        path: str = self.metadata[0]
        return path

    @property
    def values(self) -> dict[str, Any]:
        """The metadata by name."""
        return dict(zip(STAT_FIELDS, self.metadata, strict=True))


class CheckpointReader:
    """The spans of a layer according to a seek table.

    Args:
        core: the spans in the core.
    """

    def __init__(self, core: _core.SeekSpans) -> None:
        self._core = core

    @classmethod
    def of_head(cls, seek: SeekBlob) -> CheckpointReader:
        """Return the spans of a seek blob, without any chunk."""
        return cls(core_of_blob(seek).spans())

    @classmethod
    def of_blob(cls, seek: SeekBlob) -> CheckpointReader:
        """Return the spans of a seek blob, with all its chunks.

        Raises:
            SeekTableError: a chunk is damaged.
        """
        spans, blob = cls.of_head(seek), seek.blob
        for chunk in range(spans.chunk_count):
            start, end = core_of_blob(seek).chunk_range(chunk)
            spans.add_chunk(chunk, blob[start:end])
        return spans

    @property
    def sizes(self) -> tuple[str, int, int]:
        """Compression, compressed size and uncompressed size of the layer."""
        return self._core.compression, self._core.compressed_size, self._core.uncompressed_size

    @property
    def span_count(self) -> int:
        """The number of spans."""
        return self._core.span_count

    @property
    def chunk_count(self) -> int:
        """The number of chunks with checkpoints."""
        return self._core.chunk_count

    def chunk_of(self, span_id: int) -> int:
        """Return the number of the chunk with the checkpoint of a span."""
        return self._core.chunk_of(span_id)

    def has_chunk(self, chunk: int) -> bool:
        """Return whether a chunk has been added."""
        return self._core.has_chunk(chunk)

    def add_chunk(self, chunk: int, data: Buffer) -> None:
        """Add a chunk, after verifying its digest.

        Raises:
            VerificationError: the digest differs.
            SeekTableError: the chunk is damaged.
        """
        self._core.add_chunk(chunk, data)

    def position(self, span_id: int) -> tuple[int, int]:
        """Return the uncompressed offset of a checkpoint and the offset of its first bit."""
        return self._core.position(span_id)

    def checkpoint(self, span_id: int) -> Checkpoint:
        """Return a checkpoint; its chunk must have been added."""
        *start, runs, digest = self._core.checkpoint(span_id)
        return Checkpoint(Start(*start), tuple(runs), digest)  # type: ignore[arg-type]  # unpacked

    def span_ids(self, start: int, end: int) -> range:
        """Return the ids of the spans that hold a range of uncompressed bytes."""
        return range(*self._core.span_ids(start, end))

    def compressed_range(self, span_id: int) -> tuple[int, int]:
        """Return the compressed bytes that a span needs; neighbours may share one byte."""
        return self._core.compressed_range(span_id)

    def uncompressed_range(self, span_id: int) -> tuple[int, int]:
        """Return the uncompressed bytes of a span."""
        return self._core.uncompressed_range(span_id)

    def inflate(self, span_id: int, compressed: Buffer) -> bytes:
        """Return the uncompressed bytes of a span, after verifying its compressed bytes.

        Raises:
            VerificationError: the digest differs.
            SeekTableError, FormatError: the span does not inflate from its checkpoint.
        """
        return self._core.inflate_span(span_id, compressed)

    def read(self, start: int, end: int, compressed_bytes: Callable[[int, int], bytes]) -> bytes:
        """Return a range of uncompressed bytes.

        Args:
            start: first byte.
            end: end of the range.
            compressed_bytes: returns a range of the layer as stored.
        """
        pieces = []
        for span_id in self.span_ids(start, end):
            first, last = self.uncompressed_range(span_id)
            compressed = compressed_bytes(*self.compressed_range(span_id))
            wanted = max(first, start), min(last, end)
            pieces.append(self._core.read_span(span_id, compressed, *wanted))
        return b"".join(pieces)


class SeekTableContents:
    """The root of a seek table, and the parts of it that have been added.

    Args:
        root: bytes of the root, whose digest has been verified.

    Raises:
        SeekTableError: it is not a root, or it is damaged.
    """

    def __init__(self, root: Buffer) -> None:
        self._root = _core.SeekRoot(root)
        self._tree = _core.SeekTree(self._root)
        self._spans: list[CheckpointReader] = []

    @property
    def span_size(self) -> int:
        """Uncompressed bytes between two checkpoints."""
        return self._root.span_size

    @property
    def entry_count(self) -> int:
        """The number of entries in the file list."""
        return self._root.entry_count

    @property
    def layers(self) -> list[RootLayer]:
        """The layers, from the lowest up."""
        return [RootLayer(*self._root.layer(one)) for one in range(self._root.layer_count)]

    @property
    def positions_range(self) -> tuple[int, int]:
        """The range of the position map in the file list blob."""
        return self._root.positions_range

    @property
    def list_size(self) -> int:
        """Bytes of the file list blob."""
        return self._root.toc_blob_size

    @property
    def list_chunk_count(self) -> int:
        """The number of chunks of the file list."""
        return self._root.toc_chunk_count

    def list_chunk_range(self, chunk: int) -> tuple[int, int]:
        """Return the range of a chunk in the file list blob."""
        return self._root.toc_chunk_range(chunk)

    def seek_chunk_range(self, layer: int, chunk: int) -> tuple[int, int]:
        """Return the range of a chunk in the seek blob of a layer."""
        return self._root.seek_chunk_range(layer, chunk)

    def add_positions(self, data: Buffer) -> None:
        """Add the position map, after verifying its digest.

        Raises:
            VerificationError: the digest differs.
            SeekTableError: it is damaged.
        """
        self._spans = [CheckpointReader(spans) for spans in self._root.positions(data)]

    def spans(self, layer: int) -> CheckpointReader | None:
        """Return the spans of a layer; ``None`` without the position map."""
        return self._spans[layer] if self._spans else None

    def add_list_chunk(self, chunk: int, data: Buffer) -> None:
        """Add a chunk of the file list, after verifying its digest.

        Raises:
            VerificationError: the digest differs.
            SeekTableError: it is damaged.
        """
        self._tree.add_chunk(chunk, data)

    def entries(self) -> Iterator[ListedEntry]:
        """Yield all entries, in order; all chunks must have been added."""
        for chunk in range(self.list_chunk_count):
            yield from self.chunk_entries(chunk)

    def chunk_entries(self, chunk: int) -> Iterator[ListedEntry]:
        """Yield the entries of a chunk; it must have been added."""
        for number in range(*self._root.toc_chunk_entries(chunk)):
            row = self._tree.stat_place(number)
            inode, layer = row[len(STAT_FIELDS) :]
            place, is_implied, target = self._tree.listed(number)
            yield ListedEntry(
                metadata=row[: len(STAT_FIELDS)],
                layer=layer,
                place=None if place is None else DataPlace(*place),
                first_name=inode - 1,
                target=target,
                is_implied=is_implied,
            )
