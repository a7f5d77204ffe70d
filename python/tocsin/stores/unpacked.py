"""Unpacking a compressed archive into an unnamed file, for random access.

The size of the file is bounded, since a hostile archive could otherwise fill the disk. The
operating system removes the file when the process ends.
"""

from __future__ import annotations

import tempfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tocsin.errors import FormatError
from tocsin.model.compression import GZIP
from tocsin.staged_file import place_in_errors
from tocsin.stores.window import PIECE_SIZE
from tocsin.tar.archive import unpack_zstd_archive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.stores.window import Window

_WHAT = "archive"
FREE_SIZE = 1 << 30
"""Unpacked bytes that are allowed for every archive, however small it is."""
MAX_RATIO = 64
"""Unpacked bytes allowed for each compressed byte; 3 or 4 is typical for images, 20 is rare."""
_GZIP_WBITS = 31
"""zlib's ``wbits`` for a gzip header, a window of any size, and a trailer."""


def unpack_archive(file: Window, path: Path, compression: str, *, tool: str) -> IO[bytes]:
    """Unpack an archive into an unnamed file and return it.

    Args:
        file: the archive.
        path: path of the archive, for messages.
        compression: ``gzip`` or ``zstd``.
        tool: command that unpacks the archive, for hints.

    Raises:
        FormatError: the archive is damaged or unpacks to too many bytes; `what` is ``archive``.
        OSError: the disk is full or broken; ``filename`` is the directory.
    """
    directory = Path(tempfile.gettempdir())
    with place_in_errors(directory):
        out = tempfile.TemporaryFile(  # noqa: SIM115 (the caller closes it)
            dir=directory, prefix=".tocsin-", buffering=0
        )
    try:
        size = 0
        limit = FREE_SIZE + MAX_RATIO * file.size
        for piece in _unpacked(file, path, compression):
            size += len(piece)
            if size > limit:
                raise FormatError(  # noqa: TRY301 (the file is closed below)
                    f"{path}: {file.size} bytes of {compression} unpack to more than {limit} bytes",
                    what=_WHAT,
                    hint=f"Run {tool} on it first if you trust it.",
                )
            with place_in_errors(directory):
                rest = memoryview(piece)
                while rest:
                    rest = rest[out.write(rest) :]
    except BaseException:
        out.close()
        raise
    return out


def _unpacked(file: Window, path: Path, compression: str) -> Iterator[bytes]:
    unpack = _unpack_gzip if compression == GZIP else unpack_zstd_archive
    reason = "invalid data or checksum"
    try:
        yield from unpack(file.pieces())
    except (FormatError, zlib.error) as error:
        if isinstance(error, FormatError):
            reason = error.message
        raise FormatError(f"{path}: damaged {compression} stream: {reason}", what=_WHAT) from error


def _unpack_gzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the bytes of all members of a gzip stream; zeros after the last one are ignored."""
    decoder = zlib.decompressobj(_GZIP_WBITS)
    has_begun = False
    for piece in pieces:
        rest = piece
        while rest:
            if decoder.eof:
                decoder = zlib.decompressobj(_GZIP_WBITS)
                has_begun = False
            if not has_begun:
                rest = rest.lstrip(b"\0")
                if not rest:
                    break
                has_begun = True
            yield decoder.decompress(rest, PIECE_SIZE)
            rest = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
        # The decoder may have buffered output, which it returns without more input.
        while has_begun and not decoder.eof and (out := decoder.decompress(b"", PIECE_SIZE)):
            yield out
    if has_begun and not decoder.eof:
        raise FormatError("unexpected end of file", what="gzip.end")
