"""One layer to read from: what its zTOC lists, and the data of its files."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tocsin.errors import TarError, UnsupportedError, VerificationError
from tocsin.quoting import shown
from tocsin.reading.stat import mtime_or_zero, xattrs_of
from tocsin.tar.file_data import FileData
from tocsin.tar.headers import BLOCK_SIZE, read_headers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tocsin.layers.spans import LayerSpans
    from tocsin.layers.ztoc import Ztoc
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.file_metadata import FileMetadata
    from tocsin.tar.headers import EntryHeaders

_NO_XATTRS: dict[str, bytes] = {}
FAR = 1 << 61
"""A place that no layer has; sums of two such fit 64 bits, whatever a zTOC claims."""
_MAX_MISSING_SIZE = 8 << 20
"""Compressed bytes fetched besides, so that a layer's own digest can be verified."""
_MAX_LOOK_BACK = 4096
"""Sparse files in a row, when the last of them is the first to be read."""
_MAX_HEADER_SIZE = 8 << 20
"""Bytes of one entry's headers that are looked at: name, link target, PAX records and sparse map
may have 1 MiB each, and few archives give any of them twice."""


class Layer:
    """One layer of an image that has a zTOC, given or just made.

    Args:
        descriptor: of the layer.
        ztoc: of it.
        spans: its bytes.
        index_origin: ``v2``, ``v1`` or ``given``: which SOCI index named the zTOC; ``made`` when it
            was made just now.
        digest_is_known: whether the descriptor's digest is the layer's own.
    """

    problem: str | None = None
    """Why it cannot be read, as `UnreadableLayer` has it."""

    def __init__(
        self,
        descriptor: Descriptor,
        ztoc: Ztoc,
        spans: LayerSpans,
        *,
        index_origin: str,
        digest_is_known: bool = True,
    ) -> None:
        self.descriptor = descriptor
        self._digest_is_known = digest_is_known
        self.index_origin = index_origin
        self._ztoc = ztoc
        self._spans = spans
        self._data: dict[int, FileData] = {}
        self._ends: dict[int, int] = {}

    @property
    def entry_count(self) -> int:
        """How many entries the layer has."""
        return self._ztoc.entry_count

    @property
    def ztoc(self) -> Ztoc:
        """What lists the entries."""
        return self._ztoc

    @cached_property
    def paths(self) -> Sequence[str]:
        """Of all entries, cleaned, in the order of the tar."""
        return self._ztoc.clean_paths()

    @cached_property
    def types(self) -> Sequence[bytes]:
        """Of all entries."""
        types: list[bytes] = self.files["type"].tolist()
        return types

    @cached_property
    def files(self) -> np.ndarray[Any, np.dtype[np.void]]:
        """All entries as an array of ``tocsin.FILES_DTYPE``."""
        return self._ztoc.files

    @cached_property
    def sizes(self) -> list[int]:
        """Of all entries, in bytes."""
        sizes: list[int] = self.files["uncompressed_size"].tolist()
        return sizes

    def entry(self, index: int) -> FileMetadata:
        """Return one entry with everything the tar says of it."""
        return self._ztoc.entries[index]

    def times_and_xattrs(self, index: int) -> tuple[int, dict[str, bytes]]:
        """Return what of `entry` is in no column: nanoseconds since 1970, extended attributes."""
        records = self._ztoc.records(index)
        return self.mtime_ns(index), xattrs_of(records) if records else _NO_XATTRS

    def mtime_ns(self, index: int) -> int:
        """Return when an entry was last changed, in nanoseconds since 1970; 0 if unknown."""
        return mtime_or_zero(self._ztoc.mod_time_ns(index))

    @property
    def spans(self) -> LayerSpans:
        """The bytes."""
        return self._spans

    @property
    def is_bound(self) -> bool:
        """Whether the image itself says which zTOC is its: a version 2 index, or the layer read."""
        return self.index_origin in ("v2", "made")

    @contextmanager
    def verifying_digest(self) -> Iterator[None]:
        """Verify the layer's own digest at the end, if all of it has been read by then.

        A zTOC that nothing binds to the image proves only that it and the bytes agree with each
        other. For one that is bound this does nothing.

        Raises:
            VerificationError: the layer is another one than the image lists.
        """
        if self.is_bound or not self._digest_is_known:
            yield
            return
        self._spans.begin_whole_digest()
        yield
        found = self._spans.whole_digest(max_missing_size=_MAX_MISSING_SIZE)
        if found is not None and found != self.descriptor.digest.hex:
            raise VerificationError(
                f"layer {self.descriptor.digest}: all of it was read, and its digest is "
                f"sha256:{found}: the index describes another layer",
                expected=str(self.descriptor.digest),
                actual=f"sha256:{found}",
            )

    def data(self, index: int) -> FileData:
        """Return where the data of a regular file is, after a look at the tar header before it.

        Whoever made the zTOC could have named any bytes; the header, which a span's digest covers,
        must name the same file and size. The reference's reader looks too.
        Source: docs/format.md#acceptance-rules.

        Raises:
            VerificationError: the header is another file's, or none.
            UnsupportedError: the header is of a type that cannot be read.
            TarError: a sparse file's map does not fit its data.
        """
        found = self._data.get(index)
        if found is None:
            found = self._data[index] = self._look_up(index)
        return found

    def read(self, data: FileData, start: int, end: int) -> bytes:
        """Return bytes ``[start, end)`` of a file, fewer at its end."""
        end = min(end, data.size)
        if start >= end:
            return b""
        extents = data.extents
        if len(extents) == 1 and extents[0].size == data.size:
            offset = extents[0].offset
            found = self._spans.read(offset + start, offset + end)
            if len(found) != end - start:
                raise self._too_short(offset, end - start, len(found))
            return found
        return self._read_sparse(data, start, end)

    def stream(self, data: FileData) -> Iterator[tuple[int, bytes]]:
        """Give the data of a file in pieces, each with where in the file it belongs; no holes."""
        for extent in data.extents:
            at = extent.start
            end = extent.offset + extent.size
            for piece in self._spans.stream(extent.offset, end):
                yield at, piece
                at += len(piece)
            if at != extent.start + extent.size:
                raise self._too_short(extent.offset, extent.size, at - extent.start)

    def _read_sparse(self, data: FileData, start: int, end: int) -> bytes:
        whole = bytearray(end - start)
        for extent in data.extents:
            first, last = max(start, extent.start), min(end, extent.start + extent.size)
            if first >= last:
                continue
            offset = extent.offset - extent.start
            found = self._spans.read(offset + first, offset + last)
            if len(found) != last - first:
                raise self._too_short(offset + first, last - first, len(found))
            whole[first - start : last - start] = found
        return bytes(whole)

    def _too_short(self, offset: int, expected: int, actual: int) -> VerificationError:
        return VerificationError(
            f"layer {self.descriptor.digest}: ends {expected - actual} bytes before the file at "
            f"uncompressed byte {offset} does",
            expected=str(expected),
            actual=str(actual),
        )

    # -- the header before a file --------------------------------------------------------------

    @cached_property
    def header_starts(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Where the headers before each file's data begin, as bytes of the uncompressed layer.

        That is where the entry before it ends; what lies there is known only when it has been read,
        since of a sparse file, whose size is not what the layer holds, the end is a guess.
        """
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
        """Where each file's data ends at the latest: where that of the next entry begins."""
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
        """Where in `_order` each entry is."""
        places = np.empty(self.entry_count, dtype=np.int64)
        places[self._order] = np.arange(self.entry_count)
        return places

    def announces(self, headers: bytes, index: int) -> bool:
        """Return whether `headers` are all those of this file, and it is not sparse.

        If not, `data` must look again, and says what is wrong, if anything is.
        """
        try:
            found = read_headers(headers, 0)
        except TarError:
            return False
        return (
            found.columns == self._claims[index]
            and found.path == self.paths[index]
            and found.data_offset == len(headers)
            and found.type == "reg"
            and found.regions is None
        )

    @cached_property
    def _claims(self) -> list[tuple[int, int, int, int]]:
        """What the zTOC says of each entry and its header must too: size, mode, owner, group."""
        claims: list[tuple[int, int, int, int]] = self.files[
            ["uncompressed_size", "mode", "uid", "gid"]
        ].tolist()
        return claims

    def _look_up(self, index: int) -> FileData:
        start = int(self.header_starts[index])
        try:
            return self._look_at(index, start)
        except VerificationError:
            # Is the entry before sparse? Then it ends earlier than its size says, and its headers
            # tell where.
            self._look_at_those_before(index)
            exact = self._start_of(index)
            if exact == start:
                raise
        return self._look_at(index, exact)

    def _look_at_those_before(self, index: int) -> None:
        """Learn where the files just before `index` end, as far back as that is not known.

        Back to the first whose headers are where they should be; so a run of sparse files is read
        once. Not further than any such run goes, or a zTOC that lies would have all of it read.
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
                return  # whoever asked has an error of its own to report

    def _start_of(self, index: int) -> int:
        """Return where the headers of `index` begin, given what is known of the entry before."""
        place = int(self._places[index])
        before = int(self._order[place - 1]) if place else -1
        return self._ends.get(before, int(self.header_starts[index]))

    def _look_at(self, index: int, start: int) -> FileData:
        """Return where the data is, by the headers that begin at uncompressed byte `start`."""
        headers = self._headers(index, start)
        try:
            return FileData.of(headers)
        except TarError as error:
            message = f"layer {self.descriptor.digest}: {shown(self.paths[index])}: {error}"
            raise TarError(message, what=error.what, offset=error.offset) from None

    def _headers(self, index: int, start: int) -> EntryHeaders:
        """Return the headers of a file that begin at uncompressed byte `start`, once verified."""
        offset = int(self.files["uncompressed_offset"][index])
        path = self.paths[index]
        name = shown(path)
        place = f"layer {self.descriptor.digest}: {name}: header at uncompressed byte {start}"
        if not BLOCK_SIZE <= offset - start <= _MAX_HEADER_SIZE:
            raise VerificationError(
                f"{place}: the ztoc leaves {offset - start} bytes for it",
                expected=f"{BLOCK_SIZE} to {_MAX_HEADER_SIZE}",
                actual=str(offset - start),
            )
        try:
            headers = read_headers(self._spans.read(start, offset), start)
        except TarError as error:
            if error.what == "tar.unsupported-type":
                raise UnsupportedError(f"{place}: {error}") from None
            raise VerificationError(
                f"{place}: not a tar header ({error}): the ztoc lies about this file",
                expected="a tar header",
                actual=error.message,
            ) from None
        if headers.type != "reg":
            raise VerificationError(
                f"{place}: not a regular file's: the ztoc lies about this file",
                expected="reg",
                actual=headers.type,
            )
        if headers.path != path:
            raise VerificationError(
                f"{place}: is of {shown(headers.name)}: the ztoc lies about this file",
                expected=path,
                actual=headers.name,
            )
        found, said = headers.columns, self._claims[index]
        if found[0] != said[0]:
            raise VerificationError(
                f"{place}: gives {found[0]} bytes, the ztoc {said[0]}",
                expected=str(said[0]),
                actual=str(found[0]),
            )
        if found != said:
            _, mode, uid, gid = found
            raise VerificationError(
                f"{place}: gives mode {mode:o} and owner {uid}:{gid}, the ztoc others: the ztoc "
                "lies about this file",
                expected=str(said[1:]),
                actual=str(found[1:]),
            )
        if headers.data_offset != offset:
            raise VerificationError(
                f"{place}: the data begins {headers.data_offset - start} bytes on, by the ztoc "
                f"{offset - start}: the ztoc lies about this file",
                expected=str(offset - start),
                actual=str(headers.data_offset - start),
            )
        self._ends[index] = headers.end
        return headers
