"""The result of indexing one layer of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.model.document import document_of, seconds_of

if TYPE_CHECKING:
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.document import Document


@dataclass(frozen=True, slots=True)
class LayerResult:
    """The result of indexing one layer.

    Attributes:
        layer: descriptor in the image's manifest.
        ztoc: descriptor in the SOCI index; ``None`` if the layer was skipped.
        skipped: why the layer has no zTOC; ``None`` if it has one.
        notes: differences from the reference implementation, and the reasons.
        reused: whether an existing zTOC was reused, so that the layer was not read.
        entry_count: number of tar entries; 0 if skipped.
        span_count: number of spans; 0 if skipped.
        uncompressed_size: bytes of the uncompressed stream; 0 if skipped.
        seconds: wall time of indexing the layer.
        seek_blob: descriptor in the seek table; ``None`` if the layer is not in one.
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
    seek_blob: Descriptor | None = None

    def to_dict(self) -> Document:
        """Return the layer as printed by ``--json``."""
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
            "seek_blob": document_of(self.seek_blob),
        }
