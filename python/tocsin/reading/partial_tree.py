"""The names of an image of which a layer cannot be read.

Such a layer may hold any entry: files, whiteouts, symbolic links in the place of directories. So
only the layers above it count. Paths that they decide are answered, others fail with its name.

Two trees are compared. Both have the layers above; the second has below them, as if that were the
layer that cannot be read, every directory of the first, a file in each, and a file for each name
that a whiteout removes. What of this is gone, the layers above remove from any layer.

A directory that the layers above only mention in names, with no entry of its own, may be a symbolic
link in the layer that cannot be read. Then two names of theirs may be of one file. So what is in
such a directory counts only if no other name of theirs could be meant.
"""

from __future__ import annotations

import os
from collections import deque
from functools import cached_property
from typing import TYPE_CHECKING

from tocsin.errors import PathError
from tocsin.model.entry_path import clean_path
from tocsin.reading.tree import MAX_LINKS, Tree
from tocsin.reading.unreadable import UnreadableLayer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tocsin.reading.layer import Layer
    from tocsin.reading.tree import Node, Row, StatRow

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_OTHER_MARKS = ".wh..wh."
_MAX_PATH_LEN = 4095
_TYPE = 1
"""Where a row has the type."""


class PartialTree(Tree):
    """A tree whose methods fail where a layer that cannot be read may change the answer.

    They raise the errors of `UnreadableLayer.error_for`, besides their own.

    Args:
        layers: of the image, from the lowest up, at least one of them unreadable.
    """

    def __init__(self, layers: Sequence[Layer | UnreadableLayer]) -> None:
        highest = max(i for i, layer in enumerate(layers) if isinstance(layer, UnreadableLayer))
        unreadable = layers[highest]
        assert isinstance(unreadable, UnreadableLayer)  # noqa: S101 (chosen so)
        self._unreadable = unreadable
        self._above = [layer for layer in layers[highest + 1 :] if not _is_unreadable(layer)]
        self._first = highest + 1
        nothing = _Names()
        super().__init__([*[nothing] * self._first, *self._above])

    # -- the face of `Tree` --------------------------------------------------------------------

    def find(self, path: str, *, follow: bool = True) -> tuple[str, Node]:
        """Return as `Tree.find`."""
        self._check(path, follow=follow)
        return super().find(path, follow=follow)

    def node_at(self, path: str) -> Node:
        """Return as `Tree.node_at`."""
        self._check(path)
        return super().node_at(path)

    def type_of(self, path: str) -> str | None:
        """Return as `Tree.type_of`."""
        self._check(path)
        return super().type_of(path)

    def children(self, path: str) -> dict[str, Node]:
        """Return as `Tree.children`."""
        self._check_whole(path)
        found = super().children(path)
        for name, node in found.items():
            self._check_type(f"{path}/{name}", node.type)
        return found

    def names(self, path: str) -> tuple[list[str], list[str]]:
        """Return as `Tree.names`."""
        self._check_whole(path)
        return super().names(path)

    def walk(self, path: str) -> Iterator[tuple[str, Node]]:
        """Yield as `Tree.walk`."""
        self._check_whole(path)
        for full, node in super().walk(path):
            self._check_type(full, node.type)
            yield full, node

    def stat(self, path: str, *, follow: bool = True) -> StatRow:
        """Return as `Tree.stat`."""
        self._check_metadata(path, self._check(path, follow=follow))
        return super().stat(path, follow=follow)

    def stat_all(self, path: str) -> list[StatRow]:
        """Return as `Tree.stat_all`."""
        at = self._check(path)
        if at is not None and super().is_directory(at):
            self._check_whole(at)
        rows = super().stat_all(path)
        for row in rows:
            self._check_type(row[0], row[_TYPE])
        return rows

    def stats(self, path: str) -> Iterator[list[StatRow]]:
        """Yield as `Tree.stats`."""
        self._check_below(path)
        for batch in super().stats(path):
            for row in batch:
                self._check_type(row[0], row[_TYPE])
            yield batch

    def rows(self, path: str) -> Iterator[list[Row]]:
        """Yield as `Tree.rows`."""
        self._check_below(path)
        for batch in super().rows(path):
            for row in batch:
                self._check_type(row[0], row[_TYPE])
            yield batch

    # -- whether the layers above decide -------------------------------------------------------

    def _check(self, path: str, *, follow: bool = True) -> str | None:
        """Check that what is at a path is decided.

        Returns:
            The resolved path; ``None`` if nothing is there, as `Tree.find` will say.
        """
        follow = follow or path.endswith("/")
        parts = deque(_parts(path))
        at = ""
        followed = 0
        while parts:
            part = parts.popleft()
            if not super().is_directory(at):
                return None
            if part == "..":
                # Of a directory that may be a link, what is above it is not known.
                self._require(path, self._is_certain(at))
                at = at.rpartition("/")[0]
                continue
            full = f"{at}/{part}" if at else part
            node = self._lookup(full)
            if node is None:
                self._require(path, self._is_missing(at, full))
                return None
            if node.type == "symlink" and (follow or parts):
                self._require(path, self._is_named(full))
                followed += 1
                if followed > MAX_LINKS:
                    return None
                target = self._linkname(node)
                if target.startswith("/"):
                    at = ""
                parts.extendleft(reversed(_parts(target)))
                continue
            at = full
        node = self._lookup(at)
        if node is not None and node.type != "dir":
            self._require(path, node.type != "hardlink" and self._is_named(at))
            self._require(path, self._is_link_certain(at, node))
        return at

    def _check_whole(self, directory: str) -> None:
        """Check that all names in and below a directory are decided."""
        if not super().is_directory(directory):
            return  # an error of its own
        is_whole = self._is_closed(directory) and (
            self._is_certain(directory) or self._is_alone_below(directory)
        )
        self._require(directory, is_whole)

    def _check_below(self, path: str) -> None:
        """Check what is at a path, and all names below it."""
        at = self._check(path)
        self._check_metadata(path, at)
        if at is not None and super().is_directory(at):
            self._check_whole(at)

    def _check_metadata(self, path: str, at: str | None) -> None:
        """Check that mode, owner and time of what is at a path are decided."""
        if at is not None and super().is_directory(at):
            is_own = self._is_own(at) and (self._is_chain_certain(at) or self._is_alone(at))
            self._require(path, is_own)

    def _check_type(self, path: str, kind: str) -> None:
        """Check that a hard link's target is not in a layer that cannot be read."""
        self._require(path, kind != "hardlink")

    def _require(self, path: str, is_decided: bool) -> None:  # noqa: FBT001 (the condition itself)
        if not is_decided:
            raise self._unreadable.error_for(f"/{path.lstrip('/')}")

    def _is_missing(self, directory: str, full: str) -> bool:
        """Return whether nothing can be at a path where the layers above have nothing."""
        if not self._is_closed(directory):
            is_hidden = full in self._hidden and self._is_gone(full)
            if not is_hidden:
                return False
        return self._is_certain(directory) or self._is_alone(full)

    def _is_named(self, full: str) -> bool:
        """Return whether what the layers above have at a path cannot be anything else."""
        return self._is_chain_certain(full) or self._is_alone(full)

    def _is_link_certain(self, full: str, node: Node) -> bool:
        """Return whether a file that has another name, its first, is what that name led to."""
        if node.entry is None:
            return True
        layer = self._above_at(node)
        first = clean_path(layer.paths[node.entry])
        if first == full or self._is_alone(first):
            return True
        found = self._lookup(first)
        return found == node and self._is_chain_certain(first)

    def _is_chain_certain(self, full: str) -> bool:
        """Return whether the directory that a path is in is certain."""
        return self._is_certain(full.rpartition("/")[0])

    def _is_certain(self, directory: str) -> bool:
        """Return whether a directory and all above it are directories whatever is below."""
        while directory:
            if not self._is_own(directory):
                return False
            directory = directory.rpartition("/")[0]
        return True

    def _is_own(self, directory: str) -> bool:
        """Return whether the layers above make a directory, whatever is below."""
        if not directory:
            return self._below.root.layer >= self._first
        return self._is_gone(directory)

    def _is_closed(self, directory: str) -> bool:
        """Return whether nothing of the layers below can be in a directory."""
        mark = f"{directory}/{self._mark}" if directory else self._mark
        return len(os.fsencode(mark)) <= _MAX_PATH_LEN and self._is_gone(mark)

    def _is_gone(self, full: str) -> bool:
        """Return whether the layers above remove or replace what is at a path in lower ones."""
        try:
            _, node = self._below.find(f"/{full}", follow=False)
        except PathError:
            return True
        return node.layer >= self._first

    def _is_alone(self, full: str) -> bool:
        """Return whether no name of the layers above but one could be that of a path.

        A directory on the way may be a link, so any name with the same last part could be. Any
        whiteout that comes later could remove what is at the path.
        """
        name = full.rpartition("/")[2]
        named = self._names_by_last_part.get(name, {})
        if len(named) > 1:
            return False
        for own, since in named.items():
            directory = own.rpartition("/")[0]
            for layer, parent, mark in self._marks:
                is_later = layer > since or (layer == since and mark != _OPAQUE)
                if is_later and parent != directory:
                    return False
        return True

    def _is_alone_below(self, directory: str) -> bool:
        """Return whether no name of the layers above but those below a directory could be there.

        Names in directories above it are taken for none: a link to a directory that it is in itself
        would be one without end.
        """
        below = f"{directory}/"
        if any(not f"{parent}/".startswith(below) for _, parent, _ in self._marks):
            return False
        for named in self._names_by_last_part.values():
            for own in named:
                parent = own.rpartition("/")[0]
                is_near = not parent or below.startswith(f"{parent}/")
                if not is_near and not own.startswith(below):
                    return False
        return True

    # -- what the layers above have ------------------------------------------------------------

    def _lookup(self, full: str) -> Node | None:
        """Return what the layers above have at a path that no link is on."""
        try:
            return super().find(f"/{full}", follow=False)[1]
        except PathError:
            return None

    def _above_at(self, node: Node) -> Layer:
        return self._above[node.layer - self._first]

    def _linkname(self, node: Node) -> str:
        assert node.entry is not None  # noqa: S101 (a link has an entry)
        return self._above_at(node).entry(node.entry).linkname

    @cached_property
    def _names_by_last_part(self) -> dict[str, dict[str, int]]:
        """The names of all entries but whiteouts, each with the last layer that has it."""
        found: dict[str, dict[str, int]] = {}
        for number, layer in enumerate(self._above, self._first):
            for path in layer.paths:
                own = clean_path(path)
                name = own.rpartition("/")[2]
                if not name.startswith(_WHITEOUT):
                    found.setdefault(name, {})[own] = number
        return found

    @cached_property
    def _marks(self) -> list[tuple[int, str, str]]:
        """Layer, directory and name of each whiteout."""
        return [
            (number, parent, name)
            for number, layer in enumerate(self._above, self._first)
            for parent, _, name in (clean_path(path).rpartition("/") for path in layer.paths)
            if name.startswith(_WHITEOUT) and (name == _OPAQUE or not name.startswith(_OTHER_MARKS))
        ]

    @cached_property
    def _hidden(self) -> frozenset[str]:
        """The paths that whiteouts remove."""
        return frozenset(
            f"{parent}/{name.removeprefix(_WHITEOUT)}".lstrip("/")
            for _, parent, name in self._marks
            if name != _OPAQUE
        )

    @cached_property
    def _mark(self) -> str:
        """The name of a file that no layer has."""
        return f"tocsin-{os.urandom(16).hex()}"

    @cached_property
    def _below(self) -> Tree:
        """The same layers above one that has something wherever they could remove it."""
        names = _Names()
        names.add("", b"dir")
        names.add(self._mark, b"reg")
        for full, node in super().walk(""):
            if node.type == "dir":
                names.add(full, b"dir")
                names.add(f"{full}/{self._mark}", b"reg")
        known = set(names.paths)
        for full in sorted(self._hidden - known):
            names.add(full, b"reg")
        lower = [_Names()] * (self._first - 1)
        return Tree([*lower, names, *self._above])


class _Names:
    """A layer of which only names are known."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.types: list[bytes] = []

    @property
    def linknames(self) -> list[str]:
        return [""] * len(self.paths)

    def add(self, path: str, kind: bytes) -> None:
        self.paths.append(f"{path}/" if kind == b"dir" else path)
        self.types.append(kind)


def _is_unreadable(layer: Layer | UnreadableLayer) -> bool:
    return isinstance(layer, UnreadableLayer)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
