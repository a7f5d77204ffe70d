"""The merged view of an image's layers: names only, no bytes.

Layers are applied from the lowest up, each entry in the order of its tar, as an unpacker does:
upper wins, whiteouts and opaque directories hide what is below, a link's target is resolved inside
the image. Source: OCI image-spec 1.1.1, layer.md, "Applying Changesets", "Whiteouts".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from tocsin.errors import PathError
from tocsin.quoting import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_LINKS = 40
"""Symbolic links followed for one path, as Linux does."""
MAX_DEPTH = 2048
"""Directories inside each other; a path of Linux has 4,096 bytes and no more names than that."""

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
_OTHER_MARKS = ".wh..wh."
"""What aufs keeps for itself; unpackers pass over it."""


class LayerNames(Protocol):
    """What the tree asks of a layer.

    Attributes:
        paths: of all entries, cleaned, in the order of the tar.
        types: of all entries, as the zTOC names them.
        linknames: of all entries, as in the tar.
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
        layer: its layer's number, from the lowest up.
        entry: its place in that layer; ``None`` for a directory that only stands in names.
    """

    layer: int
    entry: int | None

    @property
    def inode(self) -> int:
        """A number that two names share if and only if they are links to one file."""
        return (self.layer + 1 << 40) + (0 if self.entry is None else self.entry + 1)


_ROOT = Node(0, None)


class Tree:
    """The names of an image.

    Attributes:
        linked: for each file with hard links, the entry of the last one applied: its owner, mode
            and time replace those of the file.

    Args:
        layers: from the lowest up.
    """

    def __init__(self, layers: Sequence[LayerNames]) -> None:
        self._layers = layers
        self._root = _ROOT
        self.linked: dict[Node, Node] = {}
        # By path, of true directories only: a symbolic link to one is never a key. So a path whose
        # parent is a key needs no resolving, and most have such a parent.
        self._directories: dict[str, dict[str, Node]] = {"": {}}
        for number, layer in enumerate(layers):
            self._apply(number, layer)

    # -- asking --------------------------------------------------------------------------------

    def find(self, path: str, *, follow: bool = True) -> tuple[str, Node]:
        """Return the resolved path, without a leading slash, and what is there.

        Args:
            path: relative to the root or absolute; ``.``, ``..`` and links are resolved inside the
                image, as ``chroot`` would.
            follow: whether a symbolic link at the end is followed.

        Raises:
            PathError: nothing is there, a part of it is no directory, or links form a loop.
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
        """Return what a directory holds, by name; `path` as `find` returned it.

        Raises:
            PathError: it is no directory.
        """
        try:
            return self._directories[path]
        except KeyError:
            raise PathError(
                f"{_shown(path)}: is not a directory", path=path, reason="not_directory"
            ) from None

    def is_directory(self, path: str) -> bool:
        """Return whether `path`, as `find` returned it, is a directory."""
        return path in self._directories

    def walk(self, path: str) -> Iterator[tuple[str, Node]]:
        """Yield every path below a directory, sorted, a directory before what it holds."""
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
        assert node.entry is not None  # noqa: S101 (it is a symbolic link)
        return self._layers[node.layer].linknames[node.entry]

    def _walk(self, path: str, *, follow: bool) -> tuple[str, Node]:
        """Resolve name by name."""
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
                        f"{_shown(path)}: more than {MAX_LINKS} symbolic links, a loop perhaps",
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
        directories = self._directories
        types = layer.types
        # Only where something is hidden does it matter what this layer itself has brought.
        created: set[str] | None = None
        if any(WHITEOUT in path for path in layer.paths):
            created = set()
        for index, path in enumerate(layer.paths):
            parent, _, name = path.rpartition("/")
            directory = directories.get(parent)
            if directory is None:
                parent = self._make_directory(parent, number, created)
                directory = directories[parent]
                path = f"{parent}/{name}" if parent else name  # noqa: PLW2901 (where it really is)
            kind = types[index]
            if created is not None:
                if name.startswith(WHITEOUT):
                    self._hide(parent, name, created)
                    continue
                created.add(path)
            node = Node(number, index)
            if kind == b"dir":
                if not path:
                    self._root = node
                    continue
                if path not in directories:
                    self._check_depth(path)
                    directories[path] = {}
            else:
                if not path:
                    continue  # no unpacker lets the root be anything but a directory
                if name in directory and path in directories:
                    self._remove(path)
                if kind == b"hardlink":
                    node = self._linked(node, layer.linknames[index])
            directory[name] = node

    def _make_directory(self, path: str, number: int, created: set[str] | None) -> str:
        """Return the true path of a directory that an entry's name mentions, made if missing.

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
                if node is not None and self._is_symlink(node) and links < MAX_LINKS:
                    links += 1
                    target = self._target(node)
                    todo += target.split("/")[::-1]
                    if target.startswith("/"):
                        at = ""
                    continue
                self._check_depth(full)
                self._directories[at][name] = Node(number, None)
                self._directories[full] = {}
                if created is not None:
                    created.add(full)
            at = full
        return at

    def _check_depth(self, path: str) -> None:
        if path.count("/") >= MAX_DEPTH:
            raise PathError(
                f"{_shown(path[:60])}: more than {MAX_DEPTH} directories inside each other",
                path=path,
                reason="depth",
            )

    def _linked(self, link: Node, linkname: str) -> Node:
        """Return what a hard link stands for: its target, or itself if that is missing."""
        target = self._link_target(linkname)
        if target is None:
            return link
        self.linked[target] = link
        return target

    def _link_target(self, linkname: str) -> Node | None:
        """Return what a hard link points to; the last name is not followed."""
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
            self._hide_one(parent, name.removeprefix(WHITEOUT), created)

    def _hide_one(self, parent: str, name: str, created: set[str]) -> None:
        """Remove a name and all below it but what this layer brought."""
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
        # Depth first, without recursion: hostile trees are deep.
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
        """Forget a directory and all below it; its name in its parent stays."""
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
    return shown(f"/{path.lstrip('/')}")
