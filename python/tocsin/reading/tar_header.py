"""The tar headers before a file, read in the few microseconds that most of them deserve.

Says which file they are of only when they are of a common form; whoever is told nothing must ask
``tarfile``. Source: POSIX.1-2017, pax, "ustar Interchange Format", "pax Extended Header"; GNU tar
manual, "Basic Tar Format".
"""

from __future__ import annotations

import os
from typing import NamedTuple

BLOCK = 512

_MOST_DIGITS = 19
"""Of a number of 64 bits."""
_TYPE = 156
_REGULAR = b"0\0"
_NUMBERS = {b"size", b"uid", b"gid"}
_LONG_NAME = ord("L")
_EXTENDED = ord("x")


class Announced(NamedTuple):
    """What headers say of the file that follows."""

    name: str
    size: int
    mode: int
    uid: int
    gid: int


def announced(headers: bytes) -> Announced | None:  # noqa: PLR0911 (each its own form)
    """Return what `headers` say of the regular file that they announce.

    Args:
        headers: all blocks between the entry before and the file's data.

    Returns:
        ``None`` for anything but a plain ustar header, with PAX records or a GNU long name before
        it at most: for sparse files, odd numbers, other types, and what is no header at all.
    """
    at, total = 0, len(headers)
    path: bytes | None = None
    numbers: dict[bytes, int] = {}
    while at + BLOCK <= total:
        # Checksums are not looked at: a span's digest says more about these very bytes.
        if headers[at + 257 : at + 262] != b"ustar":
            return None
        length = _octal(headers[at + 124 : at + 136])
        kind = headers[at + _TYPE]
        if length is None:
            return None
        if kind in _REGULAR:
            if at + BLOCK != total:
                return None
            mode, uid, gid = (_octal(headers[at + n : at + n + 8]) for n in (100, 108, 116))
            if mode is None or uid is None or gid is None:
                return None
            path = _name(headers, at) if path is None else path
            return Announced(
                os.fsdecode(path),
                numbers.get(b"size", length),
                mode,
                numbers.get(b"uid", uid),
                numbers.get(b"gid", gid),
            )
        content = headers[at + BLOCK : at + BLOCK + length]
        at += BLOCK + length + (-length % BLOCK)
        if kind == _LONG_NAME:
            path = content.partition(b"\0")[0]
        elif kind == _EXTENDED:
            records = _records(content)
            if records is None:
                return None
            path = records.get(b"path", path)
            for key in _NUMBERS & records.keys():
                number = _decimal(records[key])
                if number is None:
                    return None
                numbers[key] = number
        else:
            return None
    return None


def _name(headers: bytes, at: int) -> bytes:
    name = headers[at : at + 100].partition(b"\0")[0]
    # Of GNU's own format other things are there (its magic ends with a blank).
    if headers[at + 262] == 0 and headers[at + 345]:
        prefix = headers[at + 345 : at + 500].partition(b"\0")[0]
        return prefix + b"/" + name
    return name


def _records(content: bytes) -> dict[bytes, bytes] | None:
    records = {}
    at = 0
    while at < len(content):
        blank = content.find(b" ", at)
        length = _decimal(content[at:blank]) if blank > at else None
        if length is None or length <= blank + 1 - at:
            return None
        if content[at + length - 1 : at + length] != b"\n":
            return None
        key, equals, value = content[blank + 1 : at + length - 1].partition(b"=")
        if not equals or key.startswith(b"GNU."):
            return None
        records[key] = value
        at += length
    return records


def _octal(field: bytes) -> int | None:
    digits = field.strip(b" \0")
    if not digits.isdigit():
        return None
    try:
        return int(digits, 8)
    except ValueError:
        return None


def _decimal(digits: bytes) -> int | None:
    return int(digits) if digits.isdigit() and len(digits) <= _MOST_DIGITS else None
