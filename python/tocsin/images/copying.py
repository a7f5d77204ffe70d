"""From one Store to another: blobs, and images with everything they list.

Children always come before what lists them, so that an interrupted copy leaves nothing that points
to a missing blob.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.errors import NotFoundError
from tocsin.model.manifest import ImageIndex, parse_manifest
from tocsin.model.media_types import is_index, is_manifest, layer_type

if TYPE_CHECKING:
    from tocsin.model.descriptor import Descriptor
    from tocsin.stores.base import Store


def copy_blob(
    source: Store, sink: Store, descriptor: Descriptor, *, verified: bool = False
) -> None:
    """Bring one blob to `sink`, in the cheapest way there is.

    Args:
        source: has the blob.
        sink: gets it, unless it has it.
        descriptor: of the blob.
        verified: the whole blob has just been read from `source` and its digest was right.
    """
    if sink.has_blob(descriptor):
        return
    if sink.can_mount(source) and sink.mount_blob(descriptor, source, verified=verified):
        return
    sink.put_blob(source.blob(descriptor), digest=descriptor.digest, size=descriptor.size)


def copy_manifest_blobs(source: Store, sink: Store, data: bytes, media_type: str) -> None:
    """Bring everything below a manifest or image index to `sink`, but not itself.

    An image may lack foreign layers, and an image index manifests that were never fetched; what the
    source lacks of these the sink lacks too.
    """
    document = parse_manifest(data, media_type)
    if isinstance(document, ImageIndex):
        for entry in document.manifests or ():
            copy_entry(source, sink, entry)
        return
    copy_blob(source, sink, document.config)
    for layer in document.layers or ():
        kind = layer_type(layer.media_type)
        if kind is not None and kind.foreign and not source.has_blob(layer):
            continue
        copy_blob(source, sink, layer)


def copy_entry(source: Store, sink: Store, entry: Descriptor) -> None:
    """Bring a manifest that an image index lists to `sink`, with everything below it."""
    if not (is_manifest(entry.media_type) or is_index(entry.media_type)):
        if source.has_blob(entry):
            copy_blob(source, sink, entry)
        return
    try:
        data = source.manifest(entry)
    except NotFoundError:
        return
    copy_manifest_blobs(source, sink, data, entry.media_type)
    sink.put_manifest(data, entry.media_type)
