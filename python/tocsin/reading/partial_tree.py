"""The names of an image with a layer that cannot be read.

Such a layer may hold any entry, such as a file, a whiteout, or a symbolic link in place of a
directory. So only the layers above it count: if they decide what is at a path, it can be read; if
not, reading it fails with an error that names the unreadable layer.
"""

from __future__ import annotations

from collections import deque
from functools import cached_property
from typing import TYPE_CHECKING

from tocsin.errors import PathError
from tocsin.model.entry_path import clean_path
from tocsin.reading.certainty import Certainty
from tocsin.reading.tree import MAX_LINKS, Tree
from tocsin.reading.unreadable import UnreadableLayer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tocsin.layers.spans import VerifiedFiles
    from tocsin.model.entry_path import StrPath
    from tocsin.reading.tree import Node, Row, StatRow
    from tocsin.reading.ztoc_layer import ZtocLayer

_TYPE = 1
"""Index of the type in a row."""


class PartialTree(Tree):
    """A tree whose methods fail if an unreadable layer may change the result.

    They raise the errors of `UnreadableLayer.error_for`, in addition to those of `Tree`.

    Args:
        layers: layers of the image, from the lowest up; at least one of them is unreadable.
    """

    def __init__(self, layers: Sequence[ZtocLayer | UnreadableLayer]) -> None:
        highest = max(i for i, layer in enumerate(layers) if isinstance(layer, UnreadableLayer))
        unreadable = layers[highest]
        assert isinstance(unreadable, UnreadableLayer)  # noqa: S101 (as chosen above)
        self._unreadable = unreadable
        self._above = [
            layer for layer in layers[highest + 1 :] if not isinstance(layer, UnreadableLayer)
        ]
        self._first = highest + 1
        super().__init__([*[_EMPTY_LAYER] * self._first, *self._above])

    @cached_property
    def _certainty(self) -> Certainty:
        return Certainty(self._above, self._first)

    # -- methods of `Tree` ---------------------------------------------------------------------

    def find(self, path: str, *, follow: bool = True) -> tuple[str, Node]:
        """Return the same as `Tree.find`."""
        self._check(path, follow=follow)
        return super().find(path, follow=follow)

    def node_at(self, path: str) -> Node:
        """Return the same as `Tree.node_at`."""
        self._check(path)
        return super().node_at(path)

    def read_cached(
        self, path: StrPath, start: int, end: int, files: VerifiedFiles
    ) -> bytes | None:
        """Return ``None``: each read checks that the unreadable layer cannot change the result."""
        return None

    def type_of(self, path: str) -> str | None:
        """Return the same as `Tree.type_of`."""
        self._check(path)
        return super().type_of(path)

    def children(self, path: str) -> dict[str, Node]:
        """Return the same as `Tree.children`."""
        self._check_whole(path)
        found = super().children(path)
        for name, node in found.items():
            self._check_type(f"{path}/{name}", node.type)
        return found

    def names(self, path: str) -> tuple[list[str], list[str]]:
        """Return the same as `Tree.names`."""
        self._check_whole(path)
        return super().names(path)

    def walk(self, path: str) -> Iterator[tuple[str, Node]]:
        """Yield the same as `Tree.walk`."""
        self._check_whole(path)
        for full, node in super().walk(path):
            self._check_type(full, node.type)
            yield full, node

    def stat(self, path: str, *, follow: bool = True) -> StatRow:
        """Return the same as `Tree.stat`."""
        self._check_metadata(path, self._check(path, follow=follow))
        return super().stat(path, follow=follow)

    def stat_all(self, path: str) -> list[StatRow]:
        """Return the same as `Tree.stat_all`."""
        at = self._check(path)
        if at is not None and super().is_directory(at):
            self._check_whole(at)
        rows = super().stat_all(path)
        for row in rows:
            self._check_type(row[0], row[_TYPE])
        return rows

    def stats(self, path: str) -> Iterator[list[StatRow]]:
        """Yield the same as `Tree.stats`."""
        self._check_below(path)
        for batch in super().stats(path):
            for row in batch:
                self._check_type(row[0], row[_TYPE])
            yield batch

    def rows(self, path: str) -> Iterator[list[Row]]:
        """Yield the same as `Tree.rows`."""
        self._check_below(path)
        for batch in super().rows(path):
            for row in batch:
                self._check_type(row[0], row[1])
            yield batch

    # -- checks --------------------------------------------------------------------------------

    def _check(self, path: str, *, follow: bool = True) -> str | None:
        """Check that the layers above decide what is at a path.

        Returns:
            The resolved path; ``None`` if it is missing, as `Tree.find` will report.
        """
        follow = follow or path.endswith("/")
        certainty = self._certainty
        parts = deque(_parts(path))
        at = ""
        followed = 0
        while parts:
            part = parts.popleft()
            if not super().is_directory(at):
                self._require(path, self._is_decided(at, follow=True))
                return None
            if part == "..":
                # If this directory may be a link, its parent is unknown.
                self._require(path, certainty.is_real(at))
                at = at.rpartition("/")[0]
                continue
            full = f"{at}/{part}" if at else part
            node = self._lookup(full)
            if node is None:
                self._require(path, certainty.is_certain(full, "missing", 0))
                return None
            if node.type == "symlink" and (follow or parts):
                self._require(path, certainty.is_certain(full, "link", node.layer))
                followed += 1
                if followed > MAX_LINKS:
                    return None
                target = self._linkname(node)
                if target.startswith("/"):
                    at = ""
                parts.extendleft(reversed(_parts(target)))
                continue
            at = full
        self._require(path, self._is_decided(at, follow=follow))
        return at

    def _is_decided(self, full: str, *, follow: bool) -> bool:
        """Return whether the layers above decide what is at a path without links."""
        node = self._lookup(full)
        if not full or node is None:
            return True
        certainty = self._certainty
        if node.type == "dir":
            since = 0 if node.entry is None else node.layer
            return certainty.is_certain(full, "dir" if follow else "metadata", since)
        kind = "link" if node.type == "symlink" else "file"
        if node.type == "hardlink" or not certainty.is_certain(full, kind, node.layer):
            return False
        assert node.entry is not None  # noqa: S101 (only directories have none)
        first = clean_path(self._above_at(node).paths[node.entry])
        if first == full or not certainty.has_floating:
            return True
        # A hard link: its target must have been that file.
        is_beside = first.rpartition("/")[0] == full.rpartition("/")[0]
        return is_beside and certainty.is_certain(first, "file", node.layer)

    def _check_whole(self, directory: str) -> None:
        """Check that the layers above decide all names in and below a directory."""
        if super().is_directory(directory):
            self._require(directory, self._certainty.is_whole(directory))

    def _check_below(self, path: str) -> None:
        """Check that the layers above decide what is at a path, and all names below it."""
        at = self._check(path)
        self._check_metadata(path, at)
        if at is not None:
            self._check_whole(at)

    def _check_metadata(self, path: str, at: str | None) -> None:
        """Check that the layers above decide the mode, owner and time of a path."""
        if not at:
            self._require(path, at is None or self._certainty.root_is_listed)
        elif super().is_directory(at):
            self._require(path, self._is_decided(at, follow=False))

    def _check_type(self, path: str, kind: str) -> None:
        """Check that the target of a hard link cannot be in the unreadable layer."""
        self._require(path, kind != "hardlink")

    def _require(self, path: str, is_decided: bool) -> None:  # noqa: FBT001 (the condition itself)
        if not is_decided:
            raise self._unreadable.error_for(f"/{path.lstrip('/')}")

    # -- layers above --------------------------------------------------------------------------

    def _lookup(self, full: str) -> Node | None:
        """Return what the layers above have at a path without links."""
        try:
            return super().find(f"/{full}", follow=False)[1]
        except PathError:
            return None

    def _above_at(self, node: Node) -> ZtocLayer:
        return self._above[node.layer - self._first]

    def _linkname(self, node: Node) -> str:
        assert node.entry is not None  # noqa: S101 (a link has an entry)
        return self._above_at(node).entry(node.entry).linkname


class _EmptyLayer:
    """A layer without entries."""

    paths: Sequence[str] = ()
    types: Sequence[bytes] = ()
    linknames: Sequence[str] = ()


_EMPTY_LAYER = _EmptyLayer()


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
