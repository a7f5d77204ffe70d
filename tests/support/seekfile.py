"""An independent reader and writer of roots and file lists, according to docs/seek-table.md.

The writer accepts any values, so that tests can write files that break the rules.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ENTRIES_PER_CHUNK = 1024
CHECKPOINTS_PER_CHUNK = 64
MAGIC = b"TOCSINS1"
KINDS = ["file", "dir", "symlink", "hardlink", "char", "block", "fifo"]
FILE, _DIRECTORY, SYMLINK, HARD_LINK, *_ = range(7)
COLUMNS = [
    "directories",
    "name lengths",
    "names",
    "kinds",
    "layers",
    "modes",
    "owners",
    "owner table",
    "seconds",
    "nanoseconds",
    "sizes",
    "header blocks",
    "offsets",
    "targets",
    "extras",
]


def varint(number: int) -> bytes:
    """Return an unsigned LEB128 number."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def zigzag(number: int) -> int:
    """Return a number of 64 bits with the sign in the lowest bit."""
    return (number << 1 ^ number >> 63) & (1 << 64) - 1


def unzigzag(number: int) -> int:
    return number >> 1 ^ -(number & 1)


def counted(data: bytes) -> bytes:
    """Return bytes preceded by their length."""
    return varint(len(data)) + data


def shared_len(a: bytes, b: bytes) -> int:
    """Return the length of the common prefix."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[:middle] == b[:middle] else (low, middle - 1)
    return low


def frame(content: bytes) -> bytes:
    """Return a zstd frame with the size of its content, and without a checksum."""
    return zstandard.ZstdCompressor(level=3, write_checksum=False).compress(content)


class Cursor:
    """Bytes that are read from front to back."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        found = self._data[self._at : self._at + size]
        assert len(found) == size
        self._at += size
        return found

    def varint(self) -> int:
        number = shift = 0
        while True:
            (byte,) = self.take(1)
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    def counted(self) -> bytes:
        return self.take(self.varint())

    def frame(self) -> bytes:
        stored, size = struct.unpack("<II", self.take(8))
        content = zstandard.decompress(self.take(stored))
        assert len(content) == size
        return content

    def end(self) -> None:
        assert self._at == len(self._data)


@dataclass
class Layer:
    """What the root says about a layer.

    Attributes:
        chunks: lengths of the seek chunks.
        digests: digests of the seek chunks.
    """

    digest: bytes
    compression: int
    compressed_size: int
    uncompressed_size: int
    span_count: int
    head_len: int
    chunks: list[int] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)


@dataclass
class Entry:
    """An entry of the file list.

    Attributes:
        extra: the rare fields: ``names_before``, ``tar_name``, ``device``, ``link_owner``,
            ``xattrs``.
    """

    directory: bytes
    name: bytes
    kind: int = FILE
    implied: bool = False
    layer: int = 0
    mode: int = 0o644
    owner: tuple[int, int, bytes, bytes] = (0, 0, b"", b"")
    seconds: int = 0
    nanoseconds: int = 0
    size: int = 0
    header_blocks: int = 1
    offset: int = 512
    target: bytes = b""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> bytes:
        return self.directory + b"\0" + self.name


@dataclass
class Chunk:
    """A chunk of the file list as stored, with what the root says about it."""

    stored: bytes
    size: int
    count: int
    key: bytes


@dataclass
class Table:
    """A root, and the file list blob.

    Attributes:
        map: the content of the position map.
    """

    span_size: int = 256 << 10
    entries_per_chunk: int = ENTRIES_PER_CHUNK
    checkpoints_per_chunk: int = CHECKPOINTS_PER_CHUNK
    layers: list[Layer] = field(default_factory=list)
    map: bytes = b""
    chunks: list[Chunk] = field(default_factory=list)

    def content(self) -> bytes:
        """Return the content of the root's frame."""
        numbers = [self.span_size, self.entries_per_chunk, self.checkpoints_per_chunk]
        parts = [*map(varint, numbers), varint(len(self.layers))]
        for layer in self.layers:
            numbers = [
                layer.compression,
                layer.compressed_size,
                layer.uncompressed_size,
                layer.span_count,
                layer.head_len,
                *layer.chunks,
            ]
            parts += [layer.digest, *map(varint, numbers)]
        parts += map(varint, [len(frame(self.map)), len(self.map), len(self.chunks)])
        last = b""
        for chunk in self.chunks:
            shared = shared_len(last, chunk.key)
            parts += [varint(chunk.count), varint(shared), counted(chunk.key[shared:])]
            parts += [varint(len(chunk.stored)), varint(chunk.size)]
            last = chunk.key
        return b"".join(parts)

    def digests(self) -> bytes:
        """Return the digests after the root's frame."""
        stored = [frame(self.map), *(chunk.stored for chunk in self.chunks)]
        found = [hashlib.sha256(part).digest() for part in stored]
        return b"".join([*found, *(digest for layer in self.layers for digest in layer.digests)])

    def root(self, content: bytes | None = None, digests: bytes | None = None) -> bytes:
        """Return the root, with other content or digests if they are given."""
        content = self.content() if content is None else content
        stored = frame(content)
        lengths = struct.pack("<II", len(stored), len(content))
        return MAGIC + lengths + stored + (self.digests() if digests is None else digests)

    def blob(self) -> bytes:
        """Return the file list blob."""
        return frame(self.map) + b"".join(chunk.stored for chunk in self.chunks)

    def chunk(self, number: int) -> bytes:
        return self.chunks[number].stored


def read(root: bytes, blob: bytes) -> tuple[Table, list[Entry]]:
    """Read a root and all of its file list."""
    assert root[:8] == MAGIC
    outer = Cursor(root[8:])
    cursor = Cursor(outer.frame())
    table = Table(cursor.varint(), cursor.varint(), cursor.varint())
    for _ in range(cursor.varint()):
        digest = cursor.take(32)
        compression, compressed_size, size, spans, head = (cursor.varint() for _ in range(5))
        layer = Layer(digest, compression, compressed_size, size, spans, head)
        count = -(-layer.span_count // CHECKPOINTS_PER_CHUNK)
        layer.chunks = [cursor.varint() for _ in range(count)]
        table.layers.append(layer)
    stored, size = cursor.varint(), cursor.varint()
    rest = Cursor(blob)

    def part(stored: int, size: int) -> tuple[bytes, bytes]:
        data = rest.take(stored)
        assert hashlib.sha256(data).digest() == outer.take(32)
        content = zstandard.decompress(data)
        assert len(content) == size
        return data, content

    _, table.map = part(stored, size)
    last, entries = b"", []
    for _ in range(cursor.varint()):
        count = cursor.varint()
        key = last[: cursor.varint()] + cursor.counted()
        data, content = part(cursor.varint(), cursor.varint())
        listed = read_chunk(content, count)
        assert listed[0].key == key
        table.chunks.append(Chunk(data, len(content), count, key))
        entries += listed
        last = key
    cursor.end()
    rest.end()
    for layer in table.layers:
        layer.digests = [outer.take(32) for _ in layer.chunks]
    outer.end()
    return table, entries


def read_chunk(content: bytes, count: int) -> list[Entry]:
    """Read the content of a chunk of the file list."""
    outer = Cursor(content)
    sizes = [outer.varint() for _ in COLUMNS]
    column = {name: Cursor(outer.take(size)) for name, size in zip(COLUMNS, sizes, strict=True)}
    outer.end()
    owners = column["owner table"]
    table = [
        (owners.varint(), owners.varint(), owners.counted(), owners.counted())
        for _ in range(owners.varint())
    ]
    ends: dict[int, int] = {}
    entries: list[Entry] = []
    seconds = 0
    for directory, name in _keys(column):
        bits = column["kinds"].take(1)[0]
        entry = Entry(
            directory,
            name,
            kind=bits & 7,
            implied=bool(bits & 8),
            layer=column["layers"].varint(),
            mode=column["modes"].varint(),
            owner=table[column["owners"].varint()],
        )
        seconds += unzigzag(column["seconds"].varint())
        seconds = (seconds + (1 << 63)) % (1 << 64) - (1 << 63)
        entry.seconds, entry.nanoseconds = seconds, column["nanoseconds"].varint()
        if entry.kind == FILE:
            entry.size = column["sizes"].varint()
            entry.header_blocks = column["header blocks"].varint()
            entry.offset = (
                ends.get(entry.layer, 0)
                + entry.header_blocks * 512
                + unzigzag(column["offsets"].varint())
            )
            ends[entry.layer] = entry.offset + -(-entry.size // 512) * 512
        if entry.kind in {SYMLINK, HARD_LINK}:
            entry.target = column["targets"].counted()
        if bits & 16:
            entry.extra = _read_extra(column["extras"])
        entries.append(entry)
    assert len(entries) == count
    for cursor in column.values():
        cursor.end()
    return entries


def _keys(column: dict[str, Cursor]) -> Iterator[tuple[bytes, bytes]]:
    directories = column["directories"]
    directory = b""
    for _ in range(directories.varint()):
        directory = directory[: directories.varint()] + directories.counted()
        name = b""
        for _ in range(directories.varint()):
            lens = column["name lengths"]
            name = name[: lens.varint()] + column["names"].take(lens.varint())
            yield directory, name


def _read_extra(cursor: Cursor) -> dict[str, Any]:
    flags = cursor.varint()
    found: dict[str, Any] = {}
    if flags & 1:
        found["names_before"] = cursor.varint()
    if flags & 2:
        found["tar_name"] = cursor.counted()
    if flags & 4:
        found["device"] = unzigzag(cursor.varint()), unzigzag(cursor.varint())
    if flags & 8:
        found["xattrs"] = [(cursor.counted(), cursor.counted()) for _ in range(cursor.varint())]
    if flags & 16:
        found["link_owner"] = True
    return found


def columns_of(entries: Iterable[Entry]) -> dict[str, bytes]:
    """Return the columns of a chunk."""
    column: dict[str, bytearray] = {name: bytearray() for name in COLUMNS}
    groups: list[tuple[bytes, list[Entry]]] = []
    owners: dict[tuple[int, int, bytes, bytes], int] = {}
    ends: dict[int, int] = {}
    seconds = 0
    name = b""
    for entry in entries:
        if not groups or groups[-1][0] != entry.directory:
            groups.append((entry.directory, []))
            name = b""
        groups[-1][1].append(entry)
        shared = shared_len(name, entry.name)
        column["name lengths"] += varint(shared) + varint(len(entry.name) - shared)
        column["names"] += entry.name[shared:]
        name = entry.name
        flags = 8 * entry.implied | 16 * bool(entry.extra)
        column["kinds"].append(entry.kind & 7 | flags)
        column["layers"] += varint(entry.layer)
        column["modes"] += varint(entry.mode)
        column["owners"] += varint(owners.setdefault(entry.owner, len(owners)))
        difference = (entry.seconds - seconds + (1 << 63)) % (1 << 64) - (1 << 63)
        column["seconds"] += varint(zigzag(difference))
        column["nanoseconds"] += varint(entry.nanoseconds)
        seconds = entry.seconds
        if entry.kind == FILE:
            column["sizes"] += varint(entry.size)
            column["header blocks"] += varint(entry.header_blocks)
            start = ends.get(entry.layer, 0) + entry.header_blocks * 512
            column["offsets"] += varint(zigzag(entry.offset - start))
            ends[entry.layer] = entry.offset + -(-entry.size // 512) * 512
        if entry.kind in {SYMLINK, HARD_LINK}:
            column["targets"] += counted(entry.target)
        if entry.extra:
            column["extras"] += _extra(entry.extra)
    column["directories"] += varint(len(groups))
    last = b""
    for directory, grouped in groups:
        shared = shared_len(last, directory)
        column["directories"] += varint(shared) + counted(directory[shared:])
        column["directories"] += varint(len(grouped))
        last = directory
    column["owner table"] += varint(len(owners))
    for uid, gid, uname, gname in owners:
        column["owner table"] += varint(uid) + varint(gid) + counted(uname) + counted(gname)
    return {name: bytes(data) for name, data in column.items()}


def _extra(extra: dict[str, Any]) -> bytes:
    names = ["names_before", "tar_name", "device", "xattrs", "link_owner"]
    found = bytearray(varint(sum(1 << at for at, name in enumerate(names) if name in extra)))
    if "names_before" in extra:
        found += varint(extra["names_before"])
    if "tar_name" in extra:
        found += counted(extra["tar_name"])
    if "device" in extra:
        major, minor = extra["device"]
        found += varint(zigzag(major)) + varint(zigzag(minor))
    if "xattrs" in extra:
        found += varint(len(extra["xattrs"]))
        for name, value in extra["xattrs"]:
            found += counted(name) + counted(value)
    return bytes(found)


def content_of(columns: dict[str, bytes]) -> bytes:
    """Return the content of a chunk with these columns."""
    lengths = b"".join(varint(len(data)) for data in columns.values())
    return lengths + b"".join(columns.values())


def chunk_of(entries: list[Entry], content: bytes | None = None) -> Chunk:
    """Return a chunk of entries, with other content if it is given."""
    content = content_of(columns_of(entries)) if content is None else content
    return Chunk(frame(content), len(content), len(entries), entries[0].key)


def cut(table: Table, entries: list[Entry], size: int) -> Table:
    """Return a table whose file list has chunks of `size` entries."""
    starts = range(0, len(entries), size)
    return replace(table, chunks=[chunk_of(entries[at : at + size]) for at in starts])
