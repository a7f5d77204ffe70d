"""What became of one layer of an image that was indexed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tocsin.model.descriptor import Descriptor


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
