"""The results of ``create`` and ``convert``.

Everything the command line prints comes from here, so that scripts have it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.layer_result import LayerResult
    from tocsin.model.platform import Platform
    from tocsin.stores.metering import Traffic


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
    """

    image: Descriptor
