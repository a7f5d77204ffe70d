"""Extraction of files from an image to a local directory; implements ``Image.extract``.

Paths come from the merged tree, and directories, symbolic links and special files are made in its
order. Regular files follow layer by layer, in the order of each layer. Hard links and the times of
directories come last.
"""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from tocsin.errors import TocsinError
from tocsin.model.document import seconds_of
from tocsin.model.events import Advanced
from tocsin.operating_system import is_root
from tocsin.quoting import shown
from tocsin.reading.destination import Destination, NotMadeError, check_name
from tocsin.reading.layer_order import FilesInLayerOrder
from tocsin.reading.metadata import Metadata, bounded_mtime
from tocsin.reading.tree import Node
from tocsin.reading.ztoc_layer import ZtocLayer
from tocsin.staged_file import placed
from tocsin.tar.file_data import FileData

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tocsin.model.document import Document
    from tocsin.model.entry_path import StrPath
    from tocsin.model.events import Progress
    from tocsin.reading.layer import Layer
    from tocsin.reading.merged import MergedLayers
    from tocsin.reading.stat import FileStat

_SPECIAL = {"char": stat.S_IFCHR, "block": stat.S_IFBLK, "fifo": stat.S_IFIFO}
_PROGRESS_INTERVAL = 1 << 20
"""Minimum number of bytes between two calls of `progress`."""
_MAX_NOTED_PATHS = 3
"""Maximum number of paths in one note."""
_PlannedFile: TypeAlias = tuple[int, int, str, str]
"""Entry and inode of a regular file, its directory and name.

Not a `Node`, since the garbage collector visits objects of classes again and again, plain tuples of
numbers and text only once.
"""


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """An entry that was not extracted.

    Attributes:
        path: absolute path in the image.
        reason: why it was not extracted.
    """

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class ExtractResult:
    """The result of `Image.extract`.

    Attributes:
        files: number of regular files written.
        directories: number of directories made or updated.
        links: number of symbolic and hard links made.
        specials: number of FIFOs and device nodes made.
        unchanged: number of files, links and special files that already matched the image.
        size: bytes of the files written, including holes.
        skipped: device nodes that were not requested.
        failed: other entries that were not extracted; if there are any, the tree is incomplete.
        notes: sentences about metadata of extracted files that was not preserved.
        seconds: duration.
    """

    files: int
    directories: int
    links: int
    specials: int
    unchanged: int
    size: int
    skipped: tuple[SkippedFile, ...]
    failed: tuple[SkippedFile, ...]
    notes: tuple[str, ...]
    seconds: float

    def to_dict(self) -> Document:
        """Return what ``tocsin cp --json`` prints for the result."""
        return {
            "files": self.files,
            "directories": self.directories,
            "links": self.links,
            "specials": self.specials,
            "unchanged": self.unchanged,
            "size": self.size,
            "skipped": [{"path": each.path, "reason": each.reason} for each in self.skipped],
            "failed": [{"path": each.path, "reason": each.reason} for each in self.failed],
            "notes": list(self.notes),
            "seconds": seconds_of(self.seconds),
        }


def extract(
    image: MergedLayers,
    path: StrPath,
    dest: StrPath,
    *,
    devices: bool = False,
    overwrite: bool = False,
    owners: bool | None = None,
    progress: Progress | None = None,
) -> ExtractResult:
    """Extract a file or directory; see `Image.extract`."""
    started = time.monotonic()
    tree = image.tree
    top, node = image.locate(path, follow=False)
    root = Path(dest)
    run = _Extraction(image, devices=devices, overwrite=overwrite, progress=progress)
    name = ""
    if not tree.is_directory(top):
        # Like cp: extract into an existing directory, or to a new name.
        if root.is_dir():
            name = top.rpartition("/")[2]
        else:
            root, name = root.parent, root.name
    owned = is_root() if owners is None else owners
    with Destination(root, owners=owned, note=run.note) as run.destination:
        if name:
            run.extract_one(name, top, node)
        else:
            run.extract_directory(top, node)
    return run.result(time.monotonic() - started)


class _Extraction:
    """One run of `extract`."""

    destination: Destination

    def __init__(
        self,
        image: MergedLayers,
        *,
        devices: bool,
        overwrite: bool,
        progress: Progress | None,
    ) -> None:
        self._image = image
        self._devices = devices
        self._overwrite = overwrite
        self._progress = progress
        # Paths are those of the destination, each as (directory, name). Paths of the image are
        # only needed for messages; they begin with `_top`.
        self._top = ""
        self._one: str | None = None
        """The path in the image, if only one file is extracted, perhaps to another name."""
        self._old: set[str] = set()
        """Directories that already existed and may therefore contain files."""
        self._directories: list[tuple[str, Node]] = []
        self._files: dict[int, list[_PlannedFile]] = {}
        """For each layer number: node, directory and name of each file."""
        self._first: dict[int, tuple[str, str]] = {}
        """For each inode, the first path of the file; its other names become links to this one."""
        self._hard_links: list[tuple[Node, str, str]] = []
        self._absent: set[int] = set()
        """Inodes not extracted to their path in `_first`; the reason is already recorded."""
        self._file_count = self._link_count = self._special_count = self._unchanged = 0
        self._size = self._done = self._reported = self._total = 0
        self._skipped: list[SkippedFile] = []
        self._failed: list[SkippedFile] = []
        self._notes: dict[str, list[str]] = {}
        self._note_counts: dict[str, int] = {}

    # -- entries -------------------------------------------------------------------------------

    def extract_one(self, name: str, path: str, node: Node) -> None:
        """Extract anything but a directory to this name in the destination."""
        self._one = path
        self._old.add("")
        self._plan("", name, node)
        self._write_files()

    def extract_directory(self, top: str, node: Node) -> None:
        """Extract a directory, which becomes the destination itself, with everything below it."""
        tree, make_directory = self._image.tree, self.destination.make_directory
        tree.will_walk()
        self._top = top
        self._directories.append(("", node))
        if not self.destination.root_is_new:
            self._old.add("")
        for path, reason in tree.left_out_below(top):
            self._failed.append(SkippedFile(f"/{path}", reason))
        todo = [("", top)]
        while todo:
            at, full = todo.pop()
            for name, child in tree.children(full).items():
                below = f"{full}/{name}" if full else name
                if child.type != "dir":
                    self._plan(at, name, child)
                    continue
                path = f"{at}/{name}" if at else name
                try:
                    is_new = make_directory(at, name)
                except NotMadeError as error:
                    self._fail(at, name, error.reason)
                    self._fail_below(path, below)
                    continue
                if not is_new:
                    self._old.add(path)
                self._directories.append((path, child))
                todo.append((path, below))
        self._write_files()
        for linked, parent, name in self._hard_links:
            self._link(linked, parent, name)
        # Changing a directory changes the time of its parent, so the innermost come first.
        for path, child in reversed(self._directories[1:]):
            self._finish_directory(path, child)
        self.destination.remove_stage()
        self._finish_directory("", node)

    def _finish_directory(self, path: str, node: Node) -> None:
        if node.entry is None and not path and path in self._old:
            return  # it is not in any layer, so its metadata stays as it was
        found = self._stat(node)
        self.destination.finish_directory(path, _metadata(found))

    def _plan(self, parent: str, name: str, node: Node) -> None:
        """Make links and special files, and record regular files for later."""
        try:
            check_name(name)
        except NotMadeError as error:
            # Not recorded in `_first`, so that other names of this file can still be made.
            self._fail_unless_alone(parent, name, error)
            return
        if self._first.setdefault(node.inode, (parent, name)) != (parent, name):
            self._hard_links.append((node, parent, name))
            return
        try:
            self._plan_first(parent, name, node)
        except NotMadeError as error:
            self._absent.add(node.inode)
            self._fail_unless_alone(parent, name, error)

    def _plan_first(self, parent: str, name: str, node: Node) -> None:
        entry = node.entry
        assert entry is not None  # noqa: S101 (only directories have none)
        layer = self._image.layer(node.layer)
        if node.type == "file":
            self._total += layer.size(entry)
            if parent in self._old and self._is_extracted(parent, name, node):
                self._unchanged += 1
                self._done += layer.size(entry)
            else:
                self._files.setdefault(node.layer, []).append((entry, node.inode, parent, name))
        elif node.type == "hardlink":
            self._absent.add(node.inode)
            target = self._image.linkname(node)
            self._fail(parent, name, f"hard link to {shown(target)}, which is not in the image")
        elif node.type in ("char", "block") and not self._devices:
            self._absent.add(node.inode)
            reason = "device node, extracted only with --devices (devices=True)"
            left_out = self._skipped if self._one is None else self._failed
            left_out.append(SkippedFile(self._path(parent, name), reason))
        elif parent in self._old and self._is_extracted(parent, name, node):
            self._unchanged += 1
        else:
            self._make_special(parent, name, node)

    def _make_special(self, parent: str, name: str, node: Node) -> None:
        found = self._stat(node)
        if node.type == "symlink":
            self.destination.make_symlink(found.linkname, parent, name, _metadata(found))
            self._link_count += 1
            return
        device = _device(found)
        problem = ""
        if device is None:
            problem = f"device number {found.devmajor}:{found.devminor} is out of range"
        elif node.type != "fifo" and not is_root():
            problem = "device node, which only root can make"
        if device is None or problem:
            self._absent.add(node.inode)
            self._fail(parent, name, problem)
            return
        self.destination.make_node(_SPECIAL[node.type], device, parent, name, _metadata(found))
        self._special_count += 1

    def _link(self, node: Node, parent: str, name: str) -> None:
        """Make another name of a file."""
        first = self._first[node.inode]
        if node.inode in self._absent:
            self._fail(
                parent, name, f"hard link to {shown(self._path(*first))}, which was not extracted"
            )
            return
        try:
            is_new = self.destination.make_link(first, parent, name)
        except NotMadeError as error:
            self._fail(parent, name, error.reason)
            return
        if is_new:
            self._link_count += 1
        else:
            self._unchanged += 1

    def _fail_unless_alone(self, parent: str, name: str, error: NotMadeError) -> None:
        """Record that a file failed, or raise if it is the only one.

        Raises:
            OSError: the file is the only one to extract.
        """
        if self._one is not None:
            raise placed(error, error.filename or self.destination.shown(name))
        self._fail(parent, name, error.reason)

    def _fail(self, parent: str, name: str, reason: str) -> None:
        self._failed.append(SkippedFile(self._path(parent, name), reason))

    def _fail_below(self, path: str, full: str) -> None:
        """Record that everything below a directory failed.

        Args:
            path: path of the directory in the destination.
            full: its path in the image.
        """
        tree = self._image.tree
        todo = [(path, full)]
        while todo:
            at, above = todo.pop()
            for name, child in tree.children(above).items():
                self._fail(at, name, "its directory was not extracted")
                if child.type == "dir":
                    todo.append((f"{at}/{name}", f"{above}/{name}" if above else name))

    def _is_extracted(self, parent: str, name: str, node: Node) -> bool:
        """Return whether an earlier run extracted this; incomplete files have other names."""
        existing = None if self._overwrite else self.destination.lstat(parent, name)
        if existing is None:
            return False
        found = self._stat(node)
        if (existing.st_mtime_ns, stat.S_IFMT(existing.st_mode)) != (
            bounded_mtime(found.mtime_ns),
            stat.S_IFMT(found.st_mode),
        ):
            return False
        if found.is_file:
            return existing.st_size == found.size
        if found.is_symlink:
            return self.destination.readlink(parent, name) == found.linkname
        return found.type == "fifo" or existing.st_rdev == _device(found)

    # -- data ----------------------------------------------------------------------------------

    def _write_files(self) -> None:
        self._advance(0)
        for number, wanted in sorted(self._files.items()):
            layer = self._image.layer(number)
            size = sum(layer.size(entry) for entry, _, _, _ in wanted)
            with layer.verifying_digest(size):
                self._write_layer(number, wanted)
        self._advance(0)

    def _write_layer(self, number: int, wanted: list[_PlannedFile]) -> None:
        layer = self._image.layer(number)
        metadata = self._metadata_of(layer, number)
        # Files that the zTOC calls empty are read too, to verify that they are.
        files = FilesInLayerOrder(layer, [entry for entry, _, _, _ in wanted])
        for place, content in files:
            entry, inode, parent, name = wanted[place]
            size = content.size if isinstance(content, FileData) else len(content)
            done = self._done
            try:
                if isinstance(content, FileData):
                    path = self._path(parent, name)
                    pieces = self._counted(files.stream(content), size, path)
                    self.destination.put_pieces(pieces, size, parent, name, metadata(entry, inode))
                else:
                    self.destination.put_bytes(content, parent, name, metadata(entry, inode))
                    if size:
                        self._advance(size)
            except NotMadeError as error:
                self._absent.add(inode)
                self._fail_unless_alone(parent, name, error)
                if rest := done + size - self._done:
                    self._advance(rest)
            else:
                self._file_count += 1
                self._size += size

    def _metadata_of(self, layer: Layer, number: int) -> Callable[[int, int], Metadata]:
        """Return a function that returns the metadata of a regular file by entry and inode."""

        def from_tree(entry: int, inode: int) -> Metadata:
            return _metadata(self._stat(Node(number, entry, "file", inode)))

        if not isinstance(layer, ZtocLayer):
            return from_tree
        linked = self._image.tree.linked
        # Converted to lists, since reading single numbers from arrays is slower.
        modes = layer.files["mode"].tolist()
        uids, gids = layer.files["uid"].tolist(), layer.files["gid"].tolist()

        def from_ztoc(entry: int, inode: int) -> Metadata:
            if (number, entry) in linked:
                return from_tree(entry, inode)
            mode = stat.S_IMODE(modes[entry])
            return Metadata(mode, uids[entry], gids[entry], *layer.times_and_xattrs(entry))

        return from_ztoc

    def _counted(
        self, pieces: Iterator[tuple[int, bytes]], size: int, path: str
    ) -> Iterator[tuple[int, bytes]]:
        """Yield pieces and report progress; holes count too."""
        before = 0
        try:
            for at, piece in pieces:
                yield at, piece
                self._advance(at + len(piece) - before)
                before = at + len(piece)
        except TocsinError as error:
            error.add_note(f"at file {shown(path)}")
            raise
        self._advance(size - before)

    # -- reports -------------------------------------------------------------------------------

    def note(self, what: str, path: str) -> None:
        """Record metadata of a file that was not preserved."""
        paths = self._notes.setdefault(what, [])
        if len(paths) < _MAX_NOTED_PATHS:
            paths.append(shown(self._path("", path)))
        self._note_counts[what] = self._note_counts.get(what, 0) + 1

    def result(self, seconds: float) -> ExtractResult:
        """Return the result."""
        return ExtractResult(
            files=self._file_count,
            directories=len(self._directories),
            links=self._link_count,
            specials=self._special_count,
            unchanged=self._unchanged,
            size=self._size,
            skipped=tuple(self._skipped),
            failed=tuple(self._failed),
            notes=tuple(
                f"{what}: {_listed(paths, self._note_counts[what])}"
                for what, paths in self._notes.items()
            ),
            seconds=seconds,
        )

    def _advance(self, size: int) -> None:
        """Count bytes as done; call `progress` at intervals, and whenever `size` is 0."""
        self._done += size
        if self._progress is not None and (
            not size or self._done - self._reported >= _PROGRESS_INTERVAL
        ):
            self._reported = self._done
            self._progress(Advanced(self._done, self._total))

    def _path(self, parent: str, name: str) -> str:
        """Return the path in the image of a path in the destination."""
        if self._one is not None:
            return f"/{self._one}"
        return "/" + "/".join(part for part in (self._top, parent, name) if part)

    def _stat(self, node: Node) -> FileStat:
        """Return the metadata of a file, without its path."""
        return self._image.listed("", node)


def _metadata(found: FileStat) -> Metadata:
    return Metadata(found.mode, found.uid, found.gid, found.mtime_ns, found.xattrs)


def _device(found: FileStat) -> int | None:
    """Return the number of a device node; ``None`` if it is out of range."""
    try:
        return os.makedev(found.devmajor, found.devminor)
    except (OverflowError, ValueError):
        return None


def _listed(paths: list[str], count: int) -> str:
    more = count - len(paths)
    return ", ".join(paths) + (f" and {more} more" if more else "")
