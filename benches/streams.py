"""Layers of many GiB as streams, generated while they are read, in constant memory."""

from __future__ import annotations

import struct
import tarfile
import zlib
from typing import TYPE_CHECKING

import pathological
import seeded

if TYPE_CHECKING:
    from collections.abc import Iterator

_BIG, _SMALL = 2 << 20, 200  # sizes of large and small files in bytes
_SMALL_BETWEEN = 8  # number of small files after each large one
_BODIES = 4  # number of distinct large files
_PIECE = 64 << 10


def layer(size: int) -> Iterator[bytes]:
    """Yield a layer of about `size` uncompressed bytes as one gzip member, compressed about 3:1.

    The contents of the large files are compressed once, ending with a full flush so that they can
    follow anything, and repeated. The headers and small files between them are compressed as
    needed.
    """
    crc = total = 0
    yield pathological.HEADER
    for plain, deflated in _layer_pieces(size):
        crc = zlib.crc32(plain, crc)
        total += len(plain)
        yield deflated
    yield pathological.END + struct.pack("<II", crc, total & 0xFFFFFFFF)


def bomb(size: int) -> Iterator[bytes]:
    """Yield a layer of one file of `size` zeros: one deflate block, about 1032:1."""
    compressed = pathological.zeros(size)
    for place in range(0, len(compressed), _PIECE):
        yield compressed[place : place + _PIECE]


def _layer_pieces(size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield pieces of a tar, each uncompressed and as deflate data that ends with a full flush."""
    bodies = [_both(seeded.prose(stream, _BIG)) for stream in range(_BODIES)]
    for place in range(size // _BIG):
        yield _both(_header(f"big/{place:06}", _BIG))
        yield bodies[place % _BODIES]
        yield _both(
            b"".join(
                _header(f"small/{place:06}/{child}", _SMALL)
                + seeded.noise(child, _SMALL).ljust(tarfile.BLOCKSIZE, b"\0")
                for child in range(_SMALL_BETWEEN)
            )
        )
    yield _both(bytes(2 * tarfile.BLOCKSIZE))


def _header(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry.tobuf(tarfile.USTAR_FORMAT)


def _both(plain: bytes) -> tuple[bytes, bytes]:
    out = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return plain, out.compress(plain) + out.flush(zlib.Z_FULL_FLUSH)
