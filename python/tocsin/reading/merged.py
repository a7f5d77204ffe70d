"""The layers of an image and the tree they make together: what the public faces stand on."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

from tocsin.errors import PathError
from tocsin.layers.forking import forget_after_fork
from tocsin.model.entry_path import path_text
from tocsin.quoting import shown
from tocsin.reading.stat import FileStat, stat_of, with_link, with_owner
from tocsin.reading.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tocsin.model.entry_path import StrPath
    from tocsin.reading.layer import Layer
    from tocsin.reading.tree import Node
    from tocsin.tar.file_data import FileData


class MergedLayers:
    """Layers, and their names merged when first asked for; may be used by several threads.

    Args:
        layers: from the lowest up.
        named: whether the digests of their descriptors are those of the layers.
    """

    def __init__(self, layers: Sequence[Layer], *, named: bool = True) -> None:
        self.layers = layers
        # An image without layers has a root all the same.
        self._digests = [layer.descriptor.digest if named else None for layer in layers] or [None]
        self._lock = threading.Lock()
        self._tree: Tree | None = None
        forget_after_fork(self)

    def after_fork(self) -> None:
        """Forget a lock that another thread may have held."""
        self._lock = threading.Lock()

    @property
    def tree(self) -> Tree:
        """The merged names of all layers."""
        tree = self._tree
        if tree is None:
            with self._lock:
                if self._tree is None:
                    self._tree = Tree(self.layers)
                tree = self._tree
        return tree

    def locate(self, path: StrPath, *, follow: bool = True) -> tuple[str, Node]:
        """Return as `Tree.find`; the path may be one of pathlib."""
        return self.tree.find(path_text(path), follow=follow)

    def find(self, path: StrPath) -> tuple[str, Node] | None:
        """Return as `locate`, or ``None`` where nothing is."""
        try:
            return self.locate(path)
        except PathError:
            return None

    def type(self, node: Node) -> bytes:
        """Return what a node is, as the zTOC names it."""
        return b"dir" if node.entry is None else self.layers[node.layer].types[node.entry]

    def stat(self, path: str, node: Node) -> FileStat:
        """Return what is at `path`, as `tree` gave both."""
        return with_owner(self.listed(path, node))

    def listed(self, path: str, node: Node) -> FileStat:
        """Return as `stat`, but the owner that the layer lists, which may be `NO_ID`."""
        layer, digest = node.layer, self._digests[node.layer]
        if node.entry is None:
            inode = _inode_of_implied(path)
            return FileStat(f"/{path}", "dir", inode=inode, layer=layer, layer_digest=digest)
        holder = self.layers[layer]
        found = stat_of(
            f"/{path}",
            holder.entry(node.entry),
            mtime_ns=holder.mtime_ns(node.entry),
            inode=node.inode,
            layer=layer,
            layer_digest=digest,
        )
        link = self.tree.linked.get(node)
        if link is None or link.entry is None:
            return found
        holder = self.layers[link.layer]
        return with_link(found, holder.entry(link.entry), mtime_ns=holder.mtime_ns(link.entry))

    def regular_file(self, path: StrPath) -> tuple[str, Node]:
        """Return as `locate`, of a regular file; nothing is read.

        Raises:
            PathError: no such file, or not a regular one.
        """
        at, node = self.locate(path)
        kind, path = self.type(node), path_text(path)
        if kind == b"dir":
            raise PathError(f"{shown(path)}: is a directory", path=path, reason="directory")
        if kind == b"hardlink":
            raise PathError(
                f"{shown(path)}: is a hard link to {shown(self._linkname(node))}, which is not in "
                "the image",
                path=path,
                reason="missing",
            )
        if kind != b"reg":
            raise PathError(
                f"{shown(path)}: is no regular file but a {kind.decode()}",
                path=path,
                reason="special",
            )
        return at, node

    def file_data(self, node: Node) -> tuple[Layer, FileData]:
        """Return where the data of a regular file is.

        Raises:
            VerificationError: the zTOC lies about the file.
        """
        layer = self.layers[node.layer]
        assert node.entry is not None  # noqa: S101 (a regular file has an entry)
        return layer, layer.data(node.entry)

    def _linkname(self, node: Node) -> str:
        assert node.entry is not None  # noqa: S101 (a link has an entry)
        return self.layers[node.layer].linknames[node.entry]


def _inode_of_implied(path: str) -> int:
    """Return the number of a directory that no layer lists, below those of all that are listed.

    Not Python's own hash, which is another in each process.
    """
    name = path.encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(name, digest_size=5).digest(), "big")
