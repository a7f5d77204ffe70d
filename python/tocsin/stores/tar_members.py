"""Where the members of a tar file lie, found by seeking from header to header.

Only what image archives need: regular files and links, in ustar, GNU and PAX spelling. Names are
keys of a table and never paths of this machine; what a hostile archive can make this allocate is
bounded. The layers inside are not looked into. Source: POSIX.1-2017 pax, GNU tar manual.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.errors import FormatError, NotFoundError, UnsupportedError
from tocsin.quoting import shown
from tocsin.stores.window import Window

if TYPE_CHECKING:
    from pathlib import Path

BLOCK_SIZE = 512
MAX_MEMBERS = 100_000
_MAX_EXTENSION_SIZE = 1 << 20
_MAX_LINKS = 8
_WHAT = "archive"

_COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
    b"\xfd7zXZ\x00": ("xz", "unxz"),
    b"BZh": ("bzip2", "bunzip2"),
}
_REGULAR = frozenset(b"0\x007")
_LINKS = frozenset(b"12")


@dataclass(frozen=True, slots=True)
class _Member:
    offset: int
    size: int
    target: str | None  # of a link, already a key of the table


class TarMembers:
    """The members of one tar file; of equal names the last counts, as when unpacking.

    Args:
        path: of the file, which stays open until `close`.

    Raises:
        OSError: it cannot be read.
        UnsupportedError: it is compressed.
        FormatError: it is no tar; `what` is ``archive``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = Window.open(path)
        try:
            self._members = dict(_scan(self._file, path))
        except BaseException:
            self.close()
            raise

    @property
    def names(self) -> list[str]:
        """Cleaned names of files and links, in the order of the archive."""
        return list(self._members)

    def __contains__(self, name: str) -> bool:
        return clean_name(name) in self._members

    def window(self, name: str) -> Window:
        """Return where the bytes of a member lie, following links inside the archive.

        Raises:
            NotFoundError: there is no such member.
            FormatError: links run in a circle.
        """
        key = clean_name(name)
        for _ in range(_MAX_LINKS):
            member = self._members.get(key)
            if member is None:
                raise NotFoundError(f"{self._path}: has no member {shown(key)}")
            if member.target is None:
                return Window(self._file.fd, member.offset, member.size)
            key = member.target
        raise FormatError(
            f"{self._path}: member {shown(name)}: links do not lead to a file", what=_WHAT
        )

    def read(self, name: str, *, max_size: int) -> bytes:
        """Return the bytes of a small member.

        Raises:
            NotFoundError: there is no such member.
            FormatError: it is larger than `max_size` bytes.
        """
        window = self.window(name)
        if window.size > max_size:
            raise FormatError(
                f"{self._path}: member {shown(name)}: got {window.size} bytes, "
                f"at most {max_size} allowed",
                what=_WHAT,
            )
        return window.read(0, window.size)

    def close(self) -> None:
        """Close the file."""
        if self._file.fd >= 0:
            os.close(self._file.fd)
            self._file = Window(-1, 0, 0)


def clean_name(name: str) -> str:
    """Return `name` without ``.``, ``..`` and slashes that mean nothing; never leaves the root."""
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _scan(file: Window, path: Path) -> list[tuple[str, _Member]]:
    found: list[tuple[str, _Member]] = []
    extended: dict[str, str] = {}
    offset = 0
    headers = 0
    while offset < file.size:
        header = file.read(offset, offset + BLOCK_SIZE)
        if not any(header):
            break
        place = f"{path}: header at byte {offset}"
        headers += 1
        if headers > 2 * MAX_MEMBERS:
            raise FormatError(f"{path}: more than {MAX_MEMBERS} members", what=_WHAT)
        if offset == 0:
            _refuse_compressed(header, path)
        _check_header(header, place)
        kind = header[156]
        size = _number(header[124:136], place)
        if "size" in extended and kind not in b"xgLK":
            size = _decimal(extended["size"], place)
        start = offset + BLOCK_SIZE
        if start + size > file.size:
            raise FormatError(
                f"{place}: wants {size} bytes, the file ends after {file.size - start}", what=_WHAT
            )
        offset = start + size + -size % BLOCK_SIZE
        if kind in b"xLK":
            extended |= _extension(kind, file, start, size, place)
            continue
        if kind == b"g"[0]:
            continue
        name = extended.get("path") or _header_name(header)
        link = extended.get("linkpath") or _text(header[157:257])
        extended = {}
        key = clean_name(name)
        if kind in _REGULAR:
            found.append((key, _Member(start, size, None)))
        elif kind in _LINKS:
            base = key.rpartition("/")[0] if kind == b"2"[0] and not link.startswith("/") else ""
            found.append((key, _Member(start, 0, clean_name(f"{base}/{link}"))))
    return found


def _refuse_compressed(header: bytes, path: Path) -> None:
    for magic, (name, tool) in _COMPRESSED.items():
        if header.startswith(magic):
            raise UnsupportedError(
                f"{path}: is compressed with {name}, wanted a plain tar",
                hint=f"Run {tool} on it first.",
            )


def _check_header(header: bytes, place: str) -> None:
    if len(header) < BLOCK_SIZE:
        raise FormatError(f"{place}: got {len(header)} bytes, wanted {BLOCK_SIZE}", what=_WHAT)
    blanked = header[:148] + b" " * 8 + header[156:]
    signed = sum(blanked) - 256 * sum(byte > 127 for byte in blanked)  # noqa: PLR2004 (int8)
    if _octal(header[148:156]) not in (sum(blanked), signed):
        raise FormatError(f"{place}: is no tar header, its checksum is wrong", what=_WHAT)


def _number(field: bytes, place: str) -> int:
    if field[0] == 0x80:  # noqa: PLR2004 (GNU base-256, positive)
        return int.from_bytes(field[1:], "big")
    value = _octal(field)
    if value is None:
        raise FormatError(f"{place}: {field!r} is no octal number", what=_WHAT)
    return value


def _octal(field: bytes) -> int | None:
    digits = field.strip(b" \0") or b"0"
    return int(digits, 8) if digits.isdigit() and not set(digits) & set(b"89") else None


def _decimal(text: str, place: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):  # noqa: PLR2004 (int64)
        raise FormatError(f"{place}: size {shown(text, limit=40)} is no number", what=_WHAT)
    return int(text)


def _extension(kind: int, file: Window, start: int, size: int, place: str) -> dict[str, str]:
    if size > _MAX_EXTENSION_SIZE:
        raise FormatError(
            f"{place}: extended header of {size} bytes, at most {_MAX_EXTENSION_SIZE} allowed",
            what=_WHAT,
        )
    data = file.read(start, start + size)
    if kind == b"L"[0]:
        return {"path": _text(data)}
    if kind == b"K"[0]:
        return {"linkpath": _text(data)}
    records = {}
    while data:
        length, _, _ = data.partition(b" ")
        count = _decimal(_text(length), place)
        record = data[len(length) + 1 : count - 1]
        key, equals, value = record.partition(b"=")
        if not equals or data[count - 1 : count] != b"\n":
            raise FormatError(f"{place}: broken PAX record {data[:40]!r}", what=_WHAT)
        records[_text(key)] = value.decode(errors="replace")
        data = data[count:]
    return records


def _header_name(header: bytes) -> str:
    name = _text(header[:100])
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="replace")
