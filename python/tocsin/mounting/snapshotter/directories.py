"""The directories of snapshots: making, measuring and removing them.

A directory gets its number in the transaction that adds its snapshot, so that a crash leaves at
most a directory without a snapshot, which is `leftover`.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tocsin.log import LOG
from tocsin.mounting.snapshotter.snapshot import Kind, Usage
from tocsin.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Container, Iterator
    from pathlib import Path

_BLOCK = 512
"""Unit of ``st_blocks`` in bytes. Source: Linux man-pages, inode(7)."""
_UNFINISHED = "new-"
_DOOMED = "gone-"
_DEFAULT_MODE = 0o755
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Directories:
    """The directories of snapshots, below one directory.

    Args:
        root: the directory; made if it is missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(mode=0o700, exist_ok=True)

    def files(self, number: int) -> Path:
        """Return the directory with the files of a snapshot."""
        return self.root / str(number) / "fs"

    def work(self, number: int) -> Path:
        """Return the directory that overlayfs works in."""
        return self.root / str(number) / "work"

    @contextmanager
    def new(self, kind: Kind, owner: tuple[int, int] | None, mode: int | None) -> Iterator[Path]:
        """Make a directory without a number; remove it unless it has been renamed at the end.

        Args:
            kind: kind of the snapshot.
            owner: user and group of its root directory; ``None`` for those of this process.
            mode: permissions of its root directory; ``None`` for 0755.
        """
        path = self.root / f"{_UNFINISHED}{secrets.token_hex(8)}"
        path.mkdir(mode=0o700)
        try:
            files = path / "fs"
            files.mkdir()
            if owner is not None:
                os.chown(files, *owner)
            files.chmod(_DEFAULT_MODE if mode is None else mode)
            if kind is Kind.ACTIVE:
                (path / "work").mkdir(mode=0o711)
            yield path
        finally:
            self.remove(path.name)

    def keep(self, path: Path, number: int) -> None:
        """Give a directory of `new` its number."""
        target = self.root / str(number)
        try:
            path.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            # Of a transaction that failed at its end, so that its number is given again.
            self.remove(target.name)
            path.rename(target)

    def leftover(self, kept: Container[int]) -> list[str]:
        """Return the names of all directories but those of the snapshots in `kept`."""
        return [
            path.name
            for path in self.root.iterdir()
            if not (path.name.isascii() and path.name.isdecimal() and int(path.name) in kept)
        ]

    def usage(self, number: int) -> Usage:
        """Measure what the files of a snapshot need; a file with several names counts once."""
        return measured(self.files(number))

    def remove(self, name: str) -> None:
        """Remove a directory by its name, the number of its snapshot; a failure is logged."""
        try:
            root = os.open(self.root, _OPEN)
        except OSError as error:
            _log(self.root, error)
            return
        try:
            _remove_tree(root, name)
        except OSError as error:
            _log(self.root / name, error)
        finally:
            os.close(root)


def _log(path: Path, error: OSError) -> None:
    LOG.warning("%s: cannot be removed: %s", quoted(os.fspath(path)), error.strerror)


def _remove_tree(root: int, name: str) -> None:
    """Remove a directory and everything in it.

    Subdirectories are moved to the top first, so that neither the depth of a tree nor the length of
    its paths matters: programs in containers can make both as large as they like.
    """
    pending = [name]
    while pending:
        current = pending.pop()
        try:
            directory = os.open(current, _OPEN, dir_fd=root)
        except FileNotFoundError:
            continue  # another thread was faster
        except NotADirectoryError:
            os.unlink(current, dir_fd=root)
            continue
        try:
            with os.scandir(directory) as entries:
                found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
            for entry, is_directory in found:
                with suppress(FileNotFoundError):
                    if is_directory:
                        moved = f"{_DOOMED}{secrets.token_hex(8)}"
                        os.rename(entry, moved, src_dir_fd=directory, dst_dir_fd=root)
                        pending.append(moved)
                    else:
                        os.unlink(entry, dir_fd=directory)
        finally:
            os.close(directory)
        with suppress(FileNotFoundError):
            os.rmdir(current, dir_fd=root)


def measured(directory: Path) -> Usage:
    """Return the disk usage of a directory.

    What disappears while it is measured, or cannot be reached because its path is too long, is not
    counted.
    """
    seen: set[tuple[int, int]] = set()
    size = inodes = 0
    pending = [os.fspath(directory)]
    while pending:
        current = pending.pop()
        try:
            with os.scandir(current) as entries:
                names = [entry.path for entry in entries]
        except OSError as error:
            _raise_unless_gone(error)
            continue
        for path in names if current != os.fspath(directory) else [current, *names]:
            try:
                status = os.lstat(path)
            except OSError as error:
                _raise_unless_gone(error)
                continue
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
            inodes += 1
            size += status.st_blocks * _BLOCK
            if stat.S_ISDIR(status.st_mode) and path != os.fspath(directory):
                pending.append(path)
    return Usage(size, inodes)


def _raise_unless_gone(error: OSError) -> None:
    if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
        raise error
