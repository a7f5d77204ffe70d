"""Detection of the compression from the first bytes, since media types are often wrong.

containerd supports gzip and zstd; xz and bzip2 are detected only to name them in messages.

Source: containerd/containerd, pkg/archive/compression/compression.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HEAD_SIZE = 8
"""Number of first bytes needed to detect the compression."""

GZIP = "gzip"
ZSTD = "zstd"

_MAGIC = {
    b"\x1f\x8b\x08": GZIP,
    b"\x28\xb5\x2f\xfd": ZSTD,
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
}
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"
"""Bytes 1 to 3 of a skippable zstd frame, whose byte 0 is 0x50 to 0x5f (RFC 8878 §3.1.2)."""


def compression_of(head: bytes) -> str | None:
    """Return ``gzip``, ``zstd``, ``xz`` or ``bzip2``, or ``None`` for anything else.

    ``bzip2`` is only a guess: its magic number is three letters, with which a tar may start too.
    """
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return name
    is_skippable = len(head) >= HEAD_SIZE and head[0] & 0xF0 == 0x50  # noqa: PLR2004 (see above)
    return ZSTD if is_skippable and head[1:4] == _ZSTD_SKIPPABLE else None


def with_head(pieces: Iterable[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes of a stream, `HEAD_SIZE` or more if it has them, and all of it."""
    rest = iter(pieces)
    head = b""
    while len(head) < HEAD_SIZE and (piece := next(rest, None)) is not None:
        head += piece
    return head, _joined(head, rest)


def _joined(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from rest
