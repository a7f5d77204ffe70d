"""A zTOC, and files by it, from what a person names."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tocsin.errors import FormatError, NotFoundError, ZtocError
from tocsin.model.soci_index import MAX_ZTOC_SIZE
from tocsin.regular_file import read_regular

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.layers.ztoc import Ztoc

LIST_ENTRIES = "List the entries of the layer with tocsin ztoc ls ZTOC."

_STDIN = "-"
_GZIP_MAGIC = b"\x1f\x8b"
_TAR_MAGIC, _TAR_MAGIC_OFFSET = b"ustar", 257


def read_ztoc(path: str) -> Ztoc:
    """Return the zTOC in the file at `path`, or on stdin for ``-``.

    Raises:
        ZtocError: there is none in it; a layer in its place is called by its name.
        OSError: it cannot be read.
    """
    from tocsin.layers.ztoc import Ztoc  # noqa: PLC0415 (numpy is not for --help)

    if path == _STDIN:
        data, place = sys.stdin.buffer.read(MAX_ZTOC_SIZE), "stdin"
    else:
        data, place = read_regular(path, max_size=MAX_ZTOC_SIZE), path
    try:
        return Ztoc.from_bytes(data)
    except ZtocError as error:
        error.add_note(place)
        if _looks_like_layer(data):
            error.hint = "Make the zTOC of this layer with tocsin ztoc build."
        raise


def read_file(ztoc: Ztoc, layer: str, path: str) -> Iterator[bytes]:
    """Yield the data of a file as `Ztoc.read` does; errors name the layer."""
    try:
        ztoc.entry(path)
    except NotFoundError as error:
        error.hint = LIST_ENTRIES
        raise
    try:
        yield from ztoc.read(path, layer)
    except FormatError as error:  # a VerificationError names it already
        error.add_note(layer)
        raise


def _looks_like_layer(data: bytes) -> bool:
    return data.startswith(_GZIP_MAGIC) or data[_TAR_MAGIC_OFFSET:].startswith(_TAR_MAGIC)
