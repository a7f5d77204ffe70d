"""Indexing one layer in one pass: feeds bytes from any source to ``_core.LayerIndexer``."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol, runtime_checkable

from tocsin import _core, processors
from tocsin.layers.seek_table import SeekBlob
from tocsin.layers.ztoc import Ztoc
from tocsin.model.ztoc_defaults import BUILD_TOOL, DEFAULT_SPAN_SIZE
from tocsin.regular_file import open_regular_or_pipe

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from tocsin.model.document import Document
    from tocsin.model.events import Progress

CORE_VERSION: str = _core.CORE_VERSION
"""The version of the compiled core."""

PIECE_SIZE = 1 << 20
"""Bytes taken from a source at once: a few milliseconds of work."""

_BUFFER_SIZE = 1 << 18
"""Bytes of the buffer that a file is read into; small enough to stay in the processor's cache."""

LayerSource = str | os.PathLike[str] | IO[bytes] | bytes | bytearray | memoryview | Iterable[bytes]
"""A path, a binary file object, bytes, or pieces of bytes as they arrive."""


@dataclass(frozen=True, slots=True)
class Hazard:
    """An entry that the reference indexes although its own reader refuses the zTOC.

    Attributes:
        entry_index: index in ``Ztoc.entries``.
        kind: a stable identifier.
        reason: an explanation for people.
    """

    entry_index: int
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class IndexedLayerBytes:
    """The result of one pass over a layer.

    Attributes:
        ztoc: zTOC of the layer.
        format: ``gzip`` or ``uncompressed``.
        digest: digest of the layer as stored.
        size: bytes of the layer as stored.
        diff_id: digest of the uncompressed layer, if requested or if the layer is not compressed.
        uncompressed_size: bytes of the uncompressed layer, to the end of the stream.
        needs_xattrs: whether the layer must be mounted with extended attributes.
        hazards: entries because of which readers refuse the zTOC.
        dropped_checkpoint_count: number of checkpoints left out because readers refuse a layer
            with them.
        seek: checkpoints for a seek table, if requested.
    """

    ztoc: Ztoc
    format: str
    digest: str
    size: int
    diff_id: str | None
    uncompressed_size: int
    needs_xattrs: bool
    hazards: tuple[Hazard, ...]
    dropped_checkpoint_count: int
    seek: SeekBlob | None = None

    def to_dict(self) -> Document:
        """Return what ``tocsin ztoc build --json`` prints for the layer and its zTOC."""
        entries = self.ztoc.entries
        return {
            "layer": {
                "digest": self.digest,
                "size": self.size,
                "format": self.format,
                "diff_id": self.diff_id,
                "uncompressed_size": self.uncompressed_size,
                "needs_xattrs": self.needs_xattrs,
            },
            "ztoc": self.ztoc.to_dict(),
            "hazards": [
                {
                    "entry_index": hazard.entry_index,
                    "name": entries[hazard.entry_index].name,
                    "kind": hazard.kind,
                    "reason": hazard.reason,
                }
                for hazard in self.hazards
            ],
            "dropped_checkpoint_count": self.dropped_checkpoint_count,
        }


class LayerPass:
    """One pass over one layer, whose bytes the caller pushes.

    Push the layer's bytes in order, in pieces of any size, then call `finish`.

    With ``for_reading``, layers with PAX global headers are accepted too, as containerd does.
    The reference refuses to index those, so their zTOC must not be written anywhere.
    """

    def __init__(
        self,
        *,
        span_size: int = DEFAULT_SPAN_SIZE,
        format: str | None = None,  # noqa: A002 (the word of the domain, as in `open(mode)`)
        reference_identical: bool = False,
        diff_id: bool = False,
        build_tool_identifier: str = BUILD_TOOL,
        threads: int | None = None,
        for_reading: bool = False,
        seek_span_size: int | None = None,
    ) -> None:
        if not 0 <= span_size < 1 << 63:
            raise ValueError(f"span_size: must be from 0 to 2**63 - 1 (found {span_size})")
        self._indexer = _core.LayerIndexer(
            format=format,
            span_size=span_size,
            build_tool_identifier=build_tool_identifier,
            diff_id=diff_id,
            reference_identical=reference_identical,
            threads=processors.resolve_threads(threads),
            for_reading=for_reading,
            seek_span_size=seek_span_size,
        )

    def push(self, piece: Buffer) -> None:
        """Index the next bytes of the layer as stored; releases the GIL.

        Raises:
            FormatError: the layer cannot be indexed (`GzipError`, `TarError`, or a format other
                than the declared one); nothing more can be pushed.
            UnsupportedError: a zstd layer.
        """
        self._indexer.push(piece)

    def finish(self) -> IndexedLayerBytes:
        """Return the result once all bytes have been pushed.

        Raises:
            FormatError: as `push`; also if the layer ends too early.
        """
        found = self._indexer.finish()
        return IndexedLayerBytes(
            ztoc=Ztoc(found.ztoc),
            format=found.format,
            digest=found.digest,
            size=found.size,
            diff_id=found.diff_id,
            uncompressed_size=found.uncompressed_size,
            needs_xattrs=found.needs_xattrs,
            hazards=tuple(Hazard(*hazard) for hazard in found.hazards),
            dropped_checkpoint_count=found.dropped_checkpoint_count,
            seek=None if found.seek is None else SeekBlob.wrapping(found.seek),
        )


def index_layer(
    source: LayerSource,
    *,
    span_size: int = DEFAULT_SPAN_SIZE,
    format: str | None = None,  # noqa: A002 (the word of the domain)
    reference_identical: bool = False,
    diff_id: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> IndexedLayerBytes:
    """Index a layer in one pass, without keeping it and without temporary files.

    Args:
        source: the layer as a registry stores it: a path, a binary file object read to its end,
            bytes, or an iterable of pieces.
        span_size: minimum number of uncompressed bytes between checkpoints; the spans of a plain
            tar have exactly this size.
        format: ``gzip`` or ``uncompressed``, as the media type declares; by default, detected from
            the bytes.
        reference_identical: keep checkpoints that make the reference's own reader refuse the layer.
        diff_id: also hash the uncompressed bytes.
        threads: number of threads, including the caller's; by default, one for each processor that
            this process may use. The result is the same for any number.
        progress: called with an `Advanced` for each piece; may raise to stop.

    Raises:
        FormatError: the layer cannot be indexed; ``.what`` names the broken rule and ``.offset``
            says where.
        UnsupportedError: a zstd layer.
        OSError: the source cannot be read.
    """
    layer = LayerPass(
        span_size=span_size,
        format=format,
        reference_identical=reference_identical,
        diff_id=diff_id,
        threads=threads,
    )
    if progress is None:
        for piece in _pieces(source):
            layer.push(piece)
        return layer.finish()
    from tocsin.model.events import Advanced  # noqa: PLC0415 (most layers are indexed without)

    done, total = 0, _size_of(source)
    progress(Advanced(done, total))
    for piece in _pieces(source):
        layer.push(piece)
        done += len(piece)
        progress(Advanced(done, total))
    return layer.finish()


def build_ztoc(
    source: LayerSource,
    *,
    span_size: int = DEFAULT_SPAN_SIZE,
    format: str | None = None,  # noqa: A002 (the word of the domain)
    reference_identical: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Ztoc:
    """Make the zTOC of a layer, as `index_layer` does, which returns more than the zTOC."""
    return index_layer(
        source,
        span_size=span_size,
        format=format,
        reference_identical=reference_identical,
        threads=threads,
        progress=progress,
    ).ztoc


def _size_of(source: LayerSource) -> int | None:
    """Return the size of a layer in bytes; ``None`` if it is not known before reading."""
    if isinstance(source, bytes | bytearray | memoryview):
        return memoryview(source).nbytes
    with suppress(OSError, AttributeError):
        if isinstance(source, str | os.PathLike):
            status = Path(source).stat()
        elif isinstance(source, _Readable):
            status = os.fstat(source.fileno())  # type: ignore[attr-defined]  # suppressed above
        else:
            return None
        if stat.S_ISREG(status.st_mode):
            return status.st_size
    return None


def _pieces(source: LayerSource) -> Iterator[bytes | bytearray | memoryview]:
    if isinstance(source, str | os.PathLike):
        with io.FileIO(open_regular_or_pipe(source)) as file:
            yield from _pieces_in_place(file)
    elif isinstance(source, bytes | bytearray | memoryview):
        view = memoryview(source).cast("B")
        for start in range(0, len(view), PIECE_SIZE):
            yield view[start : start + PIECE_SIZE]
    elif isinstance(source, _Readable):
        yield from _read_pieces(source)
    else:
        yield from source


def _pieces_in_place(file: io.RawIOBase) -> Iterator[memoryview]:
    """Yield a file in pieces; each is valid only until the next one is requested."""
    buffer = bytearray(_BUFFER_SIZE)
    piece = memoryview(buffer).toreadonly()  # the core would copy a writable buffer
    while size := file.readinto(buffer):
        yield piece[:size]


@runtime_checkable
class _Readable(Protocol):
    def read(self, size: int, /) -> bytes | None: ...


def _read_pieces(file: _Readable) -> Iterator[bytes]:
    while (piece := file.read(PIECE_SIZE)) != b"":
        if piece is None:  # not the end: such a file may have more later
            raise BlockingIOError("layer is a non-blocking file with no bytes yet")
        if not isinstance(piece, bytes):
            raise TypeError(
                "layer: not opened in binary mode "
                f"(read() returned {type(piece).__name__}, expected bytes)"
            )
        yield piece
