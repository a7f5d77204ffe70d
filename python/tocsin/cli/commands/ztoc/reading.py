"""Reads zTOC files, and files of layers, for the commands of ``tocsin ztoc``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.errors import FormatError, NotFoundError, PathError, ZtocError
from tocsin.model.entry_path import clean_path
from tocsin.model.soci_index import MAX_ZTOC_SIZE
from tocsin.quoting import shown
from tocsin.regular_file import read_regular

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.layers.ztoc import Ztoc
    from tocsin.reading.tree import Tree

LIST_ENTRIES = "List the entries of the layer with tocsin ztoc ls ZTOC."
READ_THE_IMAGE = (
    "Read the file from the image that the layer belongs to, with tocsin cat IMAGE PATH."
)
"""Hint for a link whose target is in another layer."""

_STDIN = "-"
_GZIP_MAGIC = b"\x1f\x8b"
_TAR_MAGIC, _TAR_MAGIC_OFFSET = b"ustar", 257


def read_ztoc(path: str) -> Ztoc:
    """Read a zTOC from a file, or from stdin if `path` is ``-``.

    Raises:
        ZtocError: not a zTOC; if it looks like a layer, there is a hint.
        OSError: the file cannot be read.
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
            error.hint = "Build the zTOC of this layer with tocsin ztoc build."
        raise


def find_file(ztoc: Ztoc, path: str) -> str:
    """Return the path of the entry that `path` resolves to.

    Symbolic links are followed inside the layer, as if it were the whole image.

    Raises:
        NotFoundError: no such entry, or the target of a link is not in this layer.
    """
    index = ztoc.index_at(path)
    if index is not None and ztoc.entries[index].type != "symlink":
        return path
    from tocsin.reading.tree import Tree  # noqa: PLC0415 (only links need it)

    tree = Tree([_OneLayer(ztoc)])
    try:
        return tree.find(path)[0]
    except PathError as error:
        if link := _broken_link(ztoc, tree, path):
            target = shown(ztoc.entry(link).linkname)
            raise NotFoundError(
                f"{shown(path)}: the symbolic link {shown(link)} points to {target}, which is not "
                "in this layer",
                hint=READ_THE_IMAGE,
            ) from None
        if error.reason == "missing":
            raise NotFoundError(
                f"{shown(path)}: no such entry in the zTOC", hint=LIST_ENTRIES
            ) from None
        error.hint = LIST_ENTRIES
        raise


def read_file(ztoc: Ztoc, layer: str, path: str) -> Iterator[bytes]:
    """Yield the data of a file that `find_file` returned; errors name the layer."""
    try:
        yield from ztoc.read(path, layer)
    except FormatError as error:  # a VerificationError names it already
        error.add_note(layer)
        raise
    except NotFoundError as error:
        if ztoc.entry(path).type == "hardlink":
            error.hint = READ_THE_IMAGE
        raise


@dataclass(frozen=True, slots=True)
class _OneLayer:
    """The only layer of a tree."""

    ztoc: Ztoc


def _broken_link(ztoc: Ztoc, tree: Tree, path: str) -> str | None:
    """Return the first symbolic link in `path` whose target is not in the layer."""
    names = clean_path(path).split("/")
    for count in range(1, len(names) + 1):
        place = "/".join(names[:count])
        index = ztoc.index_at(place)
        is_link = index is not None and ztoc.entries[index].type == "symlink"
        if is_link and tree.type_of(place) is None:
            return place
    return None


def _looks_like_layer(data: bytes) -> bool:
    return data.startswith(_GZIP_MAGIC) or data.startswith(_TAR_MAGIC, _TAR_MAGIC_OFFSET)
