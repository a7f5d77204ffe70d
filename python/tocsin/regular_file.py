"""Opening files that another user may have created: regular files only, without blocking.

Opening a named pipe blocks until it has a writer, and reading a device may never end. Layers,
archives and zTOCs are always regular files.
"""

from __future__ import annotations

import errno
import os
import stat

from tocsin.operating_system import O_BINARY, O_CLOEXEC, O_NONBLOCK

_READ = os.O_RDONLY | O_CLOEXEC | O_BINARY
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


def open_regular(path: str | os.PathLike[str]) -> int:
    """Open a regular file for reading and return its file descriptor; links are followed.

    Raises:
        OSError: the file cannot be opened or is not a regular file; ``filename`` is its path.
    """
    return _checked(os.open(path, _READ | O_NONBLOCK), path, {stat.S_IFREG})


def open_regular_or_pipe(path: str | os.PathLike[str]) -> int:
    """Open a regular file or a pipe that the caller named, such as ``<(curl …)`` in a shell.

    Opening a named pipe blocks until it has a writer.

    Raises:
        OSError: the file cannot be opened or has another type; ``filename`` is its path.
    """
    return _checked(os.open(path, _READ), path, {stat.S_IFREG, stat.S_IFIFO})


def _checked(fd: int, path: str | os.PathLike[str], accepted: set[int]) -> int:
    """Return `fd` if its file has an accepted type; otherwise close it."""
    kind = stat.S_IFMT(os.fstat(fd).st_mode)
    if kind in accepted:
        return fd
    os.close(fd)
    number = errno.EISDIR if kind == stat.S_IFDIR else errno.EINVAL
    raise OSError(number, f"not a regular file but {_KINDS.get(kind, 'another type')}", path)


def read_regular(path: str | os.PathLike[str], *, max_size: int) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        OSError: as for `open_regular`, or the file is larger than `max_size` bytes.
    """
    with open(open_regular(path), "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_size:
            raise OSError(
                errno.EFBIG,
                f"file too large (found {size} bytes, expected at most {max_size})",
                path,
            )
        parts = []
        # Read at most `size` bytes, not to the end: the file may grow in the meantime.
        while size and (part := file.read(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)
