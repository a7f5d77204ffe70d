"""One layer that can be read: the data of its files, verified with the tar headers before it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from tocsin.errors import TarError, UnsupportedError, VerificationError
from tocsin.quoting import shown
from tocsin.tar.file_data import FileData
from tocsin.tar.headers import BLOCK_SIZE, read_headers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np

    from tocsin.layers.spans import LayerSpans
    from tocsin.model.descriptor import Descriptor
    from tocsin.tar.headers import EntryHeaders

_MAX_MISSING_SIZE = 8 << 20
"""Maximum number of compressed bytes fetched only to verify the digest of a whole layer."""
_MAX_HEADER_SIZE = 8 << 20
"""Limit for the headers of one entry, in bytes: name, link target, PAX records and sparse map may
have 1 MiB each, and few archives have any of them twice."""
_MAX_BRIDGED = 64 << 10
"""Maximum number of unneeded bytes of a file that are inflated between its headers and its data."""
_MAX_AHEAD = 64 << 20
"""Maximum number of bytes of one file that are fetched before its headers have been verified."""


class Place(NamedTuple):
    """Where a regular file is in its layer, as the index claims.

    Attributes:
        start: offset in the uncompressed layer at which the headers begin.
        offset: offset at which the data begins.
        size: size of the file, which is larger than its data if it is sparse.
    """

    start: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Places:
    """The places of several files, as arrays.

    Attributes:
        starts: as in `Place`.
        offsets: as in `Place`.
        sizes: as in `Place`.
        limits: upper limits of where the data of each file ends.
    """

    starts: np.ndarray[tuple[int], np.dtype[np.int64]]
    offsets: np.ndarray[tuple[int], np.dtype[np.int64]]
    sizes: np.ndarray[tuple[int], np.dtype[np.int64]]
    limits: np.ndarray[tuple[int], np.dtype[np.int64]]


class Claims(NamedTuple):
    """What the headers of a file must say.

    Attributes:
        path: clean path.
        columns: size, mode, user and group, as in `EntryHeaders`.
        has_owner: whether mode, user and group are those of this entry; if not, they are those of a
            hard link to it.
        mode_mask: which bits of the mode are known.
    """

    path: str
    columns: tuple[int, int, int, int]
    has_owner: bool = True
    mode_mask: int = -1

    def match(self, found: tuple[int, int, int, int]) -> bool:
        """Return whether these are the columns of the file's headers."""
        if found == self.columns:
            return True
        size, mode, *owner = self.columns
        return found[0] == size and (
            not self.has_owner
            or (not (found[1] ^ mode) & self.mode_mask and list(found[2:]) == owner)
        )


class Layer(ABC):
    """One layer of an image. Entries have numbers, which the image's tree knows.

    Args:
        descriptor: descriptor of the layer.
        index_origin: origin of its index, as in ``ImageLayer``.
        is_bound: whether the image vouches for that index.
        digest_is_known: whether the digest in `descriptor` is that of the layer.
    """

    problem: str | None = None
    """Why the layer cannot be read: always ``None``, unlike for an `UnreadableLayer`."""

    def __init__(
        self,
        descriptor: Descriptor,
        *,
        index_origin: str,
        is_bound: bool,
        digest_is_known: bool = True,
    ) -> None:
        self.descriptor = descriptor
        self.index_origin = index_origin
        self.is_bound = is_bound
        self._digest_is_known = digest_is_known
        self._data: dict[int, FileData] = {}

    @property
    @abstractmethod
    def spans(self) -> LayerSpans:
        """Bytes of the layer."""

    # -- what the index claims -----------------------------------------------------------------

    @property
    @abstractmethod
    def entry_count(self) -> int | None:
        """Number of entries in its tar; ``None`` if the index does not say it."""

    @abstractmethod
    def place(self, entry: int) -> Place:
        """Return where a regular file is, without verifying it."""

    @abstractmethod
    def size(self, entry: int) -> int:
        """Return the size of a regular file, as the index says."""

    @abstractmethod
    def places(self, entries: Sequence[int]) -> Places:
        """Return where several regular files are, without verifying it."""

    @abstractmethod
    def claims(self, entry: int) -> Claims:
        """Return what the headers of a regular file must say."""

    @abstractmethod
    def _look_up(self, entry: int) -> FileData:
        """Return where the data of a regular file is, as `data` does, but read the headers."""

    # -- data ----------------------------------------------------------------------------------

    @contextmanager
    def verifying_digest(self, size: int) -> Iterator[None]:
        """Verify the layer's own digest at the end, if the whole layer has been read by then.

        An index that the image does not vouch for only shows that it matches the bytes. With one
        that is bound to the image, this is not necessary. If the layer is inflated in the cache,
        it is compared with its diff ID at the beginning instead, whatever the index.

        Args:
            size: size of all files that will be read, in bytes.

        Raises:
            VerificationError: the layer is not the one that the image lists.
        """
        self.spans.verify_inflated(size, max_missing_size=_MAX_MISSING_SIZE)
        if self.is_bound or not self._digest_is_known:
            yield
            return
        self.spans.begin_whole_digest()
        yield
        found = self.spans.whole_digest(max_missing_size=_MAX_MISSING_SIZE)
        if found is not None and found != self.descriptor.digest.hex:
            raise VerificationError(
                f"layer {self.descriptor.digest}: the index describes another layer (found digest "
                f"sha256:{found} after reading all of it)",
                expected=str(self.descriptor.digest),
                actual=f"sha256:{found}",
            )

    def is_known(self, entry: int) -> bool:
        """Return whether the headers of a file have been verified."""
        return entry in self._data

    def data(self, entry: int) -> FileData:
        """Return where the data of a regular file is, after checking the tar header before it.

        An index may name any bytes, but the header, which is covered by the digest of a span, must
        name the same file and size. The reference's reader checks it too.
        Source: docs/format.md#acceptance-rules.

        Raises:
            VerificationError: it is not a header, or that of another file.
            UnsupportedError: the type of the header is not supported.
            TarError: the map of a sparse file does not match its data.
        """
        found = self._data.get(entry)
        if found is None:
            found = self._data[entry] = self._look_up(entry)
        return found

    def read_ahead(self, ranges: Iterable[tuple[int, int, int]]) -> None:
        """Start to fetch parts of files, with their headers, with as few requests as useful.

        Nothing is verified here, since reading the files does that.

        Args:
            ranges: number of an entry, and start and end in the file, for each.
        """
        wanted = []
        for entry, start, end in ranges:
            place = self.place(entry)
            if not BLOCK_SIZE <= place.offset - place.start <= _MAX_HEADER_SIZE:
                continue
            last = max(0, min(end, place.size, start + _MAX_AHEAD))
            if start <= _MAX_BRIDGED:
                wanted.append((place.start, place.offset + last))
            else:
                wanted.append((place.start, place.offset))
                wanted.append((place.offset + start, place.offset + last))
        wanted.sort()
        with suppress(VerificationError):  # reading the affected file raises it again
            self.spans.read_all_ahead(wanted)

    def read(self, data: FileData, start: int, end: int, *, more: bool = False) -> bytes:
        """Return bytes ``[start, end)`` of a file, or fewer at its end.

        Args:
            data: location of the file's data.
            start: offset of the first byte.
            end: offset after the last one.
            more: whether later reads will probably need more of the file.
        """
        end = min(end, data.size)
        if start >= end:
            return b""
        whole = data.whole
        if whole is not None:
            offset, last = whole
            found = self.spans.read(offset + start, offset + end, until=last if more else 0)
            if len(found) != end - start:
                raise self._too_short(offset, end - start, len(found))
            return found
        return self._read_sparse(data, start, end)

    def stream(self, data: FileData) -> Iterator[tuple[int, bytes]]:
        """Yield the data of a file in pieces, each with its offset in the file, without holes."""
        for extent in data.extents:
            at = extent.start
            end = extent.offset + extent.size
            for piece in self.spans.stream(extent.offset, end):
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
            found = self.spans.read(offset + first, offset + last)
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

    # -- the headers before a file -------------------------------------------------------------

    def headers_match(self, headers: bytes, entry: int) -> bool:
        """Return whether `headers` are exactly those of this file, which is not sparse.

        If not, call `data`, which raises an error if anything is wrong.
        """
        try:
            found = read_headers(headers, 0)
        except TarError:
            return False
        return (
            self.claims_match(entry, found)
            and found.data_offset == len(headers)
            and found.type == "reg"
            and found.regions is None
        )

    def claims_match(self, entry: int, found: EntryHeaders) -> bool:
        """Return whether `found` has the path and the columns that `claims` returns."""
        claims = self.claims(entry)
        return claims.match(found.columns) and found.path == claims.path

    def _data_at(self, entry: int, start: int) -> FileData:
        """Return where the data is, from the headers at uncompressed byte `start`."""
        headers = self._headers(entry, start)
        try:
            return FileData.of(headers)
        except TarError as error:
            message = f"layer {self.descriptor.digest}: {shown(self.claims(entry).path)}: {error}"
            raise TarError(message, what=error.what, offset=error.offset) from None

    def _headers(self, entry: int, start: int) -> EntryHeaders:
        """Return the verified headers of a file, which begin at uncompressed byte `start`."""
        _, offset, size = self.place(entry)
        claims = self.claims(entry)
        path, claimed = claims.path, claims.columns
        index = self.spans.table.name
        name = shown(path)
        place = f"layer {self.descriptor.digest}: {name}: header at uncompressed byte {start}"
        if not BLOCK_SIZE <= offset - start <= _MAX_HEADER_SIZE:
            raise VerificationError(
                f"{place}: the {index} leaves the wrong number of bytes for it (found "
                f"{offset - start}, expected {BLOCK_SIZE} to {_MAX_HEADER_SIZE})",
                expected=f"{BLOCK_SIZE} to {_MAX_HEADER_SIZE}",
                actual=str(offset - start),
            )
        try:
            headers = read_headers(
                # A file that is opened is probably read.
                self.spans.read(start, offset, until=offset + min(size, _MAX_AHEAD)),
                start,
            )
        except TarError as error:
            if error.what == "tar.unsupported-type":
                raise UnsupportedError(f"{place}: {error}") from None
            raise VerificationError(
                f"{place}: not a tar header ({error}): the {index} lies about this file",
                expected="a tar header",
                actual=error.message,
            ) from None
        if headers.type != "reg":
            raise VerificationError(
                f"{place}: not that of a regular file: the {index} lies about this file",
                expected="reg",
                actual=headers.type,
            )
        if headers.path != path:
            raise VerificationError(
                f"{place}: belongs to {shown(headers.name)}: the {index} lies about this file",
                expected=path,
                actual=headers.name,
            )
        found = headers.columns
        if found[0] != claimed[0]:
            raise VerificationError(
                f"{place}: size differs from the {index} (found {found[0]}, expected {claimed[0]})",
                expected=str(claimed[0]),
                actual=str(found[0]),
            )
        if not claims.match(found):
            _, mode, uid, gid = found
            _, claimed_mode, claimed_uid, claimed_gid = claimed
            raise VerificationError(
                f"{place}: mode or owner differs from the {index} (found {mode:o} and {uid}:{gid}, "
                f"expected {claimed_mode:o} and {claimed_uid}:{claimed_gid}): the {index} lies "
                "about this file",
                expected=str(claimed[1:]),
                actual=str(found[1:]),
            )
        if headers.data_offset != offset:
            raise VerificationError(
                f"{place}: length differs from the {index} (found {headers.data_offset - start} "
                f"bytes, expected {offset - start}): the {index} lies about this file",
                expected=str(offset - start),
                actual=str(headers.data_offset - start),
            )
        return headers
