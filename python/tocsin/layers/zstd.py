"""zstd layers, which can be read only from the beginning, since a zTOC cannot describe one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin import _core

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PIECE_SIZE = 1 << 20


class ZstdPieces:
    """Decompresses a zstd layer piece by piece."""

    def __init__(self) -> None:
        self._decoder = _core.ZstdDecoder()

    def of(self, piece: bytes) -> Iterator[bytes]:
        """Yield the uncompressed bytes that the next bytes of the layer complete.

        Raises:
            FormatError: it is not a zstd stream, or it is damaged.
        """
        self._decoder.feed(piece)
        while out := self._decoder.read(_PIECE_SIZE):
            yield out

    def finish(self) -> None:
        """Check that the layer is complete.

        Raises:
            FormatError: it ends within a frame.
        """
        self._decoder.finish()


def unpack_zstd(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the uncompressed bytes of a zstd layer.

    Raises:
        FormatError: it is not a zstd stream, or it is damaged.
    """
    decoder = ZstdPieces()
    for piece in pieces:
        yield from decoder.of(piece)
    decoder.finish()
