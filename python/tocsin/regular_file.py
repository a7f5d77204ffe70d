"""Opening files that somebody else may have put there: only regular ones, and at once.

Opening a named pipe waits for a writer, reading a device may never end. Neither holds a layer, an
archive or a zTOC.
"""

from __future__ import annotations

import errno
import os
import stat

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


def open_regular(path: str | os.PathLike[str]) -> int:
    """Return a descriptor of a regular file, opened for reading; links are followed.

    Raises:
        OSError: it cannot be opened, or is not a regular file; ``filename`` says which.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    kind = stat.S_IFMT(os.fstat(fd).st_mode)
    if kind == stat.S_IFREG:
        return fd
    os.close(fd)
    number = errno.EISDIR if kind == stat.S_IFDIR else errno.EINVAL
    raise OSError(number, f"not a regular file but {_KINDS.get(kind, 'something else')}", path)


def read_regular(path: str | os.PathLike[str], *, max_size: int) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        OSError: as `open_regular`; or it has more than `max_size` bytes.
    """
    with open(open_regular(path), "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_size:
            raise OSError(errno.EFBIG, f"has {size} bytes, at most {max_size} are read", path)
        parts = []
        # Not to the end: a file may grow while it is read.
        while size and (part := file.read(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)
