"""Fetches the zTOC of a layer, verifies it, and compares it with the layer."""

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
        store: store with the zTOC.
        layer: descriptor of the layer in the image's manifest; only its size is compared.
        descriptor: descriptor of the zTOC in a SOCI index.
        known: zTOCs that this process has already read, which are not fetched again.
        disk: cache on disk; takes precedence over `known`, so that missing zTOCs are added to it.

    Raises:
        NotFoundError: the zTOC is missing.
        FormatError: not a zTOC.
        VerificationError: the zTOC does not match its descriptor or the size of the layer.
    """
    ztoc = read_ztoc(store, descriptor, known=known, disk=disk)
    if ztoc.compressed_archive_size != layer.size:
        raise VerificationError(
            f"zTOC {descriptor.digest}: does not belong to this layer (found a layer size of "
            f"{ztoc.compressed_archive_size} bytes, expected {layer.size})",
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
    """Return a zTOC for any layer; arguments and errors are as for `load_ztoc`."""
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
