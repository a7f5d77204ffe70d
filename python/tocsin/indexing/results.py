"""The results of ``create`` and ``convert``.

Everything the command line prints comes from here, so that scripts have it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.model.document import document_of, seconds_of, text_of

if TYPE_CHECKING:
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.document import Document
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
        soci_index: the index made for it; ``None`` when no layer got a zTOC, or it was skipped.
        existing_indexes: other version 1 indexes that refer to the image at the destination, if
            they were looked for.
        skipped: whether the image was left as it is because of them.
    """

    platform: Platform | None
    manifest: Descriptor
    layers: tuple[LayerResult, ...]
    soci_index: Descriptor | None
    existing_indexes: tuple[Descriptor, ...] = ()
    skipped: bool = False

    def to_dict(self) -> Document:
        """Return what ``--json`` prints of a platform."""
        return {
            "platform": text_of(self.platform),
            "manifest": self.manifest.to_dict(),
            "soci_index": document_of(self.soci_index),
            "existing_indexes": [index.to_dict() for index in self.existing_indexes],
            "skipped": self.skipped,
            "layers": [layer.to_dict() for layer in self.layers],
        }


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

    def to_dict(self) -> Document:
        """Return what ``tocsin create --json`` prints."""
        return {
            "source": self.source,
            "destination": self.destination,
            "dry_run": self.dry_run,
            "seconds": seconds_of(self.seconds),
            "traffic": self.traffic.to_dict(),
            "missing_prefetch": list(self.missing_prefetch),
            "platforms": [platform.to_dict() for platform in self.platforms],
        }


@dataclass(frozen=True, slots=True)
class ConvertResult(CreateResult):
    """What ``convert`` did.

    Attributes:
        image: the converted image's index, at `destination`.
        unchanged: whether `destination` was this image already, so that nothing was written.
    """

    image: Descriptor
    unchanged: bool = False

    def to_dict(self) -> Document:
        """Return what ``tocsin convert --json`` prints."""
        return {
            **CreateResult.to_dict(self),
            "image": self.image.to_dict(),
            "unchanged": self.unchanged,
        }
