"""``copy``: an image with its SOCI indexes, from one place to another, as it is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.images.copying import copy_entry, copy_manifest_blobs
from tocsin.images.soci_indexes import referring_indexes
from tocsin.images.targets import image_in_the_way, open_pair, pair_of, refuse_to_replace
from tocsin.images.walk import walk_manifests
from tocsin.model.document import seconds_of

if TYPE_CHECKING:
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.digest import Digest
    from tocsin.model.document import Document
    from tocsin.model.reference import ReferenceLike
    from tocsin.stores.metering import Traffic
    from tocsin.stores.registry import RegistryOptions


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What ``copy`` did.

    Attributes:
        source: the image, as a reference.
        destination: its copy, as a reference.
        image: the manifest or image index, the same in both places.
        soci_indexes: version 1 indexes that came along; those of version 2 are in the image.
        seconds: wall time.
        traffic: bytes read and brought to the destination.
    """

    source: str
    destination: str
    image: Descriptor
    soci_indexes: tuple[Descriptor, ...]
    seconds: float
    traffic: Traffic

    def to_dict(self) -> Document:
        """Return what ``tocsin copy --json`` prints."""
        return {
            "source": self.source,
            "destination": self.destination,
            "image": self.image.to_dict(),
            "soci_indexes": [index.to_dict() for index in self.soci_indexes],
            "seconds": seconds_of(self.seconds),
            "traffic": self.traffic.to_dict(),
        }


def copy(
    source: ReferenceLike,
    destination: ReferenceLike,
    *,
    force: bool = False,
    registry: RegistryOptions | None = None,
) -> CopyResult:
    """Copy an image, every platform of it, with the SOCI indexes that refer to it.

    Args:
        source: the image.
        destination: its copy; without a tag it gets the source's tag, else ``latest``.
        force: replace an image that `destination` names.
        registry: how to reach registries.

    Raises:
        NotFoundError: no such image or blob.
        ConflictError: `destination` names another image.
        VerificationError: a blob is not what its descriptor says.
        RegistryError: a registry refused or could not be reached.
        OSError: a place cannot be read or written.
    """
    started = time.monotonic()
    pair = pair_of(source, destination)
    with open_pair(pair, registry=registry) as (read, sink, meter):
        existing = image_in_the_way(sink, pair, force=force)
        target = read.resolve(pair.source.selector)
        if existing is not None and existing.digest != target.digest:
            raise refuse_to_replace(pair, existing)
        indexes: dict[Digest, Descriptor] = {}
        for entry in walk_manifests(read, target):
            if found := referring_indexes(read, entry.digest, lenient=True):
                referring_indexes(
                    sink, entry.digest
                )  # fails here, or adding to them would at the end
                indexes |= {index.digest: index for index in found}
        data = read.manifest(target)
        copy_manifest_blobs(read, sink, data, target.media_type)
        image = sink.put_manifest(data, target.media_type, tag=pair.tag)
        for index in indexes.values():
            copy_entry(read, sink, index)
    return CopyResult(
        source=str(pair.source),
        destination=str(pair.named_sink),
        image=image,
        soci_indexes=tuple(indexes.values()),
        seconds=time.monotonic() - started,
        traffic=meter.traffic,
    )
