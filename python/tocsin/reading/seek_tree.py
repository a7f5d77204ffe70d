"""The merged names of an image from its seek table: the file list, fetched chunk by chunk."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from tocsin import _core
from tocsin.errors import PathError, VerificationError
from tocsin.layers.forking import forget_after_fork
from tocsin.layers.seek_parts import MAX_REQUEST_SIZE, Part
from tocsin.reading.tree import MAX_LINKS, Node, Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tocsin.layers.fetchers import Fetchers
    from tocsin.layers.seek_parts import BlobParts
    from tocsin.layers.spans import VerifiedFiles
    from tocsin.model.entry_path import StrPath
    from tocsin.reading.tree import Row, StatRow

_POSITIONS = -1
"""Part number that stands for the position map; chunks are numbered from 0."""


class DataPlace(NamedTuple):
    """Where the data of a regular file is, as the file list says.

    Attributes:
        layer: number of its layer.
        offset: offset of its data in the uncompressed layer.
        size: size of the file.
        header_blocks: number of blocks of 512 bytes that its headers take.
        path: clean path of its entry in the layer, which differs from that in the image for a hard
            link.
        has_owner: whether mode and owner in the file list are those of this entry, and not of a
            hard link.
    """

    layer: int
    offset: int
    size: int
    header_blocks: int
    path: str
    has_owner: bool


class FileList:
    """The file list of a seek table, and its position map; may be used by several threads.

    Args:
        root: root of the seek table.
        parts: parts of the file list blob.
        fetchers: threads that fetch.
    """

    def __init__(self, root: _core.SeekRoot, parts: BlobParts, fetchers: Fetchers) -> None:
        self.root = root
        self.tree = _core.SeekTree(root)
        self._parts = parts
        self._fetchers = fetchers
        self._added: set[int] = set()
        self._spans: Sequence[_core.SeekSpans] | None = None
        self._needs_positions = False
        self._lock = threading.Lock()
        forget_after_fork(self)

    def after_fork(self) -> None:
        """Forget a lock that another thread may have held."""
        self._lock = threading.Lock()

    def spans(self, layer: int) -> _core.SeekSpans:
        """Return the spans of a layer; the position map is fetched if necessary."""
        if self._spans is None:
            self._needs_positions = True
            self._fetch([])
        assert self._spans is not None  # noqa: S101 (as fetched)
        return self._spans[layer]

    def will_read_data(self) -> None:
        """Fetch the position map together with the next chunks, since data will be read."""
        self._needs_positions = True

    def load(self, chunks: Sequence[int], *, ahead: bool = False) -> None:
        """Fetch and add chunks.

        Args:
            chunks: numbers of the chunks.
            ahead: whether the following chunks will be needed too; if so, as many as fit into one
                request are added.

        Raises:
            VerificationError, SeekTableError: the file list is damaged.
            TocsinError, OSError: it cannot be fetched.
        """
        wanted = set(chunks)
        if ahead:
            for chunk in chunks:
                wanted.update(self._following(chunk))
        self._fetch(sorted(wanted))

    def load_all(self) -> None:
        """Fetch and add all chunks, if one request suffices for them."""
        count = self.root.toc_chunk_count
        if count and self.root.toc_chunk_range(count - 1)[1] <= MAX_REQUEST_SIZE:
            self._fetch(range(count))

    def forget(self) -> None:
        """Drop all chunks."""
        with self._lock:
            self.tree = _core.SeekTree(self.root)
            self._added.clear()

    def _following(self, chunk: int) -> Iterator[int]:
        limit = self.root.toc_chunk_range(chunk)[0] + MAX_REQUEST_SIZE
        for after in range(chunk + 1, self.root.toc_chunk_count):
            if self.root.toc_chunk_range(after)[1] > limit:
                return
            yield after

    def _fetch(self, chunks: Sequence[int]) -> None:
        # Other threads that need the same chunks wait here instead of fetching them too.
        with self._lock:
            missing = [
                Part(chunk, *self.root.toc_chunk_range(chunk))
                for chunk in chunks
                if chunk not in self._added
            ]
            if self._needs_positions and self._spans is None:
                missing.append(Part(_POSITIONS, *self.root.positions_range))
            tasks = self._parts.tasks(missing, self._add)
            if len(tasks) == 1:
                tasks[0]()
            elif tasks:
                self._fetchers.run_in_parallel(tasks, waiting=True)

    def _add(self, number: int, data: bytes) -> None:
        if number == _POSITIONS:
            self._spans = self.root.positions(data)
        else:
            self.tree.add_chunk(number, data)
            self._added.add(number)


class SeekTree(Tree):
    """The names of an image with a seek table, in which layers are already merged.

    Methods fetch the chunks that they need, and may raise the errors of `FileList.load`.

    Args:
        files: the file list.
    """

    def __init__(self, files: FileList) -> None:
        self._files = files
        self._core = cast("_core.Tree", _Loading(files.tree, files))
        self.notes = ()

    def node_at(self, path: str) -> Node:
        """Return the same as `Tree.node_at`; the data of the file will probably be read."""
        self._files.will_read_data()
        return super().node_at(path)

    def read_cached(
        self, path: StrPath, start: int, end: int, files: VerifiedFiles
    ) -> bytes | None:
        """Return the same as `Tree.read_cached`; no chunk is fetched."""
        return self._files.tree.read_cached(path, start, end, files)

    def walk(self, path: str) -> Iterator[tuple[str, Node]]:
        """Yield the same as `Tree.walk`."""
        self.will_walk()
        return super().walk(path)

    def stats(self, path: str) -> Iterator[list[StatRow]]:
        """Yield the same as `Tree.stats`."""
        self.will_walk()
        return super().stats(path)

    def rows(self, path: str) -> Iterator[list[Row]]:
        """Yield the same as `Tree.rows`."""
        self.will_walk()
        return super().rows(path)

    def will_find(self, paths: Iterable[str]) -> None:
        """Fetch the chunks that many paths need at the same time, instead of path by path."""
        self._files.will_read_data()
        todo = list(paths)
        for _ in range(MAX_LINKS):  # each link may lead to other chunks
            missing: set[int] = set()
            again = []
            for path in todo:
                try:
                    self._files.tree.node_at(path)
                except _core.MissingChunks as error:
                    missing.update(error.chunks)
                    again.append(path)
                except PathError:
                    pass  # raised again when the path is read
            if not missing:
                return
            self._files.load(sorted(missing))
            todo = again

    def complete(self) -> _core.SeekTree:
        """Fetch the whole file list and the position map; return the names as the core has them."""
        self._files.will_read_data()
        self._files.load(range(self._files.root.toc_chunk_count))
        return self._files.tree

    def forget(self) -> None:
        """Free the memory of the names; they are fetched again when they are needed."""
        self._files.forget()
        self._core = cast("_core.Tree", _Loading(self._files.tree, self._files))

    def will_walk(self) -> None:
        """Fetch the whole file list, if one request suffices."""
        self._files.load_all()

    def target_of(self, entry: int) -> str:
        """Return the target of a link, by the number of its entry."""
        return cast("_core.SeekTree", self._core).target_of(entry)

    def data_place(self, entry: int) -> DataPlace:
        """Return where the data of a regular file is, by the number of its entry."""
        core = cast("_core.SeekTree", self._core)
        return DataPlace(*core.data_place(entry))


class _Loading:
    """A proxy for a `_core` object, whose methods fetch missing chunks and then try again."""

    def __init__(self, core: Any, files: FileList, *, ahead: bool = False) -> None:  # noqa: ANN401 (its methods have the types of `_core`)
        self._core = core
        self._files = files
        self._ahead = ahead

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._core, name)

        def call(*args: Any) -> Any:  # noqa: ANN401 (as above)
            asked: set[int] = set()
            while True:
                try:
                    found = method(*args)
                except _core.MissingChunks as missing:
                    chunks = missing.chunks
                else:
                    break
                if asked.issuperset(chunks):
                    raise VerificationError(
                        "seek table: the file list still needs chunks that were already fetched",
                        expected="a chunk",
                        actual=str(chunks),
                    )
                asked.update(chunks)
                self._files.load(chunks, ahead=self._ahead)
            if isinstance(found, _core.SeekWalk):
                return _Loading(found, self._files, ahead=True)
            return found

        # Cached, so that the next call bypasses `__getattr__`.
        self.__dict__[name] = call
        return call
