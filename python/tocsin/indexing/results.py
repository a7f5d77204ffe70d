"""Results of ``create`` and ``convert``, with everything that these commands print."""

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
    """Result for the image of one platform.

    Attributes:
        platform: requested platform, or else that of the image; ``None`` if unknown.
        manifest: manifest of the source image.
        layers: results for the layers in the manifest's order; a repeated layer is repeated here.
        soci_index: new SOCI index; ``None`` if no layer has a zTOC, or the image was skipped.
        existing_indexes: other indexes of the requested kinds that refer to the image at the
            destination; empty if this was not checked.
        skipped: whether the image was skipped because of `existing_indexes`.
        seek_table: manifest of the new seek table; ``None`` if none was requested or made.
        seek_problem: why the requested seek table was not made.
        seek_size: bytes of its root, file list, seek blobs and pack.
        pack_size: bytes of the pack in the new seek table; 0 if there is none.
        pack_notes: what was left out of the requested pack, or why it was not made.
    """

    platform: Platform | None
    manifest: Descriptor
    layers: tuple[LayerResult, ...]
    soci_index: Descriptor | None
    existing_indexes: tuple[Descriptor, ...] = ()
    skipped: bool = False
    seek_table: Descriptor | None = None
    seek_problem: str | None = None
    seek_size: int = 0
    pack_size: int = 0
    pack_notes: tuple[str, ...] = ()

    def to_dict(self) -> Document:
        """Return what ``--json`` prints for a platform."""
        return {
            "platform": text_of(self.platform),
            "manifest": self.manifest.to_dict(),
            "soci_index": document_of(self.soci_index),
            "seek_table": document_of(self.seek_table),
            "seek_problem": self.seek_problem,
            "seek_size": self.seek_size,
            "pack_size": self.pack_size,
            "pack_notes": list(self.pack_notes),
            "existing_indexes": [index.to_dict() for index in self.existing_indexes],
            "skipped": self.skipped,
            "layers": [layer.to_dict() for layer in self.layers],
        }


@dataclass(frozen=True, slots=True)
class CreateResult:
    """Result of ``create``.

    Attributes:
        source: reference of the image.
        destination: reference of the destination of the indexes.
        platforms: result for each platform.
        missing_prefetch: prefetch paths that are not in any indexed layer.
        seconds: total wall time.
        traffic: bytes read and written.
        dry_run: whether writing was suppressed.
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
    """Result of ``convert``.

    Attributes:
        image: image index of the converted image.
        unchanged: whether `destination` was already up to date, so that nothing was written.
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
