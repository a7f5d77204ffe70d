"""The files of a single layer, read without its image: ``tocsin.open_layer``."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from tocsin.errors import UnsupportedError, VerificationError
from tocsin.layers.disk_cache import DEFAULT_DISK_CACHE_SIZE, DiskCache
from tocsin.layers.fetchers import Fetchers
from tocsin.layers.forking import forget_after_fork
from tocsin.layers.sources import REQUEST_SIZE, FileRanges
from tocsin.layers.spans import DEFAULT_CACHE_SIZE, SpanCache
from tocsin.layers.ztoc import Ztoc
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.media_types import OCTET_STREAM
from tocsin.model.soci_index import MAX_ZTOC_SIZE
from tocsin.model.user_info import without_user_info
from tocsin.quoting import shown
from tocsin.reading.files import Files
from tocsin.reading.merged import MergedLayers
from tocsin.reading.notes import Notes
from tocsin.reading.ztoc_layer import ZtocLayer
from tocsin.regular_file import read_regular

if TYPE_CHECKING:
    from tocsin.stores.http.http_blob import HttpBlob
    from tocsin.stores.http.options import HttpOptions

_OTHER_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def open_layer(
    layer: str | os.PathLike[str],
    ztoc: bytes | str | os.PathLike[str],
    *,
    threads: int | None = None,
    cache_size: int = DEFAULT_CACHE_SIZE,
    cache_dir: str | os.PathLike[str] | None = None,
    cache_dir_size: int = DEFAULT_DISK_CACHE_SIZE,
    http: HttpOptions | None = None,
) -> LayerFiles:
    """Open one layer for reading single files.

    Args:
        layer: a path, or an http or https URL of a server that supports ``Range`` requests.
        ztoc: zTOC of the layer, as bytes or as the path of a file. It is trusted, since nothing
            here names its digest; the layer's bytes are verified with it.
        threads: number of threads that inflate; by default, one for each processor that this
            process may use.
        cache_size: maximum size of the spans in memory, in bytes.
        cache_dir: directory where spans are cached; may be shared by processes of one user, and
            need not be trusted, since everything read from it is verified.
        cache_dir_size: maximum size of the directory, in bytes; the least recently used files are
            removed.
        http: certificates and timeouts for URLs.

    Raises:
        ZtocError: the zTOC is invalid or not supported.
        VerificationError: the zTOC is of a layer with another size.
        UnsupportedError: the server does not support ``Range`` requests, or `layer` is another kind
            of URL.
        NotFoundError, RegistryError, OSError: the layer cannot be reached or read.
    """
    blob = ztoc if isinstance(ztoc, bytes) else read_regular(ztoc, max_size=MAX_ZTOC_SIZE)
    text = os.fspath(layer)
    source: FileRanges | _UrlRanges
    if text.lower().startswith(("http://", "https://")):
        source = _UrlRanges(text, http)
    elif _OTHER_URL.match(text):
        place = shown(without_user_info(text))
        raise UnsupportedError(f"{place}: not supported, expected a path or an http or https URL")
    else:
        source = FileRanges(text)
    try:
        return LayerFiles(
            source,
            blob,
            threads=threads,
            cache_size=cache_size,
            cache_dir=cache_dir,
            cache_dir_size=cache_dir_size,
        )
    except BaseException:
        source.close()
        raise


class LayerFiles(Files):
    """The files of one layer; a context manager. Whiteouts are not shown.

    Made by ``tocsin.open_layer``.

    Attributes:
        notes: messages for the user, such as that the cache cannot be written.
    """

    notes: list[str]

    def __init__(
        self,
        source: FileRanges | _UrlRanges,
        blob: bytes,
        *,
        threads: int | None,
        cache_size: int,
        cache_dir: str | os.PathLike[str] | None,
        cache_dir_size: int,
    ) -> None:
        notes = Notes()
        self.notes = notes.sentences
        self._source = source
        self._fetchers = Fetchers(threads)
        ztoc = Ztoc.from_bytes(blob)
        if source.size != ztoc.compressed_archive_size:
            raise VerificationError(
                f"{source.name}: size differs from the ztoc (found {source.size} bytes, expected "
                f"{ztoc.compressed_archive_size})",
                expected=str(ztoc.compressed_archive_size),
                actual=str(source.size),
            )
        # The digest of the layer is not known, so the cache uses that of the zTOC for both.
        digest = Digest.parse(ztoc.digest)
        disk = None
        if cache_dir is not None:
            disk = DiskCache(cache_dir, notes.warn, size=cache_dir_size)
        spans = ztoc._open_spans(
            source,
            cache=SpanCache(cache_size),
            fetchers=self._fetchers,
            kept=None if disk is None else disk.spans_of(digest, ztoc.digest),
        )
        descriptor = Descriptor(OCTET_STREAM, digest, source.size)
        layer = ZtocLayer(descriptor, ztoc, spans, index_origin="given", digest_is_known=False)
        self._opened = MergedLayers((layer,), notes, named=False)

    @property
    def _merged(self) -> MergedLayers:
        return self._opened

    def close(self) -> None:
        """Close the file or connections; open files can no longer be read."""
        self._fetchers.close()
        self._source.close()


class _UrlRanges:
    """Ranges of a layer on a web server; a forked process opens new connections."""

    in_order = False
    request_size = REQUEST_SIZE

    def __init__(self, url: str, options: HttpOptions | None) -> None:
        # Importing requests takes longer than opening a file.
        from tocsin.stores.http.http_blob import HttpBlob  # noqa: PLC0415

        self._options = options
        self._blob = HttpBlob(url, options)
        self._abandoned: list[HttpBlob] = []
        self.name = self._blob.name
        self.size = self._blob.size
        forget_after_fork(self)

    def read(self, start: int, end: int) -> bytes:
        """Return bytes ``[start, end)``, unverified."""
        return self._blob.read(start, end)

    def close(self) -> None:
        self._blob.close()

    def after_fork(self) -> None:
        # Not closed: closing would shut down the parent's TLS connections.
        self._abandoned.append(self._blob)
        self._blob = self._blob.reopened(self._options)
