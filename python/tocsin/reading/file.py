"""A file of an image as a Python file object."""

from __future__ import annotations

import errno
import io
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from tocsin.reading.layer import Layer
    from tocsin.tar.file_data import FileData

BUFFER_SIZE = 16 << 10
"""Bytes of the buffer for small reads; spans are cached elsewhere, so more would only be copied."""
_MIN_READ_AHEAD = 2 << 20
"""Bytes fetched ahead of a sequential reader at first; each time, the number is doubled."""
_MAX_READ_AHEAD = 32 << 20
"""Maximum number of bytes fetched ahead."""


class ImageFile(io.RawIOBase):
    """The data of one regular file, verified span by span; read-only.

    While a file is read sequentially, the next spans are fetched in the background, but none
    beyond the end of the file.

    Args:
        layer: the layer that holds the file.
        data: location of the data in the layer.
        name: path of the file, as the caller gave it.
    """

    def __init__(self, layer: Layer, data: FileData, name: str) -> None:
        super().__init__()
        self._layer = layer
        self._data = data
        self._start = None if data.whole is None else data.whole[0]
        self._cached = layer.spans.cached
        self._at = 0
        self._expected = 0
        self._ahead_until = 0
        self._ahead = _MIN_READ_AHEAD
        self.name = name
        self.mode = "rb"

    def readable(self) -> bool:
        """Return true."""
        return True

    def seekable(self) -> bool:
        """Return true."""
        return True

    def fileno(self) -> int:
        """Raise, since a file in an image does not have a descriptor."""
        raise io.UnsupportedOperation(f"{self.name}: files in an image have no file descriptor")

    def tell(self) -> int:
        """Return the offset of the next byte to read."""
        self._check()
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Set the offset of the next byte to read, which may be beyond the end; return it."""
        self._check()
        if whence == os.SEEK_SET:
            target = offset
        elif whence == os.SEEK_CUR:
            target = self._at + offset
        elif whence == os.SEEK_END:
            target = self._data.size + offset
        else:
            raise ValueError(f"whence: must be 0, 1 or 2 (found {whence})")
        if target < 0:
            raise OSError(errno.EINVAL, f"{self.name}: cannot seek before the start ({target})")
        self._at = target
        return target

    def readinto(self, buffer: Buffer, /) -> int:
        """Read bytes into `buffer`, fewer at the end of the file, and return their number."""
        self._check()
        view = memoryview(buffer).cast("B")
        end = self._at + len(view)
        self._look_ahead(end)
        if (
            self._start is not None
            and end <= self._data.size
            and self._cached.read_into(view, self._start + self._at)
        ):
            self._at = self._expected = end
            return len(view)
        data = self._take(end)
        view[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        """Return the rest of the file."""
        self._check()
        return self._take(self._data.size)

    def _take(self, end: int) -> bytes:
        data = self._layer.read(self._data, self._at, end, more=True)
        self._at = self._expected = self._at + len(data)
        return data

    def _look_ahead(self, end: int) -> None:
        """Fetch more for a sequential reader once half of what was fetched ahead has been read.

        Args:
            end: offset after the bytes that are read now.
        """
        if (
            self._at != self._expected
            or end + self._ahead // 2 < self._ahead_until
            or end >= self._data.size
        ):
            return
        if self._start is None or self._expected == 0:
            return  # the first read may be the only one
        until = min(self._data.size, end + self._ahead)
        start = max(end, self._ahead_until)
        self._layer.spans.read_ahead(self._start + start, self._start + until)
        self._ahead_until = until
        self._ahead = min(2 * self._ahead, _MAX_READ_AHEAD)

    def _check(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")
