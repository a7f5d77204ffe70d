"""What can be said of a whole zTOC: what ``tocsin ztoc info`` shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from tocsin.model.document import Document
    from tocsin.model.refusal import Refusal

ENTRY_TYPES = ("reg", "dir", "symlink", "hardlink", "char", "block", "fifo")


@dataclass(frozen=True, slots=True)
class ZtocInfo:
    """A zTOC, counted.

    Attributes:
        digest: of the blob.
        size: bytes of the blob.
        version: of the format.
        build_tool_identifier: the tool that made the zTOC.
        compression_algorithm: ``gzip`` or ``uncompressed``.
        compressed_archive_size: bytes of the layer as a registry stores it.
        uncompressed_archive_size: bytes of the tar.
        span_size: least uncompressed bytes of a span.
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


def type_counts(files: np.ndarray[Any, np.dtype[np.void]]) -> dict[str, int]:
    """Return how many entries there are of each type, given the rows of ``Ztoc.files``."""
    types = Counter(kind.decode() for kind in files["type"].tolist())
    return {kind: types[kind] for kind in ENTRY_TYPES}


def multi_span_file_count(files: np.ndarray[Any, np.dtype[np.void]]) -> int:
    """Return how many files have data in more than one span."""
    span_counts = files["end_span"].astype("i8") - files["first_span"].astype("i8")
    return int(((files["type"] == b"reg") & (span_counts > 1)).sum())


def largest_span_size(spans: np.ndarray[Any, np.dtype[np.void]]) -> int:
    """Return the compressed bytes of the largest span, given the rows of ``Ztoc.spans``."""
    sizes = spans["compressed_end"] - spans["compressed_start"]
    return int(sizes.max(initial=0))
