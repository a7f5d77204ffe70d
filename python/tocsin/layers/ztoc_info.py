"""What can be said of a whole zTOC: what ``tocsin ztoc info`` shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tocsin.layers.ztoc import Ztoc
    from tocsin.model.document import Document

ENTRY_TYPES = ("reg", "dir", "symlink", "hardlink", "char", "block", "fifo")


@dataclass(frozen=True, slots=True)
class ZtocInfo:
    """A zTOC, counted.

    Attributes:
        ztoc: the zTOC.
        type_counts: how many entries there are of each type: ``reg``, ``dir``, ``symlink``,
            ``hardlink``, ``char``, ``block`` and ``fifo``.
        multi_span_file_count: files with data in more than one span.
        largest_span_size: compressed bytes of the largest span.
        reader_refusals: as ``Ztoc.reader_refusals``.
    """

    ztoc: Ztoc
    type_counts: Mapping[str, int] = field(hash=False)
    multi_span_file_count: int
    largest_span_size: int
    reader_refusals: tuple[str, ...]

    def to_dict(self) -> Document:
        """Return what ``tocsin ztoc info --json`` prints."""
        return {
            **self.ztoc.to_dict(),
            "type_counts": dict(self.type_counts),
            "multi_span_file_count": self.multi_span_file_count,
            "largest_span_size": self.largest_span_size,
            "reader_refusals": list(self.reader_refusals),
        }


def info_of(ztoc: Ztoc) -> ZtocInfo:
    """Count what is in a zTOC."""
    files, spans = ztoc.files, ztoc.spans
    types = Counter(kind.decode() for kind in files["type"].tolist())
    span_counts = files["end_span"].astype("i8") - files["first_span"].astype("i8")
    sizes = spans["compressed_end"] - spans["compressed_start"]
    return ZtocInfo(
        ztoc,
        type_counts={kind: types[kind] for kind in ENTRY_TYPES},
        multi_span_file_count=int(((files["type"] == b"reg") & (span_counts > 1)).sum()),
        largest_span_size=int(sizes.max(initial=0)),
        reader_refusals=tuple(ztoc.reader_refusals()),
    )
