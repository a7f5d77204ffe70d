"""A reader and writer of seek blobs and roots that shares no code with tocsin.

Written from docs/seek-table.md. It trusts its input and must be used only for blobs created by the
tests.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field

import zstandard

PER_CHUNK = 64
BLOCK, HUFFMAN, STORED, MEMBER = range(4)
DIGEST_LEN = 32


class Reader:
    """Reads numbers, frames and bytes, one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, length: int) -> bytes:
        found = self.data[self.at : self.at + length]
        assert len(found) == length
        self.at += length
        return found

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def frame(self) -> bytes:
        stored, length = struct.unpack("<II", self.take(8))
        found = zstandard.ZstdDecompressor().decompress(self.take(stored))
        assert len(found) == length
        return found

    @property
    def is_at_end(self) -> bool:
        return self.at == len(self.data)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def frame(content: bytes) -> bytes:
    stored = zstandard.ZstdCompressor(write_checksum=False).compress(content)
    return struct.pack("<II", len(stored), len(content)) + stored


@dataclass
class Point:
    """A checkpoint; `number` and `header` are those of its start."""

    uncompressed: int
    bit: int
    kind: int
    number: int = 0
    header: bytes = b""
    runs: list[tuple[int, bytes]] = field(default_factory=list)
    digest: bytes = bytes(DIGEST_LEN)


@dataclass
class SeekBlobFile:
    """The contents of a seek blob."""

    span_size: int
    compression: int
    size: int
    uncompressed_size: int
    points: list[Point]

    @classmethod
    def parse(cls, blob: bytes) -> SeekBlobFile:
        reader = Reader(blob)
        assert reader.take(8) == b"TOCSINL1"
        head = Reader(reader.frame())
        span_size, per_chunk, compression, size, uncompressed_size, count = (
            head.varint() for _ in range(6)
        )
        assert per_chunk == PER_CHUNK
        lengths = [head.varint() for _ in range(-(-count // PER_CHUNK))]
        points: list[Point] = []
        uncompressed = bit = 0
        for _ in range(count):
            uncompressed += head.varint()
            bit += head.varint()
            points.append(Point(uncompressed, bit, BLOCK))
        assert head.is_at_end
        for number, length in enumerate(lengths):
            _read_chunk(reader.take(length), points[number * PER_CHUNK :][:PER_CHUNK])
        assert reader.is_at_end
        return cls(span_size, compression, size, uncompressed_size, points)

    def write(self) -> bytes:
        chunks = [
            _write_chunk(self.points[at : at + PER_CHUNK])
            for at in range(0, len(self.points), PER_CHUNK)
        ]
        numbers = [self.span_size, PER_CHUNK, self.compression, self.size, self.uncompressed_size]
        numbers += [len(self.points), *map(len, chunks)]
        before = Point(0, 0, BLOCK)
        for point in self.points:
            numbers += [point.uncompressed - before.uncompressed, point.bit - before.bit]
            before = point
        return b"TOCSINL1" + frame(b"".join(map(varint, numbers))) + b"".join(chunks)


def _read_chunk(chunk: bytes, points: list[Point]) -> None:
    reader = Reader(chunk)
    starts, gaps, lengths, data = (Reader(reader.frame()) for _ in range(4))
    for point in points:
        value = starts.varint()
        point.kind, point.number = value & 3, value >> 2
        if point.kind == HUFFMAN:
            point.header = starts.take(-(-point.number // 8))
        at = 0
        for _ in range(gaps.varint()):
            at += gaps.varint()
            length = lengths.varint() + 1
            point.runs.append((at, data.take(length)))
            at += length
    for point in points:
        point.digest = reader.take(DIGEST_LEN)
    assert all(one.is_at_end for one in (reader, starts, gaps, lengths, data))


def _write_chunk(points: list[Point]) -> bytes:
    starts, gaps, lengths, data = (bytearray() for _ in range(4))
    for point in points:
        starts += varint(point.number << 2 | point.kind) + point.header
        gaps += varint(len(point.runs))
        end = 0
        for start, run in point.runs:
            gaps += varint(start - end)
            lengths += varint(len(run) - 1)
            data += run
            end = start + len(run)
    columns = b"".join(frame(bytes(one)) for one in (starts, gaps, lengths, data))
    return columns + b"".join(point.digest for point in points)


def with_digests(root: bytes, old: bytes, new: bytes) -> bytes:
    """Return a root in which the digest of the part `old` is replaced by that of `new`."""
    before, after = hashlib.sha256(old).digest(), hashlib.sha256(new).digest()
    assert root.count(before) == 1
    return root.replace(before, after)
