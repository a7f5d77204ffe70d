"""Seek tables of layers, and a tree that fetches the chunks of the file list as it needs them."""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING, Any

from support import seekfile
from tocsin import _core

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SPAN_SIZE = 256 << 10

Parts = tuple[_core.Ztoc, _core.SeekLayer, str]


def layer_parts(layer: bytes) -> Parts:
    """Index a layer. Its seek blob has no spans, since the file list does not depend on them."""
    indexer = _core.LayerIndexer(
        format=None,
        span_size=4 << 20,
        build_tool_identifier="",
        diff_id=False,
        reference_identical=False,
        for_reading=True,
    )
    indexer.push(layer)
    indexed = indexer.finish()
    seek = _core.SeekLayer.whole("zstd", indexed.size, indexed.uncompressed_size, SPAN_SIZE)
    return indexed.ztoc, seek, indexed.digest


def archive_layers(path: Path) -> list[bytes]:
    """Return the layers of the only image in an OCI archive."""
    with tarfile.open(path) as archive:

        def blob(descriptor: dict[str, Any]) -> bytes:
            algorithm, _, encoded = descriptor["digest"].partition(":")
            return member(f"blobs/{algorithm}/{encoded}")

        def member(name: str) -> bytes:
            file = archive.extractfile(name)
            assert file is not None
            return file.read()

        (entry,) = json.loads(member("index.json"))["manifests"]
        return [blob(layer) for layer in json.loads(blob(entry))["layers"]]


def table_of(parts: list[Parts], chunk_size: int | None = None) -> seekfile.Table:
    """Return the seek table of layers, with chunks of another size if one is given."""
    table, entries = seekfile.read(*_core.build_seek_table(parts))
    return table if chunk_size is None else seekfile.cut(table, entries, chunk_size)


class Fetching:
    """A `SeekTree` whose methods add the chunks that are missing.

    Args:
        table: the seek table.
        root: its root, if it is known.

    Attributes:
        rounds: the chunks that each exception named.
    """

    def __init__(self, table: seekfile.Table, root: _core.SeekRoot | None = None) -> None:
        self.tree = _core.SeekTree(root or _core.SeekRoot(table.root()))
        self._table = table
        self.rounds: list[list[int]] = []

    def load_all(self) -> Fetching:
        """Add all chunks."""
        for number in self.tree.missing_chunks():
            self.tree.add_chunk(number, self._table.chunk(number))
        return self

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.tree, name)

        def call(*args: Any) -> Any:
            found = self._retry(method, *args)
            return _Walk(self, found) if isinstance(found, _core.SeekWalk) else found

        return call

    def _retry(self, method: Callable[..., Any], *args: Any) -> Any:
        while True:
            try:
                return method(*args)
            except _core.MissingChunks as missing:
                chunks = missing.chunks
            assert chunks
            assert chunks == sorted(set(chunks))
            self.rounds.append(chunks)
            for number in chunks:
                assert not self.tree.has_chunk(number)
                self.tree.add_chunk(number, self._table.chunk(number))


class _Walk:
    def __init__(self, tree: Fetching, walk: Any) -> None:
        self._tree, self._walk = tree, walk

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._walk, name)
        return lambda *args: self._tree._retry(method, *args)
