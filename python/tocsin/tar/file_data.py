"""The location of a regular file's data, according to its headers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tocsin.errors import TarError

if TYPE_CHECKING:
    from tocsin.tar.headers import EntryHeaders


@dataclass(frozen=True, slots=True)
class Extent:
    """A contiguous part of a file; parts without an extent are zeros.

    Attributes:
        start: offset in the file.
        size: number of bytes.
        offset: offset in the uncompressed layer.
    """

    start: int
    size: int
    offset: int


@dataclass(frozen=True, slots=True)
class FileData:
    """The location of one regular file's data.

    Attributes:
        size: size of the file.
        extents: sorted by `start`; at most one for a file that is not sparse.
    """

    size: int
    extents: tuple[Extent, ...]

    @property
    def whole(self) -> tuple[int, int] | None:
        """Start and end of the data in the uncompressed layer; ``None`` if it has holes."""
        if len(self.extents) == 1 and self.extents[0].size == self.size:
            start = self.extents[0].offset
            return start, start + self.size
        return None if self.size else (0, 0)

    @classmethod
    def of(cls, headers: EntryHeaders) -> Self:
        """Return the location of the data that follows `headers`.

        Raises:
            TarError: the sparse map needs more or fewer bytes than the layer stores for the file.
        """
        offset, size = headers.data_offset, headers.columns[0]
        regions = headers.regions
        if regions is None:
            return cls(size, (Extent(0, size, offset),) if size else ())
        needed = sum(length for _, length in regions)
        if needed != headers.stored_size:
            raise TarError(
                f"sparse map needs {needed} bytes of data, but the layer stores "
                f"{headers.stored_size}",
                what="tar.sparse",
                offset=f"uncompressed byte {offset}",
            )
        extents = []
        for start, length in regions:
            if length:
                extents.append(Extent(start, length, offset))
            offset += length
        return cls(size, tuple(extents))

    @property
    def is_sparse(self) -> bool:
        """Whether the file has holes."""
        return sum(extent.size for extent in self.extents) < self.size
