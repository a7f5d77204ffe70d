"""Copies blobs, and images with everything they list, from a source to a sink.

Children are copied before the manifests that list them, so that an interrupted copy leaves no
manifest that refers to a missing blob.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.errors import NotFoundError
from tocsin.model.manifest import ImageIndex, parse_manifest
from tocsin.model.media_types import is_index, is_manifest, layer_type
from tocsin.stores.base import MustStream, MustVerify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.model.descriptor import Descriptor
    from tocsin.stores.base import Sink, Source


def copy_blob(source: Source, sink: Sink, descriptor: Descriptor) -> None:
    """Copy a blob to `sink` in the cheapest way, unless it already exists there."""
    if sink.has_blob(descriptor):
        return
    takeover = sink.take_over(descriptor, source.origin)
    if isinstance(takeover, MustVerify):
        takeover = takeover.verify_and_finish()
    if isinstance(takeover, MustStream):
        stream_blob(source, sink, descriptor)


def stream_blob(source: Source, sink: Sink, descriptor: Descriptor) -> None:
    """Copy a blob to `sink` by reading it from `source`."""
    pieces = _Pieces(source, descriptor)
    sink.put_blob(pieces, digest=descriptor.digest, size=descriptor.size)


class _Pieces:
    """The pieces of a blob; a sink can iterate over them again to retry."""

    def __init__(self, source: Source, descriptor: Descriptor) -> None:
        self._source = source
        self._descriptor = descriptor

    def __iter__(self) -> Iterator[bytes]:
        return self._source.blob(self._descriptor)


def copy_manifest_blobs(source: Source, sink: Sink, data: bytes, media_type: str) -> None:
    """Copy to `sink` everything that a manifest or image index lists, but not the document itself.

    Foreign layers, and manifests that an image index lists, may be missing from the source; these
    are not copied.
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


def copy_entry(source: Source, sink: Sink, entry: Descriptor) -> None:
    """Copy to `sink` a manifest that an image index lists, with everything below it."""
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
