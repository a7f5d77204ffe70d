"""The members of an image archive: a tar file with random access."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tocsin import _core
from tocsin.errors import FormatError
from tocsin.tar.headers import BLOCK_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_BLOCKS_PER_MEMBER = 16
"""Maximum average number of header blocks per member; three are typical."""


_PIECE_SIZE = 1 << 20


class Member(NamedTuple):
    """One entry of an archive.

    Attributes:
        type: ``reg``, ``hardlink``, ``symlink``, ``dir`` or another zTOC entry type. As POSIX
            requires, unknown types are treated as ``reg``.
        path: normalized path relative to the root of the archive.
        offset: offset of the data.
        size: bytes of data.
        linkname: target of a link, not normalized; empty otherwise.
        is_sparse: whether the file is stored without its holes.
    """

    type: str
    path: str
    offset: int
    size: int
    linkname: str
    is_sparse: bool


def scan_archive(read: Callable[[int, int], bytes], size: int, *, max_members: int) -> list[Member]:
    """Return the members of an archive, reading only its header blocks.

    Args:
        read: returns the bytes in a half-open range of the file.
        size: size of the file.
        max_members: maximum number of members.

    Raises:
        TarError: the file is not a tar archive or is truncated.
        FormatError: the archive has too many members or too many header blocks.
        OSError: the file cannot be read.
    """
    scanner = _core.TarScanner()
    offset = 0
    blocks = 0
    while offset < size:
        if skipped := scanner.skip(size - offset):
            offset += skipped
            continue
        block = read(offset, offset + BLOCK_SIZE)
        if not block:  # the file was truncated in the meantime
            break
        scanner.push(block)
        offset += len(block)
        blocks += 1
        if scanner.entry_count > max_members or blocks > max_members * _BLOCKS_PER_MEMBER:
            raise FormatError(f"more than {max_members} members", what="archive")
    return [Member(*member) for member in scanner.finish()]


def unpack_zstd_archive(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the uncompressed bytes of an archive compressed with zstd.

    Raises:
        FormatError: the archive is not a valid zstd stream.
    """
    decoder = _core.ZstdDecoder()
    for piece in pieces:
        decoder.feed(piece)
        while out := decoder.read(_PIECE_SIZE):
            yield out
    decoder.finish()
