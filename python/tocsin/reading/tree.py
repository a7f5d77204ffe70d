"""The merged names of an image's layers, without data.

Wraps ``tocsin._core.Tree``, which applies layers from the lowest up, each entry in the order of its
tar, as unpacking does: upper entries replace lower ones, whiteouts and opaque directories hide
lower entries, and the targets of links are resolved inside the image.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, cast

from tocsin import _core
from tocsin.layers.ztoc import core_of
from tocsin.quoting import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tocsin.layers.spans import VerifiedFiles
    from tocsin.layers.ztoc import Ztoc
    from tocsin.model.entry_path import StrPath

MAX_LINKS = 40
"""Maximum number of symbolic links followed for one path, as in Linux."""

_BATCH_LEN = 4096
"""Number of names taken from the core at once."""
_MAX_NAME_LEN = 100
"""Maximum number of characters of a name in a note; most entries left out have long names."""


class HasZtoc(Protocol):
    """A layer with a zTOC.

    Attributes:
        ztoc: zTOC with its entries, which the tree shares.
    """

    @property
    def ztoc(self) -> Ztoc: ...  # noqa: D102 (in the class docstring)


class ListedLayer(Protocol):
    """A layer of which only names are known.

    Attributes:
        paths: paths of all entries, in the order of the tar.
        types: types of all entries, as in a zTOC.
        linknames: link targets of all entries, as in the tar.
    """

    @property
    def paths(self) -> Sequence[str]: ...  # noqa: D102 (in the class docstring)
    @property
    def types(self) -> Sequence[bytes]: ...  # noqa: D102 (in the class docstring)
    @property
    def linknames(self) -> Sequence[str]: ...  # noqa: D102 (in the class docstring)


class Node(NamedTuple):
    """What is at a path.

    Attributes:
        layer: number of its layer, 0 for the lowest.
        entry: index of its entry in that layer, for a hard link that of its target; ``None`` for a
            directory that only appears in the paths of other entries.
        type: type, as in ``FileStat``; ``hardlink`` for a hard link whose target is missing.
        inode: a number that two names share if and only if they are links to one file.
    """

    layer: int
    entry: int | None
    type: str
    inode: int


StatRow: TypeAlias = tuple[Any, ...]
"""The fields of ``FileStat`` up to ``layer``, in their order."""

Row: TypeAlias = tuple[str, str, int, int]
"""Absolute path, type and size, as in ``FileStat``; a number for `Tree.stat_row`."""


class Tree:
    """The names of an image.

    Paths are relative to the root or absolute. Entries that Linux cannot create on any file system
    are left out: those with a path or link target that has more than 4,095 bytes or a NUL byte.

    Args:
        layers: layers of the image, from the lowest up.

    Attributes:
        notes: sentences about what was left out, at most one for each reason.
    """

    def __init__(self, layers: Sequence[HasZtoc | ListedLayer]) -> None:
        self._core = _core.Tree([_entries(layer) for layer in layers])
        self.notes = tuple(_note(*left_out) for left_out in self._core.left_out())

    def find(self, path: str, *, follow: bool = True) -> tuple[str, Node]:
        """Return the resolved path, without a leading slash, and its node.

        Args:
            path: a path whose ``.``, ``..`` and links are resolved inside the image, as after
                ``chroot``.
            follow: whether a symbolic link at the end is followed.

        Raises:
            PathError: the path is missing, one of its parents is not a directory, or links form a
                loop.
        """
        resolved, node = self._core.find(path, follow)
        return resolved, Node._make(node)

    def node_at(self, path: str) -> Node:
        """Return the node at a path, following links; faster than `find`.

        Raises:
            PathError: as `find`.
        """
        return Node._make(self._core.node_at(path))

    def type_of(self, path: str) -> str | None:
        """Return the type of what is at a path, following links; ``None`` if it is missing."""
        return self._core.type_of(path)

    def children(self, path: str) -> dict[str, Node]:
        """Return the nodes in a directory by name, sorted.

        Raises:
            PathError: `path`, as `find` returned it, is not a directory.
        """
        return {name: Node._make(node) for name, node in self._core.children(path)}

    def names(self, path: str) -> tuple[list[str], list[str]]:
        """Return the names of directories in a directory, and other names, both sorted.

        Raises:
            PathError: `path`, as `find` returned it, is not a directory.
        """
        return self._core.names(path)

    def is_directory(self, path: str) -> bool:
        """Return whether `path`, as `find` returned it, is a directory."""
        return self._core.is_directory(path)

    def walk(self, path: str) -> Iterator[tuple[str, Node]]:
        """Yield every path below a directory, sorted, a directory before its contents.

        Raises:
            PathError: `path`, as `find` returned it, is not a directory.
        """
        walk = self._core.walk(path)
        while batch := walk.nodes(_BATCH_LEN):
            for full, node in batch:
                yield full, Node._make(node)

    def will_find(self, paths: Iterable[str]) -> None:
        """Prepare to find many paths; does nothing, since all names are known."""

    def will_walk(self) -> None:
        """Prepare to list many directories; does nothing, since all names are known."""

    def complete(self) -> _core.Tree | _core.SeekTree:
        """Return the names as the core has them, all of them."""
        return self._core

    def forget(self) -> None:
        """Free memory that can be restored; does nothing, since names are in the zTOCs."""

    @property
    def root(self) -> Node:
        """The root directory."""
        return Node._make(self._core.root())

    @cached_property
    def linked(self) -> dict[tuple[int, int], tuple[int, int]]:
        """Layer and entry of each file with hard links, with those of its last link.

        The owner, mode and time of the link replace those of the file.
        """
        return dict(self._core.links())

    def left_out_below(self, path: str) -> list[tuple[str, str]]:
        """Return the entries left out below a directory: path, shortened if long, and reason."""
        return self._core.left_out_below(path)

    def read_cached(
        self, path: StrPath, start: int, end: int, files: VerifiedFiles
    ) -> bytes | None:
        """Return part of a file if `files` has the file and its bytes are in memory."""
        return self._core.read_cached(path, start, end, files)

    # -- metadata ------------------------------------------------------------------------------

    def stat(self, path: str, *, follow: bool = True) -> StatRow:
        """Return the metadata of a path.

        Raises:
            PathError: as `find`.
        """
        return self._core.stat(path, follow)

    def stat_listed(self, path: str, node: Node) -> StatRow:
        """Return the metadata of a node, at any path; an owner may be ``NO_ID``."""
        return self._core.stat_listed(path, node.layer, node.entry, node.inode)

    def stat_all(self, path: str) -> list[StatRow]:
        """Return what is in a directory, sorted by name; for anything else, only itself.

        Raises:
            PathError: as `find`.
        """
        return self._core.stat_all(path)

    def stats(self, path: str) -> Iterator[list[StatRow]]:
        """Yield what is at a path and everything below it, sorted; links below are not followed.

        Raises:
            PathError: as `find`.
        """
        walk = self._core.walk_from(path)
        while batch := walk.stats(_BATCH_LEN):
            yield batch

    def rows(self, path: str) -> Iterator[list[Row]]:
        """Yield the same as `stats`, but only what a search needs.

        Raises:
            PathError: as `find`.
        """
        walk = self._core.walk_from(path)
        while batch := walk.rows(_BATCH_LEN):
            yield batch

    def stat_row(self, row: Row) -> StatRow:
        """Return the metadata of a row of `rows`."""
        return self._core.stat_place(row[3])


def _entries(
    layer: HasZtoc | ListedLayer,
) -> _core.Ztoc | list[tuple[bytes, bytes, bytes]]:
    ztoc: Ztoc | None = getattr(layer, "ztoc", None)
    if ztoc is not None:
        return core_of(ztoc)
    listed = cast("ListedLayer", layer)
    names, targets = map(os.fsencode, listed.paths), map(os.fsencode, listed.linknames)
    return list(zip(names, listed.types, targets, strict=True))


def _note(why: str, count: int, layer: int, name: str) -> str:
    first = f"{shown(name, limit=_MAX_NAME_LEN)} in layer {layer + 1}"
    if count == 1:
        return f"left out 1 entry, {first}: {why}"
    return f"left out {count:,} entries, the first {first}: {why}"
