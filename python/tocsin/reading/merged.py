"""The layers of an image and their merged tree, on which the public classes are built."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, cast

from tocsin.errors import PathError
from tocsin.layers.forking import forget_after_fork
from tocsin.layers.spans import VerifiedFiles
from tocsin.model.entry_path import path_text
from tocsin.quoting import shown
from tocsin.reading.partial_tree import PartialTree
from tocsin.reading.seek_tree import SeekTree
from tocsin.reading.stat import file_stat
from tocsin.reading.tree import Tree
from tocsin.reading.unreadable import UnreadableLayer
from tocsin.reading.ztoc_layer import ZtocLayer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tocsin.model.entry_path import StrPath
    from tocsin.reading.layer import Layer
    from tocsin.reading.notes import Notes
    from tocsin.reading.pack import ImagePack
    from tocsin.reading.stat import FileStat
    from tocsin.reading.tree import Node, Row, StatRow
    from tocsin.tar.file_data import FileData


class MergedLayers:
    """Layers, whose names are merged when first needed; may be used by several threads.

    Args:
        layers: from the lowest up. Reading a path fails if an unreadable layer may affect it.
        notes: receives a warning for what the tree leaves out.
        named: whether the digests in the layers' descriptors are those of the layers.
        tree: the merged names of the layers, if they are known; by default, made from zTOCs.
        pack: the pack in the seek table with which the layers are read; ``None`` without one.

    Attributes:
        pack: as above.
    """

    def __init__(
        self,
        layers: Sequence[Layer | UnreadableLayer],
        notes: Notes,
        *,
        named: bool = True,
        tree: Tree | None = None,
        pack: ImagePack | None = None,
    ) -> None:
        self.layers = layers
        self._is_partial = any(isinstance(layer, UnreadableLayer) for layer in layers)
        self._notes = notes
        # An image without layers still has a root.
        self._digests = [layer.descriptor.digest if named else None for layer in layers] or [None]
        self._lock = threading.Lock()
        self._tree = tree
        self._verified = VerifiedFiles()
        self.pack = pack
        forget_after_fork(self)

    def after_fork(self) -> None:
        """Forget a lock that another thread may have held."""
        self._lock = threading.Lock()

    def layer(self, number: int) -> Layer:
        """Return the layer of a node of the tree, by its number; it can be read."""
        layer = self.layers[number]
        assert not isinstance(layer, UnreadableLayer)  # noqa: S101 (it has no nodes)
        return layer

    @property
    def tree(self) -> Tree:
        """The merged names of all layers."""
        tree = self._tree
        if tree is None:
            with self._lock:
                if self._tree is None:
                    # Without a seek table, every layer that can be read has a zTOC.
                    layers = cast("Sequence[ZtocLayer | UnreadableLayer]", self.layers)
                    self._tree = (PartialTree if self._is_partial else Tree)(layers)
                    for sentence in self._tree.notes:
                        self._notes.warn(sentence)
                tree = self._tree
        return tree

    def locate(self, path: StrPath, *, follow: bool = True) -> tuple[str, Node]:
        """Return the same as `Tree.find`; the path may also be a `pathlib.PurePosixPath`."""
        return self.tree.find(path_text(path), follow=follow)

    def type_of(self, path: StrPath) -> str | None:
        """Return the type of what is at a path, following links; ``None`` if it is missing."""
        return self.tree.type_of(path_text(path))

    def stat_path(self, path: StrPath, *, follow: bool = True) -> FileStat:
        """Return what is at a path.

        Raises:
            PathError: as `locate`.
        """
        return self._file_stat(self.tree.stat(path_text(path), follow=follow))

    def listed(self, path: str, node: Node) -> FileStat:
        """Return the metadata of a node of `tree`, at any path; an owner may be ``NO_ID``."""
        return self._file_stat(self.tree.stat_listed(path, node))

    def stat_all(self, path: StrPath) -> list[FileStat]:
        """Return what is in a directory, sorted by name; for anything else, only itself.

        Raises:
            PathError: as `locate`.
        """
        return [self._file_stat(row) for row in self.tree.stat_all(path_text(path))]

    def stats(self, path: StrPath) -> Iterator[FileStat]:
        """Yield what is at a path and everything below it, sorted; links below are not followed.

        Raises:
            PathError: as `locate`.
        """
        for batch in self.tree.stats(path_text(path)):
            for row in batch:
                yield self._file_stat(row)

    def stat_row(self, row: Row) -> FileStat:
        """Return the metadata of a row of `tree`."""
        return self._file_stat(self.tree.stat_row(row))

    def _file_stat(self, row: StatRow) -> FileStat:
        return file_stat(row, self._digests[row[-1]])

    def regular_file(self, path: StrPath) -> Node:
        """Return the node of a regular file, following links, without reading its data.

        Raises:
            PathError: the file is missing, or not a regular file.
        """
        path = path_text(path)
        node = self.tree.node_at(path)
        if node.type == "file":
            return node
        if node.type == "dir":
            raise PathError(f"{shown(path)}: is a directory", path=path, reason="directory")
        if node.type == "hardlink":
            raise PathError(
                f"{shown(path)}: hard link to {shown(self.linkname(node))}, which is not in the "
                "image",
                path=path,
                reason="missing",
            )
        raise PathError(
            f"{shown(path)}: not a regular file (found {node.type})", path=path, reason="special"
        )

    def file_data(self, node: Node, part: tuple[int, int] | None = None) -> tuple[Layer, FileData]:
        """Return where the data of a regular file is.

        Args:
            node: node of the file.
            part: start and end of the only bytes that will be read, if that is known. They are
                fetched together with the headers before the file.

        Raises:
            VerificationError: the index lies about the file.
        """
        layer = self.layer(node.layer)
        assert node.entry is not None  # noqa: S101 (a regular file has an entry)
        if part is not None and layer.spans.is_remote and not layer.is_known(node.entry):
            layer.read_ahead([(node.entry, *part)])
        data = layer.data(node.entry)
        if data.whole is not None:
            self._verified.add(node.layer, node.entry, layer.spans.cached, *data.whole)
        return layer, data

    def read_cached(self, path: StrPath, start: int, end: int) -> bytes | None:
        """Return bytes ``[start, end)`` of a regular file, or fewer at its end, if in memory.

        Returns:
            ``None`` if the headers of the file have not been verified, if some of the bytes are not
            inflated, or if the path is not that of a file, which `file_data` reports.
        """
        tree = self._tree
        return None if tree is None else tree.read_cached(path, start, end, self._verified)

    def linkname(self, node: Node) -> str:
        """Return the target of a hard link that is missing."""
        assert node.entry is not None  # noqa: S101 (a link has an entry)
        layer = self.layer(node.layer)
        if isinstance(layer, ZtocLayer):
            return layer.entry(node.entry).linkname
        assert isinstance(self.tree, SeekTree)  # noqa: S101 (as the layer)
        return self.tree.target_of(node.entry)
