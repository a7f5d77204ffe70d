"""Paths that the upper layers of an image decide, whatever the lower layers hold.

The entries of the upper layers are applied in order. A directory is certain once an entry makes it,
or if the lower layers cannot have anything at its path. A directory that only appears in the paths
of other entries may be a symbolic link in a lower layer. The entries in it float: they may end up
anywhere. A floating entry exists at its own path, but another path may lead to the same file. So
paths that have a name in common make each other uncertain if one of them floats. Layers made by
container engines list every directory, so nothing in them floats.

Two cases are not detected: a floating entry that ends up, through a link of a lower layer, in a
directory that a later entry replaces with a file; and links of a lower layer that form a loop or
lead to one of their parent directories. No known tool makes such layers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tocsin.model.entry_path import clean_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_OTHER_MARKS = ".wh..wh."


class Entries(Protocol):
    """The entries of a layer.

    Attributes:
        paths: paths of all entries, in the order of the tar.
        types: types of all entries, as in the zTOC.
    """

    @property
    def paths(self) -> Sequence[str]: ...  # noqa: D102 (in the class docstring)
    @property
    def types(self) -> Sequence[bytes]: ...  # noqa: D102 (in the class docstring)


@dataclass(slots=True)
class _Known:
    """What is known about a path.

    Attributes:
        kind: ``dir``, ``link``, ``file``, ``gone``, or ``unknown``.
        is_made: whether it is a directory whatever the lower layers hold.
        is_closed: whether nothing from the lower layers can be in it.
        floats: whether one of its parent directories may be a link.
        layer: number of the last layer with an entry for it.
    """

    kind: str
    is_made: bool = True
    is_closed: bool = False
    floats: bool = False
    layer: int = -1
    children: dict[str, _Known] = field(default_factory=dict)


@dataclass(slots=True)
class _Use:
    """How a name is used at one path: for each use, the number of the last such layer, or -1."""

    floats: bool = False
    in_between: int = -1
    directory: int = -1
    other: int = -1
    whiteout: int = -1

    def changes(self, kind: str, since: int) -> bool:
        """Return whether this use may change another path with the same name.

        Args:
            kind: kind of the other path: ``dir``, ``metadata`` (of a directory) or anything else.
            since: layer of the other path; uses by lower layers come before it and do not count.
        """
        last = max(self.other, self.whiteout)
        if kind != "dir":
            last = max(last, self.directory)
        if kind not in ("dir", "metadata"):
            last = max(last, self.in_between)
        return last >= since


_UNKNOWN = _Known("unknown")


class Certainty:
    """Paths that some upper layers decide.

    Args:
        layers: from the lowest up.
        first: number of the first of them.
    """

    def __init__(self, layers: Iterable[Entries], first: int) -> None:
        self._root = _Known("dir")
        self._root_is_listed = False
        self._uses: dict[str, dict[str, _Use]] = {}
        self._opaque: list[tuple[str, int, bool]] = []
        """Directory, layer, and whether it floats."""
        self._whiteouts: list[tuple[str, int]] = []
        """Directory and layer."""
        self._floating: set[str] = set()
        """Directories that may be links."""
        self._has_floating = False
        self._last_floating = -1
        """The last layer with a floating entry other than a whiteout."""
        for number, layer in enumerate(layers, first):
            for path, kind in zip(layer.paths, layer.types, strict=True):
                self._apply(clean_path(path), kind, number)

    # -- applying ------------------------------------------------------------------------------

    def _apply(self, path: str, kind: bytes, layer: int) -> None:
        if not path:
            self._root_is_listed |= kind == b"dir"
            return
        *above, name = path.split("/")
        parent, at = self._enter(above, layer)
        self._has_floating |= parent.floats
        if name == _OPAQUE:
            # A directory stays if it contains an entry of the same layer, perhaps through a link.
            _close(parent, layer, is_exact=self._last_floating < layer)
            self._opaque.append((at, layer, parent.floats))
            return
        if name.startswith(_OTHER_MARKS):
            return
        if name.startswith(_WHITEOUT):
            hidden = name.removeprefix(_WHITEOUT)
            parent.children[hidden] = _Known("gone", floats=parent.floats)
            self._use(at, hidden, parent).whiteout = layer
            self._whiteouts.append((at, layer))
            return
        if parent.floats:
            self._last_floating = layer
        use = self._use(at, name, parent)
        if kind != b"dir":
            use.other = layer
            kind_here = "link" if kind == b"symlink" else "file"
            parent.children[name] = _Known(kind_here, floats=parent.floats)
            return
        use.directory = layer
        known = parent.children.get(name)
        if known is None or known.kind != "dir" or not known.is_made:
            # If it was a link until now, its earlier entries are elsewhere.
            was_open = known is None or known.kind == "dir"
            is_new = parent.is_closed or not was_open
            known = parent.children[name] = _Known("dir", is_closed=is_new, floats=parent.floats)
        known.layer = layer

    def _enter(self, parts: Sequence[str], layer: int) -> tuple[_Known, str]:
        """Return the directory with these path components, and its path."""
        known, at = self._root, ""
        for name in parts:
            parent, above = known, at
            at = f"{at}/{name}" if at else name
            use = self._use(above, name, parent)
            use.in_between = layer
            found = parent.children.get(name)
            if found is None or found.kind in ("file", "gone"):
                is_new = found is not None or parent.is_closed
                found = _Known("dir", is_new, is_new, parent.floats or not is_new, layer)
                parent.children[name] = found
            elif found.kind in ("link", "unknown"):
                # The link is not followed here, so nothing is known about its target.
                found = _Known("dir", is_made=False, floats=True)
            if not found.is_made:
                self._floating.add(at)
            known = found
        return known, at

    def _use(self, directory: str, name: str, parent: _Known) -> _Use:
        path = f"{directory}/{name}" if directory else name
        use = self._uses.setdefault(name, {}).setdefault(path, _Use())
        use.floats |= parent.floats
        return use

    # -- queries -------------------------------------------------------------------------------

    @property
    def root_is_listed(self) -> bool:
        """Whether the layers have an entry for the root."""
        return self._root_is_listed

    def is_certain(self, path: str, kind: str, since: int) -> bool:
        """Return whether the lower layers cannot change what these layers have at a path.

        Args:
            path: a path without links in its parent directories.
            kind: ``dir``, ``metadata`` (of a directory), ``link``, ``file`` or ``missing``.
            since: number of the layer that the file comes from.
        """
        floats = self._floats(path, kind)
        if floats is None:
            return False
        if kind == "missing" or not self._is_made(path):
            # Any floating path may lead here and make directories.
            directory = path.rpartition("/")[0] if kind == "missing" else path
            return not self._has_floating or self._is_alone(directory)
        return self._is_unchanged(path, kind, since, floats=floats)

    def _is_unchanged(self, path: str, kind: str, since: int, *, floats: bool) -> bool:
        """Return whether no other path may change what is at this one."""
        *above, last = path.split("/")
        at, known = "", self._root
        for name in above:
            at = f"{at}/{name}" if at else name
            known = known.children[name]
            kind_there = "dir" if known.is_made else "link"
            if self._is_changed(at, name, kind_there, since, floats=floats):
                return False
        if self._is_changed(path, last, kind, since, floats=floats):
            return False
        # An entry below a dangling link replaces the link with a directory.
        if kind == "link" and self._uses[last][path].in_between >= since:
            return False
        if not floats:
            return not any(mark_floats and layer > since for _, layer, mark_floats in self._opaque)
        # A whiteout at another path may remove a parent link, even one of the same layer.
        top, parent = self._top(path), "/".join(above)
        return not any(
            layer >= since and not f"{directory}/".startswith(top)
            for directory, layer, _ in self._opaque
        ) and not any(
            layer >= since
            and not f"{directory}/".startswith(f"{path}/")
            and not (directory == parent and f"{parent}/".startswith(top))
            for directory, layer in self._whiteouts
        )

    def is_whole(self, directory: str) -> bool:
        """Return whether all names in and below a directory are certain."""
        known = self._known(directory)
        if known is None or known.kind != "dir" or not known.is_closed:
            return False
        return not self._has_floating or self._is_alone(directory)

    def is_real(self, directory: str) -> bool:
        """Return whether a directory and those above it cannot be links."""
        known = self._known(directory)
        return known is not None and known.kind == "dir" and known.is_made and not known.floats

    @property
    def has_floating(self) -> bool:
        """Whether any entry may end up at another path."""
        return self._has_floating

    def _floats(self, path: str, kind: str) -> bool | None:
        """Return whether a path floats; ``None`` if nothing about it is certain."""
        known = self._known(path)
        parent = self._known(path.rpartition("/")[0])
        if parent is None or parent.kind != "dir":
            return None
        if kind == "missing":
            is_gone = parent.is_closed or (known is not None and known.kind == "gone")
            return parent.floats if is_gone else None
        if known is None or known.kind == "unknown":
            return None  # for example, it exists through a link
        if kind == "metadata" and not known.is_made:
            return None
        return known.floats or parent.floats

    def _top(self, path: str) -> str:
        """Return the first component of a path that may be a link, with a slash at its end."""
        known, at = self._root, ""
        for name in path.split("/"):
            at += f"{name}/"
            known = known.children.get(name, _UNKNOWN)
            if not known.is_made or known.floats:
                break
        return at

    def _is_changed(self, path: str, name: str, kind: str, since: int, *, floats: bool) -> bool:
        return any(
            other != path and (floats or use.floats) and use.changes(kind, since)
            for other, use in self._uses.get(name, {}).items()
        )

    def _is_made(self, path: str) -> bool:
        known = self._known(path)
        return known is None or known.kind != "dir" or known.is_made

    def _is_alone(self, directory: str) -> bool:
        """Return whether everything that floats is in a directory, and no link leads into it.

        Entries of its parent directories could be in it only through a link to a directory that
        already contains them.
        """
        if not directory:
            return False
        below = f"{directory}/"
        marks = [place for place, *_ in (*self._opaque, *self._whiteouts)]
        if not all(f"{place}/".startswith(below) for place in marks) or not all(
            below.startswith(f"{place}/") for place in self._floating
        ):
            return False
        for uses in self._uses.values():
            for path in uses:
                parent = path.rpartition("/")[0]
                is_near = not parent or below.startswith(f"{parent}/")
                if not is_near and not path.startswith(below):
                    return False
        return True

    def _known(self, path: str) -> _Known | None:
        known: _Known | None = self._root
        for name in path.split("/") if path else ():
            if known is None or known.kind != "dir":
                return None
            found = known.children.get(name)
            known = found
        return known


def _close(directory: _Known, layer: int, *, is_exact: bool) -> None:
    """Record that a layer removes everything of lower layers from a directory.

    Args:
        directory: the directory.
        layer: number of the layer.
        is_exact: whether all earlier entries of this layer in the directory are known.
    """
    todo = [directory]
    while todo:
        known = todo.pop()
        known.is_closed = known.is_closed or is_exact
        for name, child in known.children.items():
            if is_exact and child.kind == "dir" and child.is_made and child.layer == layer:
                todo.append(child)
            elif child.kind == "dir":
                # Removed, unless an entry of this layer is in it.
                known.children[name] = _Known("unknown", floats=child.floats)
