"""A parser of zTOC blobs that shares no code with tocsin, written from docs/format.md.

It trusts its input and must be used only for blobs created by the tests.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

WINDOW_LEN = 32768
_CHECKPOINT = struct.Struct("<qqB")

ZTOC = ("version", "tool", "compressed_size", "uncompressed_size", "toc", "info")
ENTRY = (
    *("name", "type", "offset", "size", "linkname", "mode", "uid", "gid"),
    *("uname", "gname", "mod_time", "devmajor", "devminor", "xattrs"),
)
INFO = ("algorithm", "max_span_id", "span_digests", "checkpoints")


class Table:
    """A FlatBuffers table: the offsets and values of its fields."""

    def __init__(self, blob: bytes, at: int, fields: tuple[str, ...]) -> None:
        self._blob = blob
        self.at = at
        self.vtable = at - self._number("<i", at)
        length = self._number("<H", self.vtable) // 2 - 2
        entries = struct.unpack_from(f"<{length}H", blob, self.vtable + 4)
        self.slots = {
            name: self.vtable + 4 + 2 * number
            for number, name in enumerate(fields)
            if number < length
        }
        self.places: dict[str, int] = {
            name: at + entries[number]
            for number, name in enumerate(fields)
            if number < length and entries[number]
        }

    def _number(self, code: str, at: int) -> int:
        value: int = struct.unpack_from(code, self._blob, at)[0]
        return value

    def number(self, name: str, code: str, default: int = 0) -> int:
        """Return a scalar field."""
        return self._number(code, self.places[name]) if name in self.places else default

    def target(self, name: str) -> int:
        """Return the offset of a string, vector or table."""
        return self.places[name] + self._number("<I", self.places[name])

    def data(self, name: str) -> bytes:
        """Return a string or a vector of bytes."""
        return _bytes_at(self._blob, self.target(name))

    def elements(self, name: str) -> list[int]:
        """Return the offsets of the elements of a vector of references."""
        at = self.target(name)
        count = self._number("<I", at)
        places = range(at + 4, at + 4 + 4 * count, 4)
        return [place + self._number("<I", place) for place in places]

    def table(self, name: str, fields: tuple[str, ...]) -> Table:
        """Return a table that this one refers to."""
        return Table(self._blob, self.target(name), fields)

    def tables(self, name: str, fields: tuple[str, ...]) -> list[Table]:
        """Return the tables of a vector."""
        return [Table(self._blob, at, fields) for at in self.elements(name)]


def _bytes_at(blob: bytes, at: int) -> bytes:
    (length,) = struct.unpack_from("<I", blob, at)
    return blob[at + 4 : at + 4 + length]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in the zinfo."""

    compressed: int
    uncompressed: int
    bits: int
    window: bytes


@dataclass(frozen=True)
class ZtocFile:
    """The content of a zTOC blob.

    Attributes:
        fields: scalars and texts of the root.
        entries: one dictionary per entry, with the field names of the schema.
        checkpoints: checkpoints of a gzip layer; empty for a plain tar.
        span_size: the requested span size.
        span_digests: 64 hex digits each.
        tables: the tables, for locating fields.
    """

    fields: dict[str, Any]
    entries: list[dict[str, Any]]
    checkpoints: list[Checkpoint]
    span_size: int
    span_digests: list[str]
    tables: dict[str, Table]

    @property
    def compressed_ranges(self) -> list[tuple[int, int]]:
        """Half-open ranges, one per span: docs/format.md#span-digests."""
        size = self.fields["compressed_size"]
        if self.fields["algorithm"] == 2:
            starts = range(0, size, self.span_size)
            return [(start, min(start + self.span_size, size)) for start in starts]
        points = self.checkpoints
        ends = [point.compressed for point in points[1:]] + [size]
        return [
            (point.compressed - (point.bits != 0), end)
            for point, end in zip(points, ends, strict=True)
        ]

    @property
    def uncompressed_starts(self) -> list[int]:
        """Uncompressed offset of each span."""
        if self.fields["algorithm"] == 2:
            return [start for start, _ in self.compressed_ranges]
        return [point.uncompressed for point in self.checkpoints]


def parse(blob: bytes) -> ZtocFile:
    """Parse a zTOC blob."""
    (at,) = struct.unpack_from("<I", blob)
    root = Table(blob, at, ZTOC)
    toc, info = root.table("toc", ("metadata",)), root.table("info", INFO)
    packed = info.data("checkpoints")
    algorithm = info.number("algorithm", "<b", 1)
    return ZtocFile(
        fields={
            "version": root.data("version").decode(),
            "tool": root.data("tool").decode(),
            "compressed_size": root.number("compressed_size", "<q"),
            "uncompressed_size": root.number("uncompressed_size", "<q"),
            "algorithm": algorithm,
            "max_span_id": info.number("max_span_id", "<i"),
        },
        entries=[_entry(table, blob) for table in toc.tables("metadata", ENTRY)],
        checkpoints=_checkpoints(packed) if algorithm == 1 else [],
        span_size=_span_size(packed, algorithm),
        span_digests=[
            _bytes_at(blob, place).decode().removeprefix("sha256:")
            for place in info.elements("span_digests")
        ],
        tables={"root": root, "toc": toc, "info": info},
    )


def _entry(table: Table, blob: bytes) -> dict[str, Any]:
    texts = ("name", "type", "linkname", "uname", "gname", "mod_time")
    entry: dict[str, Any] = {name: table.data(name) for name in texts}
    for name in ("offset", "size", "mode", "devmajor", "devminor"):
        entry[name] = table.number(name, "<q")
    for name in ("uid", "gid"):
        entry[name] = table.number(name, "<I")
    records = [Table(blob, at, ("key", "value")) for at in table.elements("xattrs")]
    entry["xattrs"] = {record.data("key"): record.data("value") for record in records}
    return entry


def _checkpoints(packed: bytes) -> list[Checkpoint]:
    (count,) = struct.unpack_from("<i", packed)
    size = _CHECKPOINT.size + WINDOW_LEN
    assert len(packed) == 12 + count * size
    points = []
    for at in range(12, len(packed), size):
        compressed, uncompressed, bits = _CHECKPOINT.unpack_from(packed, at)
        window = packed[at + _CHECKPOINT.size : at + size]
        points.append(Checkpoint(compressed, uncompressed, bits, window))
    return points


def _span_size(packed: bytes, algorithm: int) -> int:
    if algorithm == 1:
        size: int = struct.unpack_from("<q", packed, 4)[0]
        return size
    (at,) = struct.unpack_from("<I", packed)
    return Table(packed, at, ("version", "span_size", "size")).number("span_size", "<q")
