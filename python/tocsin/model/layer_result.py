"""What became of one layer of an image that was indexed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.model.document import document_of, seconds_of

if TYPE_CHECKING:
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.document import Document


@dataclass(frozen=True, slots=True)
class LayerResult:
    """What became of one layer.

    Attributes:
        layer: as in the image's manifest.
        ztoc: as the SOCI index lists it; ``None`` when the layer has none.
        skipped: why it has none; ``None`` when it has one.
        notes: what was done differently from the reference, and why.
        reused: whether its zTOC was there already, so that the layer was not read.
        entry_count: entries in its tar; 0 when skipped.
        span_count: spans; 0 when skipped.
        uncompressed_size: bytes of the uncompressed stream; 0 when skipped.
        seconds: wall time of its indexing.
    """

    layer: Descriptor
    ztoc: Descriptor | None = None
    skipped: str | None = None
    notes: tuple[str, ...] = ()
    reused: bool = False
    entry_count: int = 0
    span_count: int = 0
    uncompressed_size: int = 0
    seconds: float = 0.0

    def to_dict(self) -> Document:
        """Return what ``--json`` prints of a layer."""
        return {
            **self.layer.to_dict(),
            "ztoc": document_of(self.ztoc),
            "skipped": self.skipped,
            "reused": self.reused,
            "notes": list(self.notes),
            "entry_count": self.entry_count,
            "span_count": self.span_count,
            "uncompressed_size": self.uncompressed_size,
            "seconds": seconds_of(self.seconds),
        }
