"""Layers of many shapes, compressed and checked with zlib."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass

STRATEGIES = (
    zlib.Z_DEFAULT_STRATEGY,
    zlib.Z_FILTERED,
    zlib.Z_HUFFMAN_ONLY,
    zlib.Z_RLE,
    zlib.Z_FIXED,
)
FLUSHES = (
    zlib.Z_NO_FLUSH,
    zlib.Z_SYNC_FLUSH,
    zlib.Z_FULL_FLUSH,
    zlib.Z_BLOCK,
    zlib.Z_PARTIAL_FLUSH,
)


@dataclass(frozen=True)
class Shape:
    """How a layer is compressed.

    Attributes:
        level: compression level, 0 to 9.
        strategy: one of `STRATEGIES`.
        mem_level: 1 to 9; small values give many small blocks.
        cuts: input offsets of flushes or new members.
        flush: one of `FLUSHES`, used at cuts unless `members` is set.
        members: whether each cut starts a new member instead.
    """

    level: int = 6
    strategy: int = zlib.Z_DEFAULT_STRATEGY
    mem_level: int = 8
    cuts: tuple[int, ...] = ()
    flush: int = zlib.Z_NO_FLUSH
    members: bool = False

    def compress(self, content: bytes) -> bytes:
        """Return `content` as gzip."""
        places = sorted({min(cut, len(content)) for cut in self.cuts})
        pieces = [
            content[start:end]
            for start, end in zip([0, *places], [*places, len(content)], strict=True)
        ]
        if self.members:
            return b"".join(self._compressed([piece]) for piece in pieces)
        return self._compressed(pieces)

    def _compressed(self, pieces: list[bytes]) -> bytes:
        compressor = zlib.compressobj(self.level, zlib.DEFLATED, 31, self.mem_level, self.strategy)
        out = []
        for piece in pieces[:-1]:
            out += [compressor.compress(piece), compressor.flush(self.flush)]
        return b"".join([*out, compressor.compress(pieces[-1]), compressor.flush()])


def gunzip(layer: bytes) -> bytes:
    """Return the content of all members, inflated with zlib."""
    return gzip.decompress(layer)
