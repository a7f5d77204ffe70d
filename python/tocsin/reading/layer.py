"""One layer with a zTOC: its entries and the data of its files."""

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
"""An offset beyond the end of any layer; the sum of two fits 64 bits, whatever a zTOC claims."""
_MAX_MISSING_SIZE = 8 << 20
"""Maximum number of compressed bytes fetched only to verify the digest of a whole layer."""
_MAX_LOOK_BACK = 4096
"""Maximum number of consecutive sparse files whose headers are read to find the next file."""
_MAX_HEADER_SIZE = 8 << 20
"""Limit for the headers of one entry, in bytes: name, link target, PAX records and sparse map may
have 1 MiB each, and few archives have any of them twice."""


class Layer:
    """One layer of an image, with a zTOC from an index or one made while opening the image.

    Args:
        descriptor: descriptor of the layer.
        ztoc: zTOC of the layer.
        spans: bytes of the layer.
        index_origin: origin of the zTOC, as in ``ImageLayer``.
        digest_is_known: whether the digest in `descriptor` is that of the layer.
    """

    problem: str | None = None
    """Why the layer cannot be read: always ``None``, unlike for an `UnreadableLayer`."""

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
        """Return what `files` has no columns for: nanoseconds since 1970, extended attributes."""
        records = self._ztoc.records(index)
        return self.mtime_ns(index), xattrs_of(records) if records else _NO_XATTRS

    def mtime_ns(self, index: int) -> int:
        """Return the modification time of an entry in nanoseconds since 1970; 0 if unknown."""
        return mtime_or_zero(self._ztoc.mod_time_ns(index))

    @property
    def spans(self) -> LayerSpans:
        """Bytes of the layer."""
        return self._spans

    @property
    def is_bound(self) -> bool:
        """Whether the image vouches for the zTOC: by a version 2 index, or by the layer itself."""
        return self.index_origin in ("v2", "made")

    @contextmanager
    def verifying_digest(self) -> Iterator[None]:
        """Verify the layer's own digest at the end, if the whole layer has been read by then.

        A zTOC that the image does not vouch for only shows that it matches the bytes. With one that
        is bound to the image, this does nothing.

        Raises:
            VerificationError: the layer is not the one that the image lists.
        """
        if self.is_bound or not self._digest_is_known:
            yield
            return
        self._spans.begin_whole_digest()
        yield
        found = self._spans.whole_digest(max_missing_size=_MAX_MISSING_SIZE)
        if found is not None and found != self.descriptor.digest.hex:
            raise VerificationError(
                f"layer {self.descriptor.digest}: the index describes another layer (found digest "
                f"sha256:{found} after reading all of it)",
                expected=str(self.descriptor.digest),
                actual=f"sha256:{found}",
            )

    def data(self, index: int) -> FileData:
        """Return where the data of a regular file is, after checking the tar header before it.

        A zTOC may name any bytes, but the header, which is covered by the digest of a span, must
        name the same file and size. The reference's reader checks it too.
        Source: docs/format.md#acceptance-rules.

        Raises:
            VerificationError: it is not a header, or that of another file.
            UnsupportedError: the type of the header is not supported.
            TarError: the map of a sparse file does not match its data.
        """
        found = self._data.get(index)
        if found is None:
            found = self._data[index] = self._look_up(index)
        return found

    def read(self, data: FileData, start: int, end: int) -> bytes:
        """Return bytes ``[start, end)`` of a file, or fewer at its end."""
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
        """Yield the data of a file in pieces, each with its offset in the file, without holes."""
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
            f"layer {self.descriptor.digest}: ends before the file at uncompressed byte {offset} "
            f"(found {actual} bytes, expected {expected})",
            expected=str(expected),
            actual=str(actual),
        )

    # -- the header before a file --------------------------------------------------------------

    @cached_property
    def header_starts(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Offsets in the uncompressed layer at which the headers of each file begin.

        That is where the previous entry ends. If that is a sparse file, the offset is a guess until
        its headers have been read, since its size is not the number of bytes in the layer.
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
        """Upper limits of where the data of each file ends: where that of the next entry begins."""
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
        places = np.empty(self.entry_count, dtype=np.int64)
        places[self._order] = np.arange(self.entry_count)
        return places

    def headers_match(self, headers: bytes, index: int) -> bool:
        """Return whether `headers` are exactly those of this file, which is not sparse.

        If not, call `data`, which raises an error if anything is wrong.
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
        consecutive sparse files are read once. It is bounded, since a zTOC that lies could
        otherwise make it read the whole layer.
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

    def _data_at(self, index: int, start: int) -> FileData:
        """Return where the data is, from the headers at uncompressed byte `start`."""
        headers = self._headers(index, start)
        try:
            return FileData.of(headers)
        except TarError as error:
            message = f"layer {self.descriptor.digest}: {shown(self.paths[index])}: {error}"
            raise TarError(message, what=error.what, offset=error.offset) from None

    def _headers(self, index: int, start: int) -> EntryHeaders:
        """Return the verified headers of a file, which begin at uncompressed byte `start`."""
        offset = int(self.files["uncompressed_offset"][index])
        path = self.paths[index]
        name = shown(path)
        place = f"layer {self.descriptor.digest}: {name}: header at uncompressed byte {start}"
        if not BLOCK_SIZE <= offset - start <= _MAX_HEADER_SIZE:
            raise VerificationError(
                f"{place}: the ztoc leaves the wrong number of bytes for it (found "
                f"{offset - start}, expected {BLOCK_SIZE} to {_MAX_HEADER_SIZE})",
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
                f"{place}: not that of a regular file: the ztoc lies about this file",
                expected="reg",
                actual=headers.type,
            )
        if headers.path != path:
            raise VerificationError(
                f"{place}: belongs to {shown(headers.name)}: the ztoc lies about this file",
                expected=path,
                actual=headers.name,
            )
        found, claimed = headers.columns, self._claims[index]
        if found[0] != claimed[0]:
            raise VerificationError(
                f"{place}: size differs from the ztoc (found {found[0]}, expected {claimed[0]})",
                expected=str(claimed[0]),
                actual=str(found[0]),
            )
        if found != claimed:
            _, mode, uid, gid = found
            _, claimed_mode, claimed_uid, claimed_gid = claimed
            raise VerificationError(
                f"{place}: mode or owner differs from the ztoc (found {mode:o} and {uid}:{gid}, "
                f"expected {claimed_mode:o} and {claimed_uid}:{claimed_gid}): the ztoc lies about "
                "this file",
                expected=str(claimed[1:]),
                actual=str(found[1:]),
            )
        if headers.data_offset != offset:
            raise VerificationError(
                f"{place}: length differs from the ztoc (found {headers.data_offset - start} "
                f"bytes, expected {offset - start}): the ztoc lies about this file",
                expected=str(offset - start),
                actual=str(headers.data_offset - start),
            )
        self._ends[index] = headers.end
        return headers
