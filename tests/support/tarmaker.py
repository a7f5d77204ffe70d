"""Tars of any shape, including those that no tool writes, built from blocks of ``tarfile``."""

from __future__ import annotations

import tarfile
from typing import Any, Literal

BLOCK = 512
END = bytes(2 * BLOCK)
"""End-of-archive marker."""


def entry(
    name: str,
    data: bytes = b"",
    *,
    type: bytes = tarfile.REGTYPE,  # noqa: A002 (the word of the format)
    format: Literal[0, 1, 2] = tarfile.PAX_FORMAT,  # noqa: A002 (as above)
    pax: dict[str, str] | None = None,
    **fields: Any,
) -> bytes:
    """Return the blocks of one entry.

    Args:
        name: name of the entry; surrogates stand for bytes that are not UTF-8.
        data: content, which is padded to whole blocks.
        type: the type flag.
        format: a format of `tarfile`.
        pax: PAX records in an extended header.
        fields: attributes of ``TarInfo``; ``size`` may differ from the size of `data`.
    """
    info = tarfile.TarInfo(name)
    info.type = type
    info.size = len(data)
    info.pax_headers = dict(pax or {})
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(format, "utf-8", "surrogateescape") + padded(data)


def padded(data: bytes) -> bytes:
    """Return `data` padded with zeros to whole blocks."""
    return data + bytes(-len(data) % BLOCK)


def tar(*entries: bytes) -> bytes:
    """Return an archive of `entries` with the end-of-archive marker."""
    return b"".join(entries) + END


def global_header(records: dict[str, str]) -> bytes:
    """Return a PAX global header, as written by ``git archive``."""
    return tarfile.TarInfo.create_pax_global_header(records)


def with_field(header: bytes, at: int, value: bytes) -> bytes:
    """Return a header block with one field changed and its checksum updated."""
    block = bytearray(header[:BLOCK])
    block[at : at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + header[BLOCK:]
