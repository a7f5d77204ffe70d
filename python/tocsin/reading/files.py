"""Files that can be read by path, whatever layers they come from: what ``tocsin.open`` gives."""

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


class Files(ABC):
    """A read-only file system of one layer or of several merged; a context manager.

    Paths are absolute or relative to the root, as text or `pathlib.PurePosixPath`; symbolic links
    are followed inside it only. Methods may be called from several threads, and after a fork. File
    data is verified by the digests of its spans.
    """

    @property
    @abstractmethod
    def _merged(self) -> MergedLayers:
        """The layers and their merged names."""

    # -- the end -------------------------------------------------------------------------------

    @abstractmethod
    def close(self) -> None:
        """Close files and connections and end threads; what is open can no longer be read."""

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
        """Return what is at `path`, symbolic links followed.

        Raises:
            PathError: nothing is there, or the links form a loop.
        """
        return self._merged.stat_path(path)

    def lstat(self, path: StrPath) -> FileStat:
        """Return what is at `path`; a symbolic link at its end is not followed.

        Raises:
            PathError: nothing is there.
        """
        return self._merged.stat_path(path, follow=False)

    def exists(self, path: StrPath) -> bool:
        """Return whether `path`, symbolic links followed, is there."""
        return self._merged.type_of(path) is not None

    def is_dir(self, path: StrPath) -> bool:
        """Return whether `path`, symbolic links followed, is a directory."""
        return self._merged.type_of(path) == "dir"

    def is_file(self, path: StrPath) -> bool:
        """Return whether `path`, symbolic links followed, is a regular file."""
        return self._merged.type_of(path) == "file"

    def readlink(self, path: StrPath) -> str:
        """Return the target of the symbolic link at `path`, as it is in the image.

        Raises:
            PathError: it is none.
        """
        found = self.lstat(path)
        if not found.is_symlink:
            text = path_text(path)
            raise PathError(f"{shown(text)}: is no symbolic link", path=text, reason="special")
        return found.linkname

    def listdir(self, path: StrPath = "/") -> list[str]:
        """Return the names in a directory, sorted.

        Raises:
            PathError: it is none, or not there.
        """
        merged = self._merged
        return list(merged.tree.children(merged.locate(path)[0]))

    def ls(self, path: StrPath = "/") -> list[FileStat]:
        """Return what is in a directory, sorted by name; for anything else, itself.

        Raises:
            PathError: it is not there.
        """
        return self._merged.stat_all(path)

    def walk(self, path: StrPath = "/") -> Iterator[tuple[str, list[str], list[str]]]:
        """Yield (directory, names of directories in it, other names), as ``os.walk`` does, sorted.

        Raises:
            PathError: `path` is no directory, or not there.
        """
        tree = self._merged.tree
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
            PathError: it is not there.
        """
        return self._merged.stats(path)

    def glob(self, pattern: StrPath) -> list[str]:
        """Return the paths that a pattern means, sorted; ``**`` stands for any directories.

        Args:
            pattern: as the shell's: ``*``, ``?`` and ``[…]`` stay within a name, and match names
                that begin with a dot too.
        """
        parts = [part for part in path_text(pattern).split("/") if part not in ("", ".")]
        # The part before the first wildcard need not be searched, and may lead through links.
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
        return [shown + path[skip:] for path in _below(tree, top, pattern_parts)]

    # -- data ----------------------------------------------------------------------------------

    def open(
        self, path: StrPath, mode: str = "rb", buffering: int = -1
    ) -> io.RawIOBase | io.BufferedReader:
        """Open a regular file for reading.

        Args:
            path: symbolic links are followed.
            mode: ``rb``; an image cannot be written, and text is for `io.TextIOWrapper`.
            buffering: 0 for none, else the size of the buffer in bytes.

        Raises:
            PathError: no such file, or not a regular one.
            ValueError: another mode.
            VerificationError: the zTOC lies about the file.
        """
        if mode not in ("rb", "br"):
            raise ValueError(f"mode is {mode!r}, wanted 'rb': images are read only, in bytes")
        layer, data = self._file(path)
        raw = ImageFile(layer, data, path_text(path))
        if buffering == 0:
            return raw
        return io.BufferedReader(raw, BUFFER_SIZE if buffering < 0 else buffering)

    def cat(self, path: StrPath) -> bytes:
        """Return the data of a regular file.

        Raises:
            PathError: no such file, or not a regular one.
            VerificationError: its bytes are not those the zTOC was made from.
        """
        layer, data = self._file(path)
        return layer.read(data, 0, data.size)

    def read_range(self, path: StrPath, start: int, end: int) -> bytes:
        """Return bytes ``[start, end)`` of a regular file, fewer at its end."""
        layer, data = self._file(path)
        return layer.read(data, max(0, start), end)

    def regular_file(self, path: StrPath) -> FileStat:
        """Return what is at `path`, symbolic links followed, if it is a regular file.

        Nothing of its data is read: `cat` and `open` raise the same errors, and others later.

        Raises:
            PathError: no such file, or not a regular one.
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
        """Put a file, or a directory with all that is below it, into a directory of this machine.

        A directory becomes `dest` itself, made if missing: ``extract("/", "rootfs")``. So the same
        call again goes on with what a killed one has begun. Anything else goes into `dest` under
        its name if that is a directory, and otherwise becomes `dest`. A symbolic link, also one at
        the end of `path`, is copied as such.

        Nothing is written outside `dest`, whatever the image has in it or `dest` had before: no
        link below it is followed. A file has its name only when it is complete, with mode, times,
        extended attributes, holes and, for root, its owner; a file, link or special file that is
        in the place already is replaced, a directory is not replaced by anything else. Files with
        several names in what is extracted are hard links again.

        An entry that cannot be extracted, such as one with an impossible name, does not stop the
        others; it is in ``failed`` of the result.

        Args:
            path: in the image; a symbolic link at the end is not followed, unless a slash is after
                it.
            dest: the destination; the only path that may itself lead through links.
            devices: whether root makes device nodes; else, and for others, they are skipped.
            overwrite: whether files of the right size, time and type that are there already are
                written again.
            owners: whether files get the image's owners; by default if root asks. Without, set-id
                bits are kept only of files whose owner is this user.
            progress: called with an `Advanced` at the start, now and then, and at the end, in bytes
                of files; to stop, it may raise what it likes, which is passed on.

        Raises:
            PathError: nothing is at `path`.
            OSError: the disk is full or broken, or `dest` cannot be written to; ``filename`` says
                which file could not be made.
            VerificationError: data is not what the zTOC was made from; a note says of which file.
                The files made before stay, as after any other error.
        """
        # Here, since reading single files does without.
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

    # -- inside --------------------------------------------------------------------------------

    def _file(self, path: StrPath) -> tuple[Layer, FileData]:
        merged = self._merged
        return merged.file_data(merged.regular_file(path))


def merged_of(files: Files) -> MergedLayers:
    """Return what a file system stands on, for commands that list names in bulk."""
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
            # What no part of the pattern can still match is not looked into.
            if after and node.type == "dir":
                stack.append((path, after, iter(tree.children(path).items())))
                break
        else:
            stack.pop()
