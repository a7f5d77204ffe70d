"""Files of an image, put into a directory of this machine: what ``Image.extract`` does.

Names come from the merged tree, and directories, links and special files are made in its order;
data comes layer by layer, in the layers' order; hard links and the times of directories come last.
"""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.errors import TocsinError
from tocsin.model.document import seconds_of
from tocsin.model.events import Advanced
from tocsin.quoting import shown
from tocsin.reading.destination import Destination, NotMadeError, check_name
from tocsin.reading.layer_order import FilesInLayerOrder
from tocsin.reading.metadata import Metadata, bounded_mtime
from tocsin.reading.tree import Node
from tocsin.stores.staged_file import placed
from tocsin.tar.file_data import FileData

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.model.document import Document
    from tocsin.model.entry_path import StrPath
    from tocsin.model.events import Progress
    from tocsin.reading.merged import MergedLayers
    from tocsin.reading.stat import FileStat

_SPECIAL = {"char": stat.S_IFCHR, "block": stat.S_IFBLK, "fifo": stat.S_IFIFO}
_TELL = 1 << 20
"""Bytes between two calls of `progress`."""
_NAMED = 3
"""Paths that a note names."""


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """An entry that was not extracted.

    Attributes:
        path: absolute, in the image.
        reason: why not.
    """

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class ExtractResult:
    """What `Image.extract` did.

    Attributes:
        files: regular files written.
        directories: directories made or completed.
        links: symbolic links, and names more of what has one already (hard links), made.
        specials: fifos and device nodes made.
        unchanged: files, links and special files that were there already, as the image has them.
        size: bytes of the files written, holes included.
        skipped: device nodes, where they were not asked for.
        failed: other entries that were not extracted; if there are any, the tree is incomplete.
        notes: what was not preserved of extracted files, such as attributes, in sentences.
        seconds: how long it took.
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
        """Return what ``tocsin cp --json`` prints of what was copied."""
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
    """Do what `Image.extract` says."""
    begun = time.monotonic()
    tree = image.tree
    top, node = image.locate(path, follow=False)
    root = Path(dest)
    run = _Extraction(image, devices=devices, overwrite=overwrite, progress=progress)
    name = ""
    if not tree.is_directory(top):
        # As cp does: into a directory that is there, else under a name of its own.
        if root.is_dir():
            name = top.rpartition("/")[2]
        else:
            root, name = root.parent, root.name
    owned = os.geteuid() == 0 if owners is None else owners
    with Destination(root, owners=owned, note=run.note) as run.destination:
        if name:
            run.one(name, top, node)
        else:
            run.all_below(top, node)
    return run.result(time.monotonic() - begun)


class _Extraction:
    """One run."""

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
        # Paths in the destination, each as (directory, name); a path in the image is only needed
        # for words, and then _top is put before it.
        self._top = ""
        self._one: str | None = None
        """The path in the image, where only one thing is extracted, perhaps to another name."""
        self._old: set[str] = set()
        """Directories that were there before, so that there may be something in them."""
        self._directories: list[tuple[str, Node]] = []
        self._files: dict[int, list[tuple[int, str, str]]] = {}
        """By layer: entry, directory, name."""
        self._first: dict[int, tuple[str, str]] = {}
        """By inode, where each file is put first; its other names become hard links to that."""
        self._more: list[tuple[Node, str, str]] = []
        self._absent: set[int] = set()
        """What is not at its place in `_first`, and why was said."""
        self._file_count = self._link_count = self._special_count = self._unchanged = 0
        self._size = self._done = self._told = self._total = 0
        self._skipped: list[SkippedFile] = []
        self._failed: list[SkippedFile] = []
        self._notes: dict[str, list[str]] = {}
        self._note_counts: dict[str, int] = {}

    # -- what to do ----------------------------------------------------------------------------

    def one(self, name: str, path: str, node: Node) -> None:
        """Extract something that is no directory, to this name in the destination."""
        self._one = path
        self._old.add("")
        self._plan("", name, node)
        self._write_files()

    def all_below(self, top: str, node: Node) -> None:
        """Extract what a directory holds; it becomes the destination itself."""
        tree, make_directory = self._image.tree, self.destination.make_directory
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
        for linked, parent, name in self._more:
            self._link(linked, parent, name)
        # What a directory holds changes its time, so the innermost come first.
        for path, child in reversed(self._directories[1:]):
            self._finish_directory(path, child)
        self.destination.remove_stage()
        self._finish_directory("", node)

    def _finish_directory(self, path: str, node: Node) -> None:
        if node.entry is None and not path and path in self._old:
            return  # no layer says anything of it, so it stays what its owner made it
        found = self._stat(node)
        self.destination.finish_directory(path, _metadata(found))

    def _plan(self, parent: str, name: str, node: Node) -> None:
        """Make what is not a regular file, and put regular files down for later."""
        try:
            check_name(name)
        except NotMadeError as error:
            # Not the first name of this file, so that other names of it can still be made.
            self._fail_unless_alone(parent, name, error)
            return
        if self._first.setdefault(node.inode, (parent, name)) != (parent, name):
            self._more.append((node, parent, name))
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
            self._total += layer.sizes[entry]
            if parent in self._old and self._is_there(parent, name, node):
                self._unchanged += 1
                self._done += layer.sizes[entry]
            else:
                self._files.setdefault(node.layer, []).append((entry, parent, name))
        elif node.type == "hardlink":
            self._absent.add(node.inode)
            target = layer.entry(entry).linkname
            self._fail(parent, name, f"hard link to {shown(target)}, which is not in the image")
        elif node.type in ("char", "block") and not self._devices:
            self._absent.add(node.inode)
            reason = "is a device node, made only with devices (--devices)"
            left = self._skipped if self._one is None else self._failed
            left.append(SkippedFile(self._path(parent, name), reason))
        elif parent in self._old and self._is_there(parent, name, node):
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
        elif node.type != "fifo" and os.geteuid() != 0:
            problem = "is a device node, which only root can make"
        if device is None or problem:
            self._absent.add(node.inode)
            self._fail(parent, name, problem)
            return
        self.destination.make_node(_SPECIAL[node.type], device, parent, name, _metadata(found))
        self._special_count += 1

    def _link(self, node: Node, parent: str, name: str) -> None:
        """Make one more name of a file."""
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
        """Go on without a file, unless it is the only one.

        Raises:
            OSError: it is.
        """
        if self._one is not None:
            raise placed(error, error.filename or self.destination.shown(name))
        self._fail(parent, name, error.reason)

    def _fail(self, parent: str, name: str, reason: str) -> None:
        self._failed.append(SkippedFile(self._path(parent, name), reason))

    def _fail_below(self, path: str, full: str) -> None:
        """Go on without all that a directory holds.

        Args:
            path: of the directory, in the destination.
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

    def _is_there(self, parent: str, name: str, node: Node) -> bool:
        """Return whether an earlier run has put the same there: it does so only when complete."""
        there = None if self._overwrite else self.destination.lstat(parent, name)
        if there is None:
            return False
        found = self._stat(node)
        if (there.st_mtime_ns, stat.S_IFMT(there.st_mode)) != (
            bounded_mtime(found.mtime_ns),
            stat.S_IFMT(found.st_mode),
        ):
            return False
        if found.is_file:
            return there.st_size == found.size
        if found.is_symlink:
            return self.destination.readlink(parent, name) == found.linkname
        return found.type == "fifo" or there.st_rdev == _device(found)

    # -- data ----------------------------------------------------------------------------------

    def _write_files(self) -> None:
        self._tell(0)
        for number, wanted in sorted(self._files.items()):
            with self._image.layer(number).verifying_digest():
                self._write_layer(number, wanted)
        self._tell(0)

    def _write_layer(self, number: int, wanted: list[tuple[int, str, str]]) -> None:
        layer, linked = self._image.layer(number), self._image.tree.linked
        # Lists, since taking single numbers out of arrays takes longer than all of these.
        modes = layer.files["mode"].tolist()
        uids, gids = layer.files["uid"].tolist(), layer.files["gid"].tolist()

        def metadata(entry: int) -> Metadata:
            if (number, entry) in linked:
                return _metadata(self._stat(Node.of_file(number, entry)))
            mode = stat.S_IMODE(modes[entry])
            return Metadata(mode, uids[entry], gids[entry], *layer.times_and_xattrs(entry))

        # Empty ones too: that they are is only what the zTOC says.
        files = FilesInLayerOrder(layer, [entry for entry, _, _ in wanted])
        for place, content in files:
            entry, parent, name = wanted[place]
            size = content.size if isinstance(content, FileData) else len(content)
            done = self._done
            try:
                if isinstance(content, FileData):
                    path = self._path(parent, name)
                    pieces = self._counted(files.stream(content), size, path)
                    self.destination.put_pieces(pieces, size, parent, name, metadata(entry))
                else:
                    self.destination.put_bytes(content, parent, name, metadata(entry))
                    if size:
                        self._tell(size)
            except NotMadeError as error:
                self._absent.add(Node.of_file(number, entry).inode)
                self._fail_unless_alone(parent, name, error)
                if rest := done + size - self._done:
                    self._tell(rest)
            else:
                self._file_count += 1
                self._size += size

    def _counted(
        self, pieces: Iterator[tuple[int, bytes]], size: int, path: str
    ) -> Iterator[tuple[int, bytes]]:
        """Pass pieces on, and tell how far they are; holes count too."""
        before = 0
        try:
            for at, piece in pieces:
                yield at, piece
                self._tell(at + len(piece) - before)
                before = at + len(piece)
        except TocsinError as error:
            error.add_note(f"at file {shown(path)}")
            raise
        self._tell(size - before)

    # -- words ---------------------------------------------------------------------------------

    def note(self, what: str, path: str) -> None:
        """Take note of what was not preserved of a file."""
        paths = self._notes.setdefault(what, [])
        if len(paths) < _NAMED:
            paths.append(shown(self._path("", path)))
        self._note_counts[what] = self._note_counts.get(what, 0) + 1

    def result(self, seconds: float) -> ExtractResult:
        """Return what was done."""
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

    def _tell(self, size: int) -> None:
        """Count bytes as done, and say so now and then, at the beginning and at the end."""
        self._done += size
        if self._progress is not None and (not size or self._done - self._told >= _TELL):
            self._told = self._done
            self._progress(Advanced(self._done, self._total))

    def _path(self, parent: str, name: str) -> str:
        """Return how the image calls a path of the destination."""
        if self._one is not None:
            return f"/{self._one}"
        return "/" + "/".join(part for part in (self._top, parent, name) if part)

    def _stat(self, node: Node) -> FileStat:
        """Return what the image says of a file, whatever its name."""
        return self._image.listed("", node)


def _metadata(found: FileStat) -> Metadata:
    return Metadata(found.mode, found.uid, found.gid, found.mtime_ns, found.xattrs)


def _device(found: FileStat) -> int | None:
    """Return the number of a device node; ``None`` if there is no such number."""
    try:
        return os.makedev(found.devmajor, found.devminor)
    except (OverflowError, ValueError):
        return None


def _listed(paths: list[str], count: int) -> str:
    more = count - len(paths)
    return ", ".join(paths) + (f" and {more} more" if more else "")
