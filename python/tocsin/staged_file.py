"""Files that are written atomically.

A file is written under a temporary name in the target directory, flushed to the disk and renamed;
then the directory is flushed. The writer holds a lock on the temporary file. If a run is killed,
its file is no longer locked, and the next run removes it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_PREFIX = ".tocsin-"
_SUFFIX = ".tmp"

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
            self._path.rename(target)
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
        if self._fd >= 0:
            with suppress(FileNotFoundError):  # renamed, but flushing the directory failed
                self._path.unlink()
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
    _sync(directory, os.O_DIRECTORY)


def sync_file(path: Path) -> None:
    """Flush the bytes of the file at `path` to the disk."""
    _sync(path, 0)


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _create_locked(directory: Path) -> tuple[int, Path]:
    while True:
        path = directory / f"{_PREFIX}{os.urandom(8).hex()}{_SUFFIX}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(path, flags, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            # Before the lock was taken, another run may have removed the file as abandoned.
            if os.fstat(fd).st_nlink:
                return fd, path
        except BaseException:
            path.unlink(missing_ok=True)
            os.close(fd)
            raise
        os.close(fd)


def _remove_unlocked(path: Path) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(fd)
