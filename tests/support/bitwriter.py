"""DEFLATE streams written bit by bit and wrapped as gzip (RFC 1951, RFC 1952)."""

from __future__ import annotations

import zlib
from typing import Self


class BitWriter:
    """Bits in the order DEFLATE packs them: least significant first."""

    def __init__(self) -> None:
        self._bits: list[int] = []

    def put(self, value: int, width: int, _field: str) -> Self:
        """Write a number of `width` bits; the field name only documents the test."""
        self._bits += [value >> at & 1 for at in range(width)]
        return self

    def code(self, value: int, width: int, _symbol: str) -> Self:
        """Write a Huffman code, most significant bit first."""
        self._bits += [value >> at & 1 for at in reversed(range(width))]
        return self

    def lengths(self, *lengths: int) -> Self:
        """Write code lengths of the code length code, three bits each (HCLEN)."""
        for length in lengths:
            self.put(length, 3, "code length of a code length")
        return self

    def align(self) -> Self:
        """Pad to the next byte."""
        self._bits += [0] * (-len(self._bits) % 8)
        return self

    def finish(self) -> bytes:
        """Return the bytes; the last one is padded with zeros."""
        self.align()
        return bytes(
            sum(bit << at for at, bit in enumerate(self._bits[start : start + 8]))
            for start in range(0, len(self._bits), 8)
        )


GZIP_HEADER = bytes.fromhex("1f8b08000000000000ff")
"""RFC 1952 §2.3: deflate, no flags, no time, unknown system."""


def gzip_member(deflated: bytes, content: bytes = b"", *, header: bytes = GZIP_HEADER) -> bytes:
    """Return a gzip member around a DEFLATE stream that inflates to `content`."""
    crc = zlib.crc32(content).to_bytes(4, "little")
    return header + deflated + crc + (len(content) & 0xFFFFFFFF).to_bytes(4, "little")
