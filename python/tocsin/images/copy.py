"""``copy``: copies an image with its SOCI indexes, seek tables and access logs, unchanged."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.images.access_logs import referring_access_logs
from tocsin.images.copying import copy_entry, copy_manifest_blobs
from tocsin.images.seek_tables import referrers_with_seek_tables
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
    """Result of ``copy``.

    Attributes:
        source: reference of the image.
        destination: reference of the copy.
        image: manifest or image index, the same at source and destination.
        soci_indexes: version 1 indexes that were copied; version 2 indexes are part of the image.
        seek_tables: seek tables that refer to the image; others are part of it.
        seconds: wall time.
        traffic: bytes read and written.
        access_logs: access logs that were copied.
    """

    source: str
    destination: str
    image: Descriptor
    soci_indexes: tuple[Descriptor, ...]
    seconds: float
    traffic: Traffic
    seek_tables: tuple[Descriptor, ...] = ()
    access_logs: tuple[Descriptor, ...] = ()

    def to_dict(self) -> Document:
        """Return what ``tocsin copy --json`` prints."""
        return {
            "source": self.source,
            "destination": self.destination,
            "image": self.image.to_dict(),
            "soci_indexes": [index.to_dict() for index in self.soci_indexes],
            "seek_tables": [table.to_dict() for table in self.seek_tables],
            "access_logs": [log.to_dict() for log in self.access_logs],
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
    """Copy an image, with all platforms and the indexes and access logs that refer to it.

    Args:
        source: reference of the image.
        destination: reference of the copy; its tag defaults to the source's, or to ``latest``.
        force: replace a different image at `destination`.
        registry: options for access to registries.

    Raises:
        NotFoundError: the image or a blob does not exist.
        ConflictError: `destination` is a different image.
        VerificationError: a blob does not match its descriptor.
        RegistryError: a registry rejected a request or could not be reached.
        OSError: a local file cannot be read or written.
    """
    started = time.monotonic()
    pair = pair_of(source, destination)
    with open_pair(pair, registry=registry) as (read, sink, meter):
        existing = image_in_the_way(sink, pair, force=force)
        target = read.resolve(pair.source.selector)
        if existing is not None and existing.digest != target.digest:
            raise refuse_to_replace(pair, existing)
        indexes: dict[Digest, Descriptor] = {}
        tables: dict[Digest, Descriptor] = {}
        logs: dict[Digest, Descriptor] = {}
        for entry in walk_manifests(read, target):
            found = referring_indexes(read, entry.digest, lenient=True)
            found_tables = referrers_with_seek_tables(read, entry.digest, lenient=True)
            found_logs = referring_access_logs(read, entry.digest, lenient=True)
            if found or found_tables or found_logs:
                # If the sink cannot store referrers, this fails now instead of at the end.
                referring_indexes(sink, entry.digest)
                indexes |= {index.digest: index for index in found}
                tables |= {table.digest: table for table in found_tables}
                logs |= {log.digest: log for log in found_logs}
        data = read.manifest(target)
        copy_manifest_blobs(read, sink, data, target.media_type)
        image = sink.put_manifest(data, target.media_type, tag=pair.tag)
        for referrer in (*indexes.values(), *tables.values(), *logs.values()):
            copy_entry(read, sink, referrer)
    return CopyResult(
        source=str(pair.source),
        destination=str(pair.named_sink),
        image=image,
        soci_indexes=tuple(indexes.values()),
        seconds=time.monotonic() - started,
        traffic=meter.traffic,
        seek_tables=tuple(tables.values()),
        access_logs=tuple(logs.values()),
    )
