"""Indexing one layer of any compression in one pass, for its zTOC and for a seek table."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from tocsin.layers.indexer import LayerPass
from tocsin.layers.seek_table import SeekBlob
from tocsin.layers.zstd import ZstdPieces
from tocsin.model.compression import HEAD_SIZE, ZSTD, compression_of

if TYPE_CHECKING:
    from tocsin.layers.indexer import IndexedLayerBytes


class SeekPass:
    """One pass over one layer, whose bytes the caller pushes, as to a `LayerPass`.

    A zstd layer is decompressed to list its files. It has no checkpoints, so readers read it in
    full, and its zTOC is used only for the file list of a seek table.

    Args:
        seek_span_size: uncompressed bytes between the checkpoints.
        threads: number of threads.
        span_size: minimum number of uncompressed bytes between the checkpoints of the zTOC.
        format: as for `LayerPass`, for layers other than zstd.
        reference_identical: as for `LayerPass`.
        for_reading: as for `LayerPass`.
    """

    def __init__(
        self,
        *,
        seek_span_size: int,
        threads: int,
        span_size: int,
        format: str | None,  # noqa: A002 (as in `LayerPass`)
        reference_identical: bool,
        for_reading: bool,
    ) -> None:
        self._seek_span_size = seek_span_size
        self._threads = threads
        self._span_size = span_size
        self._format = format
        self._reference_identical = reference_identical
        self._for_reading = for_reading
        self._head = b""
        self._pass: LayerPass | _ZstdPass | None = None

    def push(self, piece: bytes) -> None:
        """Index the next bytes of the layer as stored.

        Raises:
            FormatError, UnsupportedError: as for `LayerPass`, or invalid zstd data.
        """
        if self._pass is not None:
            self._pass.push(piece)
            return
        self._head += piece
        if len(self._head) >= HEAD_SIZE:
            self._begin().push(self._head)

    def finish(self) -> IndexedLayerBytes:
        """Return the result; its `format` is ``zstd`` for a zstd layer.

        Raises:
            FormatError: as for `LayerPass`, or invalid zstd data.
        """
        if self._pass is None:
            self._begin().push(self._head)
        assert self._pass is not None  # noqa: S101 (begun)
        return self._pass.finish()

    def _begin(self) -> LayerPass | _ZstdPass:
        # The bytes decide, not the media type, as in containerd.
        if compression_of(self._head) == ZSTD:
            self._pass = _ZstdPass(self._seek_span_size, self._threads)
        else:
            self._pass = LayerPass(
                span_size=self._span_size,
                format=self._format,
                reference_identical=self._reference_identical,
                threads=self._threads,
                for_reading=self._for_reading,
                seek_span_size=self._seek_span_size,
            )
        return self._pass


class _ZstdPass:
    """One pass over a zstd layer, which is decompressed only to list its files."""

    def __init__(self, seek_span_size: int, threads: int) -> None:
        self._span_size = seek_span_size
        self._hash = hashlib.sha256()
        self._size = 0
        self._zstd = ZstdPieces()
        self._tar = LayerPass(format="uncompressed", threads=threads, for_reading=True)

    def push(self, piece: bytes) -> None:
        self._hash.update(piece)
        self._size += len(piece)
        for out in self._zstd.of(piece):
            self._tar.push(out)

    def finish(self) -> IndexedLayerBytes:
        self._zstd.finish()
        found = self._tar.finish()
        seek = SeekBlob.of_whole_layer(
            ZSTD, size=self._size, uncompressed_size=found.size, span_size=self._span_size
        )
        digest = f"sha256:{self._hash.hexdigest()}"
        return replace(found, format=ZSTD, digest=digest, size=self._size, seek=seek)
