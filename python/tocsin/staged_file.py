"""Files that are written atomically.

A file is written under a temporary name in the target directory, flushed to the disk and renamed;
then the directory is flushed. The writer holds a lock on the temporary file. If a run is killed,
its file is no longer locked, and the next run removes it. On Windows, open files can be neither
renamed nor removed, so the next run removes files that are not open and a day old.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tocsin import operating_system as system

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_PREFIX = ".tocsin-"
_SUFFIX = ".tmp"
_NEW_FILE = (
    os.O_RDWR | os.O_CREAT | os.O_EXCL | system.O_BINARY | system.O_CLOEXEC | system.O_NOFOLLOW
)
_ABANDONED_AFTER = 86_400
"""Seconds without a write after which a file is removed where locks are not reliable."""

_PROBLEMS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "no write permission",
    errno.EPERM: "no write permission",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a component of the path is a file, expected a directory",
    errno.EISDIR: "found a directory, expected a file",
}


def placed(error: OSError, path: str | Path) -> OSError:
    """Return an error of the same class as `error` that names `path` and describes the problem."""
    message = _PROBLEMS.get(error.errno or 0) or error.strerror
    return OSError(error.errno, message, str(path))


@contextmanager
def place_in_errors(path: Path) -> Iterator[None]:
    """Make an OSError that is raised inside name `path` and describe the problem.

    Raises:
        OSError: the same errno, and so the same class.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _PROBLEMS and error.filename is not None:
            raise
        raise placed(error, path) from error


class StagedFile:
    """A file being written; leaving the ``with`` block without `publish` removes it.

    Attributes:
        size: bytes written so far.
    """

    def __init__(self, directory: Path) -> None:
        self.size = 0
        self._is_renamed = False
        with place_in_errors(directory):
            self._fd, self._path = _create_locked(directory)

    def write(self, piece: bytes | memoryview) -> None:
        """Append `piece`.

        Raises:
            OSError: the disk is full or broken; ``filename`` is the directory.
        """
        rest = memoryview(piece)
        with place_in_errors(self._path.parent):
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        self.size += len(piece)

    def fileno(self) -> int:
        """Return the descriptor of the file."""
        return self._fd

    def publish(self, target: Path) -> None:
        """Flush the file and rename it to `target`, replacing an existing file.

        Raises:
            OSError: this failed; `target` is unchanged.
        """
        with place_in_errors(target):
            os.fsync(self._fd)
            if not system.OPEN_FILES_CAN_BE_RENAMED:
                self._close()
            self._path.replace(target)
            self._is_renamed = True
            sync_directory(target.parent)
        self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)  # also releases the lock
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._is_renamed:
            if not system.OPEN_FILES_CAN_BE_RENAMED:
                self._close()
            self._path.unlink(missing_ok=True)
        self._close()


def remove_abandoned(directory: Path) -> None:
    """Remove staged files in `directory` whose writer has died; errors are ignored."""
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX):
                with suppress(OSError):
                    _remove_unlocked(Path(entry.path))


def sync_directory(directory: Path) -> None:
    """Flush the entries of `directory` to the disk."""
    if system.HAS_DIRECTORY_DESCRIPTORS:
        _sync(directory, system.O_DIRECTORY)


def sync_file(path: Path) -> None:
    """Flush the bytes of the file at `path` to the disk."""
    _sync(path, 0)


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, os.O_RDONLY | system.O_CLOEXEC | system.O_NONBLOCK | flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _create_locked(directory: Path) -> tuple[int, Path]:
    while True:
        path = directory / f"{_PREFIX}{os.urandom(8).hex()}{_SUFFIX}"
        fd = os.open(path, _NEW_FILE, 0o666)
        if not system.OPEN_FILES_CAN_BE_RENAMED:  # nor removed, so no lock is needed
            return fd, path
        try:
            system.lock(fd)
            # Before the lock was taken, another run may have removed the file as abandoned.
            if os.fstat(fd).st_nlink:
                return fd, path
        except BaseException:
            path.unlink(missing_ok=True)
            os.close(fd)
            raise
        os.close(fd)


def _remove_unlocked(path: Path) -> None:
    if not system.OPEN_FILES_CAN_BE_RENAMED:
        # The writer closes the file just before it renames it, and the lock ends with that.
        if path.stat().st_mtime + _ABANDONED_AFTER < time.time():
            path.unlink()
        return
    fd = os.open(path, os.O_WRONLY | system.O_CLOEXEC | system.O_NOFOLLOW | system.O_NONBLOCK)
    try:
        if system.try_lock(fd):
            path.unlink()
    finally:
        os.close(fd)
