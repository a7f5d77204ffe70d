"""Where the members of a tar file lie, found by seeking from header to header.

Only what image archives need: regular files and links. Names are keys of a table and never paths of
this machine; what a hostile archive can make this allocate is bounded. The layers inside are not
looked into.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.errors import FormatError, NotFoundError, UnsupportedError
from tocsin.model.entry_path import clean_path
from tocsin.quoting import shown
from tocsin.stores.window import Window
from tocsin.tar.archive import scan_archive
from tocsin.tar.headers import BLOCK_SIZE

if TYPE_CHECKING:
    from pathlib import Path

MAX_MEMBERS = 100_000
_MAX_LINKS = 8
_WHAT = "archive"

_COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
    b"\xfd7zXZ\x00": ("xz", "unxz"),
    b"BZh": ("bzip2", "bunzip2"),
}
_LINKS = frozenset({"hardlink", "symlink"})


@dataclass(frozen=True, slots=True)
class _Member:
    offset: int
    size: int
    target: str | None  # of a link, already a key of the table
    is_sparse: bool = False


class TarMembers:
    """The members of one tar file; of equal names the last counts, as when unpacking.

    Args:
        path: of the file, which stays open until `close`.

    Raises:
        OSError: it cannot be read.
        UnsupportedError: it is compressed.
        FormatError: it is not a tar archive; `what` is ``archive``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = Window.open(path)
        try:
            self._members = _scan(self._file, path)
        except BaseException:
            self.close()
            raise

    @property
    def names(self) -> list[str]:
        """Cleaned names of files and links, in the order of the archive."""
        return list(self._members)

    def __contains__(self, name: str) -> bool:
        return clean_path(name) in self._members

    def window(self, name: str) -> Window:
        """Return where the bytes of a member lie, following links inside the archive.

        Raises:
            NotFoundError: there is no such member.
            UnsupportedError: it is stored as a sparse file.
            FormatError: links run in a circle.
        """
        key = clean_path(name)
        for _ in range(_MAX_LINKS):
            member = self._members.get(key)
            if member is None:
                raise NotFoundError(f"{self._path}: has no member {shown(key)}")
            if member.is_sparse:
                raise UnsupportedError(
                    f"{self._path}: member {shown(key)}: stored as a sparse file",
                    hint="Pack the archive without tar's --sparse.",
                )
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


def _scan(file: Window, path: Path) -> dict[str, _Member]:
    """Return the table of files and links; of equal names the last counts, in the first's place."""
    _refuse_compressed(file.read(0, BLOCK_SIZE), path)
    try:
        members = scan_archive(file.read, file.size, max_members=MAX_MEMBERS)
    except FormatError as error:
        raise FormatError(f"{path}: not a usable tar archive: {error}", what=_WHAT) from None
    found = {}
    for member in members:
        if member.type == "reg":
            found[member.path] = _Member(member.offset, member.size, None, member.is_sparse)
        elif member.type in _LINKS:
            link = member.linkname
            is_relative = member.type == "symlink" and not link.startswith("/")
            base = member.path.rpartition("/")[0] if is_relative else ""
            found[member.path] = _Member(member.offset, 0, clean_path(f"{base}/{link}"))
    return found


def _refuse_compressed(header: bytes, path: Path) -> None:
    for magic, (name, tool) in _COMPRESSED.items():
        if header.startswith(magic):
            raise UnsupportedError(
                f"{path}: is compressed with {name}, wanted a plain tar",
                hint=f"Run {tool} on it first.",
            )
