"""Reading files by path, from one layer or from all layers of an image."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

from tocsin.errors import PathError
from tocsin.model.entry_path import path_text
from tocsin.quoting import shown
from tocsin.reading.file import BUFFER_SIZE, ImageFile
from tocsin.reading.path_pattern import PathPattern, has_wildcard

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from tocsin.model.entry_path import StrPath
    from tocsin.model.events import Progress
    from tocsin.reading.extract import ExtractResult
    from tocsin.reading.layer import Layer
    from tocsin.reading.merged import MergedLayers
    from tocsin.reading.stat import FileStat
    from tocsin.reading.tree import Tree
    from tocsin.tar.file_data import FileData


WHOLE = (1 << 63) - 1
"""An end beyond that of any file."""


class Files(ABC):
    """A read-only file system of one layer, or of several merged layers; a context manager.

    Paths are absolute or relative to the root, as text or `pathlib.PurePosixPath`; symbolic links
    are followed only within the file system. Methods may be called from several threads, and after
    a fork. File data is verified with the digests of its spans.
    """

    @property
    @abstractmethod
    def _merged(self) -> MergedLayers:
        """The layers and their merged names."""

    # -- closing -------------------------------------------------------------------------------

    @abstractmethod
    def close(self) -> None:
        """Close files and connections and stop threads; open files can no longer be read."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -- paths ---------------------------------------------------------------------------------

    def stat(self, path: StrPath) -> FileStat:
        """Return what is at `path`, following symbolic links.

        Raises:
            PathError: `path` is missing, or the links form a loop.
        """
        return self._merged.stat_path(path)

    def lstat(self, path: StrPath) -> FileStat:
        """Return what is at `path`; a symbolic link at its end is not followed.

        Raises:
            PathError: `path` is missing.
        """
        return self._merged.stat_path(path, follow=False)

    def exists(self, path: StrPath) -> bool:
        """Return whether `path` exists, following symbolic links."""
        return self._merged.type_of(path) is not None

    def is_dir(self, path: StrPath) -> bool:
        """Return whether `path` is a directory, following symbolic links."""
        return self._merged.type_of(path) == "dir"

    def is_file(self, path: StrPath) -> bool:
        """Return whether `path` is a regular file, following symbolic links."""
        return self._merged.type_of(path) == "file"

    def readlink(self, path: StrPath) -> str:
        """Return the target of the symbolic link at `path`, as it is in the image.

        Raises:
            PathError: `path` is missing, or not a symbolic link.
        """
        found = self.lstat(path)
        if not found.is_symlink:
            text = path_text(path)
            raise PathError(f"{shown(text)}: not a symbolic link", path=text, reason="special")
        return found.linkname

    def listdir(self, path: StrPath = "/") -> list[str]:
        """Return the names in a directory, sorted.

        Raises:
            PathError: `path` is missing, or not a directory.
        """
        merged = self._merged
        return list(merged.tree.children(merged.locate(path)[0]))

    def ls(self, path: StrPath = "/") -> list[FileStat]:
        """Return what is in a directory, sorted by name; for anything else, `path` itself.

        Raises:
            PathError: `path` is missing.
        """
        return self._merged.stat_all(path)

    def walk(self, path: StrPath = "/") -> Iterator[tuple[str, list[str], list[str]]]:
        """Yield (directory, names of directories in it, other names), as ``os.walk`` does, sorted.

        Raises:
            PathError: `path` is missing, or not a directory.
        """
        tree = self._merged.tree
        tree.will_walk()
        todo = [self._merged.locate(path)[0]]
        while todo:
            at = todo.pop()
            inner, others = tree.names(at)
            prefix = f"{at}/" if at else ""
            todo += [prefix + name for name in reversed(inner)]
            yield f"/{at}", inner, others

    def find(self, path: StrPath = "/") -> Iterator[FileStat]:
        """Yield `path` and everything below it, sorted; symbolic links are not followed.

        Raises:
            PathError: `path` is missing.
        """
        return self._merged.stats(path)

    def glob(self, pattern: StrPath) -> list[str]:
        """Return the paths that match a pattern, sorted.

        Args:
            pattern: a pattern as in a shell: ``**`` matches any number of directories; ``*``, ``?``
                and ``[…]`` match within a name, including names that begin with a dot.
        """
        parts = [part for part in path_text(pattern).split("/") if part not in ("", ".")]
        # Components before the first wildcard are not searched for, and may lead through links.
        fixed = 0
        while fixed < len(parts) - 1 and not has_wildcard(parts[fixed]):
            fixed += 1
        start = "/".join(parts[:fixed])
        tree = self._merged.tree
        if tree.type_of(start) != "dir":
            return []
        top, _ = tree.find(start)
        shown = f"/{start}/" if start else "/"
        skip = len(top) + 1 if top else 0
        pattern_parts = PathPattern(parts[fixed:])
        if len(parts) - fixed > 1:
            tree.will_walk()
        return [shown + path[skip:] for path in _below(tree, top, pattern_parts)]

    # -- data ----------------------------------------------------------------------------------

    def open(
        self, path: StrPath, mode: str = "rb", buffering: int = -1
    ) -> io.RawIOBase | io.BufferedReader:
        """Open a regular file for reading.

        Args:
            path: path of the file; symbolic links are followed.
            mode: ``rb``, since images are read-only; for text, wrap the file in `io.TextIOWrapper`.
            buffering: size of the buffer in bytes; 0 for none.

        Raises:
            PathError: the file is missing, or not a regular file.
            ValueError: `mode` is not ``rb``.
            VerificationError: the zTOC does not match the file.
        """
        if mode not in ("rb", "br"):
            raise ValueError(f"mode: images are read-only (found {mode!r}, expected 'rb')")
        layer, data = self._file(path)
        raw = ImageFile(layer, data, path_text(path))
        if buffering == 0:
            return raw
        return io.BufferedReader(raw, BUFFER_SIZE if buffering < 0 else buffering)

    def cat(self, path: StrPath) -> bytes:
        """Return the data of a regular file.

        Raises:
            PathError: the file is missing, or not a regular file.
            VerificationError: its bytes differ from those that the zTOC was made from.
        """
        found = self._merged.read_cached(path, 0, WHOLE)
        if found is not None:
            return found
        layer, data = self._file(path, (0, WHOLE))
        return layer.read(data, 0, data.size)

    def read_range(self, path: StrPath, start: int, end: int) -> bytes:
        """Return bytes ``[start, end)`` of a regular file, or fewer at its end."""
        found = self._merged.read_cached(path, start, end)
        if found is not None:
            return found
        start = max(0, start)
        layer, data = self._file(path, (start, end))
        return layer.read(data, start, end)

    def regular_file(self, path: StrPath) -> FileStat:
        """Return what is at `path`, following symbolic links, if it is a regular file.

        Its data is not read: `cat` and `open` raise the same errors, and may raise others later.

        Raises:
            PathError: the file is missing, or not a regular file.
        """
        self._merged.regular_file(path)
        return self._merged.stat_path(path)

    def extract(
        self,
        path: StrPath,
        dest: StrPath,
        *,
        devices: bool = False,
        overwrite: bool = False,
        owners: bool | None = None,
        progress: Progress | None = None,
    ) -> ExtractResult:
        """Extract a file, or a directory with everything below it, to the local disk.

        A directory becomes `dest` itself, which is made if missing: ``extract("/", "rootfs")``. If
        a run is killed, the same call continues it. Anything else is extracted into `dest` under
        its own name if `dest` is a directory, and becomes `dest` otherwise. Symbolic links are
        extracted as links, including one at the end of `path`.

        Nothing is written outside `dest`, whatever the image or `dest` contains: no link below
        `dest` is followed. A file appears under its name only when it is complete, with mode,
        times, extended attributes, holes and, for root, its owner. An existing file, link or
        special file is replaced; a directory is replaced only by a directory. Names of the same
        file become hard links.

        An entry that cannot be extracted, such as one with an invalid name, does not stop the
        others; ``failed`` of the result lists it.

        Args:
            path: path in the image; a symbolic link at its end is not followed, unless a slash
                follows it.
            dest: the destination; the only path that may itself lead through links.
            devices: whether to make device nodes, which requires root; they are skipped otherwise.
            overwrite: whether to rewrite existing files that have the right size, time and type.
            owners: whether files get the owners of the image; by default, only for root. If not,
                set-id bits are kept only for files that the image says belong to this user.
            progress: called at the start, at intervals and at the end with an `Advanced`, which
                counts bytes of files; an exception that `progress` raises stops the extraction and
                is passed on.

        Raises:
            PathError: `path` is missing.
            OSError: the disk is full or broken, or `dest` cannot be written to; ``filename`` is the
                file that could not be made.
            VerificationError: data differs from what the zTOC was made from; a note names the file.
                Files that were already extracted stay, as after any other error.
        """
        # Imported here, since reading single files does not need it.
        from tocsin.reading.extract import extract  # noqa: PLC0415

        return extract(
            self._merged,
            path,
            dest,
            devices=devices,
            overwrite=overwrite,
            owners=owners,
            progress=progress,
        )

    # -- internals -----------------------------------------------------------------------------

    def _file(self, path: StrPath, part: tuple[int, int] | None = None) -> tuple[Layer, FileData]:
        merged = self._merged
        return merged.file_data(merged.regular_file(path), part)


def merged_of(files: Files) -> MergedLayers:
    """Return the layers of a file system, for commands that list names in bulk."""
    return files._merged


def _below(tree: Tree, top: str, pattern: PathPattern) -> Iterator[str]:
    """Yield the paths below a directory that match, sorted as `Tree.walk` sorts."""
    stack = [(top, pattern.start, iter(tree.children(top).items()))]
    while stack:
        directory, positions, children = stack[-1]
        for name, node in children:
            path = f"{directory}/{name}" if directory else name
            after = pattern.advance(positions, name)
            if pattern.is_match(after):
                yield path
            # A directory in which nothing can match is not searched.
            if after and node.type == "dir":
                stack.append((path, after, iter(tree.children(path).items())))
                break
        else:
            stack.pop()
