"""Windows: ranges of open files that contain one blob."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tocsin.operating_system import read_at
from tocsin.regular_file import open_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

    from tocsin.model.descriptor import Descriptor
    from tocsin.model.digest import Digest

PIECE_SIZE = 1 << 20
"""Bytes of a blob per piece: so large that Python's overhead is negligible next to hashing."""


@dataclass(frozen=True, slots=True)
class Window:
    """Bytes ``[offset, offset + size)`` of an open file.

    Attributes:
        fd: file descriptor; reads do not move its position, so threads may share it.
        offset: offset of the first byte.
        size: number of bytes.
        owned: whether leaving the ``with`` block closes `fd`.
    """

    fd: int
    offset: int
    size: int
    owned: bool = False

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file at `path` as one window.

        Raises:
            OSError: the file cannot be opened or is not a regular file.
        """
        fd = open_regular(path)
        return cls(fd, 0, os.fstat(fd).st_size, owned=True)

    def read(self, start: int, end: int) -> bytes:
        """Return bytes ``[start, end)`` of the window; fewer if the file ends before."""
        parts = []
        end = min(end, self.size)
        while start < end and (part := read_at(self.fd, end - start, self.offset + start)):
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def pieces(self) -> Iterator[bytes]:
        """Stream the window; fewer bytes if the file ends before."""
        for start in range(0, self.size, PIECE_SIZE):
            yield self.read(start, min(start + PIECE_SIZE, self.size))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.owned:
            os.close(self.fd)


@dataclass(frozen=True, slots=True)
class MemoryWindow(Window):
    """A generated blob, which is in memory and not in a file.

    Attributes:
        data: bytes of the blob.
    """

    data: bytes = b""

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Return a window of all of `data`."""
        return cls(-1, 0, len(data), data=data)

    def read(self, start: int, end: int) -> bytes:
        """Return bytes ``[start, end)``."""
        return self.data[start:end]


def holds(window: Callable[[Digest], Window], descriptor: Descriptor) -> bool:
    """Return whether a blob with this digest and size exists; `window` opens it by its digest."""
    try:
        with window(descriptor.digest) as found:
            return found.size == descriptor.size
    except FileNotFoundError:
        return False
