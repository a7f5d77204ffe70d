"""zstd layers, which can be read only from the beginning, since a zTOC cannot describe one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin import _core

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PIECE_SIZE = 1 << 20


def unpack_zstd(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the uncompressed bytes of a zstd layer.

    Raises:
        FormatError: it is not a zstd stream, or it is damaged.
    """
    decoder = _core.ZstdDecoder()
    for piece in pieces:
        decoder.feed(piece)
        while out := decoder.read(_PIECE_SIZE):
            yield out
    decoder.finish()
