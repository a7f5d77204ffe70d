"""zTOCs of any size that could make a reader use more memory than their own size.

These FlatBuffers are written by hand, because builders do not share data like this: many elements
of a vector refer to one table, or many fields to one string. All lengths in them are valid, so a
reader must limit the total size of the data that it reads through references.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

_WINDOW = 32 << 10
_DIGEST = b"sha256:" + b"0" * 64
_ENTRY_REFERENCES = 7
_ENTRY_LEN = 4 + 4 * _ENTRY_REFERENCES
_ENTRY_COST = 4 + 4 + 4 * _ENTRY_REFERENCES + 5 * 5 + 8 + 4
"""Bytes that the reader counts for an entry whose texts are all empty."""


class _Blob:
    """Bytes, with references that are filled in at the end."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._len = 0
        self._patches: list[tuple[int, int]] = []

    @property
    def end(self) -> int:
        return self._len

    def add(self, data: bytes) -> int:
        at = self._len
        self._parts.append(data)
        self._len += len(data)
        return at

    def string(self, text: bytes) -> int:
        return self.add(struct.pack("<I", len(text)) + text + b"\0")

    def refer(self, at: int, target: int) -> None:
        self._patches.append((at, target))

    def finish(self) -> bytes:
        blob = bytearray(b"".join(self._parts))
        self._parts.clear()
        for at, target in self._patches:
            struct.pack_into("<I", blob, at, target - at)
        return bytes(blob)


def _vtable(*sizes: int) -> bytes:
    """Return a vtable for consecutive fields of the given sizes; fields of size 0 are absent."""
    entries, at = [], 4
    for size in sizes:
        entries.append(at if size else 0)
        at += size
    return struct.pack(f"<HH{len(entries)}H", 4 + 2 * len(entries), at, *entries)


def _make(
    toc: Callable[[_Blob, int], None],
    *,
    text: bytes = b"",
    span_count: int = 1,
    checkpoint_count: int = 0,
) -> bytes:
    """Return a zTOC; `toc` adds the entries, given the blob and the position of their reference."""
    blob = _Blob()
    blob.add(bytes(4))
    root_vtable = blob.add(_vtable(4, 4, 8, 8, 4, 4))
    info_vtable = blob.add(_vtable(1, 4, 4, 4))
    is_gzip = checkpoint_count > 0
    root = blob.end
    blob.refer(0, root)
    archive_size = 1 << 40 if is_gzip else span_count
    blob.add(struct.pack("<iIIqqII", root - root_vtable, 0, 0, archive_size, 1 << 50, 0, 0))
    blob.refer(root + 4, blob.string(text))
    blob.refer(root + 8, blob.string(b""))
    info = blob.end
    blob.refer(root + 32, info)
    blob.add(struct.pack("<ibiII", info - info_vtable, 1 if is_gzip else 2, span_count - 1, 0, 0))
    digests = span_count
    vector = blob.add(struct.pack("<I", digests))
    blob.refer(info + 9, vector)
    one = vector + 4 + 4 * digests
    blob.add((one - (vector + 4) - 4 * np.arange(digests, dtype="<u4")).astype("<u4").tobytes())
    blob.string(_DIGEST)
    if is_gzip:
        zinfo = struct.pack("<iq", checkpoint_count, 1)
        window = bytes(_WINDOW)
        zinfo += b"".join(
            struct.pack("<qqB", 10 + index, index, 0) + window for index in range(checkpoint_count)
        )
    else:
        zinfo = struct.pack("<I", 16) + bytes(2) + _vtable(4, 8, 8)
        zinfo += struct.pack("<iiqq", 10, 2, 1, span_count)
    blob.refer(info + 13, blob.add(struct.pack("<I", len(zinfo)) + zinfo))
    toc(blob, root + 28)
    return blob.finish()


def _entries(
    blob: _Blob,
    at: int,
    count: int,
    *,
    kind: bytes = b"reg",
    is_one_table: bool = False,
    xattr_count: int = 0,
    name: bytes = b"",
    padding: int = 0,
) -> None:
    """Add a table of contents whose entries have 32 bytes and share their texts."""
    toc_vtable = blob.add(_vtable(4))
    entry_vtable = blob.add(_vtable(4, 4, 0, 0, 4, 0, 0, 0, 4, 4, 4, 0, 0, 4))
    xattr_vtable = blob.add(_vtable(4, 4))
    toc = blob.end
    blob.refer(at, toc)
    blob.add(struct.pack("<iI", toc - toc_vtable, 4))
    vector = blob.add(struct.pack("<I", count)) + 4
    tables = vector + 4 * count
    table_count = 1 if is_one_table else count
    numbers = np.arange(count, dtype="<i8")
    places = tables + (0 if is_one_table else _ENTRY_LEN) * numbers
    blob.add((places - (vector + 4 * numbers)).astype("<u4").tobytes())
    texts = tables + _ENTRY_LEN * table_count
    word_at, name_at = texts + 5, texts + 5 + 5 + len(kind)
    xattrs_at = name_at + 5 + len(name)
    rows = np.zeros((table_count, 1 + _ENTRY_REFERENCES), dtype="<i8")
    own = tables + _ENTRY_LEN * np.arange(table_count, dtype="<i8")
    rows[:, 0] = own - entry_vtable
    targets = (name_at, word_at, texts, texts, texts, texts, xattrs_at)
    for number, target in enumerate(targets):
        rows[:, 1 + number] = target - (own + 4 + 4 * number)
    blob.add(rows.astype("<u4").tobytes())
    blob.string(b"")
    blob.string(kind)
    blob.string(name)
    first = xattrs_at + 4 + 4 * xattr_count
    blob.add(struct.pack("<I", xattr_count))
    numbers = np.arange(xattr_count, dtype="<i8")
    blob.add((first + 12 * numbers - (xattrs_at + 4 + 4 * numbers)).astype("<u4").tobytes())
    own = first + 12 * numbers
    rows = np.zeros((xattr_count, 3), dtype="<i8")
    rows[:, 0] = own - xattr_vtable
    empty = first + 12 * xattr_count
    rows[:, 1] = empty - (own + 4)
    rows[:, 2] = empty - (own + 8)
    blob.add(rows.astype("<u4").tobytes())
    blob.string(b"")
    blob.add(bytes(padding))


def _of_entries(count: int, **options: Any) -> bytes:  # noqa: ANN401 (those of `_entries`)
    return _make(lambda blob, at: _entries(blob, at, count, **options))


def _of_spans(count: int, *, checkpoints: bool, padding: int = 0) -> bytes:
    return _make(
        lambda blob, at: _entries(blob, at, 1, padding=padding),
        span_count=count,
        checkpoint_count=count if checkpoints else 0,
    )


_SHARED = 4 * 9 / 10 / _ENTRY_COST
"""Entries per byte: 10 % fewer than the number that the reader rejects."""

SHAPES: dict[str, Callable[[int], bytes]] = {
    "entries": lambda size: _of_entries(size // (_ENTRY_LEN + 4)),
    "hard links": lambda size: _of_entries(size // (_ENTRY_LEN + 4), kind=b"hardlink", name=b"x"),
    "one entry many times": lambda size: _of_entries(
        int(size * _SHARED), is_one_table=True, padding=size - 4 * int(size * _SHARED)
    ),
    "a long name": lambda size: _of_entries(1, name=b"n" * size),
    "records": lambda size: _of_entries(1, xattr_count=size // 16),
    "a long text": lambda size: _make(lambda blob, at: _entries(blob, at, 1), text=b"t" * size),
    "checkpoints": lambda size: _of_spans(size // (_WINDOW + 21), checkpoints=True),
    "one digest many times": lambda size: _of_spans(
        size // 34, checkpoints=False, padding=size - 4 * (size // 34)
    ),
}
"""Functions that return a zTOC of about the given number of bytes, by name of the shape."""
