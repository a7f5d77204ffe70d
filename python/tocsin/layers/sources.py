"""Sources of a layer's bytes for `LayerSpans`: files, file objects, memory and streams.

Blobs in a store are in ``reading/blob_ranges.py``, since this package does not import stores.
"""

from __future__ import annotations

import io
import os
import threading
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Protocol

from tocsin.errors import VerificationError
from tocsin.layers.forking import forget_after_fork
from tocsin.operating_system import read_at
from tocsin.regular_file import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUEST_SIZE = 1 << 20
"""Bytes worth fetching with one request to a server, even if a read needs fewer: on a link of
200 Mbit/s and 20 ms, they take twice as long as the request itself."""

SeekableLayer = str | os.PathLike[str] | IO[bytes] | bytes | bytearray | memoryview
"""A layer on this machine: a path, a seekable binary file object, or its bytes."""


class RangeSource(Protocol):
    """A source of a layer's bytes.

    Attributes:
        name: name in error messages.
        in_order: whether going back means reading again from the beginning.
        request_size: bytes worth reading at once; 0 if small reads cost no more than large ones.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 (in the class docstring)
    @property
    def in_order(self) -> bool: ...  # noqa: D102 (in the class docstring)
    @property
    def request_size(self) -> int: ...  # noqa: D102 (in the class docstring)

    def read(self, start: int, end: int) -> bytes:
        """Return exactly the bytes ``[start, end)`` of the layer as stored, unverified.

        May be called from several threads, and after a fork.

        Raises:
            TocsinError: they cannot be read.
            OSError: a local file or the network failed.
        """
        ...


class FileRanges:
    """Ranges of a file.

    Args:
        path: path of the file.
        fd: descriptor of the file if it is open; this object closes it.
    """

    in_order = False
    request_size = 0

    def __init__(self, path: str | os.PathLike[str], *, fd: int | None = None) -> None:
        self.name = str(path)
        self._file = io.FileIO(open_regular(path) if fd is None else fd)
        self.size = os.fstat(self._file.fileno()).st_size

    def read(self, start: int, end: int) -> bytes:
        """Return bytes ``[start, end)``, unverified."""
        parts = []
        while start < end:
            part = read_at(self._file.fileno(), end - start, start)
            if not part:
                raise _too_short(self.name, end, start)
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class FileObjectRanges:
    """Ranges of a seekable file object, which only one thread may use at a time.

    Args:
        file: binary file, which the caller opens and closes.
    """

    name = "layer"
    in_order = False
    request_size = 0

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._lock = threading.Lock()
        forget_after_fork(self)

    def read(self, start: int, end: int) -> bytes:
        """Return bytes ``[start, end)``, unverified."""
        parts = []
        with self._lock:
            self._file.seek(start)
            while start < end:
                part = self._file.read(end - start)
                if not part:
                    raise _too_short(self.name, end, start)
                parts.append(part)
                start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def after_fork(self) -> None:
        """Replace a lock that another thread may have held."""
        self._lock = threading.Lock()


class BytesRanges:
    """Ranges of a layer that is in memory.

    Args:
        name: name in error messages.
        data: the layer as stored.
    """

    in_order = False
    request_size = 0

    def __init__(self, name: str, data: bytes | bytearray | memoryview) -> None:
        self.name = name
        self._data = memoryview(data).cast("B")

    def read(self, start: int, end: int) -> bytes:
        """Return bytes ``[start, end)``."""
        if end > len(self._data):
            raise _too_short(self.name, end, len(self._data))
        return bytes(self._data[start:end])


class Unpacked(Protocol):
    """Starts a stream of uncompressed bytes."""

    def __call__(self) -> Iterator[bytes]:
        """Return the uncompressed layer from its beginning, in pieces."""
        ...


class StreamRanges:
    """Ranges of a layer that can only be read from its beginning, such as a zstd layer.

    The stream stays open: a read of later bytes continues it, a read of earlier bytes starts it
    again. Threads take turns.

    Args:
        name: name in error messages.
        unpack: starts the stream of uncompressed bytes.
    """

    in_order = True
    request_size = 0

    def __init__(self, name: str, unpack: Unpacked) -> None:
        self.name = name
        self._unpack = unpack
        self._lock = threading.Lock()
        self._stream: Iterator[bytes] = iter(())
        self._held = b""
        self._at = 0
        """Offset of `_held` in the stream."""
        self._begun = False
        forget_after_fork(self)

    def after_fork(self) -> None:
        """Discard the stream, whose connection belongs to the parent process."""
        self._lock = threading.Lock()
        self._stream, self._held, self._at = iter(()), b"", 0
        self._begun = False

    def read(self, start: int, end: int) -> bytes:
        """Return uncompressed bytes ``[start, end)``, unverified."""
        with self._lock:
            try:
                return self._read(start, end)
            except BaseException:
                # The stream has ended or its position is unknown, so the next read starts it again.
                self._stream, self._held, self._at, self._begun = iter(()), b"", 0, False
                raise

    def _read(self, start: int, end: int) -> bytes:
        if not self._begun or start < self._at:
            self._stream, self._held, self._at = self._unpack(), b"", 0
            self._begun = True
        parts = []
        while self._at + len(self._held) < end:
            if self._at + len(self._held) > start:
                skip = max(0, start - self._at)
                parts.append(self._held[skip:])
            self._at += len(self._held)
            self._held = next(self._stream, b"")
            if not self._held:
                raise VerificationError(
                    f"{self.name}: ends before uncompressed byte {end}",
                    expected=str(end),
                    actual=str(self._at),
                )
        parts.append(self._held[max(0, start - self._at) : end - self._at])
        return b"".join(parts)


@contextmanager
def ranges_of(layer: SeekableLayer) -> Iterator[RangeSource]:
    """Yield the ranges of a local layer; a file that is opened here is closed at the end.

    Raises:
        OSError: the file cannot be opened.
    """
    if isinstance(layer, str | os.PathLike):
        source = FileRanges(layer)
        try:
            yield source
        finally:
            source.close()
    elif isinstance(layer, bytes | bytearray | memoryview):
        yield BytesRanges("layer", layer)
    else:
        yield FileObjectRanges(layer)


def _too_short(name: str, end: int, at: int) -> VerificationError:
    return VerificationError(f"{name}: ends before byte {end}", expected=str(end), actual=str(at))
