"""Seek tables for tests, put beside an image without the commands that make them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import zstandard

from tocsin import _core
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.manifest import ImageIndex, Manifest
from tocsin.model.media_types import OCI_MANIFEST, is_index
from tocsin.model.seek_manifest import SEEK_FILE_LIST, SEEK_LAYER, SEEK_ROOT, SEEK_TABLE_DIGEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tocsin.stores.base import Sink

SPAN_SIZE = 64 << 10
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


@dataclass
class Table:
    """The parts of a seek table, which tests may damage before they are put."""

    root: bytes
    file_list: bytes
    layers: list[bytes]
    inline: bool = True
    media_types: list[str] = field(default_factory=lambda: [SEEK_ROOT, SEEK_FILE_LIST])

    def manifest(self, subject: Descriptor | None) -> Manifest:
        root = Descriptor.of(self.root, self.media_types[0])
        return Manifest(
            replace(root, data=self.root) if self.inline else root,
            (
                Descriptor.of(self.file_list, self.media_types[1]),
                *(Descriptor.of(blob, SEEK_LAYER) for blob in self.layers),
            ),
            media_type=OCI_MANIFEST,
            subject=subject,
        )

    def put(self, store: Sink, subject: Descriptor | None = None) -> Descriptor:
        for blob in (self.root, self.file_list, *self.layers):
            store.put_blob(blob)
        return store.put_manifest(self.manifest(subject).to_json(), OCI_MANIFEST)


def index_layer(
    layer: bytes, *, span_size: int = SPAN_SIZE, threads: int = 1
) -> tuple[_core.Ztoc, _core.SeekLayer]:
    """Return the zTOC of a layer, and its blob in a seek table."""
    is_zstd = layer[:4] == ZSTD
    data = zstandard.ZstdDecompressor().decompressobj().decompress(layer) if is_zstd else layer
    indexer = _core.LayerIndexer(
        format="gzip" if data[:2] == GZIP else "uncompressed",
        span_size=4 << 20,
        build_tool_identifier="test",
        diff_id=False,
        reference_identical=False,
        threads=threads,
        for_reading=True,
        seek_span_size=None if is_zstd else span_size,
    )
    indexer.push(data)
    found = indexer.finish()
    seek = found.seek
    if is_zstd:
        seek = _core.SeekLayer.whole("zstd", len(layer), len(data), span_size)
    assert seek is not None
    return found.ztoc, seek


def make_table(
    *layers: bytes,
    span_size: int = SPAN_SIZE,
    threads: int = 1,
    digests: Sequence[Digest] | None = None,
) -> Table:
    """Return the seek table of an image with these layers.

    Other `digests` than those of the layers make a table that lies.
    """
    digests = digests or [Digest.of(layer) for layer in layers]
    parts = [
        (*index_layer(layer, span_size=span_size, threads=threads), str(digest))
        for layer, digest in zip(layers, digests, strict=True)
    ]
    root, file_list = _core.build_seek_table(parts)
    return Table(root, file_list, [seek.blob for _, seek, _ in parts])


def layers_of(store: Sink, tag: str | None) -> tuple[Descriptor, Manifest, list[bytes]]:
    """Return the manifest of an image for one platform, and its layers."""
    found = store.resolve(tag)
    if is_index(found.media_type):
        found = (ImageIndex.from_json(store.manifest(found)).manifests or ())[0]
    manifest = Manifest.from_json(store.manifest(found))
    return found, manifest, [b"".join(store.blob(layer)) for layer in manifest.layers or ()]


def add_referrer(store: Sink, tag: str | None, table: Table | None = None, **options: Any) -> Table:
    """Put a seek table that refers to an image in a store; make the table unless one is given."""
    found, _, layers = layers_of(store, tag)
    table = table or make_table(*layers, **options)
    table.put(store, found.plain())
    return table


def bind(
    store: Sink, tag: str | None, new_tag: str, table: Table | None = None, **options: Any
) -> Table:
    """Like `add_referrer`, but put a copy of the image's manifest that names the table."""
    _, manifest, layers = layers_of(store, tag)
    table = table or make_table(*layers, **options)
    put = table.put(store)
    annotations = {**manifest.annotations, SEEK_TABLE_DIGEST: str(put.digest)}
    bound = replace(manifest, annotations=annotations)
    store.put_manifest(bound.to_json(), manifest.media_type, tag=new_tag)
    return table
