"""The summary of a zTOC that ``tocsin ztoc info`` shows."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tocsin.model.document import Document
    from tocsin.model.refusal import Refusal


@dataclass(frozen=True, slots=True)
class ZtocInfo:
    """Summary of a zTOC.

    Attributes:
        digest: digest of the blob.
        size: bytes of the blob.
        version: version of the format.
        build_tool_identifier: the tool that made the zTOC.
        compression_algorithm: ``gzip`` or ``uncompressed``.
        compressed_archive_size: bytes of the layer as a registry stores it.
        uncompressed_archive_size: bytes of the tar.
        span_size: minimum number of uncompressed bytes in a span.
        span_count: number of spans.
        entry_count: number of entries.
        type_counts: number of entries of each type: ``reg``, ``dir``, ``symlink``, ``hardlink``,
            ``char``, ``block`` and ``fifo``.
        multi_span_file_count: number of files with data in more than one span.
        largest_span_size: compressed bytes of the largest span.
        reader_refusals: as ``Ztoc.reader_refusals``.
    """

    digest: str
    size: int
    version: str
    build_tool_identifier: str
    compression_algorithm: str
    compressed_archive_size: int
    uncompressed_archive_size: int
    span_size: int
    span_count: int
    entry_count: int
    type_counts: Mapping[str, int] = field(hash=False)
    multi_span_file_count: int
    largest_span_size: int
    reader_refusals: tuple[Refusal, ...]

    def to_dict(self) -> Document:
        """Return what ``tocsin ztoc info --json`` prints."""
        return {**asdict(self), "reader_refusals": list(map(str, self.reader_refusals))}
