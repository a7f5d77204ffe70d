"""One layer with a zTOC: its entries and the data of its files."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from tocsin.errors import VerificationError
from tocsin.reading.layer import Claims, Layer, Place, Places
from tocsin.reading.layer_order import FAR
from tocsin.reading.stat import mtime_or_zero, xattrs_of
from tocsin.tar.headers import BLOCK_SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from tocsin.layers.spans import LayerSpans
    from tocsin.layers.ztoc import Ztoc
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.file_metadata import FileMetadata
    from tocsin.tar.file_data import FileData
    from tocsin.tar.headers import EntryHeaders

_NO_XATTRS: dict[str, bytes] = {}
_MAX_LOOK_BACK = 4096
"""Maximum number of consecutive sparse files whose headers are read to find the next file."""


class ZtocLayer(Layer):
    """A layer with a zTOC, from an index or made while opening the image.

    Args:
        descriptor: descriptor of the layer.
        ztoc: zTOC of the layer.
        spans: bytes of the layer.
        index_origin: origin of the zTOC, as in ``ImageLayer``.
        digest_is_known: whether the digest in `descriptor` is that of the layer.
    """

    def __init__(
        self,
        descriptor: Descriptor,
        ztoc: Ztoc,
        spans: LayerSpans,
        *,
        index_origin: str,
        digest_is_known: bool = True,
    ) -> None:
        super().__init__(
            descriptor,
            index_origin=index_origin,
            is_bound=index_origin in ("v2", "made"),
            digest_is_known=digest_is_known,
        )
        self._ztoc = ztoc
        self._spans = spans
        self._ends: dict[int, int] = {}

    @property
    def spans(self) -> LayerSpans:
        """Bytes of the layer."""
        return self._spans

    @property
    def entry_count(self) -> int:
        """Number of entries."""
        return self._ztoc.entry_count

    @property
    def ztoc(self) -> Ztoc:
        """The zTOC of the layer."""
        return self._ztoc

    @cached_property
    def paths(self) -> Sequence[str]:
        """Clean paths of all entries, in the order of the tar."""
        return self._ztoc.clean_paths()

    @cached_property
    def types(self) -> Sequence[bytes]:
        """Types of all entries."""
        types: list[bytes] = self.files["type"].tolist()
        return types

    @cached_property
    def files(self) -> np.ndarray[Any, np.dtype[np.void]]:
        """All entries as an array of ``tocsin.FILES_DTYPE``."""
        return self._ztoc.files

    @cached_property
    def sizes(self) -> list[int]:
        """Sizes of all entries, in bytes."""
        sizes: list[int] = self.files["uncompressed_size"].tolist()
        return sizes

    def entry(self, index: int) -> FileMetadata:
        """Return one entry with all its metadata."""
        return self._ztoc.entries[index]

    def times_and_xattrs(self, index: int) -> tuple[int, dict[str, bytes]]:
        """Return the time and extended attributes of an entry, which `files` has no columns for."""
        records = self._ztoc.records(index)
        return self.mtime_ns(index), xattrs_of(records) if records else _NO_XATTRS

    def mtime_ns(self, index: int) -> int:
        """Return the modification time of an entry in nanoseconds since 1970; 0 if unknown."""
        return mtime_or_zero(self._ztoc.mod_time_ns(index))

    # -- the header before a file --------------------------------------------------------------

    @cached_property
    def header_starts(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Offsets in the uncompressed layer at which the headers of each file begin.

        They begin where the previous entry ends. If that entry is a sparse file, the offset is a
        guess until its headers have been read, since its size is not the number of bytes that it
        takes in the layer.
        """
        import numpy as np  # noqa: PLC0415 (slow, and a mount needs no arrays)

        files = self.files
        offsets = np.minimum(files["uncompressed_offset"], FAR)
        # Links and devices may have a size, but no data.
        held = np.where(files["type"] == b"reg", np.minimum(files["uncompressed_size"], FAR), 0)
        order = self._order
        ends = (offsets + held + (-held % BLOCK_SIZE))[order]
        starts = np.zeros(len(offsets), dtype=np.int64)
        starts[order[1:]] = ends[:-1]
        return starts

    @cached_property
    def data_limits(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Upper limits of the end of each file's data: the start of the next entry's data."""
        import numpy as np  # noqa: PLC0415 (slow, and a mount needs no arrays)

        limits = np.empty(self.entry_count, dtype=np.int64)
        limits[self._order[:-1]] = self.files["uncompressed_offset"][self._order[1:]]
        limits[self._order[-1:]] = self._ztoc.uncompressed_archive_size
        return limits

    @cached_property
    def _order(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Entries in the order of their data."""
        return self.files["uncompressed_offset"].argsort(kind="stable")

    @cached_property
    def _places(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Index in `_order` of each entry."""
        import numpy as np  # noqa: PLC0415 (slow, and a mount needs no arrays)

        places = np.empty(self.entry_count, dtype=np.int64)
        places[self._order] = np.arange(self.entry_count)
        return places

    def place(self, entry: int) -> Place:
        """Return where a regular file is, without verifying it."""
        # No lists are used here: making them would take longer than reading one file.
        row = self.files[entry]
        offset, size = row["uncompressed_offset"], row["uncompressed_size"]
        return Place(int(self.header_starts[entry]), int(offset), int(size))

    def size(self, entry: int) -> int:
        """Return the size of a regular file."""
        return self.sizes[entry]

    def places(self, entries: Sequence[int]) -> Places:
        """Return where several regular files are, without verifying it."""
        import numpy as np  # noqa: PLC0415 (slow, and a mount needs no arrays)

        chosen = np.array(entries, dtype=np.int64)
        return Places(
            self.header_starts[chosen],
            self.files["uncompressed_offset"][chosen],
            self.files["uncompressed_size"][chosen],
            self.data_limits[chosen],
        )

    def claims(self, entry: int) -> Claims:
        """Return what the headers of a regular file must say."""
        return Claims(self.paths[entry], self._claims[entry])

    def claims_match(self, entry: int, found: EntryHeaders) -> bool:
        """Return whether `found` has the path and the columns that `claims` returns.

        Makes no object: the garbage collector takes 3 % of an extraction of small files otherwise.
        """
        return found.columns == self._claims[entry] and found.path == self.paths[entry]

    @cached_property
    def _claims(self) -> list[tuple[int, int, int, int]]:
        """Fields of each entry that must be the same in its header: size, mode, owner, group."""
        claims: list[tuple[int, int, int, int]] = self.files[
            ["uncompressed_size", "mode", "uid", "gid"]
        ].tolist()
        return claims

    def _look_up(self, index: int) -> FileData:
        start = int(self.header_starts[index])
        try:
            return self._data_at(index, start)
        except VerificationError:
            # If the previous entry is a sparse file, it ends earlier than its size says, at an
            # offset that its headers give.
            self._find_previous_ends(index)
            exact = self._start_of(index)
            if exact == start:
                raise
        return self._data_at(index, exact)

    def _find_previous_ends(self, index: int) -> None:
        """Find where the files before `index` end, going back until that is known.

        The search stops at the first file whose headers are where they should be, so the headers of
        consecutive sparse files are read once. It is bounded, since a lying zTOC could otherwise
        make it read the whole layer.
        """
        unknown: list[int] = []
        last = int(self._places[index]) - 1
        for place in range(last, max(-1, last - _MAX_LOOK_BACK), -1):
            before = int(self._order[place])
            if self.types[before] != b"reg" or before in self._ends:
                break
            try:
                self._headers(before, int(self.header_starts[before]))
                break
            except VerificationError:
                unknown.append(before)
        for before in reversed(unknown):
            try:
                self._headers(before, self._start_of(before))
            except VerificationError:
                return  # the caller reports its own error

    def _start_of(self, index: int) -> int:
        """Return where the headers of `index` begin, from what is known of the previous entry."""
        place = int(self._places[index])
        before = int(self._order[place - 1]) if place else -1
        return self._ends.get(before, int(self.header_starts[index]))

    def _headers(self, entry: int, start: int) -> EntryHeaders:
        """Return the verified headers of a file, which begin at uncompressed byte `start`."""
        headers = super()._headers(entry, start)
        self._ends[entry] = headers.end
        return headers
