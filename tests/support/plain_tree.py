"""A simple merged tree with paths as keys, to which `tocsin.reading.tree` is compared.

Source: OCI image-spec 1.1.1, layer.md, "Applying Changesets", "Whiteouts"; for limits of Linux,
``include/uapi/linux/limits.h`` and symlink(2).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tocsin.errors import PathError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_LINKS = 40
"""Maximum symbolic links followed for one path, as in Linux."""
MAX_PATH = 4095
"""Maximum bytes of a path, without the terminating NUL."""

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
_OTHER_MARKS = ".wh..wh."
"""Prefix of aufs metadata, which unpackers skip."""


class LayerNames(Protocol):
    """The properties of a layer that the tree needs.

    Attributes:
        paths: normalized paths of all entries, in the order of the tar.
        types: types of all entries, as in the zTOC.
        linknames: link targets of all entries, as in the tar.
    """

    @property
    def paths(self) -> Sequence[str]: ...
    @property
    def types(self) -> Sequence[bytes]: ...
    @property
    def linknames(self) -> Sequence[str]: ...


class ImpossibleError(Exception):
    """The entry cannot exist on Linux."""


class Node(NamedTuple):
    """The file at a path.

    Attributes:
        layer: position of its layer, 0 for the bottom layer.
        entry: position of its entry in the layer; ``None`` for a directory without an entry.
    """

    layer: int
    entry: int | None

    @property
    def inode(self) -> int:
        """A number that is equal for two names if and only if they are links to one file."""
        return (self.layer + 1 << 40) + (0 if self.entry is None else self.entry + 1)


_ROOT = Node(0, None)


class Tree:
    """The names of an image.

    Args:
        layers: the layers, bottom layer first.
    """

    def __init__(self, layers: Sequence[LayerNames]) -> None:
        self._layers = layers
        self._root = _ROOT
        # The keys are paths of real directories, never of symbolic links to directories. So a path
        # whose parent is a key need not be resolved, which is the common case.
        self._directories: dict[str, dict[str, Node]] = {"": {}}
        self.left_out = 0
        self.linked: dict[Node, Node] = {}
        for number, layer in enumerate(layers):
            self._apply(number, layer)

    # -- queries -------------------------------------------------------------------------------

    def find(self, path: str, *, follow: bool = True) -> tuple[str, Node]:
        """Return the resolved path, without a leading slash, and its node.

        Args:
            path: relative to the root or absolute; ``.``, ``..`` and links are resolved inside the
                image, as ``chroot`` would.
            follow: whether a symbolic link at the end is followed.

        Raises:
            PathError: the path does not exist, a parent is not a directory, or links form a loop.
        """
        quick = path.strip("/")
        parent, _, name = quick.rpartition("/")
        directory = self._directories.get(parent)
        if directory is not None:
            node = directory.get(name)
            if node is not None and not (follow and self._is_symlink(node)):
                if path.endswith("/") and quick not in self._directories:
                    return self._walk(path, follow=True)
                return quick, node
        return self._walk(path, follow=follow or path.endswith("/"))

    def children(self, path: str) -> dict[str, Node]:
        """Return the children of a directory by name; `path` as returned by `find`.

        Raises:
            PathError: the path is not a directory.
        """
        try:
            return self._directories[path]
        except KeyError:
            raise PathError(
                f"{_shown(path)}: is not a directory", path=path, reason="not_directory"
            ) from None

    def is_directory(self, path: str) -> bool:
        """Return whether `path`, as returned by `find`, is a directory."""
        return path in self._directories

    def walk(self, path: str) -> Iterator[tuple[str, Node]]:
        """Yield every path below a directory, sorted, parents before children."""
        stack = [iter(sorted(self.children(path).items()))]
        above = [path]
        while stack:
            for name, node in stack[-1]:
                full = f"{above[-1]}/{name}" if above[-1] else name
                yield full, node
                below = self._directories.get(full)
                if below is not None:
                    stack.append(iter(sorted(below.items())))
                    above.append(full)
                    break
            else:
                stack.pop()
                above.pop()

    @property
    def root(self) -> Node:
        """The root directory."""
        return self._root

    def _is_symlink(self, node: Node) -> bool:
        return node.entry is not None and self._layers[node.layer].types[node.entry] == b"symlink"

    def _target(self, node: Node) -> str:
        assert node.entry is not None
        return self._layers[node.layer].linknames[node.entry]

    def _walk(self, path: str, *, follow: bool) -> tuple[str, Node]:
        """Resolve a path name by name."""
        links = 0
        at = ""
        todo = path.split("/")[::-1]
        while todo:
            name = todo.pop()
            if name in ("", "."):
                continue
            directory = self._directories.get(at)
            if directory is None:
                raise PathError(
                    f"{_shown(path)}: {_shown(at)} is not a directory",
                    path=path,
                    reason="not_directory",
                )
            if name == "..":
                at = at.rpartition("/")[0]
                continue
            found = directory.get(name)
            if found is None:
                raise PathError(
                    f"{_shown(path)}: no such file or directory", path=path, reason="missing"
                )
            more = any(part not in ("", ".") for part in todo)
            if self._is_symlink(found) and (follow or more):
                links += 1
                if links > MAX_LINKS:
                    raise PathError(
                        f"{_shown(path)}: more than {MAX_LINKS} symbolic links, possibly a loop",
                        path=path,
                        reason="loop",
                    )
                target = self._target(found)
                if not target:
                    raise PathError(
                        f"{_shown(path)}: leads through a symbolic link to nowhere",
                        path=path,
                        reason="missing",
                    )
                todo += target.split("/")[::-1]
                if target.startswith("/"):
                    at = ""
                continue
            at = f"{at}/{name}" if at else name
        if path.endswith("/") and follow and at not in self._directories:
            raise PathError(
                f"{_shown(path)}: is not a directory", path=path, reason="not_directory"
            )
        return at, self._node_at(at)

    def _node_at(self, path: str) -> Node:
        if not path:
            return self._root
        parent, _, name = path.rpartition("/")
        return self._directories[parent][name]

    # -- applying a layer ----------------------------------------------------------------------

    def _apply(self, number: int, layer: LayerNames) -> None:
        # Only layers with whiteouts must remember which paths they have created.
        created: set[str] | None = None
        if any(WHITEOUT in path for path in layer.paths):
            created = set()
        for index in range(len(layer.paths)):
            try:
                self._apply_entry(number, layer, index, created)
            except ImpossibleError:
                self.left_out += 1

    def _apply_entry(
        self, number: int, layer: LayerNames, index: int, created: set[str] | None
    ) -> None:
        directories = self._directories
        path = cleaned(layer.paths[index])
        kind = layer.types[index]
        parent, _, name = path.rpartition("/")
        is_mark = name.startswith(WHITEOUT)
        _check(parent if is_mark else path)
        if not is_mark:
            _check_target(kind, layer.linknames[index])
        if parent not in directories:
            parent = self._make_directory(parent, number, created)
            path = f"{parent}/{name}" if parent else name  # the resolved path
        directory = directories[parent]
        if created is not None:
            if is_mark:
                self._hide(parent, name, created)
                return
            created.add(path)
        node = Node(number, index)
        if kind == b"dir":
            if not path:
                self._root = node
                return
            _check(path)
            if path not in directories:
                directories[path] = {}
        else:
            if not path:
                return  # for all unpackers, the root is always a directory
            _check(path)
            if name in directory and path in directories:
                self._remove(path)
                del directory[name]
            if kind == b"hardlink":
                target = self._link_target(layer.linknames[index])
                if target is not None:
                    self.linked[target] = node
                    node = target
        directory[name] = node

    def _make_directory(self, path: str, number: int, created: set[str] | None) -> str:
        """Return the resolved path of a parent directory, which is created if missing.

        A symbolic link on the way is followed, inside the image; anything else gives way.
        """
        at = ""
        links = 0
        todo = path.split("/")[::-1]
        while todo:
            name = todo.pop()
            if name in ("", "."):
                continue
            if name == "..":
                at = at.rpartition("/")[0]
                continue
            full = f"{at}/{name}" if at else name
            if full not in self._directories:
                node = self._directories[at].get(name)
                target = self._target(node) if node is not None and self._is_symlink(node) else ""
                if target and links < MAX_LINKS:
                    links += 1
                    todo += target.split("/")[::-1]
                    if target.startswith("/"):
                        at = ""
                    continue
                _check(full)
                self._directories[at][name] = Node(number, None)
                self._directories[full] = {}
                if created is not None:
                    created.add(full)
            at = full
        return at

    def _link_target(self, linkname: str) -> Node | None:
        """Return the target of a hard link, without following a final symbolic link."""
        try:
            path, node = self.find(linkname, follow=False)
        except PathError:
            return None
        return None if path in self._directories else node

    def _hide(self, parent: str, name: str, created: set[str]) -> None:
        if name == OPAQUE:
            for child in list(self._directories[parent]):
                self._hide_one(parent, child, created)
        elif not name.startswith(_OTHER_MARKS):
            self._remove_name(parent, name.removeprefix(WHITEOUT))

    def _remove_name(self, parent: str, name: str) -> None:
        """Remove a path and everything below it, from any layer."""
        if self._directories[parent].pop(name, None) is not None:
            path = f"{parent}/{name}" if parent else name
            if path in self._directories:
                self._remove(path)

    def _hide_one(self, parent: str, name: str, created: set[str]) -> None:
        """Remove a path and everything below it, except entries of this layer."""
        directory = self._directories[parent]
        if name not in directory:
            return
        path = f"{parent}/{name}" if parent else name
        if path not in self._directories:
            if path not in created:
                del directory[name]
            return
        if path not in created and not self._holds_any(path, created):
            self._remove(path)
            del directory[name]
            return
        # Depth first without recursion, since hostile trees are deep.
        below = [full for full, _ in self._below(path)]
        for full in reversed(below):
            above, _, last = full.rpartition("/")
            if full in created or self._directories.get(full):
                continue
            self._directories.pop(full, None)
            del self._directories[above][last]

    def _holds_any(self, path: str, created: set[str]) -> bool:
        """Return whether anything below a directory is one of `created`."""
        return any(full in created for full, _ in self._below(path))

    def _remove(self, path: str) -> None:
        """Remove a directory and everything below it, but not its name in its parent."""
        for full in [full for full, _ in self._below(path) if full in self._directories]:
            del self._directories[full]
        del self._directories[path]

    def _below(self, path: str) -> Iterator[tuple[str, Node]]:
        todo = [path]
        while todo:
            at = todo.pop()
            for name, node in self._directories[at].items():
                full = f"{at}/{name}"
                yield full, node
                if full in self._directories:
                    todo.append(full)


def _shown(path: str) -> str:
    return f"/{path.lstrip('/')}"


def cleaned(path: str) -> str:
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _check(path: str) -> None:
    if len(os.fsencode(path)) > MAX_PATH or "\0" in path:
        raise ImpossibleError


def _check_target(kind: bytes, target: str) -> None:
    if kind == b"symlink" and ("\0" in target or len(os.fsencode(target)) > MAX_PATH):
        raise ImpossibleError
    if kind == b"hardlink":
        parts = [part for part in target.split("/") if part not in ("", ".")]
        if len(os.fsencode("/".join(parts))) > MAX_PATH:
            raise ImpossibleError
