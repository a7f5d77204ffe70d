"""The zTOC of one layer: its entries, its spans, and the files that can be read with it.

Wraps ``tocsin._core.Ztoc``. Nothing here uses the network: a layer is a local file, a file object
or bytes. docs/format.md explains the format.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Hashable, Iterator, Sequence
from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

from tocsin import _core
from tocsin.errors import NotFoundError, UnsupportedError, VerificationError
from tocsin.layers.fetchers import Fetchers
from tocsin.layers.sources import ranges_of
from tocsin.layers.span_table import ZtocSpans
from tocsin.layers.spans import LayerSpans, SpanCache
from tocsin.model.entry_path import clean_path, path_text
from tocsin.model.file_metadata import FileMetadata
from tocsin.model.refusal import Refusal
from tocsin.processors import available, resolve_threads
from tocsin.quoting import shown

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import Buffer

    from tocsin.layers.disk_cache import KeptParts
    from tocsin.layers.inflated_spans import InflatedSpans
    from tocsin.layers.sources import RangeSource, SeekableLayer
    from tocsin.layers.ztoc_info import ZtocInfo
    from tocsin.model.digest import Digest
    from tocsin.model.document import Document
    from tocsin.model.entry_path import StrPath

_MAX_DEFAULT_THREADS = 8
"""Default limit on the number of spans inflated at once, since each may have any size."""
_SPAN_CACHE_SIZE = 128 << 20
"""Bytes of spans that `Ztoc.read` keeps: four times what one read fetches ahead."""
_MAX_CACHED_LAYERS = 64
"""Maximum number of layers whose spans `Ztoc.read` finds again; one zTOC has one layer, perhaps at
several paths."""


class Ztoc:
    """The zTOC of one layer.

    Made by ``tocsin.build_ztoc``, or read by ``Ztoc.from_bytes``; immutable.
    """

    def __init__(self, core: _core.Ztoc, *, identity: tuple[str, int] | None = None) -> None:
        self._core = core
        self._identity = identity

    @classmethod
    def from_bytes(cls, blob: Buffer, *, digest: str | Digest | None = None) -> Ztoc:
        """Read a zTOC blob; everything in it is checked before it is used.

        Args:
            blob: the blob.
            digest: digest of the blob, if the caller has verified it; by default, it is computed.

        Raises:
            ZtocError: the blob is not a zTOC that can be used; ``.offset`` says where.
        """
        core = _core.Ztoc.from_bytes(blob)
        view = memoryview(blob)
        if digest is None:
            digest = f"sha256:{hashlib.sha256(view).hexdigest()}"
        return cls(core, identity=(str(digest), view.nbytes))

    def to_bytes(self) -> bytes:
        """Return the blob, byte for byte as the reference indexer would write it.

        Raises:
            ZtocError: the blob would reach 1 GiB, the reference's limit.
        """
        return self._core.to_bytes()

    @cached_property
    def _blob_identity(self) -> tuple[str, int]:
        if self._identity is not None:
            return self._identity
        blob = self.to_bytes()
        return f"sha256:{hashlib.sha256(blob).hexdigest()}", len(blob)

    @property
    def digest(self) -> str:
        """Digest of the blob, as its descriptor gives it: ``sha256:`` and 64 hex digits."""
        return self._blob_identity[0]

    @property
    def size(self) -> int:
        """Size of the blob in bytes."""
        return self._blob_identity[1]

    @property
    def version(self) -> str:
        """Version of the format; ``0.9`` is the only one."""
        return self._core.version

    @property
    def build_tool_identifier(self) -> str:
        """The tool that made the zTOC."""
        return self._core.build_tool_identifier

    @property
    def compressed_archive_size(self) -> int:
        """Size in bytes of the layer as a registry stores it."""
        return self._core.compressed_archive_size

    @property
    def uncompressed_archive_size(self) -> int:
        """Size in bytes of the tar, without its end-of-archive blocks."""
        return self._core.uncompressed_archive_size

    @property
    def compression_algorithm(self) -> str:
        """``gzip`` or ``uncompressed``."""
        return self._core.compression_algorithm

    @property
    def span_size(self) -> int:
        """Minimum number of uncompressed bytes in a span, as requested when the zTOC was made."""
        return self._core.span_size

    @property
    def span_count(self) -> int:
        """Number of spans; 0 only for an empty plain tar."""
        return self._core.span_count

    @cached_property
    def files(self) -> np.ndarray[Any, np.dtype[np.void]]:
        """All entries as a read-only structured array, one row each; see ``tocsin.FILES_DTYPE``.

        Row ``i`` belongs to ``paths[i]`` and ``entries[i]``.
        """
        from tocsin.model import columns  # noqa: PLC0415 (importing numpy is slow)

        return columns.files_array(self._core.file_rows())

    @cached_property
    def spans(self) -> np.ndarray[Any, np.dtype[np.void]]:
        """All spans as a read-only structured array, one row each; see ``tocsin.SPANS_DTYPE``."""
        from tocsin.model import columns  # noqa: PLC0415 (as above)

        return columns.spans_array(self._core.span_rows())

    @cached_property
    def paths(self) -> list[str]:
        """Names of all entries, uncleaned, in the order of the tar."""
        return [os.fsdecode(name) for name in self._core.names()]

    @property
    def entry_count(self) -> int:
        """Number of entries."""
        return self._core.entry_count

    def clean_paths(self) -> list[str]:
        """Return the paths of all entries from the root of the layer, in the order of the tar.

        They have no leading slash, ``.`` or ``..``; the path of the root is empty. Each call makes
        a new list.
        """
        return self._core.clean_paths()

    def mod_time_ns(self, index: int) -> int | None:
        """Return an entry's time in nanoseconds since 1970; ``None`` if it has none."""
        return self._core.mod_time_ns(index)

    def records(self, index: int) -> dict[bytes, bytes]:
        """Return the PAX records of an entry, for which `files` has no column."""
        return self._core.records(index)

    @property
    def entries(self) -> Sequence[FileMetadata]:
        """All entries as objects, in the order of the tar; each is made when accessed."""
        return _Entries(self._core)

    @cached_property
    def _index_by_path(self) -> dict[str, int]:
        # If several entries have the same path, unpacking the layer leaves the last one.
        return {path: index for index, path in enumerate(self._clean_paths)}

    @cached_property
    def _clean_paths(self) -> list[str]:
        return self.clean_paths()

    def entry(self, path: StrPath) -> FileMetadata:
        """Return the entry at `path`; ``etc/passwd`` and ``./etc/passwd`` mean ``/etc/passwd``.

        Raises:
            NotFoundError: the layer has no such entry.
        """
        return self.entries[self._index_of(path)]

    def index_at(self, path: StrPath) -> int | None:
        """Return the index of the last entry at a path; ``None`` if there is none."""
        return self._index_by_path.get(clean_path(path_text(path)))

    def _index_of(self, path: StrPath) -> int:
        text = path_text(path)
        index = self.index_at(text)
        if index is None:
            raise NotFoundError(f"{shown(text)}: no such entry in the ztoc")
        return index

    def span_of(self, offset: int) -> int:
        """Return the id of the span that holds byte `offset` of the uncompressed layer.

        Raises:
            IndexError: `offset` is not from 0 to 2**63 - 1, or there are no spans.
        """
        span_id = self._core.span_of(offset) if 0 <= offset < 1 << 63 else None
        if span_id is None:
            raise IndexError(f"no span holds uncompressed byte {offset}")
        return span_id

    def span_range(self, span_id: int) -> tuple[int, int]:
        """Return the compressed bytes that span `span_id` needs.

        Returns:
            (start, end): byte offsets into the compressed layer, end exclusive; adjacent spans
            may share one byte.

        Raises:
            IndexError: there is no such span.
        """
        return self._core.span_range(self._checked(span_id))

    def _checked(self, span_id: int) -> int:
        if not 0 <= span_id < self.span_count:
            raise IndexError(f"span {span_id} does not exist (last span is {self.span_count - 1})")
        return span_id

    def spans_for(self, path: StrPath) -> range:
        """Return the ids of the spans with the data of the file at `path`; empty if it has no data.

        The data of a hard link is that of the file it points to.

        Raises:
            NotFoundError: the layer has no such entry.
        """
        return self._spans_of(self._resolve(path))

    def _spans_of(self, entry: FileMetadata) -> range:
        if entry.type != "reg" or entry.uncompressed_size == 0:
            return range(0)
        first = self.span_of(entry.uncompressed_offset)
        last = self.span_of(entry.uncompressed_offset + entry.uncompressed_size - 1)
        return range(first, last + 1)

    def _resolve(self, path: StrPath) -> FileMetadata:
        """Follow hard links, which always point to an earlier entry of the same layer."""
        index = self._index_of(path)
        entry = self.entries[index]
        while entry.type == "hardlink":
            index = self._index_before(index, entry.linkname)
            entry = self.entries[index]
        return entry

    def _index_before(self, limit: int, path: str) -> int:
        wanted = clean_path(path)
        last = self._index_by_path.get(wanted, limit)
        if last < limit:
            return last
        # A later entry may have replaced the target; the link keeps the file it was made from.
        for index in reversed(range(limit)):
            if self._clean_paths[index] == wanted:
                return index
        raise NotFoundError(
            f"{shown(self.paths[limit])}: hard link to {shown(path)}, which is not an earlier entry"
        )

    def window(self, span_id: int) -> bytes:
        """Return the 32 KiB of output before gzip span `span_id`.

        Raises:
            IndexError: the span does not exist, or the layer is not compressed.
        """
        return self._core.window(self._checked(span_id))

    def inflate_span(self, span_id: int, compressed: Buffer) -> bytes:
        """Verify the compressed bytes of a span and return the uncompressed ones.

        Args:
            span_id: id of the span.
            compressed: the bytes in the range ``span_range(span_id)``.

        Raises:
            VerificationError: the size or digest of `compressed` differs from the zTOC.
            GzipError: the bytes do not decode from the checkpoint: the zTOC is wrong.
            IndexError: the span does not exist.
        """
        return self._core.inflate_span(self._checked(span_id), compressed)

    def read_span(self, span_id: int, compressed: Buffer, start: int, end: int) -> bytes:
        """Return the part of a span that lies in ``[start, end)`` of the uncompressed layer.

        Like `inflate_span`, but nothing beyond `end` is inflated.

        Args:
            span_id: id of the span.
            compressed: the bytes in the range ``span_range(span_id)``.
            start: offset of the first uncompressed byte.
            end: offset after the last one; the result is shorter if the span ends before it.

        Raises:
            VerificationError, GzipError, IndexError: as `inflate_span`.
        """
        return self._core.read_span(self._checked(span_id), compressed, start, end)

    def read(
        self, path: StrPath, layer: SeekableLayer, *, threads: int | None = None
    ) -> Iterator[bytes]:
        """Yield the verified data of the file at `path`, reading only the spans that hold it.

        Recent spans are cached, so reading many small files inflates each span once.

        Args:
            path: the file, as for ``entry``; hard links are followed.
            layer: the layer as a registry stores it. A file object is read under a lock, perhaps
                by another thread.
            threads: number of threads that inflate, one span each; by default, one for each
                processor that this process may use, at most 8.

        Yields:
            The file's bytes, at most one span at a time, in order.

        Raises:
            NotFoundError: no such entry, or not a regular file.
            VerificationError: the layer's bytes are not those the zTOC was made from.
            UnsupportedError: the file is sparse, so the layer holds only parts of it.
        """
        entry, name = self._resolve(path), shown(path_text(path))
        if entry.type != "reg":
            target = f" to {shown(entry.linkname)}" if entry.linkname else ""
            raise NotFoundError(f"{name}: not a regular file (found {entry.type}{target})")
        if entry.is_sparse:
            raise UnsupportedError(f"{name}: sparse file, which Ztoc.read does not support")
        default = min(_MAX_DEFAULT_THREADS, available())
        return self._read(entry, layer, default if threads is None else resolve_threads(threads))

    def _read(self, entry: FileMetadata, layer: SeekableLayer, threads: int) -> Iterator[bytes]:
        start, size = entry.uncompressed_offset, entry.uncompressed_size
        if not size:
            return
        left = size
        fetchers = Fetchers(threads)
        with closing(fetchers), ranges_of(layer) as source:
            spans = self._open_spans(
                source,
                cache=self._span_cache,
                fetchers=fetchers,
                cached=self._cached_layer(_identity(layer)),
            )
            for piece in spans.stream(start, start + size):
                left -= len(piece)
                yield piece
        if left:
            raise VerificationError(
                f"{shown(entry.name)}: layer ends {left} bytes before the end of the file",
                expected=str(size),
                actual=str(size - left),
            )

    @cached_property
    def _span_cache(self) -> SpanCache:
        return SpanCache(_SPAN_CACHE_SIZE)

    def _cached_layer(self, identity: Hashable) -> _core.CachedLayer:
        """Return the spans in memory of a layer that may have been read before."""
        found = self._cached_layers.get(identity)
        if found is None:
            if len(self._cached_layers) >= _MAX_CACHED_LAYERS:
                self._cached_layers.clear()
            found = self._cached_layers[identity] = self._span_cache.layer()
        return found

    @cached_property
    def _cached_layers(self) -> dict[Hashable, _core.CachedLayer]:
        return {}

    def _open_spans(
        self,
        source: RangeSource,
        *,
        cache: SpanCache,
        fetchers: Fetchers,
        kept: KeptParts | None = None,
        inflated: InflatedSpans | None = None,
        cached: _core.CachedLayer | None = None,
    ) -> LayerSpans:
        """Return the uncompressed bytes of the layer; the arguments are those of `LayerSpans`."""
        return LayerSpans(
            ZtocSpans(self._core, lambda: self.digest),
            source=source,
            cache=cache,
            fetchers=fetchers,
            kept=kept,
            inflated=inflated,
            cached=cached,
        )

    def cat(self, path: StrPath, layer: SeekableLayer, *, threads: int | None = None) -> bytes:
        """Return the data of the file at `path`, as ``read`` does, in one piece."""
        whole = io.BytesIO()
        for piece in self.read(path, layer, threads=threads):
            whole.write(piece)
        return whole.getvalue()

    def extract(self, path: StrPath, layer: SeekableLayer, *, threads: int | None = None) -> bytes:
        """Return the same as `cat`, which had this name in tocsin 0.1.

        Everywhere else, ``extract`` writes files to the local disk.
        """
        import warnings  # noqa: PLC0415 (seldom needed)

        warnings.warn("Ztoc.extract is deprecated, use Ztoc.cat", DeprecationWarning, stacklevel=2)
        return self.cat(path, layer, threads=threads)

    @property
    def needs_xattrs(self) -> bool:
        """Whether the layer must be mounted with extended attributes."""
        return self._core.needs_xattrs

    def reader_refusals(self) -> list[Refusal]:
        """Return the reasons for which soci-snapshotter would refuse this zTOC or a file in it.

        At most 10,000 reasons concern the layer as a whole, and at most 10,000 concern files.
        """
        return [Refusal(*fields) for fields in self._core.reader_refusals()]

    def info(self) -> ZtocInfo:
        """Return the summary that ``tocsin ztoc info`` shows."""
        from tocsin.layers.ztoc_info import ZtocInfo  # noqa: PLC0415 (seldom needed)

        type_counts, multi_span_file_count, largest_span_size = self._core.counts()
        return ZtocInfo(
            **self.to_dict(),
            type_counts=dict(type_counts),
            multi_span_file_count=multi_span_file_count,
            largest_span_size=largest_span_size,
            reader_refusals=tuple(self.reader_refusals()),
        )

    def to_dict(self) -> Document:
        """Return what ``--json`` prints for the zTOC: everything but its entries."""
        return {
            "digest": self.digest,
            "size": self.size,
            "version": self.version,
            "build_tool_identifier": self.build_tool_identifier,
            "compression_algorithm": self.compression_algorithm,
            "compressed_archive_size": self.compressed_archive_size,
            "uncompressed_archive_size": self.uncompressed_archive_size,
            "span_size": self.span_size,
            "span_count": self.span_count,
            "entry_count": self.entry_count,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the zTOC as its blob, which is checked again when it is unpickled."""
        return _unpickled, (self.to_bytes(), *self._blob_identity)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ztoc):
            return NotImplemented
        return self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return (
            f"<Ztoc {self.compression_algorithm} {self.compressed_archive_size} bytes, "
            f"{self._core.entry_count} entries, {self.span_count} spans>"
        )


def _unpickled(blob: bytes, digest: str, size: int) -> Ztoc:
    """Return a zTOC with the digest and size of the blob it was read from.

    Another tool may have serialized the same content to different bytes.
    """
    return Ztoc(_core.Ztoc.from_bytes(blob), identity=(digest, size))


def core_of(ztoc: Ztoc) -> _core.Ztoc:
    """Return the ``_core`` object of a zTOC, which other ``_core`` objects share."""
    return ztoc._core


def _identity(layer: SeekableLayer) -> Hashable:
    """Return a cache key for the spans of a layer.

    A deleted object may have had the same ``id()``, so its cached spans may be used for this layer.
    That is harmless, since they were verified with the same zTOC.
    """
    if isinstance(layer, str | os.PathLike):
        return os.fspath(layer)
    return id(layer)


class _Entries(Sequence[FileMetadata]):
    """The entries of a zTOC, each made when accessed."""

    def __init__(self, core: _core.Ztoc) -> None:
        self._core = core

    def __len__(self) -> int:
        return self._core.entry_count

    @overload
    def __getitem__(self, index: int) -> FileMetadata: ...
    @overload
    def __getitem__(self, index: slice) -> list[FileMetadata]: ...
    def __getitem__(self, index: int | slice) -> FileMetadata | list[FileMetadata]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(f"the ztoc has no entry {index}")
        return FileMetadata.from_fields(self._core.entry(at))
