"""What an access log lists in its image: files, bytes, and the spans that hold them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.errors import TocsinError
from tocsin.reading.files import merged_of

if TYPE_CHECKING:
    from tocsin.model.access_log import AccessLog
    from tocsin.model.document import Document
    from tocsin.reading.image import Image
    from tocsin.reading.merged import MergedLayers


@dataclass(frozen=True, slots=True)
class LogSummary:
    """The size of an access log.

    Attributes:
        files: number of files.
        ranges: number of ranges that were read.
        size: number of bytes in them.
        span_count: number of spans that hold these bytes; 0 if the image cannot be read.
        span_size: compressed size of these spans in bytes.
    """

    files: int
    ranges: int
    size: int
    span_count: int = 0
    span_size: int = 0

    def to_dict(self) -> Document:
        """Return what ``tocsin record --json`` prints for it."""
        return {
            "files": self.files,
            "ranges": self.ranges,
            "bytes": self.size,
            "spans": self.span_count,
            "span_bytes": self.span_size,
        }


def summary_of(log: AccessLog, image: Image) -> LogSummary:
    """Return what a log lists in an image; paths that the image does not have are ignored."""
    merged = merged_of(image)
    spans: set[tuple[int, int]] = set()
    for file in log.files:
        spans.update(_spans_of(merged, file.path, file.ranges))
    size = 0
    for number, span in spans:
        start, end = merged.layer(number).spans.table.compressed_range(span)
        size += end - start
    return LogSummary(len(log.files), len(log.reads), log.size, len(spans), size)


def _spans_of(
    merged: MergedLayers, path: str, ranges: tuple[tuple[int, int], ...]
) -> set[tuple[int, int]]:
    """Return the spans that hold ranges of a file, each as the numbers of layer and span."""
    try:
        node = merged.regular_file(path)
        layer = merged.layer(node.layer)
    except TocsinError:
        return set()
    assert node.entry is not None  # noqa: S101 (a regular file has an entry)
    _, offset, size = layer.place(node.entry)
    found: set[tuple[int, int]] = set()
    for start, end in ranges:
        if start < size:
            first = layer.spans.table.span_of(offset + start)
            last = layer.spans.table.span_of(offset + min(end, size) - 1)
            if first is not None and last is not None:
                found.update((node.layer, span) for span in range(first, last + 1))
    return found
