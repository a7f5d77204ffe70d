"""Where a layer's bytes come from: a Store's blob, by ranges; or a stream that knows no ranges."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from tocsin.errors import VerificationError
from tocsin.layers.forking import forget_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tocsin.model.descriptor import Descriptor
    from tocsin.stores.base import Store


class BlobRanges:
    """Ranges of a layer's blob, in any order.

    Args:
        store: gives the Store that holds it; asked each time, since a fork makes another one.
        layer: the blob.
    """

    in_order = False

    def __init__(self, store: Callable[[], Store], layer: Descriptor) -> None:
        self._store = store
        self._layer = layer

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"{self._store().name}: layer {self._layer.digest}"

    def read(self, start: int, end: int) -> bytes:
        """Return bytes ``[start, end)``, unverified."""
        return self._store().blob_range(self._layer, start, end)


class BytesRanges:
    """Ranges of a layer so small that it is kept.

    Args:
        name: how messages call it.
        data: the layer as stored.
    """

    in_order = False

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self._data = data

    def read(self, start: int, end: int) -> bytes:
        """Return bytes ``[start, end)``."""
        return self._data[start:end]


class Unpacked(Protocol):
    """Starts a stream of uncompressed bytes."""

    def __call__(self) -> Iterator[bytes]:
        """Give the uncompressed layer from its beginning."""
        ...


class StreamRanges:
    """Ranges of a layer that can only be read from its beginning, such as a zstd layer.

    The stream is kept where it stands: who asks for later bytes lets it run on, who asks for
    earlier ones starts it again. One at a time.

    Args:
        name: how messages call it.
        unpack: starts the stream of uncompressed bytes.
    """

    in_order = True

    def __init__(self, name: str, unpack: Unpacked) -> None:
        self.name = name
        self._unpack = unpack
        self._lock = threading.Lock()
        self._stream: Iterator[bytes] = iter(())
        self._held = b""
        self._at = 0
        """Where `_held` begins."""
        self._begun = False
        forget_after_fork(self)

    def after_fork(self) -> None:
        """Start anew: the stream's connection is the other process's."""
        self._lock = threading.Lock()
        self._stream, self._held, self._at = iter(()), b"", 0
        self._begun = False

    def read(self, start: int, end: int) -> bytes:
        """Return uncompressed bytes ``[start, end)``, unverified."""
        with self._lock:
            try:
                return self._read(start, end)
            except BaseException:
                # The stream is at its end, or nowhere: whoever asks next starts it again.
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
