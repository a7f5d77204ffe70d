"""Where the data of a regular file is, by its headers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tocsin.errors import TarError

if TYPE_CHECKING:
    from tocsin.tar.headers import EntryHeaders


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a piece of a file is; what no extent holds is zeros.

    Attributes:
        start: in the file.
        size: bytes.
        offset: in the uncompressed layer.
    """

    start: int
    size: int
    offset: int


@dataclass(frozen=True, slots=True)
class FileData:
    """The data of one regular file.

    Attributes:
        size: of the file.
        extents: in order; one for a file that is not sparse.
    """

    size: int
    extents: tuple[Extent, ...]

    @classmethod
    def of(cls, headers: EntryHeaders) -> Self:
        """Return where the data is that `headers` announce.

        Raises:
            TarError: a sparse file's map wants more or fewer bytes than the layer stores for it.
        """
        offset, size = headers.data_offset, headers.columns[0]
        regions = headers.regions
        if regions is None:
            return cls(size, (Extent(0, size, offset),) if size else ())
        wanted = sum(length for _, length in regions)
        if wanted != headers.stored_size:
            raise TarError(
                f"sparse map wants {wanted} bytes of data, the layer stores {headers.stored_size}",
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
        """Whether there are holes."""
        return sum(extent.size for extent in self.extents) < self.size
