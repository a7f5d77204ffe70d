"""The members of a tar file, found by seeking from header to header.

Only what image archives need: regular files and links. Names are keys in a table, never local
paths. The memory that a hostile archive can make this allocate is bounded. Layers in the archive
are not parsed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.errors import FormatError, NotFoundError, UnsupportedError
from tocsin.model.compression import GZIP, ZSTD, compression_of
from tocsin.model.entry_path import clean_path
from tocsin.quoting import shown
from tocsin.stores.window import Window
from tocsin.tar.archive import scan_archive
from tocsin.tar.headers import BLOCK_SIZE

if TYPE_CHECKING:
    from pathlib import Path

    from tocsin.tar.archive import Member

MAX_MEMBERS = 100_000
_MAX_LINKS = 8
_WHAT = "archive"

_TOOLS = {GZIP: "gunzip", ZSTD: "unzstd", "xz": "unxz", "bzip2": "bunzip2"}
"""Commands that unpack each format, for hints."""
_USTAR, _USTAR_AT = b"ustar", 257
"""Magic of a header block and its offset, in the POSIX and GNU formats."""
_LINKS = frozenset({"hardlink", "symlink"})


@dataclass(frozen=True, slots=True)
class _Member:
    offset: int
    size: int
    targets: tuple[str, ...] = ()  # possible targets of a link; the first existing one counts
    is_sparse: bool = False


class TarMembers:
    """The members of one tar file; if a name occurs twice, the last member counts, as in tar.

    Args:
        path: path of the file, which stays open until `close`.
        unpack: whether to accept an archive that is compressed with gzip or zstd, which is unpacked
            into a temporary file.

    Attributes:
        is_compressed: whether the archive is compressed.

    Raises:
        OSError: the file cannot be read.
        UnsupportedError: the archive is compressed in a way that is not accepted.
        FormatError: the file is not a tar archive; `what` is ``archive``.
    """

    def __init__(self, path: Path, *, unpack: bool = False) -> None:
        self._path = path
        self._file = Window.open(path)
        try:
            compression = _archive_compression(self._file)
            self.is_compressed = compression is not None
            if compression is not None:
                self._unpack(compression, unpack=unpack)
            self._members = _scan(self._file, path)
        except BaseException:
            self.close()
            raise

    def _unpack(self, compression: str, *, unpack: bool) -> None:
        """Replace the file with a temporary file that contains the unpacked archive."""
        tool = _TOOLS[compression]
        if not unpack or compression not in (GZIP, ZSTD):
            expected = "a plain tar, gzip or zstd" if unpack else "a plain tar"
            raise UnsupportedError(
                f"{self._path}: compressed with {compression}, expected {expected}",
                hint=f"Run {tool} on it first.",
            )
        # Imported only here, since few archives are compressed.
        from tocsin.stores.unpacked import unpack_archive  # noqa: PLC0415

        with unpack_archive(self._file, self._path, compression, tool=tool) as unpacked:
            fd = os.dup(unpacked.fileno())
        os.close(self._file.fd)
        self._file = Window(fd, 0, os.fstat(fd).st_size)

    @property
    def names(self) -> list[str]:
        """Normalized names of files and links, in the order of the archive."""
        return list(self._members)

    def __contains__(self, name: str) -> bool:
        return clean_path(name) in self._members

    def window(self, name: str) -> Window:
        """Return the window of a member, following links inside the archive.

        Raises:
            NotFoundError: the member does not exist.
            UnsupportedError: the member is stored as a sparse file.
            FormatError: the links form a loop.
        """
        key = clean_path(name)
        for _ in range(_MAX_LINKS):
            member = self._members.get(key)
            if member is None:
                raise NotFoundError(f"{self._path}: member {shown(key)}: not found")
            if member.is_sparse:
                raise UnsupportedError(
                    f"{self._path}: member {shown(key)}: stored as a sparse file",
                    hint="Pack the archive without tar's --sparse.",
                )
            if not member.targets:
                return Window(self._file.fd, member.offset, member.size)
            existing = (target for target in member.targets if target in self._members)
            key = next(existing, member.targets[0])
        raise FormatError(
            f"{self._path}: member {shown(name)}: too many levels of links", what=_WHAT
        )

    def read(self, name: str, *, max_size: int) -> bytes:
        """Return the bytes of a small member.

        Raises:
            NotFoundError: the member does not exist.
            FormatError: the member is larger than `max_size` bytes.
        """
        window = self.window(name)
        if window.size > max_size:
            raise FormatError(
                f"{self._path}: member {shown(name)}: too large (found {window.size} bytes, "
                f"expected at most {max_size})",
                what=_WHAT,
            )
        return window.read(0, window.size)

    def close(self) -> None:
        """Close the file."""
        if self._file.fd >= 0:
            os.close(self._file.fd)
            self._file = Window(-1, 0, 0)


def _archive_compression(file: Window) -> str | None:
    """Detect the compression of an archive from its first bytes; ``None`` for a plain tar."""
    head = file.read(0, BLOCK_SIZE)
    found = compression_of(head)
    # The name of a member can begin with the magic of bzip2 or xz.
    return None if head[_USTAR_AT : _USTAR_AT + len(_USTAR)] == _USTAR else found


def _scan(file: Window, path: Path) -> dict[str, _Member]:
    """Return the table of files and links by name.

    If a name occurs twice, the last member counts, at the position of the first.
    """
    try:
        members = scan_archive(file.read, file.size, max_members=MAX_MEMBERS)
    except FormatError as error:
        raise FormatError(f"{path}: not a usable tar archive: {error}", what=_WHAT) from None
    found = {}
    for member in members:
        if member.type == "reg":
            found[member.path] = _Member(member.offset, member.size, is_sparse=member.is_sparse)
        elif member.type in _LINKS:
            found[member.path] = _Member(member.offset, 0, _targets(member))
    return found


def _targets(link: Member) -> tuple[str, ...]:
    """Return the possible targets of a link: relative to its directory, then to the root."""
    from_root = clean_path(link.linkname)
    if link.type == "hardlink" or link.linkname.startswith("/"):
        return (from_root,)
    directory = link.path.rpartition("/")[0]
    return clean_path(f"{directory}/{link.linkname}"), from_root
