"""The zTOC of a layer, as a SOCI index lists it: fetched, verified, and compared with the layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.errors import VerificationError
from tocsin.layers.ztoc import Ztoc
from tocsin.model.soci_index import MAX_ZTOC_SIZE
from tocsin.stores.base import read_blob

if TYPE_CHECKING:
    from tocsin.layers.disk_cache import DiskCache
    from tocsin.layers.known_ztocs import KnownZtocs
    from tocsin.model.descriptor import Descriptor
    from tocsin.stores.base import Source


def load_ztoc(
    store: Source,
    layer: Descriptor,
    descriptor: Descriptor,
    *,
    known: KnownZtocs | None = None,
    disk: DiskCache | None = None,
) -> Ztoc:
    """Return the zTOC of a layer.

    Args:
        store: that holds it.
        layer: as the image's manifest lists it; only its size is compared.
        descriptor: of the zTOC, as a SOCI index lists it.
        known: zTOCs this process has read before; one that is found there is not fetched.
        disk: the same, on disk; asked first, so that what it lacks is added to it.

    Raises:
        NotFoundError: it is missing.
        FormatError: it is not a zTOC.
        VerificationError: it is not what its descriptor says, or belongs to a layer of another
            size.
    """
    ztoc = read_ztoc(store, descriptor, known=known, disk=disk)
    if ztoc.compressed_archive_size != layer.size:
        raise VerificationError(
            f"ztoc {descriptor.digest}: is of a layer of {ztoc.compressed_archive_size} bytes, "
            f"this one has {layer.size}",
            expected=str(layer.size),
            actual=str(ztoc.compressed_archive_size),
        )
    return ztoc


def read_ztoc(
    store: Source,
    descriptor: Descriptor,
    *,
    known: KnownZtocs | None = None,
    disk: DiskCache | None = None,
) -> Ztoc:
    """Return a zTOC, whatever layer it is of; arguments and errors as `load_ztoc`."""
    ztoc = known.get(descriptor) if known is not None and disk is None else None
    if ztoc is None:
        blob = _blob(store, descriptor, disk)
        ztoc = Ztoc.from_bytes(blob, digest=str(descriptor.digest))
        if known is not None:
            known.keep(descriptor, ztoc)
    return ztoc


def _blob(store: Source, descriptor: Descriptor, disk: DiskCache | None) -> bytes:
    blob = None if disk is None else disk.blob(descriptor.digest, descriptor.size)
    if blob is None:
        blob = read_blob(store, descriptor, max_size=MAX_ZTOC_SIZE)
        if disk is not None:
            disk.keep_blob(descriptor.digest, blob)
    return blob
