"""Reading and writing files in a directory that another user may have prepared.

Each step goes from the descriptor of a directory to one name in it. No symbolic link is followed,
and nothing blocks: a FIFO, a device or an endless file costs no more than a missing one. Files of
other users are refused, except those of root.
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tocsin import operating_system as system

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_DIRECTORY = os.O_RDONLY | system.O_DIRECTORY | system.O_CLOEXEC
# O_NONBLOCK, since opening a FIFO otherwise waits for a writer.
_FILE = system.O_NOFOLLOW | system.O_NONBLOCK | system.O_NOCTTY | system.O_CLOEXEC
_PRIVATE_DIRECTORY = 0o700
_PRIVATE_FILE = 0o600
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
TEMPORARY_PREFIX = ".tocsin-"
"""Prefix of the names of half-written files."""


class UntrustedFileError(Exception):
    """A file or directory that must not be used.

    Attributes:
        reason: why not.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@contextmanager
def open_root(path: Path, *, make: bool = False) -> Iterator[int]:
    """Yield the descriptor of the top directory, the only one that may be reached through links.

    Args:
        path: path of the directory.
        make: whether to make it if it is missing, with access for this user only.

    Raises:
        UnsupportedError: this is Windows, which has no descriptors of directories.
        UntrustedFileError: another user owns it, or all users may write to it.
        OSError: it is missing, not a directory, or cannot be opened.
    """
    system.require_directory_descriptors(f"cache {path}")
    if make:
        path.mkdir(_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    fd = os.open(path, _DIRECTORY)
    try:
        status = os.fstat(fd)
        _check_owner(status)
        # In a sticky directory such as /tmp, other users cannot replace the directories below.
        # Group write permission is common (umask 002), and the directories below are checked too.
        if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
            raise UntrustedFileError("all users can write to it")
        yield fd
    finally:
        os.close(fd)


@contextmanager
def open_directory(root: int, names: Sequence[str], *, make: bool = False) -> Iterator[int]:
    """Yield the descriptor of a directory below `root`.

    Args:
        root: a descriptor.
        names: the names that lead from `root` to the directory.
        make: whether to make missing directories.

    Raises:
        UntrustedFileError: one of them is not a directory, or another user owns it or may write to
            it.
        OSError: one of them is missing or cannot be opened.
    """
    fd = os.dup(root)
    try:
        for name in names:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, _PRIVATE_DIRECTORY, dir_fd=fd)
            below = _open_one(name, fd)
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)


def _open_one(name: str, above: int) -> int:
    try:
        fd = os.open(name, _DIRECTORY | system.O_NOFOLLOW, dir_fd=above)
    except NotADirectoryError:  # a symbolic link is not a directory either
        raise UntrustedFileError(f"{name} is not a directory") from None
    try:
        _check_private(os.fstat(fd), name)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check_private(status: os.stat_result, name: str) -> None:
    _check_owner(status, f"the directory {name}")
    if status.st_mode & _OTHERS_MAY_WRITE:
        raise UntrustedFileError(f"other users can write to the directory {name}")


@contextmanager
def open_file(name: str, directory: int, *, write: bool = False) -> Iterator[int]:
    """Yield the descriptor of a regular file.

    Args:
        name: in the directory.
        directory: a descriptor.
        write: whether to open it for writing too, and make it if it is missing.

    Raises:
        UntrustedFileError: it is not a regular file, has several hard links, or belongs to another
            user.
        OSError: it is missing, or cannot be opened.
    """
    access = os.O_RDWR | os.O_CREAT if write else os.O_RDONLY
    try:
        fd = os.open(name, access | _FILE, _PRIVATE_FILE, dir_fd=directory)
    except OSError as error:
        if _is_regular(name, directory) is False:
            raise UntrustedFileError("not a regular file") from None
        raise error from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise UntrustedFileError("not a regular file")
        if status.st_nlink > 1:
            raise UntrustedFileError(f"the file has {status.st_nlink} hard links")
        _check_owner(status)
        yield fd
    finally:
        os.close(fd)


def read_file(name: str, directory: int, size: int) -> bytes:
    """Return the data of a file, and set its time to now.

    Args:
        name: in the directory.
        directory: a descriptor.
        size: expected size in bytes; no more is read.

    Raises:
        UntrustedFileError: as `open_file`, or it has another size.
        OSError: it is missing, or cannot be read.
    """
    with open_file(name, directory) as fd:
        found = os.fstat(fd).st_size
        if found != size:
            raise UntrustedFileError(f"the file has {found} bytes, expected {size}")
        data = _read_exactly(fd, size)
        with suppress(OSError):  # a read-only file system, or a file of root
            _touch(fd)
    return data


def write_file(name: str, directory: int, data: bytes) -> None:
    """Write a file so that it appears whole; replace anything but a directory.

    Raises:
        UntrustedFileError: its name is that of a directory.
        OSError: it cannot be written.
    """
    temporary = f"{TEMPORARY_PREFIX}{os.urandom(8).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | system.O_NOFOLLOW | system.O_CLOEXEC
    fd = os.open(temporary, flags, _PRIVATE_FILE, dir_fd=directory)
    try:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(fd, rest) :]
            _touch(fd)
        finally:
            os.close(fd)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        if isinstance(error, IsADirectoryError):
            raise UntrustedFileError("not a regular file") from None
        raise


def _read_exactly(fd: int, size: int) -> bytes:
    parts = []
    while size and (part := os.read(fd, size)):
        parts.append(part)
        size -= len(part)
    if size:
        raise UntrustedFileError("the file became shorter while it was read")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _touch(fd: int) -> None:
    # The kernel's own "now" only changes every few milliseconds.
    now = time.time_ns()
    os.utime(fd, ns=(now, now))


def _is_regular(name: str, directory: int) -> bool | None:
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return None
    return stat.S_ISREG(status.st_mode)


def _check_owner(status: os.stat_result, what: str = "it") -> None:
    if status.st_uid not in (system.user_id(), 0):
        raise UntrustedFileError(f"{what} belongs to user {status.st_uid}")
