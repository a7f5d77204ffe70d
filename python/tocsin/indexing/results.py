"""What ``create`` and ``convert`` tell: events while they run, results when they are done.

Everything the command line prints comes from here, so that scripts have it too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.model.events import LayerAdvanced, LayerStarted, Planned

if TYPE_CHECKING:
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.platform import Platform
    from tocsin.stores.metering import Traffic


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


@dataclass(frozen=True, slots=True)
class PlatformResult:
    """What became of one platform's image.

    Attributes:
        platform: as asked for, or as the image says; ``None`` when neither says one.
        manifest: the source image's manifest.
        layers: in the manifest's order; a layer that occurs twice is here twice.
        soci_index: the index made for it; ``None`` when no layer got a zTOC.
    """

    platform: Platform | None
    manifest: Descriptor
    layers: tuple[LayerResult, ...]
    soci_index: Descriptor | None


@dataclass(frozen=True, slots=True)
class CreateResult:
    """What ``create`` did.

    Attributes:
        source: the image, as a reference.
        destination: where the indexes are, as a reference.
        platforms: one for each image indexed.
        missing_prefetch: prefetch paths that no indexed layer has.
        seconds: wall time of the whole.
        traffic: bytes read and brought to the destination.
        dry_run: whether nothing was written.
    """

    source: str
    destination: str
    platforms: tuple[PlatformResult, ...]
    missing_prefetch: tuple[str, ...]
    seconds: float
    traffic: Traffic
    dry_run: bool


@dataclass(frozen=True, slots=True)
class ConvertResult(CreateResult):
    """What ``convert`` did.

    Attributes:
        image: the converted image's index, at `destination`.
        unchanged: whether `destination` was this image already, so that nothing was written.
    """

    image: Descriptor
    unchanged: bool = False


@dataclass(frozen=True, slots=True)
class LayerFinished:
    """A layer is done; its fate is in `result`. One that was not read has no start."""

    result: LayerResult


Event = Planned | LayerStarted | LayerAdvanced | LayerFinished

Progress = Callable[[Event], None]
"""Called for every event, from the threads that work, but never by two at once.

An exception from it stops the run as Ctrl-C does: nothing half-made stays.
"""
